"""Delimiters in search values: a comma, a bar or a dollar sign is a plain character after a backslash.

Spec: https://hl7.org/fhir/R4/search.html#escaping
"""

from __future__ import annotations

import re

_ESCAPED = re.compile(r"\\([,|$\\])")
_DELIMITER = re.compile(r"([\\,|$])")


def split(text: str, delimiter: str) -> list[str]:
    r"""Split at the delimiters that are not escaped; the parts keep their escapes.

    >>> split("a\\,b,c", ",")
    ['a\\,b', 'c']
    """
    if "\\" not in text:
        return text.split(delimiter)
    parts: list[str] = []
    start = position = 0
    while position < len(text):
        if text[position] == "\\":
            position += 2
            continue
        if text[position] == delimiter:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    parts.append(text[start:])
    return parts


def unescape(text: str) -> str:
    r"""The characters meant; a backslash before any other character stands for itself.

    >>> unescape("a\\,b\\c")
    'a,b\\c'
    """
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def escape(text: str) -> str:
    r"""A text as the value of a search parameter, its delimiters plain characters.

    >>> escape("a,b|c")
    'a\\,b\\|c'
    """
    return _DELIMITER.sub(r"\\\1", text)
