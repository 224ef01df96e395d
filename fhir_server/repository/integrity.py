"""Who refers to a resource, and whether all that is referred to is there.

References are found by the index entries of all reference search parameters; one that no search parameter covers is
not seen. With `enforced`, a transaction that writes a reference or deletes a resource holds a row named by the target
until its end, so that of a deletion and a reference to what is deleted only one happens.

Spec: https://hl7.org/fhir/R4/references.html, https://hl7.org/fhir/R4/http.html#delete
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from fhir_server.model import codec
from fhir_server.model.errors import ConflictError, Issue, UnprocessableError
from fhir_server.repository.changes import Checked, Committed
from fhir_server.repository.records import RECORDS
from fhir_server.search.parameters import table_of
from fhir_server.search.types.conditions import Filter, any_of, either
from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit
from profiles.registry import Registry

#: Referrers that a refusal names, and missing targets that it names.
MOST_NAMED = 20

#: Their references may lead to resources within them.
ENVELOPES = frozenset({"Bundle", "Parameters"})

LOCAL = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")


class Integrity:
    """Questions about references; `enforced` tells whether writes and deletions that break one are refused."""

    def __init__(self, store: Store, registry: Registry, base_url: str, *, enforced: bool = False) -> None:
        self._store = store
        self._registry = registry
        self._base = f"{base_url.rstrip('/')}/"
        self.enforced = enforced

    def targets_of(self, resource: dict[str, Any]) -> dict[str, str]:
        """The resources of this server that a resource refers to (`Patient/1`), each with a place that does."""
        found: dict[str, str] = {}
        resource_type = resource["resourceType"]
        if resource_type in ENVELOPES:
            return found
        for node, path in codec.walk(resource, resource_type):
            reference = node.get("reference")
            if type(reference) is not str:
                continue
            if resource_type in RECORDS and "/_history/" in reference:
                continue  # the version stays, whatever becomes of the resource
            local = LOCAL.fullmatch(reference.removeprefix(self._base))
            if local is not None and self._registry.is_resource_type(local[1]):
                found.setdefault(f"{local[1]}/{local[2]}", f"{path}.reference")
        return found

    def noted(self, unit: Unit) -> Noted:
        """What is to be looked at before a transaction commits; the same object for all its writes."""
        known = unit.ends.get("integrity")
        if isinstance(known, Noted):
            return known
        made = unit.ends["integrity"] = Noted(self, unit)
        return made

    def note(self, unit: Unit, changes: Sequence[Checked], outcomes: Sequence[Committed]) -> None:
        """Have the references of what was written, and to what was deleted, looked at before the commit."""
        for checked, outcome in zip(changes, outcomes, strict=True):
            change = checked.change
            if change.resource is not None:
                self.noted(unit).written(change.type, self.targets_of(change.resource))
            elif outcome.changed:
                self.noted(unit).deleted(change.type, change.id)

    @cached_property
    def _fields(self) -> Mapping[str, Mapping[str, Sequence[str]]]:
        """By target type, then by referring type: the fields whose entries are such references."""
        found: dict[str, dict[str, list[str]]] = {}
        for name in self._registry.resource_types:
            if name in RECORDS:
                continue  # what tells about the past neither holds back a deletion nor goes with it
            for parameter in table_of(name, self._registry).parameters.values():
                if parameter.type == "reference" and not parameter.canonical and parameter.within is None:
                    for target in parameter.targets or self._registry.resource_types:
                        found.setdefault(target, {}).setdefault(name, []).append(parameter.field)
        return found

    def _conditions(self, targets: Iterable[str]) -> dict[str, Filter]:
        """By type, the filter that finds its resources which refer to any of the targets."""
        by_type: dict[str, list[str]] = {}
        for target in targets:
            by_type.setdefault(target.partition("/")[0], []).append(target)
        parts: dict[str, list[Filter]] = {}
        for target_type, entries in by_type.items():
            for name, fields in self._fields.get(target_type, {}).items():
                parts.setdefault(name, []).extend(any_of(field, entries) for field in fields)
        return {name: either(conditions) for name, conditions in parts.items()}

    async def referrers(self, unit: Unit, targets: Sequence[str], among: Iterable[str], limit: int) -> list[str]:
        """The resources that refer to any of the targets, as a transaction sees them; at most `limit`.

        A union over all types is not possible inside a transaction. So one outside of it tells which types have any,
        and those are asked inside, with the types `among`, which the transaction has itself written.
        """
        conditions = self._conditions(targets)
        held = [name for name in await self._store.collections() if name in conditions]
        if not held:
            return []
        parts: list[list[dict[str, Any]]] = [
            [{"$match": conditions[name]}, {"$limit": 1}, {"$project": {"_id": 0, "y": {"$literal": name}}}]
            for name in held
        ]
        unions = [
            {"$unionWith": {"coll": name, "pipeline": part}} for name, part in zip(held[1:], parts[1:], strict=True)
        ]
        # A transaction that held the same lock has just ended, maybe: a majority need not have what it wrote yet.
        rows = await self._store.latest(held[0], [*parts[0], *unions])
        found: list[str] = []
        for name in sorted({row["y"] for row in rows} | (set(among) & set(held))):
            documents = await unit.find(
                name, conditions[name], sort=[("_id", 1)], limit=limit - len(found), fields={"_id": 1}
            )
            found += [f"{name}/{document['_id']}" for document in documents]
            if len(found) >= limit:
                break
        return found

    async def require_targets(self, unit: Unit, targets: Mapping[str, str]) -> None:
        """Every target is there when the transaction ends.

        Raises:
            UnprocessableError: 422; some are not; each is named with the place of a reference to it.
        """
        await unit.lock([lock_of(target) for target in targets])
        by_type: dict[str, list[str]] = {}
        for target in targets:
            name, _, logical_id = target.partition("/")
            by_type.setdefault(name, []).append(logical_id)
        gone: list[str] = []
        for name, ids in by_type.items():
            rows = await unit.find(name, {"_id": {"$in": ids}, "d": None}, sort=[], limit=len(ids), fields={"_id": 1})
            there = {row["_id"] for row in rows}
            gone += [f"{name}/{i}" for i in ids if i not in there]
        if gone:
            raise UnprocessableError([missing(target, targets[target]) for target in gone[:MOST_NAMED]])

    async def require_unreferred(self, unit: Unit, deleted: Sequence[str], among: Iterable[str]) -> None:
        """Nothing refers to what a transaction deletes.

        Raises:
            ConflictError: 409; something does; up to 20 referrers are named.
        """
        await unit.lock([lock_of(target) for target in deleted])
        # What is hidden from the caller counts as well, and is not named.
        found = await self.referrers(unit.unguarded, deleted, among, MOST_NAMED + len(deleted) + 1)
        found = [one for one in found if one not in deleted]
        if found:
            what = deleted[0] if len(deleted) == 1 else "what is to be deleted"
            seen = found
            if unit.unguarded is not unit:
                seen = [one for one in found if await _sees(unit, one)]
            names = seen[:MOST_NAMED]
            shown = ", ".join(names) + (" and others" if names else "others") * (len(names) < len(found))
            raise ConflictError(
                f"Others refer to {what}: {shown}. Delete them first, or with it by `_cascade=delete`.",
                key="HS-REF-IN-USE",
            )


class Noted:
    """References that a transaction has written and resources that it has deleted."""

    def __init__(self, integrity: Integrity, unit: Unit) -> None:
        self._integrity = integrity
        self._unit = unit
        self._types: set[str] = set()
        self._targets: dict[str, str] = {}
        self._deleted: list[str] = []

    def written(self, resource_type: str, targets: Mapping[str, str]) -> None:
        """Targets of what was written, with the places that refer to them."""
        self._types.add(resource_type)
        for target, place in targets.items():
            self._targets.setdefault(target, place)

    def deleted(self, resource_type: str, resource_id: str) -> None:
        """A resource that was there, and is no longer."""
        self._types.add(resource_type)
        self._deleted.append(f"{resource_type}/{resource_id}")

    async def __call__(self) -> None:
        if self._targets:
            await self._integrity.require_targets(self._unit, self._targets)
        if self._deleted:
            await self._integrity.require_unreferred(self._unit, self._deleted, self._types)


def missing(target: str, place: str) -> Issue:
    """What is said of a reference to something that is not there for the caller."""
    told = f"There is no {target} on this server, and references must lead to something."
    return Issue("not-found", told, place, "HS-REF-MISSING")


async def _sees(unit: Unit, reference: str) -> bool:
    name, _, logical_id = reference.partition("/")
    return await unit.get(name, logical_id) is not None


def lock_of(target: str) -> str:
    return f"reference:{target}"
