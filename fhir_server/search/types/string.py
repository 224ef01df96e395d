"""Strings: without case, accents and white space, from the beginning of any part of a name or an address.

Spec: https://hl7.org/fhir/R4/search.html#string
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fhir_server.search.escape import unescape
from fhir_server.search.normalize import normalized
from fhir_server.search.query import TextValue, Value
from fhir_server.search.types.conditions import Filter, any_of, either, malformed, starts_with

#: MongoDB takes patterns of up to 32,764 bytes, and a character can take four of them or two.
MAX_PATTERN_CHARS = 8_000


def parse_value(name: str, modifier: str | None, text: str) -> TextValue:
    """Read a string; it is normalized unless it is to be compared exactly.

    Raises:
        InvalidError: 400; a text to be found inside others is too long for a pattern.
    """
    plain = unescape(text)
    if modifier == "contains" and len(plain) > MAX_PATTERN_CHARS:
        raise malformed(name, text, f"at most {MAX_PATTERN_CHARS} characters")
    return TextValue(plain if modifier == "exact" else normalized(plain))


def condition(field: str, modifier: str | None, values: Sequence[Value]) -> Filter:
    """The entries of a field begin with, contain or equal one of the values."""
    texts = [v.text for v in values if isinstance(v, TextValue)]
    if modifier == "exact":
        # The exact texts have no index of their own: equal texts are equal when normalized, and those are indexed.
        return {**any_of(f"{field}:exact", texts), **any_of(field, list(dict.fromkeys(map(normalized, texts))))}
    if modifier == "contains":
        return either([{field: {"$regex": re.escape(text)}} if text else {field: {"$exists": True}} for text in texts])
    return either([starts_with(field, text) for text in texts])
