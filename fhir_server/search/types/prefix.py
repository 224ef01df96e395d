"""The prefix of an ordered value: `ge2020`.

Spec: https://hl7.org/fhir/R4/search.html#prefix
"""

from __future__ import annotations

from typing import get_args

from fhir_server.search.query import Prefix
from fhir_server.search.types.conditions import malformed

_PREFIXES: dict[str, Prefix] = {prefix: prefix for prefix in get_args(Prefix)}


def prefix_of(name: str, text: str, shape: str, key: str) -> tuple[Prefix, str]:
    """Part a value into its prefix (`eq` when it has none) and the rest.

    Raises:
        InvalidError: 400; it begins with letters that are no prefix.
    """
    if not text[0].isalpha():
        return "eq", text
    prefix = _PREFIXES.get(text[:2])
    if prefix is None:
        raise malformed(name, text, shape, key)
    return prefix, text[2:]
