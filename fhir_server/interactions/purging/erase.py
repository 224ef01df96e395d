"""Removing victims: versions, blobs, and every place that names them; then looking whether anything is left.

It goes step by step, and each step portion by portion. What a portion is going to change is counted and kept before it
is changed, so that whoever goes on after a crash does that portion again without counting it twice. Each change can be
done again: it removes what is there. The order keeps what leads to the rest until last.

Spec: http://hl7.org/fhir/6.0.0-snapshot1/patient-operation-purge.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.purging.derived import forget_derived
from fhir_server.interactions.purging.report import Report
from fhir_server.interactions.purging.victims import PORTION, Victims, portions_of
from fhir_server.jobs.run import Run
from fhir_server.model import codec
from fhir_server.model.errors import FhirError, UnavailableError
from fhir_server.repository.records import TRAIL
from fhir_server.storage.document import HISTORY

Json = dict[str, Any]

#: What stands where a reference was.
REMOVED = {"display": "(removed)"}

#: Somebody may write while a purge runs: what is left then is removed in a further round.
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Portion:
    """Some documents that a step has looked at.

    Attributes:
        collection: where they are; a portion of victims names their type
        last: the id of the last of them
        looked: how many they are
        keys: the ids of those that are to be changed
    """

    collection: str
    last: str
    looked: int
    keys: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """One pass over what is stored.

    Attributes:
        name: as it is shown to those who wait
        extent: how many documents it looks at, about
        portions: what it looks at, from behind a collection's id
        count: notes in the report what a portion is going to change
        change: changes it; nothing happens where it was done before
    """

    name: str
    extent: Callable[[], Awaitable[int]]
    portions: Callable[[str, str], AsyncIterator[Portion]]
    count: Callable[[Portion], Awaitable[None]]
    change: Callable[[str, Sequence[str]], Awaitable[None]]


class Erasure:
    """The removal of some victims, from where it was when it last stopped."""

    def __init__(self, context: Context, victims: Victims, run: Run) -> None:
        self._context = context
        self._repository = context.repository
        self._store = context.repository.store
        self._victims = victims
        self._run = run
        self.report = Report.of(run.kept.get("report", {}))
        self._looked: int = run.kept.get("looked", 0)
        self._total: int = run.kept.get("total", 0)

    async def carry_out(self) -> Report:
        """Remove the victims and every trace of them."""
        steps = (
            Step("references", self._current_extent, self._current, self._count_redacted, self._redact),
            Step("resources", self._victims_extent, self._of_victims, self._count_removed, self._remove),
            Step("history", self._past_extent, self._past, self._count_stripped, self._strip),
            Step("verification", self._whole_extent, self._whole, self._count_left, _left_alone),
        )
        begin = tuple(self._run.kept.get("at", (0, 0)))
        for round_ in range(begin[0], ROUNDS):
            for number, step in enumerate(steps):
                if (round_, number) >= begin:
                    await self._pass(step, (round_, number))
            if not self.report.left or round_ == ROUNDS - 1:
                break
            self.report.left.clear()
        return self.report

    async def _pass(self, step: Step, at: tuple[int, int]) -> None:
        """One step, from where it was when it last stopped, if that was in it."""
        collection, after, unsure = "", "", []
        if tuple(self._run.kept.get("at", ())) == at:
            collection, after = self._run.kept["after"]
            unsure = self._run.kept["unsure"]
        else:
            self._total += await step.extent()
        if unsure:
            await step.change(collection, unsure)
        async for portion in step.portions(collection, after):
            self._looked += portion.looked
            if portion.keys:
                await step.count(portion)
                await self._run.keep(self._kept(at, portion, unsure=portion.keys))
                await step.change(portion.collection, portion.keys)
            text = f"{step.name}: {portion.collection.lstrip('_')}"
            await self._run.tell(self._looked, max(self._looked, self._total), text, self._kept(at, portion, unsure=[]))

    def _kept(self, at: tuple[int, int], portion: Portion, *, unsure: list[str]) -> Json:
        """All that it takes to go on from here; `unsure` may have been changed or not."""
        place = {"at": at, "after": (portion.collection, portion.last), "unsure": unsure}
        counts = {"report": self.report.kept(), "looked": self._looked, "total": self._total}
        return {**self._run.kept, **place, **counts}

    # --- references: taken out of all other current resources, each as a new version ---------------------------------

    async def _current_extent(self) -> int:
        return sum([await self._store.estimate(name) for name in await self._collections()])

    async def _current(self, collection: str, after: str) -> AsyncIterator[Portion]:
        async for name, rows in self._rows(await self._collections(), collection, after):
            named = [row["_id"] for row in rows if not self._victims.has(name, row["_id"]) and self._is_named(row)]
            yield Portion(name, rows[-1]["_id"], len(rows), named)

    async def _count_redacted(self, portion: Portion) -> None:
        self.report.redacted[portion.collection] += len(portion.keys)

    async def _redact(self, name: str, ids: Sequence[str]) -> None:
        for resource_id in ids:
            find = partial(self._repository.read, name, resource_id)
            try:
                if any(self._victims.named_in((await find()).body or b"")):
                    await self._repository.amend(find, partial(without, victims=self._victims))
            except UnavailableError:
                raise
            except FhirError:
                # Gone meanwhile, or not valid by today's rules: the verification names what is left.
                self.report.redacted[name] -= 1

    # --- resources: the victims with all their versions -------------------------------------------------------------

    async def _victims_extent(self) -> int:
        return self._victims.total

    async def _of_victims(self, collection: str, after: str) -> AsyncIterator[Portion]:
        reached = not collection
        for name, ids in self._victims.portions(PORTION):
            if reached:
                yield Portion(name, ids[-1], len(ids), ids)
            reached = reached or (name, ids[-1]) == (collection, after)

    async def _count_removed(self, portion: Portion) -> None:
        name, ids = portion.collection, {"$in": portion.keys}
        self.report.removed[name] += await self._store.count(name, {"_id": ids})
        self.report.versions[name] += await self._store.count(HISTORY, {"y": name, "i": ids})

    async def _remove(self, name: str, ids: Sequence[str]) -> None:
        await self._store.erase(name, ids)
        await forget_derived(self._context, name, ids)

    # --- history: the earlier versions of other resources that name victims, whose they once were --------------------

    async def _past_extent(self) -> int:
        return await self._store.estimate(HISTORY)

    async def _past(self, _: str, after: str) -> AsyncIterator[Portion]:
        async for rows in portions_of(self._store, HISTORY, after=after):
            named = [row["_id"] for row in rows if self._is_named(row)]
            yield Portion(HISTORY, rows[-1]["_id"], len(rows), named)

    async def _count_stripped(self, portion: Portion) -> None:
        self.report.stripped.update(key.partition("/")[0] for key in portion.keys)

    async def _strip(self, _: str, keys: Sequence[str]) -> None:
        await self._store.erase_past(keys)

    # --- verification: a look through every current and earlier version ----------------------------------------------

    async def _whole_extent(self) -> int:
        return await self._current_extent() + await self._past_extent()

    async def _whole(self, collection: str, after: str) -> AsyncIterator[Portion]:
        async for name, rows in self._rows([*await self._collections(), HISTORY], collection, after):
            found = [
                row["_id"]
                for row in rows
                if self._victims.has(row.get("y") or name, row.get("i") or row["_id"]) or self._is_named(row)
            ]
            yield Portion(name, rows[-1]["_id"], len(rows), found)

    async def _count_left(self, portion: Portion) -> None:
        if portion.collection == HISTORY:
            self.report.left.update(f"{key.partition('/')[0]} (history)" for key in portion.keys)
        else:
            self.report.left[portion.collection] += len(portion.keys)

    # -----------------------------------------------------------------------------------------------------------------

    async def _collections(self) -> list[str]:
        """All but the audit trail: who saw what stays until its retention ends; it names a patient by the id alone."""
        return [name for name in await self._store.collections() if name != TRAIL]

    async def _rows(self, collections: list[str], first: str, after: str) -> AsyncIterator[tuple[str, list[Json]]]:
        """The documents of some collections, portion by portion, from behind a document of the first."""
        begin = collections.index(first) if first in collections else 0
        for name in collections[begin:]:
            async for rows in portions_of(self._store, name, after=after if name == first else ""):
                yield name, rows

    def _is_named(self, row: Json) -> bool:
        """Whether a version names a victim."""
        return any(self._victims.named_in(row.get("r") or b""))


async def _left_alone(_: str, __: Sequence[str]) -> None:
    """What is only looked at."""


def without(resource: Json, victims: Victims) -> Json:
    """The resource with `REMOVED` where it referred to a victim, and `removed` where a url or text named one."""
    for node, _ in codec.walk(resource):
        reference = node.get("reference")
        if type(reference) is str and victims.erased(reference) != reference:
            node.clear()
            node.update(REMOVED)
            continue
        for name, value in node.items():
            if type(value) is str:
                node[name] = victims.erased(value)
            elif type(value) is list:
                node[name] = [victims.erased(one) if type(one) is str else one for one in value]
    return resource
