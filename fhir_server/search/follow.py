"""Follow chains: what other resources say becomes plain comparisons with ids and references, then a search compiles.

The innermost searches run first, each for the ids that it finds; those of one level are one command, whatever the
number of chains and of types that they lead to. The next level compares its references with these ids.

A chain also leads into the resource itself, where its reference is to one that is contained. The same command looks for
such containers; where there are none, as mostly, the comparison is with references alone.

Spec: https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/search.html#has
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fhir_server.model import codec
from fhir_server.model.errors import UnprocessableError
from fhir_server.search.compile import LIVING, Access, all_of, condition_of, filter_of
from fhir_server.search.cost import is_narrow
from fhir_server.search.dense import MANY, WORTHWHILE, Dense, chart_field
from fhir_server.search.inside import containing
from fhir_server.search.query import (
    Chain,
    Comparison,
    Led,
    Listed,
    Parameter,
    Predicate,
    ReferenceValue,
    Reverse,
    Search,
    Test,
    TextValue,
    TokenValue,
    Value,
    Words,
    parts_of,
    with_parts,
)
from fhir_server.search.types.conditions import Filter, either, starts_with
from profiles.terminology import Terminology

#: Resources that one step of a chain may find.
MOST = 20_000

Row = dict[str, Any]
Stage = dict[str, Any]


class LookupStore(Protocol):
    """What chains ask of the database: see `storage.store`."""

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[Row]: ...

    async def estimate(self, resource_type: str) -> int: ...


@dataclass(frozen=True, slots=True)
class _Lookup:
    """One inner search: a pipeline over a type whose rows have what they found as `e`.

    With `inside`, they are the ids of resources that contain what a chain leads to.
    """

    resource_type: str
    stages: list[Stage]
    quick: bool
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Follower:
    """Follows chains, for one reader.

    Attributes:
        base_url: of this server; references below it are local ones
        access: what a resource must meet for a chain to look at it
        dense: which reverse chains the index of charts answers; None to leave that open
    """

    store: LookupStore
    terminology: Terminology
    base_url: str
    access: Access
    dense: Dense | None = None

    async def follow(self, searches: Sequence[Search]) -> list[Search]:
        """The same searches without chains; they come back as they are when they have none.

        Raises:
            UnprocessableError: 422; a step finds more resources than can be followed.
        """
        while True:
            pending = dict.fromkeys(found for s in searches for p in s.predicates for found in _innermost(p))
            if not pending:
                return [_settled(s) for s in searches]
            known = await self._looked_up(list(pending))
            searches = [replace(s, predicates=tuple([_known(p, known) for p in s.predicates])) for s in searches]

    async def _looked_up(self, predicates: list[Predicate]) -> dict[Predicate, Predicate]:
        lookups = [self._lookups_of(p) for p in predicates]
        flat = [lookup for group in lookups for lookup in group]
        results = iter(await self._rows_of(flat))
        known: dict[Predicate, Predicate] = {}
        for predicate, group in zip(predicates, lookups, strict=True):
            found = [(lookup, next(results)) for lookup in group]
            if isinstance(predicate, Reverse):
                await self._learn(predicate, found[0][1])
            outside = [(look.resource_type, rows) for look, rows in found if not look.inside]
            known[predicate] = referred = self._comparison(predicate, outside)
            if isinstance(predicate, Chain):
                ids = _limited(predicate.parameter, [row["e"] for look, rows in found if look.inside for row in rows])
                known[predicate] = Led(referred, _by_id(predicate.key, ids) if ids else None, predicate.links)
        return known

    async def _learn(self, reverse: Reverse, rows: list[Row]) -> None:
        """Remember a reverse chain that has read many documents for each resource that there is."""
        read = sum(row.get("c", 0) for row in rows)
        if self.dense is None or read < MANY or chart_field(reverse) is None:
            return
        if read > WORTHWHILE * await self.store.estimate(reverse.resource_type):
            self.dense.add(reverse)

    async def _rows_of(self, lookups: list[_Lookup]) -> list[list[Row]]:
        """The rows of each; one command for all."""
        first, *others = [
            (look.resource_type, [*look.stages, {"$set": {"n": {"$literal": n}}}]) for n, look in enumerate(lookups)
        ]
        unions = [{"$unionWith": {"coll": name, "pipeline": stages}} for name, stages in others]
        shared = all(lookup.quick for lookup in lookups)
        results: list[list[Row]] = [[] for _ in lookups]
        for row in await self.store.aggregate(first[0], [*first[1], *unions], shared=shared):
            results[row["n"]].append(row)
        return results

    # --- what is asked ----------------------------------------------------------------------------------------------

    def _lookups_of(self, predicate: Predicate) -> list[_Lookup]:
        match predicate:
            case Chain(_, _, parameter, links):
                field = "$x.url" if parameter.canonical else "$_id"
                wanted: list[Stage] = [{"$limit": MOST + 1}, {"$project": {"_id": 0, "e": field}}]
                return [*(self._lookup(name, inner, wanted) for name, inner in links), *self._containers(predicate)]
            case Reverse():
                if self.dense is not None and predicate in self.dense:
                    return [self._charted(predicate)]
                return [self._lookup(predicate.source, predicate.predicate, _referred(predicate))]
            case Listed(_, _, lists):
                conditions = all_of([{"_id": {"$in": list(lists)}}, LIVING, *self.access("List")])
                return [_Lookup("List", [{"$match": conditions}, {"$project": {"_id": 0, "e": "$r"}}], quick=True)]
            case _:
                raise AssertionError("only what looks into other resources is looked up")

    def _lookup(self, resource_type: str, predicate: Predicate, wanted: list[Stage]) -> _Lookup:
        inner = Search(resource_type, (predicate,))
        conditions = filter_of(inner, self.terminology, self.access(resource_type))
        return _Lookup(resource_type, [{"$match": conditions}, *wanted], quick=is_narrow(predicate))

    def _containers(self, chain: Chain) -> list[_Lookup]:
        """Who refers, by the chain's reference, to a resource within itself that meets its predicate."""
        conditions: list[Filter] = []
        quick = True
        for way, name, predicate in _ways_of(chain.parameter, chain.links):
            conditions.append(containing(name, condition_of(on_entries(predicate), self.terminology), way))
            quick = quick and is_narrow(predicate)
        if not conditions:
            return []
        found = all_of([either(conditions), *self.access(chain.resource_type)])
        stages: list[Stage] = [{"$match": found}, {"$limit": MOST + 1}, {"$project": {"_id": 0, "e": "$_id"}}]
        return [_Lookup(chain.resource_type, stages, quick=quick, inside=True)]

    def _charted(self, reverse: Reverse) -> _Lookup:
        """Who has such a resource, told by the index of charts alone: one step in it for each."""
        field = chart_field(reverse)
        assert field is not None, "only chains that the index of charts answers are remembered as dense"
        inner = Search(reverse.source, (reverse.predicate,))
        patients = {field: _of_type(reverse.resource_type)["_id"]}
        conditions = all_of([filter_of(inner, self.terminology, self.access(reverse.source)), patients])
        stages: list[Stage] = [{"$match": conditions}, {"$group": {"_id": f"${field}"}}, {"$limit": MOST + 1}]
        return _Lookup(reverse.source, [*stages, {"$set": {"e": "$_id"}}], quick=False)

    # --- what was found ---------------------------------------------------------------------------------------------

    def _comparison(self, predicate: Predicate, found: list[tuple[str, list[Row]]]) -> Comparison:
        match predicate:
            case Chain(parameter=parameter) if parameter.canonical:
                urls = _limited(parameter, [url for _, rows in found for row in rows for url in row.get("e", ())])
                return Comparison(parameter, None, (ReferenceValue(tuple(urls)),))
            case Chain(parameter=parameter):
                entries = _limited(parameter, [f"{name}/{row['e']}" for name, rows in found for row in rows])
                return Comparison(parameter, None, (ReferenceValue(tuple(entries)),))
            case Reverse(resource_type, key, _, parameter, _):
                entries = _limited(parameter, [row["e"] for _, rows in found for row in rows])
                if parameter.canonical:
                    return Comparison(key, None, tuple([TextValue(entry.partition("|")[0]) for entry in entries]))
                return _by_id(key, [entry.removeprefix(f"{resource_type}/") for entry in entries])
            case Listed(resource_type, key, _):
                references = [r for _, rows in found for row in rows for r in self._current_entries(row["e"])]
                start = f"{resource_type}/"
                ids = [r.removeprefix(start) for r in references if r.startswith(start)]
                return _by_id(key, _limited(key, ids))
            case _:
                raise AssertionError("only what looks into other resources is looked up")

    def _current_entries(self, body: bytes) -> Iterable[str]:
        """The local references of a List's entries that are not marked as deleted from it."""
        for entry in codec.decode(body).get("entry", ()):
            reference = entry.get("item", {}).get("reference")
            if reference and entry.get("deleted") is not True:
                yield reference.removeprefix(self.base_url).partition("/_history/")[0]


