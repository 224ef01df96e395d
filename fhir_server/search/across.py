"""A search of several types at once: of the whole system, of some types, of a compartment.

All its parameters are common to the types; a page is a union of the types' own searches (see `union`).

Spec: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html#_type
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fhir_server.model.errors import InvalidError, Issue
from fhir_server.search.compile import Access, filter_of
from fhir_server.search.controls import ACROSS, NAMES, QUERY, SILENT, sorted_across
from fhir_server.search.include import INCLUDES, include_of
from fhir_server.search.named import of_one_type
from fhir_server.search.page import Page
from fhir_server.search.parameters import table_of
from fhir_server.search.query import Include, Search
from fhir_server.search.union import Part, Row, UnionStore, page_of_union
from profiles.registry import Registry
from profiles.terminology import Terminology

Pairs = Sequence[tuple[str, str]]
ParseOne = Callable[[str, Pairs], Search]

#: These mean the same in every type, down to the fields that they look at.
SHARED = frozenset((*NAMES, *SILENT, "_id", "_lastUpdated", "_tag", "_security", "_profile", "_source"))

_UNKNOWN = frozenset(("HS-SEARCH-UNKNOWN", "HS-SEARCH-UNSUPPORTED"))


# --- reading ----------------------------------------------------------------------------------------------------------


def parse_across(
    types: Sequence[str], pairs: Pairs, parse_one: ParseOne, registry: Registry, *, strict: bool
) -> list[Search]:
    """One search for each type, of what is common to all of them; all say the same about the rest.

    Args:
        types: two at least
        parse_one: reads the parameters for one type, not strictly

    Raises:
        InvalidError: 400; a malformed value, or, when strict, a parameter that the types do not have in common.
    """
    named = next((text for name, text in pairs if name == QUERY and text), None)
    if named is not None:
        raise of_one_type(named)
    pairs, refused = _sortable(pairs)
    includes, included, idle = _includes_of(types, pairs, registry)
    refused += idle
    pairs = [pair for pair in pairs if pair[0] not in INCLUDES]
    if all(name.partition(":")[0] in SHARED for name, _ in pairs):
        first = parse_one(types[0], pairs)
        searches = [first, *(replace(first, resource_type=name) for name in types[1:])]
    else:
        searches = [parse_one(name, pairs) for name in types]
    if searches[0].looks_inside:
        raise InvalidError(
            "Contained resources are searched one type at a time: [base]/[type]?_contained=….",
            code="not-supported",
            key="HS-SEARCH-CONTAINED",
            expression="http._contained",
        )
    ignored = {issue.expression: issue for issue in refused}
    for search in searches:
        for issue in search.ignored:
            ignored.setdefault(issue.expression, _not_common(issue, types) if issue.key in _UNKNOWN else issue)
    if ignored and strict:
        raise InvalidError([replace(issue, severity="error") for issue in ignored.values()])
    common = [pair for pair in searches[0].applied if all(pair in search.applied for search in searches)]
    if any(len(search.applied) > len(common) for search in searches):
        searches = [parse_one(name, common) for name in types]
    return [
        replace(
            s,
            ignored=tuple(ignored.values()),
            includes=includes,
            applied=(*s.applied, *included),
            sort=tuple([key for key in s.sort if not (key.terms or key.positions)]),  # no score compares types
        )
        for s in searches
    ]


def _includes_of(
    types: Sequence[str], pairs: Pairs, registry: Registry
) -> tuple[tuple[Include, ...], list[tuple[str, str]], list[Issue]]:
    """The includes that concern one of the types at least, and how they were spelt; warnings about the others."""
    includes: dict[Include, None] = {}
    spelt: dict[tuple[str, str], None] = {}
    idle: list[Issue] = []
    for name, text in pairs:
        if name not in INCLUDES or not text:
            continue
        read = [include_of(table_of(one, registry), name, text, registry) for one in types]
        found = [include for include in read if isinstance(include, Include)]
        includes.update(dict.fromkeys(found))
        if found:
            spelt[name, text] = None
        else:
            idle += [replace(issue, severity="warning") for issue in read[:1] if isinstance(issue, Issue)]
    return tuple(includes), list(spelt), idle


def _sortable(pairs: Pairs) -> tuple[list[tuple[str, str]], list[Issue]]:
    """The parameters, without what results of several types cannot be sorted by."""
    kept: list[tuple[str, str]] = []
    refused: list[Issue] = []
    for name, text in pairs:
        rules = [rule for rule in text.split(",") if rule] if name == "_sort" else []
        wrong = [rule for rule in rules if rule.removeprefix("-") not in ACROSS]
        if wrong:
            told = sorted_across("Several types at once", wrong[0].removeprefix("-"))
            refused.append(replace(told, severity="warning"))
        if wrong and len(wrong) < len(rules):
            kept.append((name, ",".join(rule for rule in rules if rule not in wrong)))
        elif not wrong:
            kept.append((name, text))
    return kept, refused


def _not_common(issue: Issue, types: Sequence[str]) -> Issue:
    name = (issue.expression or "").removeprefix("http.")
    shown = ", ".join(types[:8]) + (" …" if len(types) > 8 else "")
    text = (
        f"{name!r} is no search parameter that all the types searched have in common ({shown}). Name the types by "
        "_type, or search one type."
    )
    return replace(issue, diagnostics=text)


# --- searching --------------------------------------------------------------------------------------------------------


async def page_across(
    store: UnionStore,
    searches: Sequence[Search],
    terminology: Terminology,
    access: Access,
    fields: Callable[[str], Mapping[str, int]],
    beside: Sequence[Row] = (),
) -> Page:
    """The page that the searches' cursor names, or the first; its rows have their type as `y`.

    Args:
        searches: one for each type, in the order of the types, alike in all but that; without chains
        fields: the index entries that are wanted of a type's rows, as a projection
        beside: what matches, too, and stands in no collection, with its type as `y`

    Raises:
        InvalidError: 400; the cursor is not one of this search.
    """
    head = replace(searches[0], resource_type="")
    parts = [
        Part(s.resource_type, filter_of(s, terminology, access(s.resource_type)), fields(s.resource_type))
        for s in searches
    ]
    return await page_of_union(store, head, parts, beside)
