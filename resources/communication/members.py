"""Who is meant by a reference: the people behind roles, teams and groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from fhir_server.model import codec
from fhir_server.storage.document import Version
from resources.communication.words import reference_of, references

Json = dict[str, Any]

PEOPLE = frozenset({"Patient", "Practitioner", "RelatedPerson"})

#: How deep groups are in groups.
DEEPEST = 4


class Reads(Protocol):
    """A store or a transaction."""

    async def get(self, resource_type: str, resource_id: str) -> Version | None: ...

    async def find(self, resource_type: str, filter: Any, *, sort: Any, limit: int, fields: Any) -> list[Json]: ...


async def people_of(reads: Reads, names: Iterable[str]) -> list[str]:
    """The people behind some references, in the order of their names; roles that have ended mean nobody."""
    found: set[str] = set()
    looked: set[str] = set()
    waiting = set(names)
    for _ in range(DEEPEST):
        waiting -= looked
        looked |= waiting
        inner: set[str] = set()
        for name in sorted(waiting):
            kind = name.partition("/")[0]
            if kind in PEOPLE:
                found.add(name)
            elif kind in ("CareTeam", "Group", "PractitionerRole"):
                inner.update(_inside(kind, await resource(reads, name)))
        waiting = inner
    return sorted(found)


async def resource(reads: Reads, name: str) -> Json | None:
    """A resource by its reference; None where it is not there."""
    kind, _, resource_id = name.partition("/")
    version = await reads.get(kind, resource_id)
    return None if version is None or version.body is None else codec.decode(version.body)


def _inside(kind: str, found: Json | None) -> list[str]:
    if found is None:
        return []
    if kind == "PractitionerRole":
        return [] if found.get("active") is False else [reference_of(found.get("practitioner"))]
    if kind == "CareTeam":
        rows = [] if found.get("status") in ("inactive", "entered-in-error") else found.get("participant", [])
        return references([row.get("member") for row in rows])
    return references([row.get("entity") for row in found.get("member", []) if row.get("inactive") is not True])


async def selves_of(reads: Reads, user: str) -> frozenset[str]:
    """The names under which somebody takes part: their own, their roles, the teams and groups that they are in."""
    names = {user}
    if user.startswith("PractitionerRole/"):
        names.update(_inside("PractitionerRole", await resource(reads, user)))
    for kind, path in (("PractitionerRole", "practitioner"), ("CareTeam", "participant"), ("Group", "member")):
        query = {f"x.{path}": {"$in": sorted(names)}, "d": {"$exists": False}}
        for row in await reads.find(kind, query, sort=[], limit=200, fields={"_id": 1, "r": 1}):
            inner = _inside(kind, codec.decode(row["r"]))
            if names & set(inner):
                names.add(f"{kind}/{row['_id']}")
    return frozenset(names - {""})
