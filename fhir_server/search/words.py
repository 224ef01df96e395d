"""The words of a resource, for `_text` (its narrative) and `_content` (all of its text).

Words are normalized as strings are, so that case and accents do not count. Each leaves one entry, by which an index
leads to it, and all of them in their order are kept beside, for phrases.

Spec: https://hl7.org/fhir/R4/search.html#text
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

from fhir_server.search.normalize import normalized

TEXT = "_text"
CONTENT = "_content"

#: All words in their order, with a blank before and after each.
IN_ORDER = ":words"

#: Of a longer text, the beginning is enough.
MOST_WORDS = 5000
MOST_CHARS = 200_000
LONGEST_WORD = 64

WORD = re.compile(r"\w+")
_TAG = re.compile(r"<[^>]*>")

#: Members that name things for machines, or hold bytes.
_NO_TEXT = frozenset(("resourceType", "reference", "system", "url", "profile", "data", "hash", "div", "contentType"))


def add_words(resource: dict[str, Any], entries: dict[str, Any], codes: tuple[str, ...]) -> None:
    """Put the words of a resource among its entries, for `_text`, `_content`, or both."""
    div = (resource.get("text") or {}).get("div")
    narrative = [unescape(_TAG.sub(" ", div[:MOST_CHARS]))] if div else []
    if TEXT in codes and narrative:
        _put(entries, TEXT, narrative)
    if CONTENT in codes:
        _put(entries, CONTENT, [*narrative, *_strings(resource)])


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    return [word[:LONGEST_WORD] for word in WORD.findall(normalized(text))]


def _put(entries: dict[str, Any], code: str, texts: list[str]) -> None:
    words = words_of(" ".join(texts)[:MOST_CHARS])[:MOST_WORDS]
    if words:
        entries[code] = list(dict.fromkeys(words))
        entries[code + IN_ORDER] = f" {' '.join(words)} "


def _strings(node: Any) -> Iterator[str]:
    if type(node) is dict:
        for name, value in node.items():
            if name in _NO_TEXT:
                continue
            if type(value) is str:
                if "://" not in value and not value.startswith("urn:"):
                    yield value
            else:
                yield from _strings(value)
    elif type(node) is list:
        for value in node:
            if type(value) is str:
                yield value
            else:
                yield from _strings(value)