def _innermost(predicate: Predicate) -> list[Predicate]:
    """What a predicate looks up in other resources, and can be looked up right now."""
    if isinstance(predicate, Comparison):
        return []
    inner = [found for part in parts_of(predicate) for found in _innermost(part)]
    return inner or ([predicate] if isinstance(predicate, Chain | Reverse | Listed) else [])


def _known(predicate: Predicate, known: Mapping[Predicate, Predicate]) -> Predicate:
    if isinstance(predicate, Comparison):
        return predicate
    if predicate in known:
        return known[predicate]
    return with_parts(predicate, tuple([_known(part, known) for part in parts_of(predicate)]))


def _ways_of(parameter: Parameter, links: Iterable[tuple[str, Predicate]]) -> Iterator[tuple[str, str, Predicate]]:
    """The ways of a chain within one container, each with the type that it leads to and what is asked there."""
    for name, predicate in links:
        if is_of_entries(predicate):
            yield parameter.code, name, predicate
        if isinstance(predicate, Led):
            for way, target, inner in _ways_of(predicate.references.parameter, predicate.links):
                yield f"{parameter.code}.{way}", target, inner


def is_of_entries(predicate: Predicate) -> bool:
    """Whether a predicate is about what is said in a resource, not about its id or its moment.

    The id of a contained resource names it within its container alone, and no other resource refers to it.
    """
    match predicate:
        case Comparison(parameter) | Test(parameter):
            return parameter.field.startswith("x.")
        case Words():
            return True
        case Led(references):
            return is_of_entries(references)
        case _:
            return all(map(is_of_entries, parts_of(predicate)))


