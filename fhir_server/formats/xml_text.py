"""The text of a JSON value inside an XML attribute.

Spec: https://hl7.org/fhir/R4/xml.html, https://www.w3.org/TR/xml/#AVNormalize
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

#: Markup, and white space that a parser would turn into spaces.
_MARKUP = re.compile(r'[&<>"\x00-\x1f\ud800-\udfff\ufffe\uffff]')
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)
_search = _MARKUP.search


class UnwritableError(Exception):
    """A value that XML cannot tell: what was found, and, from the place outwards, where."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found
        self.path = ""

    def under(self, name: str) -> UnwritableError:
        self.path = f"{name}.{self.path}" if self.path else name
        return self


def text_of(value: Any) -> str:
    """The text of a primitive, escaped for an attribute.

    Raises:
        UnwritableError: it is null, an object or an array, or has a character that XML forbids.
    """
    kind = type(value)
    if kind is str:
        return value if _search(value) is None else _escaped(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int or isinstance(value, Decimal):
        return str(value)
    raise UnwritableError("null" if value is None else f"a JSON {kind.__name__} where a primitive belongs")


def _escaped(text: str) -> str:
    bad = _FORBIDDEN.search(text)
    if bad is not None:
        raise UnwritableError(f"the character U+{ord(bad.group()):04X}")
    return text.translate(_ESCAPES)
