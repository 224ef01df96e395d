"""Displays in a language, and designations.

Spec: https://hl7.org/fhir/R4/valueset-operation-expand.html (displayLanguage, designation)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fhir_server.terminology.concepts import Concept

Json = dict[str, Any]

#: Designations of this use are displays in another language.
_DISPLAY = frozenset({"display", "preferredForLanguage", "900000000000013009"})

#: Names languages where a parameter asks for designations.
BCP_47 = "urn:ietf:bcp:47"


def speaks(found: object, wanted: str) -> bool:
    """Whether a language tag is of the language wanted: `de-CH` is `de`, not the other way round.

    >>> speaks("de-CH", "de"), speaks("de", "de-CH"), speaks("den", "de")
    (True, False, False)
    """
    text = str(found or "").casefold()
    return text == wanted.casefold() or text.startswith(wanted.casefold() + "-")


def languages_of(text: str) -> list[str]:
    """The languages of `de-CH, de;q=0.8`, the most wanted first, each followed by what is wider."""
    weighed = []
    for at, part in enumerate(text.split(",")):
        tag, *more = part.strip().split(";")
        weight = next((_number(one.strip()[2:]) for one in more if one.strip().startswith("q=")), 1.0)
        if tag.strip() and tag.strip() != "*":
            weighed.append((-weight, at, tag.strip()))
    found = [tag for _, _, tag in sorted(weighed)]
    wider = [tag.rpartition("-")[0] for tag in found if "-" in tag]
    return list(dict.fromkeys([*found, *wider]))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def display_of(concept: Concept, row: Json, languages: Sequence[str], own: str = "") -> str:
    """The display of a concept.

    Args:
        row: what a value set says of it
        languages: those that are wanted
        own: the language of the code system
    """
    for language in languages:
        if speaks(own, language):
            break
        found = [one for one in designations_of(concept, row) if speaks(one.get("language"), language)]
        found.sort(key=lambda one: not (_use(one) in _DISPLAY or "use" not in one))
        if found:
            return str(found[0].get("value") or "")
    return str(row.get("display") or concept.display)


def designations_of(concept: Concept, row: Json) -> list[Json]:
    """What a value set and the code system call it besides, each once."""
    found: list[Json] = []
    for one in (*(row.get("designation") or ()), *concept.designations):
        if one not in found:
            found.append(one)
    return found


def chosen(designations: Iterable[Json], wanted: Sequence[str]) -> list[Json]:
    """The designations of some uses (`system|code`) or languages (`urn:ietf:bcp:47|de`); nothing wanted is all."""
    return [one for one in designations if not wanted or any(_fits(one, token) for token in wanted)]


def _fits(designation: Json, token: str) -> bool:
    system, sign, code = token.partition("|")
    if not sign:
        return _use(designation) == token or speaks(designation.get("language"), token)
    if system == BCP_47:
        return speaks(designation.get("language"), code)
    use = designation.get("use") or {}
    return str(use.get("system") or "") == system and code in ("", use.get("code"))


def _use(designation: Json) -> str:
    return str((designation.get("use") or {}).get("code") or "")
