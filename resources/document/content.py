"""The contents of a document: where they lie, if they lie here."""

from __future__ import annotations

from typing import Any

from fhir_server.access.attachments import BINARY, target_of
from fhir_server.interactions.context import Context
from fhir_server.storage.document import Version

Json = dict[str, Any]


async def contents_of(context: Context, document: Json) -> list[Version]:
    """The Binaries of this server to which a document points, and that the caller sees."""
    base = context.repository.indexer.base_url
    found: list[Version] = []
    for row in document.get("content", []):
        target = target_of(row.get("attachment", {}).get("url"), base)
        if target is None or target[0] != BINARY:
            continue
        version = await context.repository.current(*target)
        if version is not None and not version.deleted:
            found.append(version)
    return found
