"""The store and its transactions as one reader sees them: what their policy hides does not exist.

These have the methods of `Store` and of `Unit`, and none of their insides: a method that is not guarded here fails,
whoever calls it, rather than let something through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from fhir_server.access.attachments import BINARY, addresses_of, context_of, pointed_to
from fhir_server.access.compiled import ANYTHING
from fhir_server.access.elements import require_elements
from fhir_server.access.guard import Guard, forbidden
from fhir_server.model import codec
from fhir_server.model.access import Verb
from fhir_server.model.errors import ForbiddenError
from fhir_server.search.compartment import PATIENT
from fhir_server.search.compile import all_of
from fhir_server.search.lineage import PROVENANCE
from fhir_server.search.matching import UnknownConditionError
from fhir_server.search.types.conditions import any_of
from fhir_server.storage.blobs import Blobs
from fhir_server.storage.document import FIELDS, Blob, Version, past_version_of
from fhir_server.storage.store import Keys, Store
from fhir_server.storage.unit import Unit
from fhir_server.storage.unit_rows import UnitRows

T = TypeVar("T")
Row = dict[str, Any]

#: Stages that look into other collections, and those that write: no pipeline with one of them is for limited readers.
REFUSED_STAGES = frozenset({"$lookup", "$graphLookup", "$facet", "$out", "$merge", "$collStats", "$indexStats"})


async def guarded_pipeline(guard: Guard, resource_type: str, pipeline: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The same pipeline over what the policy lets this reader search, in every collection that it looks into."""
    condition = await guard.filter_of(resource_type, "s")
    stages: list[Any] = [] if condition is ANYTHING else [{"$match": condition}]
    for stage in pipeline:
        (name,) = stage
        if name in REFUSED_STAGES:
            raise AssertionError(f"{name} reaches beyond the guard")
        if name == "$unionWith":
            union = stage[name]
            inner = await guarded_pipeline(guard, union["coll"], union["pipeline"])
            stages.append({"$unionWith": {**union, "pipeline": inner}})
        else:
            stages.append(stage)
    return stages


class GuardedUnit(Unit):
    """One transaction as one reader sees it."""

    def __init__(self, inner: Unit, guard: Guard, door: GuardedStore) -> None:
        self._inner = inner
        self._guard = guard
        self._door = door
        self.ends = inner.ends
        self.committed = inner.committed

    @property
    def unguarded(self) -> Unit:
        return self._inner

    async def end(self) -> None:
        await self._inner.end()

    async def settle(self, blobs: Sequence[Blob]) -> None:
        await self._inner.settle(blobs)

    async def retell(self, blobs: Sequence[Blob]) -> None:
        await self._inner.retell(blobs)

    def rows(self, collection: str) -> UnitRows:
        return self._inner.rows(collection)

    async def lock(self, keys: Sequence[str]) -> None:
        await self._inner.lock(keys)

    async def get(self, resource_type: str, resource_id: str, verb: Verb = "r") -> Version | None:
        return (await self.get_many(resource_type, [resource_id], verb)).get(resource_id)

    async def get_many(self, resource_type: str, ids: Sequence[str], verb: Verb = "r") -> dict[str, Version]:
        found = await self._inner.get_many(resource_type, ids)
        return {key: v for key, v in found.items() if await self._door.shows(v, verb, self._inner)}

    async def past(self, resource_type: str, resource_id: str, version: int) -> Version | None:
        found = await self._inner.past(resource_type, resource_id, version)
        return found if found is not None and await self._door.shows(found, "r", self._inner) else None

    async def snapshot(self, collection: str, pipeline: Sequence[Mapping[str, Any]]) -> list[Row]:
        return await self._door.shown_rows(await self._inner.snapshot(collection, pipeline))

    async def collections(self) -> list[str]:
        return await self._inner.collections()

    async def find(
        self,
        resource_type: str,
        filter: Mapping[str, Any],
        *,
        sort: Keys,
        limit: int,
        fields: Mapping[str, Any] = FIELDS,
        shared: bool = False,
    ) -> list[Row]:
        rest = await self._guard.beside(resource_type, filter)
        guarded = all_of([dict(filter), rest]) if rest else filter
        return await self._inner.find(resource_type, guarded, sort=sort, limit=limit, fields=fields)

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[Row]:
        return await self._inner.aggregate(resource_type, await guarded_pipeline(self._guard, resource_type, pipeline))

    async def count(
        self, resource_type: str, filter: Mapping[str, Any], limit: int | None = None, *, shared: bool = False
    ) -> int:
        rest = await self._guard.beside(resource_type, filter)
        return await self._inner.count(resource_type, all_of([dict(filter), rest]), limit)

    async def estimate(self, resource_type: str) -> int:
        return await self.count(resource_type, {})

    async def limits(self, resource_type: str, verb: Verb) -> bool:
        return await self._guard.limits(resource_type, verb)

    async def write(self, changes: Sequence[tuple[Version, Version | None]]) -> None:
        beside = frozenset(new.id for new, _ in changes if new.type == PATIENT)
        for new, previous in changes:
            await self._door.require(new, previous, self, beside)
        await self._inner.write(changes)


