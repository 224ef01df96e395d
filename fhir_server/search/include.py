"""What `_include` and `_revinclude` add to the matches of a page.

Each round is one command for all types: what the page refers to and what refers to it comes as a union by ids and by
references. References are read from the index entries of the rows, never from their resources. The first round adds to
the matches; further rounds, of what says `:iterate`, add to what the round before has added.

Spec: https://hl7.org/fhir/R4/search.html#include
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fhir_server.model.errors import InvalidError, Issue
from fhir_server.search.compile import LIVING, Access, all_of
from fhir_server.search.normalize import fold
from fhir_server.search.parameters import ParameterTable, table_of
from fhir_server.search.query import Include, Parameter
from fhir_server.search.types.conditions import Filter, any_of, either
from profiles.registry import Registry

Row = dict[str, Any]

#: By name: whether it includes what refers to a match, and whether it goes on from what it included.
INCLUDES: dict[str, tuple[bool, bool]] = {
    name + suffix: (name == "_revinclude", suffix != "")
    for name in ("_include", "_revinclude")
    for suffix in ("", ":iterate", ":recurse")
}

#: Of a row that is to be included.
FIELDS: dict[str, int] = {"v": 1, "t": 1, "r": 1}

#: So many resources are fetched by their ids together with those of other callers.
FEW = 200


class IncludeStore(Protocol):
    """What includes ask of the database: see `storage.store`."""

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[Row]: ...


@dataclass(frozen=True, slots=True)
class Included:
    """What was added to a page: rows with their types, and warnings about what was left out."""

    rows: tuple[tuple[str, Row], ...] = ()
    issues: tuple[Issue, ...] = ()


NOTHING = Included()


# --- reading ----------------------------------------------------------------------------------------------------------


def include_of(
    table: ParameterTable, name: str, text: str, registry: Registry, *, anywhere: bool = False
) -> Include | Issue:
    """Read `Source:reference[:Target]`, `Source:*` or `*`; an issue when it can have no effect on this search.

    Args:
        anywhere: whether matches may be of other types than the one searched, as containers are

    Raises:
        InvalidError: 400; another form, or a type or reference that does not exist.
    """
    reverse, iterate = INCLUDES[name]
    parts = text.split(":")
    if text == "*":
        return Include(reverse, None if reverse or iterate else table.resource_type, None, None, iterate)
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise _wrong(name, text, "expected Type:reference, Type:reference:TargetType, Type:* or *")
    source, code, target = parts[0], parts[1], parts[2] if len(parts) == 3 else None
    if source != "*" and not registry.is_resource_type(source):
        raise _wrong(name, text, f"{source[:40]!r} is no resource type")
    if target is not None and not registry.is_resource_type(target):
        raise _wrong(name, text, f"{target[:40]!r} is no resource type")
    if code != "*":
        if source == "*":
            raise _wrong(name, text, "a reference is one of a type")
        parameter = table_of(source, registry).parameters.get(code)
        if parameter is None or parameter.type != "reference":
            known = sorted(c for c, p in table_of(source, registry).parameters.items() if p.type == "reference")
            raise _wrong(name, text, f"{source} has no reference {code[:40]!r}; it has {', '.join(known) or 'none'}")
        if target is not None and target not in parameter.targets:
            raise _wrong(name, text, f"{code!r} of {source} does not refer to {target}")
    include = Include(reverse, None if source == "*" else source, None if code == "*" else code, target, iterate)
    useful = iterate or anywhere or _concerns(include, table.resource_type, registry)
    return include if useful else _idle(include, table, name)


def _concerns(include: Include, resource_type: str, registry: Registry) -> bool:
    """Whether an include can add something to a resource of a type."""
    if not include.reverse:
        return include.source in (None, resource_type)
    if include.target not in (None, resource_type):
        return False
    if include.source is None:
        return True
    return any(resource_type in p.targets for p in _parameters(include, include.source, registry))


def _idle(include: Include, table: ParameterTable, name: str) -> Issue:
    why = "refer to it" if include.reverse else "are found by this search"
    text = (
        f"{name} has no effect on the matches, which are {table.resource_type}: no {include.source} resources {why} in "
        f"this way. {name}:iterate applies it to resources that are included."
    )
    return Issue("not-supported", text, f"http.{name}", "HS-SEARCH-INCLUDE-IDLE")


def _wrong(name: str, text: str, why: str) -> InvalidError:
    return InvalidError(
        f"The value {text[:100]!r} of {name!r} is not valid: {why}.",
        code="value",
        key="HS-SEARCH-INCLUDE",
        expression=f"http.{name}",
    )


def _parameters(include: Include, source: str, registry: Registry) -> list[Parameter]:
    """The references of a type that an include is about."""
    known = table_of(source, registry).parameters
    if include.code is not None:
        parameter = known.get(include.code)
        return [parameter] if parameter is not None and parameter.type == "reference" else []
    return [p for p in known.values() if p.type == "reference" and p.within is None]


# --- which entries of a row are needed --------------------------------------------------------------------------------


def fields_of(includes: Iterable[Include], resource_type: str, registry: Registry) -> dict[str, int]:
    """The index entries of a type's rows that the includes read, as a projection."""
    fields: dict[str, int] = {}
    for include in includes:
        if not include.reverse:
            if include.source in (None, resource_type):
                fields.update((p.field, 1) for p in _parameters(include, resource_type, registry))
        elif "url" in table_of(resource_type, registry).parameters and _is_canonical(include, registry):
            fields["x.url"] = 1
    return fields


