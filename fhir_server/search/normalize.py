"""How text and codes are made comparable: the same on both sides, when a resource is indexed and when it is searched.

Spec: https://hl7.org/fhir/R4/search.html#string, https://hl7.org/fhir/R4/search.html#token
"""

from __future__ import annotations

from unicodedata import combining
from unicodedata import normalize as unicode_normal_form


def normalized(text: str) -> str:
    """Fold case, accents and white space, so that `  Müller-LÜDENSCHEIDT ` and `muller-ludenscheidt` are the same.

    Characters are decomposed by compatibility (NFKD), combining marks dropped, the case folded, runs of white space
    made one blank, both ends trimmed. Normalizing twice changes nothing more.

    >>> normalized("  José\\u00a0 STRASSE-Weiß ")
    'jose strasse-weiss'
    """
    if not text.isascii():
        plain = "".join([c for c in unicode_normal_form("NFKD", text) if not combining(c)])
        # Folding can bring back what decomposes (U+1E9E by way of U+00DF does not, some Greek does).
        text = "".join([c for c in unicode_normal_form("NFKD", plain.casefold()) if not combining(c)])
    return " ".join(text.casefold().split())


def fold(code: str) -> str:
    """A code as it is compared where its system is unknown or not case sensitive.

    >>> fold("ACTIVE")
    'active'
    """
    return code.casefold()
