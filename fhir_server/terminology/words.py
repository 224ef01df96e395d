"""The text filter of expansions: each word that is typed begins a word of the code, a display or a designation.

Spec: https://hl7.org/fhir/R4/valueset-operation-expand.html (filter)
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from fhir_server.search.normalize import normalized

_WORD = re.compile(r"\w+")

#: More words than this are no longer typed.
MOST = 16


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, without case and accents.

    >>> words_of("Blutdruck, systolischer")
    ('blutdruck', 'systolischer')
    """
    return tuple(dict.fromkeys(_WORD.findall(normalized(text))))


def has_words(wanted: tuple[str, ...], texts: Iterable[str]) -> bool:
    """Whether the texts have a word that begins with each of those wanted."""
    if not wanted:
        return True
    found = [word for text in texts for word in words_of(text)]
    return all(any(word.startswith(one) for word in found) for one in wanted)
