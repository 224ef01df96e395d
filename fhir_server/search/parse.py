"""Read a search: the name and value pairs of a query to a typed tree.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from fhir_server.model.errors import InvalidError, Issue, UnprocessableError
from fhir_server.search.chains import HAS, LIST, Depth, about, chain_of, listed_of, looks_elsewhere, reverse_of
from fhir_server.search.contained import has_moment_below, not_inside
from fhir_server.search.controls import NAMES, QUERY, SILENT, Controls
from fhir_server.search.escape import split, unescape
from fhir_server.search.filter.build import FILTER, predicate_of
from fhir_server.search.include import INCLUDES, include_of
from fhir_server.search.named import Given, NamedQuery, listed_by, query_of
from fhir_server.search.parameters import ParameterTable, table_of
from fhir_server.search.query import (
    AllOf,
    Comparison,
    Include,
    MissingValue,
    NearValue,
    Parameter,
    Predicate,
    Search,
    SortKey,
    TextValue,
    Value,
    Words,
)
from fhir_server.search.types import composite, date, near, number, quantity, reference, string, token
from fhir_server.search.types.conditions import malformed
from fhir_server.search.types.words import parse_words
from profiles.registry import Registry

#: Values of one parameter that an index is asked for at once, and of one that compares every entry.
MAX_VALUES = 500
MAX_PATTERNS = 50
_BY_PATTERN = frozenset(("contains", "text"))

#: Where nothing else is set.
MAX_CHAIN_DEPTH = 5

_MISSING = {"true": MissingValue(True), "false": MissingValue(False)}


def parse(
    resource_type: str,
    pairs: Sequence[tuple[str, str]],
    registry: Registry,
    *,
    strict: bool,
    default_count: int,
    max_count: int,
    base_url: str = "",
    max_chain_depth: int = MAX_CHAIN_DEPTH,
) -> Search:
    """Read the parameters of a type-level search, already decoded from their URL.

    Args:
        pairs: names and values as they were sent, in order
        strict: whether an unknown parameter is an error (`Prefer: handling=strict`) or ignored with a warning
        default_count: the page size when `_count` is not given
        max_count: the largest page; a larger `_count` is lowered to it
        base_url: of this server; references below it are local ones
        max_chain_depth: most steps from resource to resource in one parameter

    Raises:
        InvalidError: 400; one issue for each malformed value, each modifier that does not apply, and, when strict, each
            parameter that does not exist.
        UnprocessableError: 422; more values for one parameter than are searched for at once, or a longer chain.
    """
    table = table_of(resource_type, registry)
    base = f"{base_url.rstrip('/')}/" if base_url else ""
    looks_inside = any(name == "_contained" and text in ("true", "both") for name, text in pairs)
    controls = Controls(table, max_count, min(default_count, max_count), looks_inside)
    predicates: list[Predicate] = []
    applied: list[tuple[str, str]] = []
    ignored: list[Issue] = []
    errors: list[Issue] = []
    includes: dict[Include, None] = {}
    named, given = _named(table.resource_type, pairs, errors)
    for name, text in (*pairs, *((name, text) for name, text in given.items() if (name, text) not in pairs)):
        if not text or name in SILENT:
            continue
        if name in given:
            if (name, given[name]) not in applied:
                applied.append((name, given[name]))
            continue
        try:
            if not (text.isascii() or _is_encodable(text)) or "\0" in text:
                raise malformed(name, text, "text without U+0000 and lone surrogates")
            if name in NAMES:
                took = None if (name, text) in applied else controls.take(name, text)
                if took is not None:
                    applied.append((name, took))
                continue
            if name in INCLUDES:
                found = include_of(table, name, text, registry, anywhere=looks_inside)
                if isinstance(found, Issue):
                    ignored.append(found)
                elif found not in includes:
                    includes[found] = None
                    applied.append((name, text))
                continue
            if looks_inside and (name == LIST or name.startswith(HAS)):
                raise not_inside(name)
            depth = Depth(name, max_chain_depth) if looks_elsewhere(name) or name == FILTER else None
            predicate = _predicate(table, name, text, base, registry, depth)
            if isinstance(predicate, Issue):
                ignored.append(about(predicate, name))
            elif predicate is not None:
                if looks_inside and has_moment_below(predicate):
                    raise not_inside(name)
                predicates.append(predicate)
                applied.append((name, text))
        except InvalidError as error:
            errors += error.issues
    if named is not None and not errors:
        predicates += _criteria(table, named.criteria(given), base, registry)
        if "_sort" not in controls.given and not looks_inside:
            controls.take("_sort", named.sort)
    ignored += controls.ignored
    if strict:
        errors += ignored
    if errors:
        raise InvalidError(errors)
    return Search(
        resource_type=resource_type,
        predicates=tuple(predicates),
        sort=controls.sort if looks_inside else (*controls.sort, *_by_nearness(controls.sort, predicates)),
        count=controls.count,
        total=controls.total,
        summary=controls.summary,
        elements=controls.elements,
        cursor=controls.cursor,
        includes=tuple(includes),
        contained=controls.contained,
        contained_type=controls.contained_type,
        applied=tuple(applied),
        ignored=tuple([replace(issue, severity="warning") for issue in ignored]) if ignored else (),
    )


def _named(
    resource_type: str, pairs: Sequence[tuple[str, str]], errors: list[Issue]
) -> tuple[NamedQuery | None, Given]:
    """The named query that is asked for, with its own parameters; what is wrong with it goes to the errors."""
    code = next((text for name, text in pairs if name == QUERY and text), None)
    if code is None:
        return None, {}
    try:
        query = query_of(resource_type, code)
        return query, query.given(pairs)
    except InvalidError as error:
        errors += error.issues
        return None, {}


def _criteria(
    table: ParameterTable, pairs: Iterable[tuple[str, str]], base_url: str, registry: Registry
) -> list[Predicate]:
    """The predicates that a named query stands for."""
    found: list[Predicate] = []
    for name, text in pairs:
        predicate = _predicate(table, name, text, base_url, registry, Depth(name, 0))
        assert predicate is not None, f"{name} of a named query has no value"
        assert not isinstance(predicate, Issue), predicate.diagnostics
        found.append(predicate)
    return found


def _by_nearness(sort: Sequence[SortKey], predicates: Iterable[Predicate]) -> Iterator[SortKey]:
    """The order by distance or by score, where positions or words are given; after all that `_sort` asks for."""
    if any(key.parameter.field == "_id" for key in sort):
        return
    for predicate in predicates:
        if isinstance(predicate, Words):
            words = Parameter(predicate.field.removeprefix("x."), "special", predicate.field, single=True)
            yield SortKey(words, descending=True, terms=predicate.terms)
            return
        if isinstance(predicate, Comparison) and predicate.parameter.type == "special":
            positions = tuple(v for v in predicate.values if isinstance(v, NearValue))
            if positions:
                yield SortKey(predicate.parameter, descending=False, positions=positions)
                return


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _predicate(
    table: ParameterTable,
    name: str,
    text: str,
    base_url: str,
    registry: Registry,
    depth: Depth | None,
    steps: int = 0,
) -> Predicate | Issue | None:
    """What one parameter asks for; an issue when there is no such parameter, None when it has no value."""
    if depth is not None and looks_elsewhere(name):

        def read(resource_type: str, rest: str) -> Predicate | Issue | None:
            depth.require(steps + 1)
            return _predicate(table_of(resource_type, registry), rest, text, base_url, registry, depth, steps + 1)

        if name == LIST and text.startswith("$"):
            query = listed_by(table.resource_type, text)
            return AllOf(tuple(_criteria(table, query.criteria(query.given(())), base_url, registry)))
        if name == LIST:
            return listed_of(table, name, text)
        if name.startswith(HAS):
            return reverse_of(table, name, read, registry)
        return chain_of(table, name, read)
    if depth is not None and name == FILTER:
        read_value = partial(value_of, base_url=base_url, registry=registry)
        return predicate_of(table.resource_type, text, registry, read_value, partial(depth.require, steps + 1))
    if name in registry.full_text:
        return parse_words(f"x.{name}", name, text)
    bound = table.bound(name)
    return table.unknown(name) if bound is None else _comparison(bound, name, text, base_url, registry)


def _comparison(
    bound: tuple[Parameter, str | None], name: str, text: str, base_url: str, registry: Registry
) -> Comparison | None:
    """One parameter with all its values; None when they are all empty."""
    parameter, modifier = bound
    parts = split(text, ",") if "," in text else [text]
    most = MAX_PATTERNS if modifier in _BY_PATTERN else MAX_VALUES
    if len(parts) > most:
        raise UnprocessableError(
            f"The search parameter {name!r} has {len(parts)} values; {most} at most are searched for at once.",
            code="too-costly",
            key="HS-SEARCH-VALUES",
            expression=f"http.{name[:80]}",
        )
    values = tuple([value_of(parameter, name, modifier, part, base_url, registry) for part in parts if part])
    return Comparison(parameter, modifier, values) if values else None


def value_of(
    parameter: Parameter, name: str, modifier: str | None, text: str, base_url: str, registry: Registry
) -> Value:
    """Read one value, which is not empty, as its parameter's type and its modifier ask.

    Raises:
        InvalidError: 400; the parameter cannot have this value.
    """
    if modifier == "missing":
        if text not in _MISSING:
            raise malformed(name, text, "true or false")
        return _MISSING[text]
    match parameter.type:
        case "token":
            return token.parse_value(parameter, name, modifier, text)
        case "string":
            return string.parse_value(name, modifier, text)
        case "reference":
            return reference.parse_value(parameter, name, modifier, text, base_url, registry)
        case "date":
            return date.parse_value(name, text)
        case "number":
            return number.parse_value(name, text)
        case "quantity":
            return quantity.parse_value(name, text)
        case "uri":
            return TextValue(unescape(text))
        case "special":
            return near.parse_value(name, text)
        case "composite":
            return composite.parse_value(
                parameter, name, text, lambda part, label, t: value_of(part, label, None, t, base_url, registry)
            )
        case other:
            raise AssertionError(f"no values are read for parameters of type {other}")


def link_pairs(applied: Iterable[tuple[str, str]], cursor: str | None) -> list[tuple[str, str]]:
    """The parameters of a link to another page of the same search; without a cursor, to the first."""
    pairs = [(name, value) for name, value in applied if name != "_cursor"]
    return pairs if cursor is None else [*pairs, ("_cursor", cursor)]
