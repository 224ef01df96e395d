"""A server's stored definitions in memory, and profiles in few words, for the tests of profiles."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from fhir_server.model.errors import Issue
from fhir_server.search.ucum import canonical
from fhir_server.validation import Validator
from fhir_server.validation.profile.shelf import Held
from fhir_server.validation.profile.source import Stamp
from fhir_server.validation.profile.validator import ProfileValidator
from profiles.registry import registry
from profiles.terminology import terminology

Json = dict[str, Any]
BASE = "http://e.example/StructureDefinition/"
TYPES = "http://hl7.org/fhir/StructureDefinition/"

STRUCTURE = Validator(registry(), terminology(), canonical)


class Memory:
    """Definitions by type and id, each with a version; `asked` counts what the validation asks for."""

    def __init__(self, definitions: Iterable[Json] = ()) -> None:
        self.rows: dict[tuple[str, str], tuple[int, Json]] = {}
        self.asked: list[str] = []
        for definition in definitions:
            self.put(definition)

    def put(self, definition: Json) -> None:
        key = definition["resourceType"], definition["id"]
        version = self.rows[key][0] + 1 if key in self.rows else 1
        self.rows[key] = version, definition

    async def stamps(self, resource_type: str, urls: Collection[str]) -> Sequence[Stamp]:
        self.asked.append(f"stamps {resource_type}")
        return [
            Stamp(name, key, version)
            for (name, key), (version, row) in self.rows.items()
            if name == resource_type and row.get("url") in urls
        ]

    async def read(self, stamps: Collection[Stamp]) -> Sequence[Held]:
        self.asked.append(f"read {len(stamps)}")
        return [
            Held(stamp.id, *self.rows[stamp.type, stamp.id][:1], row["url"], row)
            for stamp in stamps
            if (row := self.rows.get((stamp.type, stamp.id), (0, {}))[1])
        ]


def validator_of(*definitions: Json) -> ProfileValidator:
    return ProfileValidator(registry(), terminology(), canonical, Memory(definitions))


def issues_of(resource: Json, *definitions: Json, asked: Sequence[str] | None = None) -> list[Issue]:
    """What the first of some profiles (or those that are asked for) says of a resource that is valid by itself."""
    broken = [issue for issue in STRUCTURE.issues_of(resource) if issue.severity == "error"]
    assert not broken, broken
    wanted = [definitions[0]["url"]] if asked is None else list(asked)
    return asyncio.run(validator_of(*definitions).issues_of(resource, wanted))


def told(issues: Iterable[Issue]) -> list[tuple[str | None, str | None]]:
    """Keys and places, the shortest way to say what was found."""
    return [(issue.key, issue.expression) for issue in issues]


def profile(type_name: str, *elements: Json, name: str = "p", version: str | None = None) -> Json:
    """A StructureDefinition whose snapshot has the root and these elements; ids come from paths and slice names."""
    kind = registry().types[type_name].kind
    rows: list[Json] = [{"id": type_name, "path": type_name, "min": 0, "max": "*"}]
    ids = {type_name: type_name}
    for element in elements:
        row = {"min": 0, "max": "*", **element}
        row["path"] = f"{type_name}.{row['path']}" if not row["path"].startswith(f"{type_name}") else row["path"]
        above, _, last = row["path"].rpartition(".")
        row["id"] = ids[row["path"]] = f"{ids[above]}.{last}" + (f":{row['sliceName']}" if "sliceName" in row else "")
        rows.append(row)
    rows = [{**row, "definition": "x", "base": {"path": row["path"], "min": 0, "max": "*"}} for row in rows]
    found = {
        "resourceType": "StructureDefinition",
        "id": name,
        "url": BASE + name,
        "name": name.capitalize(),
        "status": "active",
        "kind": kind,
        "abstract": False,
        "type": type_name,
        "baseDefinition": TYPES + type_name,
        "derivation": "constraint",
        "snapshot": {"element": rows},
    }
    if type_name == "Extension":
        found["context"] = [{"type": "element", "expression": "Element"}]
    return found if version is None else {**found, "version": version}


def sliced(*discriminators: tuple[str, str], rules: str = "open", ordered: bool = False) -> Json:
    """`slicing` of an element."""
    rows = [{"type": kind, "path": path} for kind, path in discriminators]
    return {"slicing": {"discriminator": rows, "rules": rules, "ordered": ordered}}


def value_set(name: str, *pairs: tuple[str, str]) -> Json:
    include = [{"system": system, "concept": [{"code": code}]} for system, code in pairs]
    return {
        "resourceType": "ValueSet",
        "id": name,
        "url": f"http://e.example/ValueSet/{name}",
        "status": "active",
        "compose": {"include": include},
    }
