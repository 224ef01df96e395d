"""Translations by a concept map.

Spec: https://hl7.org/fhir/R4/conceptmap.html, https://hl7.org/fhir/R4/conceptmap-operation-translate.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.terminology.compose import rows_of

Json = dict[str, Any]

#: What an equivalence is called when the map is read backwards.
_BACKWARDS = {"wider": "narrower", "narrower": "wider", "subsumes": "specializes", "specializes": "subsumes"}

#: The strongest first.
_ORDER = (
    "equal",
    "equivalent",
    "specializes",
    "narrower",
    "subsumes",
    "wider",
    "inexact",
    "relatedto",
    "disjoint",
    "unmatched",
)

#: These say that there is no translation.
NONE = frozenset({"unmatched", "disjoint"})

#: What is known of a code for which the map has a general answer alone.
_GENERAL = "relatedto"


@dataclass(frozen=True, slots=True)
class Sought:
    """What is to be translated.

    Attributes:
        target: the code system that is wanted; empty: any
        dependencies: what else is known, each an element with its `(system, code)`s and texts
        backwards: from the map's target to its source
    """

    system: str
    code: str
    version: str = ""
    target: str = ""
    dependencies: tuple[tuple[str, frozenset[tuple[str, str]]], ...] = ()
    backwards: bool = False


@dataclass(slots=True)
class Match:
    """One translation; `coding` is None where the map says that there is none."""

    equivalence: str
    coding: Json | None
    source: str
    products: tuple[Json, ...] = ()


@dataclass(slots=True)
class Translated:
    """What one map says; `others` are maps to go on with."""

    matches: list[Match]
    others: list[str]


def translated(concept_map: Json, sought: Sought) -> Translated:
    """What a concept map says of a code."""
    version = concept_map.get("version")
    url = str(concept_map.get("url") or "")
    source = f"{url}|{version}" if url and version else url
    result = Translated([], [])
    for group in rows_of(concept_map, "group"):
        if not _fits(group, sought):
            continue
        if sought.backwards:
            result.matches += _backwards(group, sought, source)
            continue
        rows = [row for row in rows_of(group, "element") if row.get("code") == sought.code]
        result.matches += [match for row in rows for match in _forwards(group, row, sought, source)]
        if not rows and type(group.get("unmapped")) is dict:
            _unmapped(group, sought, source, result)
    result.matches.sort(key=lambda match: strength_of(match.equivalence))
    return result


def strength_of(equivalence: str) -> int:
    return _ORDER.index(equivalence) if equivalence in _ORDER else len(_ORDER)


def _fits(group: Json, sought: Sought) -> bool:
    here, there = ("target", "source") if sought.backwards else ("source", "target")
    if group.get(here) not in (None, sought.system) or (sought.target and group.get(there) != sought.target):
        return False
    version = group.get(f"{here}Version")
    return not version or not sought.version or version == sought.version


def _forwards(group: Json, row: Json, sought: Sought, source: str) -> Iterator[Match]:
    for target in rows_of(row, "target"):
        if not _depends(target, sought):
            continue
        coding = _coding(group, "target", target) if "code" in target else None
        products = tuple(_product(one) for one in rows_of(target, "product"))
        yield Match(str(target.get("equivalence") or _GENERAL), coding, source, products)


def _backwards(group: Json, sought: Sought, source: str) -> Iterator[Match]:
    for row in rows_of(group, "element"):
        for target in rows_of(row, "target"):
            if target.get("code") == sought.code and "code" in row and _depends(target, sought):
                said = str(target.get("equivalence") or _GENERAL)
                yield Match(_BACKWARDS.get(said, said), _coding(group, "source", row), source)


def _coding(group: Json, side: str, row: Json) -> Json:
    coding: Json = {"system": group[side]} if side in group else {}
    if f"{side}Version" in group:
        coding["version"] = group[f"{side}Version"]
    coding["code"] = row["code"]
    return {**coding, "display": row["display"]} if row.get("display") else coding


def _depends(target: Json, sought: Sought) -> bool:
    """Whether what a translation depends on is so."""
    for row in rows_of(target, "dependsOn"):
        asked = str(row.get("value")), str(row.get("system") or "")
        known = [pairs for element, pairs in sought.dependencies if element == row.get("property")]
        if not any(code == asked[0] and asked[1] in ("", system) for pairs in known for system, code in pairs):
            return False
    return True


def _product(row: Json) -> Json:
    concept = {"code": row.get("value")}
    concept |= {name: row[name] for name in ("system", "display") if name in row}
    return {"element": row.get("property"), "concept": concept}


def _unmapped(group: Json, sought: Sought, source: str, result: Translated) -> None:
    """What the group says of codes that it does not have."""
    row = group["unmapped"]
    match row.get("mode"):
        case "provided":
            coding = {"system": group["target"]} if "target" in group else {}
            result.matches.append(Match(_GENERAL, {**coding, "code": sought.code}, source))
        case "fixed" if "code" in row:
            result.matches.append(Match(_GENERAL, _coding(group, "target", row), source))
        case "other-map" if type(row.get("url")) is str:
            result.others.append(row["url"])


def value_set_in(concept_map: Json, side: str) -> str:
    """The value set from which, or to which, a map translates; without its version."""
    found = concept_map.get(f"{side}Canonical") or concept_map.get(f"{side}Uri")
    return found.partition("|")[0] if type(found) is str else ""


def distinct(matches: Sequence[Match]) -> list[Match]:
    """Each translation of each map once, the strongest first."""
    found: list[Match] = []
    for match in sorted(matches, key=lambda one: strength_of(one.equivalence)):
        if match not in found:
            found.append(match)
    return found
