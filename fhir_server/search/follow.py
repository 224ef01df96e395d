"""Follow chains: what other resources say becomes plain comparisons with ids and references, then a search compiles.

The innermost searches run first, each for the ids that it finds; those of one level are one command, whatever the
number of chains and of types that they lead to. The next level compares its references with these ids.

A chain also leads into the resource itself, where its reference is to one that is contained. The same command looks for
such containers; where there are none, as mostly, the comparison is with references alone.

Spec: https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/search.html#has
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fhir_server.model import codec
from fhir_server.model.errors import UnprocessableError
from fhir_server.search.compile import LIVING, Access, all_of, condition_of, filter_of
from fhir_server.search.cost import is_narrow
from fhir_server.search.inside import containing
from fhir_server.search.query import (
    Chain,
    Check,
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
from fhir_server.search.reverse import BOUND, MANY, Spread, Spreads, chart_conditions, charted, way_of
from fhir_server.search.types.conditions import Filter, either, starts_with
from profiles.terminology import Terminology

#: Resources that one step of a chain may find.
MOST = 20_000

Row = dict[str, Any]
Stage = dict[str, Any]

#: All that a pipeline finds, in one row: a hundred rows would be more than the database sends at once.
IN_ONE_ROW: Stage = {"$group": {"_id": None, "e": {"$push": "$e"}, "c": {"$sum": "$c"}}}


class LookupStore(Protocol):
    """What chains ask of the database: see `storage.store`."""

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[Row]: ...

    async def estimate(self, resource_type: str) -> int: ...


@dataclass(frozen=True, slots=True)
class _Lookup:
    """One inner search: a pipeline over a type whose rows have what they found as `e`, several in a list.

    With `inside`, they are the ids of resources that contain what a chain leads to. One that `gathers` tells as `c` how
    many documents refer, and reads no more than some of them where it is `bounded`.
    """

    resource_type: str
    stages: list[Stage]
    quick: bool
    inside: bool = False
    gathers: bool = False
    bounded: bool = False


@dataclass(slots=True)
class _Found:
    """What a lookup found, and how many documents it has read for that, where it tells."""

    lookup: _Lookup
    values: list[Any] = field(default_factory=list)
    read: int = 0


@dataclass(frozen=True, slots=True)
class Follower:
    """Follows chains, for one reader.

    Attributes:
        base_url: of this server; references below it are local ones
        access: what a resource must meet for a chain to look at it
        containing: the types of which some resources contain others
        spreads: how reverse chains were found to be spread; None to gather them, whatever it costs
    """

    store: LookupStore
    terminology: Terminology
    base_url: str
    access: Access
    containing: Callable[[], Collection[str]] = tuple
    spreads: Spreads | None = None

    async def follow(self, searches: Sequence[Search], *, checking: bool = False) -> list[Search]:
        """The same searches without chains; they come back as they are when they have none.

        Args:
            checking: whether a reverse chain may become a check of the search

        Raises:
            UnprocessableError: 422; a step finds more resources than can be followed.
        """
        while True:
            searches = [self._with_checks(s) for s in searches] if checking else searches
            pending = dict.fromkeys(found for s in searches for p in s.predicates for found in _innermost(p))
            if not pending:
                return list(searches)
            known = await self._looked_up(list(pending))
            searches = [replace(s, predicates=tuple([_settled(p, known) for p in s.predicates])) for s in searches]

    async def _looked_up(self, predicates: list[Predicate]) -> dict[Predicate, Predicate]:
        lookups = [self._lookups_of(p) for p in predicates]
        results = iter(await self._found([lookup for group in lookups for lookup in group]))
        known: dict[Predicate, Predicate] = {}
        for predicate, group in zip(predicates, lookups, strict=True):
            found = [next(results) for _ in group]
            if isinstance(predicate, Reverse) and not await self._is_whole(predicate, found):
                continue  # there is more than was read: another way may cost less
            known[predicate] = referred = self._comparison(predicate, [f for f in found if not f.lookup.inside])
            if isinstance(predicate, Chain):
                ids = _limited(predicate.parameter, [i for f in found if f.lookup.inside for i in f.values])
                known[predicate] = Led(referred, _by_id(predicate.key, ids) if ids else None, predicate.links)
        return known

    async def _is_whole(self, reverse: Reverse, found: list[_Found]) -> bool:
        """Whether all that a reverse chain finds was read; how it is spread is remembered."""
        if self.spreads is None or not all(f.lookup.gathers for f in found):
            return True
        read = sum(f.read for f in found)
        whole = read <= BOUND or not any(f.lookup.bounded for f in found)
        if read >= MANY or not whole:
            among = await self.store.estimate(reverse.resource_type)
            self.spreads.remember(reverse, Spread(read, sum(len(f.values) for f in found), among, whole))
        return whole

    async def _found(self, lookups: list[_Lookup]) -> list[_Found]:
        """What each finds; one command for all."""
        first, *others = [
            (look.resource_type, [*look.stages, {"$set": {"n": {"$literal": n}}}]) for n, look in enumerate(lookups)
        ]
        unions = [{"$unionWith": {"coll": name, "pipeline": stages}} for name, stages in others]
        shared = all(lookup.quick for lookup in lookups)
        results = [_Found(lookup) for lookup in lookups]
        for row in await self.store.aggregate(first[0], [*first[1], *unions], shared=shared):
            found = results[row["n"]]
            found.values.extend(row["e"] if type(row["e"]) is list else [row["e"]])
            found.read += row.get("c", 0)
        return results

    # --- what is asked ----------------------------------------------------------------------------------------------

    def _lookups_of(self, predicate: Predicate) -> list[_Lookup]:
        match predicate:
            case Chain(_, _, parameter, links):
                named = "$x.url" if parameter.canonical else "$_id"
                wanted: list[Stage] = [{"$limit": MOST + 1}, {"$project": {"_id": 0, "e": named}}, IN_ONE_ROW]
                return [*(self._lookup(name, inner, wanted) for name, inner in links), *self._containers(predicate)]
            case Reverse():
                return self._referrers(predicate)
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
        if chain.resource_type not in self.containing():
            return []
        conditions: list[Filter] = []
        quick = True
        for way, name, predicate in _ways_of(chain.parameter, chain.links):
            conditions.append(containing(name, condition_of(on_entries(predicate), self.terminology), way))
            quick = quick and is_narrow(predicate)
        if not conditions:
            return []
        found = all_of([either(conditions), *self.access(chain.resource_type)])
        stages: list[Stage] = [{"$match": found}, {"$limit": MOST + 1}, {"$project": {"_id": 0, "e": "$_id"}}]
        return [_Lookup(chain.resource_type, [*stages, IN_ONE_ROW], quick=quick, inside=True)]

    def _referrers(self, reverse: Reverse) -> list[_Lookup]:
        """Who is referred to by a resource that meets the predicate."""
        spread = self.spreads.get(reverse) if self.spreads is not None else None
        if self.spreads is not None and way_of(reverse, spread, None) == "chart":
            return [self._charted(reverse, condition) for condition in chart_conditions(reverse, self.terminology)]
        bounded = self.spreads is not None and spread is None
        wanted: list[Stage] = [*([{"$limit": BOUND + 1}] if bounded else []), *_referred(reverse)]
        return [replace(self._lookup(reverse.source, reverse.predicate, wanted), gathers=True, bounded=bounded)]

    def _charted(self, reverse: Reverse, condition: Filter) -> _Lookup:
        """Who has such a resource, told by the index of charts alone: one step in it for each."""
        field = charted(reverse)
        assert field is not None, "only chains that an index of charts answers are asked of it"
        patients = {field: _of_type(reverse.resource_type)["_id"]}
        conditions = all_of([condition, patients, *self.access(reverse.source)])
        stages: list[Stage] = [{"$match": conditions}, {"$group": {"_id": f"${field}"}}, {"$limit": MOST + 1}]
        return _Lookup(reverse.source, [*stages, {"$set": {"e": "$_id"}}, IN_ONE_ROW], quick=False)

    def _with_checks(self, search: Search) -> Search:
        """The search with checks for those reverse chains that cost least so."""
        checks: list[Check] = []
        predicates: list[Predicate] = []
        for predicate in search.predicates:
            if isinstance(predicate, Reverse) and self._is_checked(predicate, search):
                inner = Search(predicate.source, (predicate.predicate,))
                condition = filter_of(inner, self.terminology, self.access(predicate.source))
                field = predicate.parameter.within or predicate.parameter.field
                checks.append(Check(predicate.source, field, condition))
            else:
                predicates.append(predicate)
        return replace(search, predicates=tuple(predicates), checks=(*search.checks, *checks)) if checks else search

    def _is_checked(self, reverse: Reverse, search: Search) -> bool:
        if self.spreads is None or _innermost(reverse) != [reverse]:
            return False
        return way_of(reverse, self.spreads.get(reverse), search) == "check"

    # --- what was found ---------------------------------------------------------------------------------------------

    def _comparison(self, predicate: Predicate, found: list[_Found]) -> Comparison:
        values = [value for f in found for value in f.values]
        match predicate:
            case Chain(parameter=parameter) if parameter.canonical:
                urls = _limited(parameter, [url for listed in values for url in listed])
                return Comparison(parameter, None, (ReferenceValue(tuple(urls)),))
            case Chain(parameter=parameter):
                entries = _limited(parameter, [f"{f.lookup.resource_type}/{i}" for f in found for i in f.values])
                return Comparison(parameter, None, (ReferenceValue(tuple(entries)),))
            case Reverse(resource_type, key, _, parameter, _):
                entries = _limited(parameter, values)
                if parameter.canonical:
                    return Comparison(key, None, tuple([TextValue(entry.partition("|")[0]) for entry in entries]))
                return _by_id(key, [entry.removeprefix(f"{resource_type}/") for entry in entries])
            case Listed(resource_type, key, _):
                references = [reference for body in values for reference in self._current_entries(body)]
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


def _settled(predicate: Predicate, known: Mapping[Predicate, Predicate]) -> Predicate:
    """As `_known`; a chain of the search itself that leads into no container, as most do, is a plain comparison."""
    found = _known(predicate, known)
    return found.references if isinstance(found, Led) and found.containers is None else found


def _referred(reverse: Reverse) -> list[Stage]:
    """The stages that follow the match of who refers: the references, each once."""
    parameter = reverse.parameter
    stages: list[Stage] = [{"$project": {"_id": 0, "e": f"${parameter.field}"}}]
    if not parameter.bare:
        stages.append({"$unwind": "$e"})
    wanted = {} if parameter.canonical else _of_type(reverse.resource_type)
    each = {"$group": {"_id": "$e", "c": {"$sum": 1}}}
    return [*stages, each, {"$match": wanted}, {"$limit": MOST + 1}, {"$set": {"e": "$_id"}}, IN_ONE_ROW]


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