def _is_canonical(include: Include, registry: Registry) -> bool:
    return include.source is None or any(p.canonical for p in _parameters(include, include.source, registry))


# --- adding -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Inclusion:
    """Adds to one page.

    Attributes:
        access: what a resource of a type must meet to be included
        most: resources that may be added
        rounds: commands that may be sent
    """

    store: IncludeStore
    registry: Registry
    includes: tuple[Include, ...]
    access: Access
    most: int
    rounds: int
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _added: list[tuple[str, Row]] = field(default_factory=list)

    async def added_to(self, matches: Sequence[tuple[str, Row]], contained: Sequence[tuple[str, Row]] = ()) -> Included:
        """What is added to the matches, each resource once, those nearest to the matches first.

        Args:
            contained: rows of contained resources, whose references count as well; none refer to them from outside
        """
        self._seen = {(name, row["_id"]) for name, row in matches if not row.get("i")}
        rows, includes = [*matches, *contained], self.includes
        for _ in range(self.rounds):
            wanted, shared = self._wanted(rows, includes)
            if not wanted:
                return Included(tuple(self._added))
            allowed = self.most - len(self._added)
            found = await self._fetched(wanted, allowed, shared=shared)
            rows = found[:allowed]
            self._added += rows
            self._seen.update((name, row["_id"]) for name, row in rows)
            if len(found) > allowed:
                return Included(tuple(self._added), (_cut(f"{self.most:,} resources"),))
            includes = tuple([include for include in includes if include.iterate])
        left_out = bool(self._wanted(rows, includes)[0])
        return Included(tuple(self._added), (_cut(f"{self.rounds} rounds"),) if left_out else ())

    def _wanted(
        self, rows: Sequence[tuple[str, Row]], includes: Iterable[Include]
    ) -> tuple[dict[str, list[Filter]], bool]:
        """By type, the conditions of which a resource that is to be added meets one; and whether they are quick."""
        by_type: dict[str, list[Row]] = {}
        referred: dict[str, list[Row]] = {}
        for name, row in rows:
            by_type.setdefault(name, []).append(row)
            if "_id" in row:
                referred.setdefault(name, []).append(row)
        forward: dict[str, dict[str, None]] = {}
        wanted: dict[str, list[Filter]] = {}
        quick = True
        for include in includes if rows else ():
            if include.reverse:
                for source, condition in self._referring(include, referred):
                    quick = False
                    if condition not in wanted.setdefault(source, []):
                        wanted[source].append(condition)
                continue
            for name in by_type if include.source is None else (include.source,):
                for parameter in _parameters(include, name, self.registry):
                    entries = dict.fromkeys(e for row in by_type.get(name, ()) for e in _entries(row, parameter))
                    targets = parameter.targets if include.target is None else (include.target,)
                    if parameter.canonical:
                        for target, condition in self._by_url(entries, targets):
                            wanted.setdefault(target, []).append(condition)
                    else:
                        self._sort_in(forward, entries, targets)
        for name, ids in forward.items():
            wanted.setdefault(name, []).append(any_of("_id", list(ids)))
        return wanted, quick and sum(map(len, forward.values())) <= FEW

    def _sort_in(self, forward: dict[str, dict[str, None]], entries: Iterable[str], targets: tuple[str, ...]) -> None:
        for entry in entries:
            name, _, resource_id = entry.partition("/")
            if name in targets and (name, resource_id) not in self._seen:
                forward.setdefault(name, {})[resource_id] = None

    def _by_url(self, entries: Iterable[str], targets: tuple[str, ...]) -> Iterator[tuple[str, Filter]]:
        """The conditions for what canonical URLs name: `url|version` that version, `url` alone any."""
        versions: dict[str, list[str]] = {}
        for entry in entries:  # a versioned one stands there without its version, too
            url, bar, version = entry.partition("|")
            versions.setdefault(url, []).extend([version] if bar else [])
        for target in targets:
            known = table_of(target, self.registry).parameters
            if "url" not in known:
                continue
            for url, wanted in versions.items():
                condition: Filter = {"x.url": url}
                if wanted and "version" in known:
                    condition["x.version"] = {"$in": [f"={fold(version)}" for version in wanted]}
                yield target, condition

    def _referring(self, include: Include, by_type: Mapping[str, list[Row]]) -> Iterator[tuple[str, Filter]]:
        """The conditions for what refers to rows."""
        for source in self.registry.resource_types if include.source is None else (include.source,):
            for parameter in _parameters(include, source, self.registry):
                targets = [t for t in by_type if t in parameter.targets and include.target in (None, t)]
                if parameter.canonical:
                    rows = [row for name in targets for row in by_type[name]]
                    entries = [url for row in rows for url in row.get("x", {}).get("url", ())]
                else:
                    entries = [f"{name}/{row['_id']}" for name in targets for row in by_type[name]]
                if entries:
                    yield source, any_of(parameter.within or parameter.field, entries)

    async def _fetched(
        self, wanted: Mapping[str, list[Filter]], allowed: int, *, shared: bool
    ) -> list[tuple[str, Row]]:
        """The resources that meet the conditions and were not seen before, at least one more than allowed if there are.

        Rows of the types come one after the other, since `$unionWith` keeps their order.
        """
        most = allowed + len(self._seen) + 1
        going_on = [include for include in self.includes if include.iterate]
        parts: list[tuple[str, list[dict[str, Any]]]] = []
        for name, conditions in sorted(wanted.items()):
            match = all_of([either(conditions), LIVING, *self.access(name)])
            shown = {**FIELDS, **fields_of(going_on, name, self.registry), "y": {"$literal": name}}
            parts.append((name, [{"$match": match}, {"$limit": most}, {"$project": shown}]))
        (first, stages), *others = parts
        unions = [{"$unionWith": {"coll": name, "pipeline": part}} for name, part in others]
        rows = await self.store.aggregate(first, [*stages, *unions, {"$limit": most}], shared=shared)
        return [(row["y"], row) for row in rows if (row["y"], row["_id"]) not in self._seen]


def _entries(row: Row, parameter: Parameter) -> Iterable[str]:
    entries = row.get("x", {}).get(parameter.code, ())
    return (entries,) if isinstance(entries, str) else entries


def _cut(limit: str) -> Issue:
    return Issue(
        "incomplete",
        f"Not everything that was to be included is here: this server includes {limit} at most. Ask for smaller pages "
        "(_count), or search for the rest by itself.",
        "http._include",
        "HS-LIMIT-INCLUDES",
        severity="warning",
    )