class GuardedStore(Store):
    """The store as one reader sees it."""

    def __init__(self, inner: Store, guard: Guard, base_url: str) -> None:
        self._inner = inner
        self._guard = guard
        self._base_url = base_url
        self.blobs: Blobs = inner.blobs

    def unawaited(self) -> GuardedStore:
        return GuardedStore(self._inner.unawaited(), self._guard, self._base_url)

    @property
    def term(self) -> Any:
        return self._inner.term

    @property
    def unguarded(self) -> Store:
        return self._inner

    async def ensure(self, resource_type: str) -> None:
        await self._inner.ensure(resource_type)

    async def ping(self) -> None:
        await self._inner.ping()

    async def collections(self) -> list[str]:
        return await self._inner.collections()

    async def limits(self, resource_type: str, verb: Verb) -> bool:
        return await self._guard.limits(resource_type, verb)

    async def visible(self, resource_type: str) -> Mapping[str, Any]:
        return await self._guard.filter_of(resource_type, "s")

    # --- reading ----------------------------------------------------------------------------------------------------

    async def get(self, resource_type: str, resource_id: str, verb: Verb = "r") -> Version | None:
        condition = await self._guard.filter_of(resource_type, verb)
        if condition is ANYTHING:
            return await self._inner.get(resource_type, resource_id)
        if resource_type == BINARY:
            found = await self._inner.get(BINARY, resource_id)
            return found if found is not None and await self.shows_binary(found, verb, self._inner) else None
        judge = await self._guard.judged_by(resource_type, verb)
        if judge is not None:
            with suppress(UnknownConditionError):  # then the database tells
                return await self._inner.get_judged(resource_type, resource_id, judge.entries, judge.admits)
        return await self._inner.get_where(resource_type, resource_id, condition)

    async def shows(self, version: Version, verb: Verb, reads: Store | Unit) -> bool:
        """Whether a version that was fetched is one that this reader may have."""
        if version.type == BINARY and await self._guard.limits(BINARY, verb):
            return await self.shows_binary(version, verb, reads)
        if version.type == PROVENANCE and not version.entries and await self._guard.limits(PROVENANCE, verb):
            return await self._shows_provenance(version, verb, reads)
        return await self._guard.allows(version, verb)

    async def _shows_provenance(self, version: Version, verb: Verb, reads: Store | Unit) -> bool:
        """Whose data a Provenance tells about stands in the index alone, for what it is now (`repository.lineage`).

        So an earlier version is seen with the current one where it told about the same; after a deletion, by what the
        version itself says, unless something could be denied.
        """
        if version.body is None:
            return False
        fields = {"_id": 1, "x.target": 1}
        named = {"_id": version.id, "d": None}
        current = await reads.find(PROVENANCE, named, sort=[], limit=1, fields=fields)
        if not current:
            return not self._guard.policy.denials and await self._guard.allows(version, verb)
        if current[0].get("x", {}).get("target") != self._guard.entries_of(version).get("target"):
            return False
        condition = all_of([named, await self._guard.filter_of(PROVENANCE, verb)])
        return bool(await reads.find(PROVENANCE, condition, sort=[], limit=1, fields={"_id": 1}))

    async def shows_binary(self, version: Version, verb: Verb, reads: Store | Unit) -> bool:
        """Whether a Binary's security context, or a document that points to it, opens it to this reader."""
        if version.body is None or not self._guard.policy.may(BINARY, verb):
            return False
        context = context_of(codec.decode(version.body), self._base_url)
        if context is not None:
            return await self._sees(context, verb, reads)
        if verb != "r":
            return False
        pointing = any_of("x.location", addresses_of(version.id, self._base_url))
        shown = all_of([pointing, await self._guard.filter_of("DocumentReference", "r")])
        if await reads.find("DocumentReference", shown, sort=[], limit=1, fields={"_id": 1}):
            return True
        if not await self._guard.hides_some_binaries(verb):
            return False
        return not await reads.find("DocumentReference", pointing, sort=[], limit=1, fields={"_id": 1})

    async def _sees(self, target: tuple[str, str], verb: Verb, reads: Store | Unit) -> bool:
        """Whether the reader may read a resource; who writes may also see it as what they may change."""
        if target[0] == BINARY:
            return False
        found = await reads.get(*target)
        if found is None:
            return False
        if await self.shows(found, "r", reads):
            return True
        return verb != "r" and await self._guard.knows(found) and await self.shows(found, verb, reads)

    async def past(self, resource_type: str, resource_id: str, version: int) -> Version | None:
        found = await self._inner.past(resource_type, resource_id, version)
        return found if found is not None and await self.shows(found, "r", self._inner) else None

    async def find(
        self,
        resource_type: str,
        filter: Mapping[str, Any],
        *,
        sort: Keys,
        limit: int,
        fields: Mapping[str, Any] = FIELDS,
        shared: bool = False,
    ) -> list[Row]:
        rest = await self._guard.beside(resource_type, filter)
        guarded = all_of([dict(filter), rest]) if rest else filter
        return await self._inner.find(resource_type, guarded, sort=sort, limit=limit, fields=fields, shared=shared)

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[Row]:
        guarded = await guarded_pipeline(self._guard, resource_type, pipeline)
        return await self._inner.aggregate(resource_type, guarded, shared=shared)

    async def count(
        self, resource_type: str, filter: Mapping[str, Any], limit: int | None = None, *, shared: bool = False
    ) -> int:
        rest = await self._guard.beside(resource_type, filter)
        return await self._inner.count(resource_type, all_of([dict(filter), rest]), limit, shared=shared)

    async def estimate(self, resource_type: str) -> int:
        """An estimate counts what others have, too: for a limited reader it is an exact count of their own."""
        if await self._guard.limits(resource_type, "s"):
            return await self.count(resource_type, {})
        return await self._inner.estimate(resource_type)

    async def snapshot(self, collection: str, pipeline: Sequence[Mapping[str, Any]]) -> list[Row]:
        return await self.shown_rows(await self._inner.snapshot(collection, pipeline))

    async def shown_rows(self, rows: list[Row]) -> list[Row]:
        """Rows of a history; those that the reader may not see keep their place, as `hidden`, and nothing else.

        A version is shown when the reader may see it and also what the resource is now: what once stood in the wrong
        record is hidden from that record's owner when it is moved. A deletion is shown to whom the last version was.
        """
        by_type: dict[str, list[Row]] = {}
        for row in rows:
            by_type.setdefault(row["y"], []).append(row)
        shown: set[tuple[str, str, int]] = set()
        for name, group in by_type.items():
            verb: Verb = "r"
            if not await self._guard.limits(name, verb):
                shown |= {(name, row["i"], row["v"]) for row in group}
                continue
            current = await self._visible_now(name, {row["i"] for row in group}, verb)
            for row in group:
                version = past_version_of(row)
                if row["i"] in current and await self._was_visible(version, verb):
                    shown.add((name, row["i"], row["v"]))
        return [
            row
            if (row["y"], row["i"], row["v"]) in shown
            else {"y": row["y"], "i": row["i"], "v": row["v"], "t": row["t"], "hidden": True}
            for row in rows
        ]

    async def _was_visible(self, version: Version, verb: Verb) -> bool:
        """Whether a version is one that the reader may see; of a deletion, what it deleted."""
        if not version.deleted:
            return await self.shows(version, verb, self._inner)
        before = await self._inner.past(version.type, version.id, version.version - 1)
        return before is not None and not before.deleted and await self._was_visible(before, verb)

    async def _visible_now(self, resource_type: str, ids: set[str], verb: Verb) -> set[str]:
        """Of some ids, those whose current version the reader may see, or might before it was deleted."""
        if resource_type == BINARY:
            found = [v for i in ids if (v := await self._inner.get(BINARY, i)) is not None]
            return {v.id for v in found if await self._was_visible(v, verb)}
        condition = await self._guard.filter_of(resource_type, verb)
        living = all_of([any_of("_id", sorted(ids)), condition])
        seen = await self._inner.find(resource_type, living, sort=[], limit=len(ids), fields={"_id": 1})
        visible = {row["_id"] for row in seen}
        for resource_id in ids - visible:
            version = await self._inner.get(resource_type, resource_id)
            if version is not None and version.deleted and await self._was_visible(version, verb):
                visible.add(resource_id)
        return visible

    # --- writing ----------------------------------------------------------------------------------------------------

    async def write(self, new: Version, previous: Version | None) -> None:
        await self.require(new, previous, self)
        await self._inner.write(new, previous)

    async def require(
        self, new: Version, previous: Version | None, reads: Store | Unit, beside: frozenset[str] = frozenset()
    ) -> None:
        """A write is one that the policy allows.

        Args:
            beside: ids of Patients that are written together with it

        Raises:
            ForbiddenError: 403; it is not.
        """
        verb: Verb = "c" if previous is None else "d" if new.deleted else "u"
        if new.type == BINARY and await self._guard.limits(BINARY, verb):
            await self._require_binary(new, previous, verb, reads)
        else:
            await self._guard.require(new, previous)
        require_elements(self._guard.policy, new, previous, self._base_url)
        if new.body is not None and await self._guard.limits(new.type, verb):
            await self._guard.require_known_patients(new, previous, reads.unguarded, beside)
        if new.body is not None and await self._guard.limits(BINARY, "r"):
            await self._require_attachments(new, previous, reads)

    async def _require_binary(self, new: Version, previous: Version | None, verb: Verb, reads: Store | Unit) -> None:
        raw = reads.unguarded
        if previous is not None and not await self.shows_binary(previous, verb, raw):
            raise forbidden(BINARY, verb)
        if new.deleted:
            return
        assert new.body is not None
        if context_of(codec.decode(new.body), self._base_url) is None:
            raise ForbiddenError(
                "A Binary that you store needs a security context, which says who may see it: send the reference of a "
                "resource that you may see as `X-Security-Context`, or as `Binary.securityContext`.",
                key="HS-ACCESS-BINARY",
                expression="Binary.securityContext",
            )
        if not await self.shows_binary(new, verb, raw):
            raise forbidden(BINARY, verb)

    async def _require_attachments(self, new: Version, previous: Version | None, reads: Store | Unit) -> None:
        """A limited writer points only to Binaries that they may see.

        Raises:
            ForbiddenError: 403; the same for one that is not there and one that is not theirs.
        """
        assert new.body is not None
        wanted = pointed_to(new.body, self._base_url)
        if wanted and previous is not None and previous.body is not None:
            wanted -= pointed_to(previous.body, self._base_url)
        for binary_id in sorted(wanted):
            if await reads.get(BINARY, binary_id) is None:
                raise ForbiddenError(
                    f"{new.type} points to Binary/{binary_id}, which you cannot see.",
                    key="HS-ACCESS-ATTACHMENT",
                    expression=new.type,
                )

    async def transact(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        async def guarded(unit: Unit) -> T:
            return await work(GuardedUnit(unit, self._guard, self))

        return await self._inner.transact(guarded)
