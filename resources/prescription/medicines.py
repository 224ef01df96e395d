"""What is known of medicines: the table in `data/medicines.toml`, and what of it a resource means.

A small, declared table: what it does not name is not checked, and every answer says so.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from fhir_server.search.ucum import canonical

Json = dict[str, Any]

DATA = Path(__file__).parent / "data" / "medicines.toml"

RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
SNOMED = "http://snomed.info/sct"
ATC = "http://www.whocc.no/atc"

_NO_WORD = re.compile(r"[^a-z0-9]+")
_AMOUNT = re.compile(r"([0-9.]+) *(\S+)")


def plain(text: str) -> str:
    """A text for comparing: small letters without accents, words alone, a space on each side."""
    spread = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(c for c in spread if not unicodedata.combining(c))
    return f" {_NO_WORD.sub(' ', letters).strip()} "


@dataclass(frozen=True, slots=True)
class Ingredient:
    """One ingredient.

    Attributes:
        classes: the ids of its classes
        most: the most in a day, `(4, "g")`; None where the table does not say
    """

    name: str
    classes: frozenset[str]
    most: tuple[Decimal, str] | None = None


@dataclass(frozen=True, slots=True)
class Meant:
    """What some concepts mean, as far as the table knows.

    Attributes:
        ingredients: their names
        classes: those of the ingredients, and those that are named themselves
        codings: all `(system, code)`, known or not
        texts: all words, plain, known or not
        label: how people call it
    """

    ingredients: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    codings: frozenset[tuple[str, str]] = frozenset()
    texts: tuple[str, ...] = ()
    label: str = ""

    @property
    def known(self) -> bool:
        return bool(self.ingredients or self.classes)


@dataclass(frozen=True, slots=True)
class Medicines:
    """The table, read."""

    version: str
    coverage: str
    ingredients: Mapping[str, Ingredient]
    therapies: frozenset[str]
    cross: frozenset[tuple[str, str]]
    interactions: tuple[tuple[str, str, str], ...]
    _codes: Mapping[tuple[str, str], str]
    _words: Mapping[str, str]
    _class_codes: Mapping[tuple[str, str], str]
    _class_words: Mapping[str, str]
    _class_atc: tuple[tuple[str, str], ...]
    _controlled_atc: tuple[str, ...]
    _controlled_words: Mapping[str, str]
    _longest: int = field(default=6)

    def meant_by(self, concepts: Iterable[Json]) -> Meant:
        """What CodeableConcepts name: by their codes, and by whole words in their texts."""
        ingredients: set[str] = set()
        classes: set[str] = set()
        codings: set[tuple[str, str]] = set()
        texts: list[str] = []
        label = ""
        for concept in concepts:
            words = [concept.get("text"), *(coding.get("display") for coding in concept.get("coding", ()))]
            found = [word for word in words if isinstance(word, str) and word.strip()]
            label = label or next(iter(found), "")
            texts += [plain(word) for word in found]
            for coding in concept.get("coding", ()):
                system, code = str(coding.get("system", "")), str(coding.get("code", ""))
                codings.add((system, code))
                if (name := self._codes.get((system, code))) is not None:
                    ingredients.add(name)
                if (group := self._class_codes.get((system, code))) is not None:
                    classes.add(group)
                if system == ATC:
                    classes |= self._by_atc(code)
        for text in texts:
            for phrase in self._phrases(text):
                if phrase in self._words:
                    ingredients.add(self._words[phrase])
                if phrase in self._class_words:
                    classes.add(self._class_words[phrase])
        for name in ingredients:
            classes |= self.ingredients[name].classes
        if not label and codings:
            label = "|".join(min(codings))
        return Meant(frozenset(ingredients), frozenset(classes), frozenset(codings), tuple(texts), label)

    def _by_atc(self, code: str) -> set[str]:
        return {group for prefix, group in self._class_atc if code.startswith(prefix)}

    def _phrases(self, text: str) -> Iterable[str]:
        words = text.split()
        for start in range(len(words)):
            for end in range(start + 1, min(start + self._longest, len(words)) + 1):
                yield " ".join(words[start:end])

    def schedule_of(self, meant: Meant) -> str | None:
        """The schedule of a controlled substance; `controlled` where only its ATC group tells; None of others."""
        for text in meant.texts:
            for phrase in self._phrases(text):
                if phrase in self._controlled_words:
                    return self._controlled_words[phrase]
        atc = [code for system, code in meant.codings if system == ATC]
        return "controlled" if any(code.startswith(self._controlled_atc) for code in atc) else None


@cache
def medicines() -> Medicines:
    return read(DATA)


def read(path: Path) -> Medicines:
    """Read a table.

    Raises:
        ValueError: it names what it does not have.
    """
    table = tomllib.loads(path.read_text("utf-8"))
    class_atc = tuple((prefix, row["id"]) for row in table["class"] for prefix in row["atc"])
    ingredients: dict[str, Ingredient] = {}
    codes: dict[tuple[str, str], str] = {}
    words: dict[str, str] = {}
    for row in table["ingredient"]:
        name = row["name"]
        classes = {group for code in row["atc"] for prefix, group in class_atc if code.startswith(prefix)}
        ingredients[name] = Ingredient(name, frozenset(classes), _amount(row["most"]) if "most" in row else None)
        codes |= {(ATC, code): name for code in row["atc"]}
        codes |= {(RXNORM, code): name for code in row.get("rxnorm", ())}
        codes |= {(SNOMED, code): name for code in row.get("snomed", ())}
        words |= {plain(word).strip(): name for word in row["words"]}
    known = {*ingredients, *(row["id"] for row in table["class"])}
    pairs = [row["pair"] for row in table["interaction"]] + [[row["from"], row["to"]] for row in table["cross"]]
    if unknown := {name for pair in pairs for name in pair} - known:
        raise ValueError(f"{path.name} names {', '.join(sorted(unknown))}, which it does not have")
    return Medicines(
        version=table["version"],
        coverage=table["coverage"],
        ingredients=ingredients,
        therapies=frozenset(row["id"] for row in table["class"] if row["therapy"]),
        cross=frozenset((row["from"], row["to"]) for row in table["cross"]),
        interactions=tuple((row["pair"][0], row["pair"][1], row["why"]) for row in table["interaction"]),
        _codes=codes,
        _words=words,
        _class_codes={(SNOMED, code): row["id"] for row in table["class"] for code in row.get("snomed", ())},
        _class_words={plain(word).strip(): row["id"] for row in table["class"] for word in row["words"]},
        _class_atc=class_atc,
        _controlled_atc=tuple(table["controlled"]["atc"]),
        _controlled_words={
            plain(word).strip(): schedule for schedule, row in table["controlled"]["words"].items() for word in row
        },
    )


def _amount(text: str) -> tuple[Decimal, str]:
    found = _AMOUNT.fullmatch(text)
    if found is None or canonical(Decimal(found[1]), found[2]) is None:
        raise ValueError(f"{text!r} is no amount in UCUM")
    return Decimal(found[1]), found[2]