def on_entries(predicate: Predicate) -> Predicate:
    """The same predicate of a contained resource: its references lead to resources that stand by themselves."""
    if isinstance(predicate, Led):
        return predicate.references
    return with_parts(predicate, tuple([on_entries(part) for part in parts_of(predicate)]))


def _settled(search: Search) -> Search:
    """The search with a plain comparison for each chain that leads into no container, as most do."""
    if not any(map(_has_led, search.predicates)):
        return search
    return replace(search, predicates=tuple(map(_without_led, search.predicates)))


def _has_led(predicate: Predicate) -> bool:
    return isinstance(predicate, Led) or any(map(_has_led, parts_of(predicate)))


def _without_led(predicate: Predicate) -> Predicate:
    if isinstance(predicate, Led):
        return predicate.references if predicate.containers is None else predicate
    return with_parts(predicate, tuple(map(_without_led, parts_of(predicate))))


def _referred(reverse: Reverse) -> list[Stage]:
    """The stages that follow the match of who refers: the references, each once."""
    parameter = reverse.parameter
    stages: list[Stage] = [{"$project": {"_id": 0, "e": f"${parameter.field}"}}]
    if not parameter.bare:
        stages.append({"$unwind": "$e"})
    wanted = {} if parameter.canonical else _of_type(reverse.resource_type)
    each = {"$group": {"_id": "$e", "c": {"$sum": 1}}}
    return [*stages, each, {"$match": wanted}, {"$limit": MOST + 1}, {"$set": {"e": "$_id"}}]


def _of_type(resource_type: str) -> Filter:
    (span,) = starts_with("_id", f"{resource_type}/").values()
    return {"_id": span["$elemMatch"]}


def _by_id(key: Parameter, ids: list[str]) -> Comparison:
    values: tuple[Value, ...] = tuple([TokenValue(None, i) for i in ids])
    return Comparison(key, None, values)


def _limited(parameter: Parameter, found: list[str]) -> list[str]:
    entries = list(dict.fromkeys(found))
    if len(entries) > MOST:
        raise UnprocessableError(
            f"More than {MOST:,} resources are on the way of {parameter.code!r}. Narrow the criteria behind it, or "
            "search for those resources first and then by their ids.",
            code="too-costly",
            key="HS-LIMIT-CHAINED",
        )
    return entries
