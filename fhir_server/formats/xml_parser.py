"""The parsers of libxml2 that read what clients send: nothing is fetched, nothing is expanded.

Making one costs several times what reading a small resource does, so each thread keeps its own.

Spec: https://hl7.org/fhir/R4/security.html
"""

from __future__ import annotations

import threading
from typing import Any

from lxml import etree


class Parsers(threading.local):
    """The parsers of the current thread.

    `document` is for whole documents: the document type is refused before it, so that what `huge_tree` lifts are the
    limits of long values alone. `fragment` is for narratives.
    """

    def __init__(self) -> None:
        self.document: Any = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True, collect_ids=False, encoding="utf-8"
        )
        self.fragment: Any = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, collect_ids=False)
