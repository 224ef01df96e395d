"""What of a Patient is compared, brought to one form on both sides.

Spec: https://hl7.org/fhir/R4/patient.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fhir_server.search.normalize import fold, normalized

Json = dict[str, Any]

#: Two numbers are the same when their last digits are: one may have the country's code, the other a zero.
PHONE_DIGITS = 9
LEAST_PHONE_DIGITS = 6
_NO_DIGIT = re.compile(r"\D")
_NO_WORD = re.compile(r"[^\w]+")


@dataclass(frozen=True, slots=True)
class Facts:
    """The comparable facts of one person; empty where nothing is known.

    Attributes:
        identifiers: `(system, value)`, the value folded; those without a system have ""
        retired: identifiers that are said to be old or have ended: they agree, and never contradict
        families, givens: words of all names, maiden and former ones among them
        birth: the birth date as it is written, a year, a month or a day
        gender: male or female; other values tell nothing about identity
        phones: the last digits; `emails` folded
        places: postal code and first line of each address, either may be ""
    """

    identifiers: frozenset[tuple[str, str]] = frozenset()
    retired: frozenset[tuple[str, str]] = frozenset()
    families: tuple[str, ...] = ()
    givens: tuple[str, ...] = ()
    birth: str = ""
    gender: str = ""
    phones: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    places: frozenset[tuple[str, str]] = frozenset()

    @property
    def has_name(self) -> bool:
        return any(len(word) > 1 for word in (*self.families, *self.givens))


def facts_of(patient: Json) -> Facts:
    """The facts of a Patient resource; what has another shape than FHIR's counts as not there."""
    current: set[tuple[str, str]] = set()
    retired: set[tuple[str, str]] = set()
    for row in rows(patient, "identifier"):
        value = text(row, "value")
        if value:
            old = row.get("use") == "old" or "end" in (row.get("period") or {})
            (retired if old else current).add((text(row, "system"), fold(value.strip())))
    families: list[str] = []
    givens: list[str] = []
    for name in rows(patient, "name"):
        family, given = name_words(name)
        families += family
        givens += given
    telecoms = [(text(t, "system"), text(t, "value")) for t in rows(patient, "telecom")]
    gender = text(patient, "gender")
    return Facts(
        identifiers=frozenset(current),
        retired=frozenset(retired),
        families=tuple(dict.fromkeys(families)),
        givens=tuple(dict.fromkeys(givens)),
        birth=text(patient, "birthDate"),
        gender=gender if gender in ("male", "female") else "",
        phones=frozenset(digits for system, value in telecoms if system != "email" and (digits := phone_digits(value))),
        emails=frozenset(fold(value.strip()) for _, value in telecoms if "@" in value),
        places=frozenset(place for a in rows(patient, "address") if any(place := place_of(a))),
    )


def name_words(name: Json) -> tuple[list[str], list[str]]:
    """Family and given names of a HumanName; of a bare text the last word is taken for the family name."""
    families = [words_of(text(name, "family"))] if text(name, "family") else []
    given = name.get("given")
    givens = [words_of(g) for g in given if type(g) is str] if type(given) is list else []
    if not families and not givens and text(name, "text"):
        *first, last = words_of(text(name, "text")).split() or [""]
        families, givens = [last], first
    return [f for f in families if f], [word for g in givens for word in g.split()]


def words_of(name: str) -> str:
    """A name without case, accents, hyphens and apostrophes."""
    return " ".join(_NO_WORD.sub(" ", normalized(name).replace("'", "").replace("’", "")).split())  # noqa: RUF001


def phone_digits(value: str) -> str:
    digits = _NO_DIGIT.sub("", value)
    return digits[-PHONE_DIGITS:] if len(digits) >= LEAST_PHONE_DIGITS else ""


def place_of(address: Json) -> tuple[str, str]:
    line = address.get("line")
    first = line[0] if type(line) is list and line and type(line[0]) is str else ""
    return normalized(text(address, "postalCode")).replace(" ", ""), words_of(first)


def rows(resource: Json, name: str) -> Iterator[Json]:
    found = resource.get(name)
    return (row for row in (found if type(found) is list else []) if type(row) is dict)


def text(resource: Json, name: str) -> str:
    found = resource.get(name)
    return found if type(found) is str else ""
