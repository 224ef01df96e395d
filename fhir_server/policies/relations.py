"""Whose patients somebody's patients are: searches of the table of roles, over what is stored.

Each search is one aggregation that an index leads (by participant, performer, owner …) and that gives each patient
once. What it found is shared by all whose names in it are the same, such as the whole staff of an organization, and
kept for as long as nothing is written to its types: one command a second asks that of all types, for everybody.

A resource that names several patients relates to none of them: else somebody could relate to a stranger by an
appointment with a patient of their own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.dates import interval_of
from fhir_server.model.errors import InvalidError
from fhir_server.policies.reach import portions_of
from fhir_server.policies.roles import GIVEN, PLACEHOLDER, Pairs, Relation, RoleTable
from fhir_server.repository.search import Searcher
from fhir_server.search.query import Search

#: How long an answer serves without a question; and how long where nothing was written to its types.
FRESH_S = 1.0
UNCHANGED_S = 20.0

#: What was written in the same moment as the newest that was seen is looked for again for so long.
SETTLING_US = 5_000_000

#: Most references of one relation; who relates to more sees the first of them only.
MOST = 200_000

#: Answers that are kept.
KEPT = 20_000

NOTHING: frozenset[str] = frozenset()

_log = logging.getLogger("healthsphere.policies")

Values = Mapping[str, tuple[str, ...]]


class FoundStore(Protocol):
    """What is asked of the store, whoever it is that policies are made for."""

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[dict[str, Any]]: ...


class Pulse:
    """When something was last written to each of some types; asked at most once a second, in one command."""

    def __init__(self, store: FoundStore, types: Iterable[str]) -> None:
        self._store = store
        self._types = sorted(set(types))
        self._newest: dict[str, int] = {}
        self._read_at = -1.0
        self._turn = asyncio.Lock()

    async def newest(self, types: Iterable[str], since: float) -> dict[str, int]:
        """The newest moments of some types, as of a second ago at most, and not before `since`."""
        if self._stale(since):
            async with self._turn:
                if self._stale(since):
                    await self._read()
        return {name: self._newest.get(name, 0) for name in types}

    def _stale(self, since: float) -> bool:
        return self._read_at < max(since, time.monotonic() - FRESH_S)

    async def _read(self) -> None:
        began = time.monotonic()
        parts: list[tuple[str, list[Mapping[str, Any]]]] = [
            (name, [{"$sort": {"t": -1}}, {"$limit": 1}, {"$project": {"_id": 0, "t": 1, "y": {"$literal": name}}}])
            for name in self._types
        ]
        first, *others = parts
        unions = [{"$unionWith": {"coll": name, "pipeline": stages}} for name, stages in others]
        rows = await self._store.aggregate(first[0], [*first[1], *unions])
        self._newest = {row["y"]: row["t"] for row in rows}
        self._read_at = began


@dataclass(slots=True)
class _Answer:
    """What a relation led to, when that was asked, and what was the newest then."""

    references: frozenset[str]
    found_at: float
    newest: dict[str, int]


class Relations:
    """Looks relations up.

    `values` says what stands for the placeholders (`user`, `selves`, `organization` …). `since` is a moment of the
    monotonic clock: what was written before it counts.
    """

    def __init__(self, store: FoundStore, searcher: Searcher, table: RoleTable) -> None:
        self._store = store
        self._searcher = searcher
        self._table = table
        self._pulse = Pulse(store, (name for r in table.relations.values() for name, _ in r.searches))
        self._answers: dict[tuple[object, ...], _Answer] = {}
        self._under_way: dict[tuple[object, ...], tuple[float, asyncio.Task[_Answer]]] = {}

    async def union(self, names: Iterable[str], values: Values, since: float = 0.0) -> frozenset[str]:
        """What several relations lead to, together."""
        found = await asyncio.gather(*(self.of(name, values, since) for name in names))
        return found[0] if len(found) == 1 else NOTHING.union(*found)

    async def of(self, name: str, values: Values, since: float = 0.0) -> frozenset[str]:
        """What one relation leads to."""
        relation = self._table.relations[name]
        if relation.gives in GIVEN:
            return frozenset(values.get(relation.gives, ()))
        known = await self._with_relations(relation, values, since)
        key = (name, *((key, known.get(key, ())) for key in _names_in(relation)))
        answer = self._answers.get(key)
        if answer is not None and answer.found_at >= max(since, time.monotonic() - FRESH_S):
            return answer.references
        newest = await self._pulse.newest([resource_type for resource_type, _ in relation.searches], since)
        if answer is not None and self._unchanged(answer, newest):
            return answer.references
        began, task = self._under_way.get(key, (-1.0, None))
        if task is None or began < since:
            task = asyncio.create_task(self._searched(relation, known, newest, answer))
            entry = self._under_way[key] = (time.monotonic(), task)
            task.add_done_callback(lambda _: self._end(key, entry))
        answer = await asyncio.shield(task)
        if key not in self._answers and len(self._answers) >= KEPT:
            self._answers.pop(next(iter(self._answers)))
        self._answers[key] = answer
        return answer.references

    @staticmethod
    def _unchanged(answer: _Answer, newest: dict[str, int]) -> bool:
        settled = max(newest.values()) < now_us() - SETTLING_US
        return settled and answer.newest == newest and time.monotonic() - answer.found_at < UNCHANGED_S

    def _end(self, key: tuple[object, ...], entry: tuple[float, asyncio.Task[_Answer]]) -> None:
        if self._under_way.get(key) is entry:
            del self._under_way[key]

    async def identifiers_of(self, references: frozenset[str]) -> frozenset[str]:
        """The identifiers, `system|value`, of some resources as they are now."""
        ids: dict[str, list[str]] = {}
        for reference in sorted(references):
            kind, _, resource_id = reference.partition("/")
            ids.setdefault(kind, []).append(resource_id)
        found: set[str] = set()
        for kind, wanted in ids.items():
            stages: list[Mapping[str, Any]] = [
                {"$match": {"_id": {"$in": wanted}, "d": None}},
                {"$project": {"_id": 0, "r": 1}},
            ]
            for row in await self._store.aggregate(kind, stages):
                found |= identifiers_in(codec.decode(row["r"]))
        return frozenset(found)

    async def _with_relations(self, relation: Relation, values: Values, since: float) -> Values:
        """The values, with what other relations lead to that stand in the searches of this one."""
        others = [name for name in _names_in(relation) if name in self._table.relations and name not in values]
        if not others:
            return values
        found = await asyncio.gather(*(self.of(name, values, since) for name in others))
        return {**values, **{name: tuple(sorted(refs)) for name, refs in zip(others, found, strict=True)}}

    # --- searching --------------------------------------------------------------------------------------------------

    async def _searched(
        self, relation: Relation, values: Values, newest: dict[str, int], old: _Answer | None
    ) -> _Answer:
        began = time.monotonic()
        found = await asyncio.gather(
            *(
                self._search(relation, resource_type, pairs)
                for resource_type, text in relation.searches
                for pairs in filled(text, values)
            )
        )
        references = NOTHING.union(*found)
        if old is not None and old.references == references:
            references = old.references  # the same object: comparing what was made of it costs nothing
        return _Answer(references, began, newest)

    async def _search(self, relation: Relation, resource_type: str, pairs: Pairs) -> frozenset[str]:
        search: Search
        search, condition = await self._searcher.understood(
            resource_type, list(pairs), strict=True, default_count=1, max_count=1
        )
        of = "$_id" if relation.gives == "_id" else f"$x.{relation.gives}"
        if relation.period:
            head: list[Mapping[str, Any]] = [{"$match": condition}, {"$project": {"e": of, "r": 1}}]
        else:
            head = [{"$match": condition}, {"$group": {"_id": of}}, {"$project": {"_id": 0, "e": "$_id"}}]
        rows = await self._store.aggregate(search.resource_type, [*head, {"$limit": MOST + 1}])
        if len(rows) > MOST:
            _log.warning("relation %s leads to more than %d; the others are left out", relation.name, MOST)
            rows = rows[:MOST]
        if relation.period:
            now = now_us()
            rows = [row for row in rows if row.get("r") and holds_now(codec.decode(row["r"]).get("period"), now)]
        if relation.gives == "_id":
            return frozenset([f"{resource_type}/{row['e']}" for row in rows])
        return frozenset([only for row in rows if (only := _only(row.get("e"))) is not None])


def _only(entries: object) -> str | None:
    """The one reference among entries; None where there are none or several."""
    if isinstance(entries, str):
        return entries
    if isinstance(entries, list) and len(distinct := set(entries)) == 1:
        return str(distinct.pop())
    return None


def identifiers_in(resource: Mapping[str, Any]) -> set[str]:
    """The identifiers of a resource, `system|value`; an old one is one, too."""
    rows = resource.get("identifier", ())
    return {f"{row.get('system', '')}|{row['value']}" for row in rows if isinstance(row, dict) and row.get("value")}


def holds_now(period: Any, now: int) -> bool:
    """Whether a Period covers a moment; one that cannot be read does not."""
    if period is None:
        return True
    try:
        starts = "start" not in period or interval_of(period["start"]).start_us <= now
        return starts and ("end" not in period or now < interval_of(period["end"]).end_us)
    except (InvalidError, TypeError):
        return False


def _names_in(relation: Relation) -> list[str]:
    found = {name for _, pairs in relation.searches for _, value in pairs for name in PLACEHOLDER.findall(value)}
    return sorted(found - {"now", "365 days ago"})


def filled(pairs: Pairs, values: Values) -> list[Pairs]:
    """Criteria with the values in place of the placeholders; none where one stands for nothing.

    A placeholder for many values makes several sets of criteria, which together say what one would.
    """
    sets: list[list[tuple[str, str]]] = [[]]
    for code, text in pairs:
        names = PLACEHOLDER.findall(text)
        if not names:
            sets = [[*done, (code, text)] for done in sets]
            continue
        (name,) = names
        given = _moment(name) or values.get(name, ())
        portions = list(portions_of(given)) if len(given) != 1 else list(given)
        sets = [[*done, (code, text.replace(f"{{{name}}}", portion))] for done in sets for portion in portions]
    return [tuple(done) for done in sets]


def _moment(name: str) -> tuple[str, ...] | None:
    if name == "now":
        return (instant_of(now_us()),)
    if name.endswith(" days ago"):
        return (instant_of(now_us() - int(name.split(maxsplit=1)[0]) * 86_400_000_000),)
    return None
