"""What is to be removed: the resources themselves, and those that belong to them.

Of a patient that is the whole compartment. What belongs to another patient, too (a group, an appointment of two), stays
and only loses the reference. What belonged to the patient in an earlier version loses that version; where the resource
is deleted since, all of it goes.

Spec: https://hl7.org/fhir/R4/compartmentdefinition-patient.html, http://hl7.org/fhir/6.0.0-snapshot1/patient-operation-purge.html
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fhir_server.repository.records import TRAIL
from fhir_server.search.parameters import table_of
from fhir_server.storage.document import HISTORY
from fhir_server.storage.store import Store
from profiles.registry import Registry

Json = dict[str, Any]

#: Documents read at a time.
PORTION = 500

#: A reference in stored JSON: at the start of a string, or behind a base URL.
#: A backslash ends it where it stands in quotes inside a narrative.
_REFERENCE = re.compile(rb'["/]([A-Z][A-Za-z]{2,40})/([A-Za-z0-9\-.]{1,64})(?=["/#?|\\])')
_IN_TEXT = re.compile(r'((?:^|(?<=["/]))[A-Z][A-Za-z]{2,40})/([A-Za-z0-9\-.]{1,64})(?=$|["/#?|\\])')
_BINARY = re.compile(rb'"url":"(?:[^"]*/)?Binary/([A-Za-z0-9\-.]{1,64})(?:/_history/[^"]*)?"')


@dataclass(slots=True)
class Victims:
    """The ids to be removed by type, in the order of their removal: the types that led to the others come last."""

    ids: dict[str, set[str]] = field(default_factory=dict)

    def add(self, resource_type: str, ids: Iterable[str]) -> None:
        if found := set(ids):
            self.ids.setdefault(resource_type, set()).update(found)

    def has(self, resource_type: str, resource_id: str) -> bool:
        return resource_id in self.ids.get(resource_type, ())

    def named_in(self, body: bytes) -> Iterator[tuple[str, str]]:
        """The victims that the JSON of a resource names."""
        for name, resource_id in _REFERENCE.findall(body):
            if self.has(key := name.decode(), text := resource_id.decode()):
                yield key, text

    def erased(self, text: str) -> str:
        """A text without the victims that it names."""
        return _IN_TEXT.sub(lambda found: "removed" if self.has(found[1], found[2]) else found[0], text)

    def portions(self, size: int) -> Iterator[tuple[str, list[str]]]:
        """The ids, by types, so many at a time, in the order of their removal."""
        for name, ids in self.ids.items():
            ordered = sorted(ids)
            for start in range(0, len(ordered), size):
                yield name, ordered[start : start + size]

    @property
    def total(self) -> int:
        return sum(map(len, self.ids.values()))


async def of_patient(store: Store, registry: Registry, patient_id: str) -> Victims:
    """A patient with all that belongs to it alone."""
    victims = Victims()
    patient = f"Patient/{patient_id}"
    types = await store.collections()
    compartment = registry.compartments["Patient"].types
    for name in types:
        if name in ("Patient", TRAIL) or not registry.is_resource_type(name):
            continue
        parameters = table_of(name, registry).parameters
        fields = [parameters[code].field for code in compartment.get(name, ()) if code in parameters]
        if fields or name == "Binary":
            victims.add(name, await _members(store, name, fields, patient))
    own = Victims({"Patient": {patient_id}})
    deleted: dict[str, set[str]] = {}
    async for row in rows_of(store, HISTORY):
        if row["y"] != "Patient" and any(own.named_in(row.get("r") or b"")):
            deleted.setdefault(row["y"], set()).add(row["i"])
    for name, ids in deleted.items():
        found = await store.find(
            name, {"_id": {"$in": sorted(ids)}, "d": True}, sort=[], limit=len(ids), fields={"_id": 1}
        )
        victims.add(name, (row["_id"] for row in found))
    victims.add("Binary", await _files_of(store, victims, types))
    victims.add("Patient", [patient_id])
    return victims


async def _members(store: Store, name: str, fields: list[str], patient: str) -> set[str]:
    """The resources of a type in the compartment of this patient, and of no other."""
    if name == "Binary":
        # Nothing is indexed of it; its security context says whose it is.
        own = Victims({"Patient": {patient.partition("/")[2]}})
        return {row["_id"] async for row in rows_of(store, name) if any(own.named_in(row.get("r") or b""))}
    found: set[str] = set()
    async for row in rows_of(store, name, {"$or": [{one: patient} for one in fields]}):
        patients = {i for t, i in _REFERENCE.findall(row.get("r") or b"") if t == b"Patient"}
        if len(patients) <= 1:
            found.add(row["_id"])
    return found


async def _files_of(store: Store, victims: Victims, types: list[str]) -> set[str]:
    """The Binaries that victims point to by url, and nothing else does."""
    ours: set[str] = set()
    others: set[str] = set()
    if "Binary" not in types:
        return ours
    for name in types:
        async for row in rows_of(store, name):
            found = {i.decode() for i in _BINARY.findall(row.get("r") or b"")}
            (ours if victims.has(name, row["_id"]) else others).update(found)
    return ours - others


async def rows_of(store: Store, collection: str, filter: Json | None = None) -> AsyncIterator[Json]:
    """All documents of a collection, the history too; none twice."""
    async for portion in portions_of(store, collection, filter):
        for row in portion:
            yield row


async def portions_of(
    store: Store, collection: str, filter: Json | None = None, *, after: str = ""
) -> AsyncIterator[list[Json]]:
    """All documents of a collection, the history too, in the order of their ids, from behind the id `after`."""
    while True:
        conditions = [c for c in (filter, {"_id": {"$gt": after}} if after else None) if c]
        rows = await store.find(
            collection,
            {"$and": conditions} if conditions else {},
            sort=[("_id", 1)],
            limit=PORTION,
            fields={"r": 1, "y": 1, "i": 1, "v": 1, "d": 1, "b": 1},
        )
        if rows:
            yield rows
        if len(rows) < PORTION:
            return
        after = rows[-1]["_id"]
