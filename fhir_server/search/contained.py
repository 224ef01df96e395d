"""Searches in contained resources: `_contained` and `_containedType`.

The predicates are those of the contained type; a resource of any type may contain one that meets all of them. What is
found is shown as its container, or by itself, with the container's address in its `fullUrl`. Whoever may see the
container may see it.

Spec: https://hl7.org/fhir/R4/search.html#contained
"""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.model.errors import InvalidError
from fhir_server.search.compile import Access, all_of, condition_of, filter_of
from fhir_server.search.filter.build import FILTER
from fhir_server.search.follow import on_entries
from fhir_server.search.include import fields_of
from fhir_server.search.inside import FIELD, TYPE, containing, unwound
from fhir_server.search.page import Page
from fhir_server.search.query import Comparison, Predicate, Search, Test, parts_of
from fhir_server.search.types.conditions import either
from fhir_server.search.union import Part, UnionStore, page_of_union
from profiles.registry import Registry
from profiles.terminology import Terminology


def not_inside(name: str) -> InvalidError:
    """400: a parameter that cannot be asked of contained resources."""
    why = (
        "`_lastUpdated`, which is that of the container, can only be given as a parameter of its own"
        if name == FILTER
        else "no other resource refers to one"
    )
    return InvalidError(
        f"{name[:80]!r} cannot be asked of contained resources: {why}.",
        code="not-supported",
        key="HS-SEARCH-CONTAINED",
        expression=f"http.{name[:80]}",
    )


def require_standing(search: Search) -> None:
    """Refuse to look inside other resources where one that stands by itself is wanted.

    Raises:
        InvalidError: 400; the search is one of contained resources.
    """
    if search.looks_inside:
        raise InvalidError(
            "Contained resources are found by searches alone: here `_contained` can only be false.",
            code="not-supported",
            key="HS-SEARCH-CONTAINED",
            expression="http._contained",
        )


def has_moment_below(predicate: Predicate) -> bool:
    """Whether a predicate asks for a moment together with others, as `_filter` can."""
    return any(_asks_for_moment(part) or has_moment_below(part) for part in parts_of(predicate))


def _asks_for_moment(predicate: Predicate) -> bool:
    return isinstance(predicate, Comparison | Test) and predicate.parameter.field == "t"


async def page_of_contained(
    store: UnionStore,
    search: Search,
    containing_types: Iterable[str],
    registry: Registry,
    terminology: Terminology,
    access: Access,
) -> Page:
    """The page that the search's cursor names, or the first; its rows have their collection as `y`.

    Rows that are contained resources have their id as `i`, and their container's JSON as `r`.

    Args:
        containing_types: the types of which some contain others
        access: what a container, or a resource that stands by itself, must meet to be seen

    Raises:
        InvalidError: 400; the cursor is not one of this search.
    """
    kind = search.resource_type
    moments = all_of([condition_of(p, terminology) for p in search.predicates if _asks_for_moment(p)])
    inner = all_of([condition_of(on_entries(p), terminology) for p in search.predicates if not _asks_for_moment(p)])
    itself = filter_of(search, terminology)
    references = fields_of(search.includes, kind, registry)
    inside = {f"{FIELD}.{TYPE}": 1, **{f"{FIELD}.{field}": 1 for field in references}} if references else {}
    alone = search.contained_type == "contained"
    parts: list[Part] = []
    for name in sorted(containing_types):
        match = all_of([containing(kind, inner), moments])
        if search.contained == "both" and name == kind and not alone:
            match = either([match, itself])
        fields = {**fields_of(search.includes, name, registry), **inside}
        parts.append(Part(name, all_of([match, *access(name)]), fields, unwound(kind, inner) if alone else None))
    if search.contained == "both" and (alone or kind not in {part.resource_type for part in parts}):
        parts.append(Part(kind, all_of([itself, *access(kind)]), references))
    return await page_of_union(store, search, parts)
