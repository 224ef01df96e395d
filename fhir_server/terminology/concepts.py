"""Concepts of a code system, as a CodeSystem resource or the digest of the specification tells them.

Spec: https://hl7.org/fhir/R4/codesystem.html, https://hl7.org/fhir/R4/codesystem-concept-properties.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

#: Properties that every code system may have, by their URIs.
STANDARD = "http://hl7.org/fhir/concept-properties#"

#: Codes of properties that name broader concepts, and narrower ones.
PARENT = frozenset({"parent", "subsumedBy"})
CHILD = frozenset({"child"})

_RETIRED = frozenset({"retired", "inactive"})


@dataclass(slots=True)
class Concept:
    """One concept.

    Attributes:
        properties: as in the resource, `{"code": …, "valueX": …}`
        abstract: whether it is a mere heading
        inactive: whether it is no longer to be used
        number: its place in the code system
    """

    code: str
    display: str = ""
    definition: str = ""
    designations: tuple[Json, ...] = ()
    properties: tuple[Json, ...] = ()
    parents: tuple[str, ...] = ()
    abstract: bool = False
    inactive: bool = False
    number: int = 0
    children: list[str] = field(default_factory=list)

    def texts(self, name: str) -> list[str]:
        """The values of a property, as text."""
        match name:
            case "code" | "concept":
                return [self.code]
            case "display":
                return [self.display]
            case "definition":
                return [self.definition] if self.definition else []
            case "parent":
                return list(self.parents)
            case "child":
                return self.children
            case "inactive":
                return ["true" if self.inactive else "false"]
            case "notSelectable" | "abstract":
                return ["true" if self.abstract else "false"]
        return [text_of(one) for one in self.properties if one.get("code") == name]


def value_of(property_row: Mapping[str, Any]) -> tuple[str, Any]:
    """The name and the content of `value[x]`."""
    return next(((key, value) for key, value in property_row.items() if key.startswith("value")), ("", None))


def text_of(property_row: Mapping[str, Any]) -> str:
    """The value of a property as filters compare it."""
    _, value = value_of(property_row)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return str(value.get("code", ""))
    return "" if value is None else str(value)


#: The properties by which every concept can be asked.
BUILT_IN = frozenset(
    {"code", "concept", "display", "definition", "parent", "child", "inactive", "notSelectable", "abstract"}
)


@dataclass(frozen=True, slots=True)
class Meanings:
    """Which properties of a code system mean what, whatever it calls them."""

    parent: frozenset[str] = PARENT
    child: frozenset[str] = CHILD
    inactive: frozenset[str] = frozenset({"inactive"})
    status: frozenset[str] = frozenset({"status"})
    abstract: frozenset[str] = frozenset({"notSelectable", "abstract"})

    @classmethod
    def of(cls, resource: Json) -> Meanings:
        by_meaning: dict[str, set[str]] = {}
        for row in resource.get("property") or ():
            uri = str(row.get("uri", ""))
            if uri.startswith(STANDARD):
                by_meaning.setdefault(uri.removeprefix(STANDARD), set()).add(str(row.get("code")))
        return cls(
            parent=PARENT | by_meaning.get("parent", set()),
            child=CHILD | by_meaning.get("child", set()),
            inactive=frozenset({"inactive"} | by_meaning.get("inactive", set())),
            status=frozenset({"status"} | by_meaning.get("status", set())),
            abstract=frozenset({"notSelectable", "abstract"} | by_meaning.get("notSelectable", set())),
        )


def concepts_of(resource: Json) -> Iterator[tuple[Concept, list[str]]]:
    """The concepts of a CodeSystem in its order, each with the codes that it names as narrower ones."""
    meanings = Meanings.of(resource)
    number = 0
    waiting: list[tuple[Json, str | None]] = [(row, None) for row in reversed(resource.get("concept") or ())]
    while waiting:
        row, above = waiting.pop()
        concept, below = concept_of(row, above, number, meanings)
        number += 1
        yield concept, below
        waiting += [(inner, concept.code) for inner in reversed(row.get("concept") or ())]


def concept_of(row: Json, above: str | None, number: int, meanings: Meanings) -> tuple[Concept, list[str]]:
    properties = tuple(row.get("property") or ())
    parents = [above] if above is not None else []
    below: list[str] = []
    inactive = abstract = False
    for one in properties:
        name, text = str(one.get("code")), text_of(one)
        if name in meanings.parent and text and text not in parents:
            parents.append(text)
        elif name in meanings.child and text:
            below.append(text)
        elif name in meanings.inactive:
            inactive = inactive or text == "true"
        elif name in meanings.status:
            inactive = inactive or text in _RETIRED
        elif name in meanings.abstract:
            abstract = abstract or text == "true"
    concept = Concept(
        code=str(row["code"]),
        display=str(row.get("display") or ""),
        definition=str(row.get("definition") or ""),
        designations=tuple(row.get("designation") or ()),
        properties=properties,
        parents=tuple(parents),
        abstract=abstract,
        inactive=inactive,
        number=number,
    )
    return concept, below


def resource_of(row: Json) -> Json:
    """A row of the digest as a CodeSystem."""
    abstract, parents = frozenset(row.get("abstract", ())), row.get("parents", {})

    def concept(found: list[Any]) -> Json:
        code, display, *below = found
        properties = [{"code": "subsumedBy", "valueCode": parent} for parent in parents.get(code, ())]
        properties += [{"code": "notSelectable", "valueBoolean": True}] if code in abstract else []
        made: Json = {"code": code, "display": display}
        if properties:
            made["property"] = properties
        if below:
            made["concept"] = list(map(concept, below[0]))
        return made

    names = ("url", "version", "caseSensitive", "content", "hierarchyMeaning")
    kept: Json = {key: row[key] for key in names if key in row}
    return {"resourceType": "CodeSystem", **kept, "concept": list(map(concept, row["concepts"]))}


def value_set_of(row: Json) -> Json:
    """A row of the digest as a ValueSet."""

    def part(found: Json) -> Json:
        made: Json = {key: found[key] for key in ("system", "valueSet", "filter") if key in found}
        if "concepts" in found:
            made["concept"] = [
                {"code": code, "display": display} if display else {"code": code} for code, display in found["concepts"]
            ]
        return made

    sides = {side: list(map(part, row[side])) for side in ("include", "exclude") if side in row}
    kept: Json = {key: row[key] for key in ("url", "version") if row.get(key)}
    return {"resourceType": "ValueSet", **kept, "status": "active", **({"compose": sides} if sides else {})}
