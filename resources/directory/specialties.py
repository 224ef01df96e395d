"""Specialties by the words that people use for them: the table in `data/specialties.toml`.

A small, declared table. What it does not name is found by the text and the display that a record has itself.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fhir_server.search.normalize import normalized

DATA: Final = Path(__file__).parent / "data" / "specialties.toml"

SNOMED: Final = "http://snomed.info/sct"
NUCC: Final = "http://nucc.org/provider-taxonomy"

_NO_WORD = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Specialty:
    """One specialty.

    Attributes:
        codes: `system|code` of each
        phrases: what it is called, as words between blanks
    """

    name: str
    codes: tuple[str, ...]
    phrases: tuple[str, ...]


def plain(text: str) -> str:
    """The words of a text, small and without accents, each behind a blank."""
    return f" {_NO_WORD.sub(' ', normalized(text)).strip()}"


@cache
def specialties() -> tuple[Specialty, ...]:
    with DATA.open("rb") as file:
        rows = tomllib.load(file)["specialty"]
    return tuple(
        Specialty(
            row["name"],
            (*(f"{SNOMED}|{code}" for code in row["snomed"]), *(f"{NUCC}|{code}" for code in row["nucc"])),
            tuple(plain(word) for word in (row["name"], *row["words"])),
        )
        for row in rows
    )


def codes_for(text: str) -> tuple[str, ...]:
    """The codes of the specialties of which a phrase begins with each word of a text, in its order."""
    wanted = plain(text)
    if not wanted.strip():
        return ()
    found = (one for one in specialties() if any(wanted in phrase for phrase in one.phrases))
    return tuple(code for one in found for code in one.codes)


def is_called(text: str, names: Iterable[str]) -> bool:
    """Whether a text stands, from the beginning of a word on, in one of some names."""
    wanted = plain(text)
    return any(wanted in plain(name) for name in names)
