"""Search parameters that have not been over all resources yet: a search by one says so.

Spec: https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fhir_server.model.errors import Issue
from fhir_server.search.query import Chain, Comparison, Parameter, Predicate, Reverse, Search, Test, parts_of


def with_readiness(search: Search) -> Search:
    """The search with a warning for each parameter that is not ready; most searches come back as they are."""
    used = [p for predicate in search.predicates for p in _parameters(predicate)]
    unready = {p.code: p for p in (*used, *(key.parameter for key in search.sort)) if not p.ready}
    if not unready:
        return search
    return replace(search, ignored=(*search.ignored, *map(_issue, unready.values())))


def _parameters(predicate: Predicate) -> Iterator[Parameter]:
    match predicate:
        case Comparison(parameter) | Test(parameter) | Chain(parameter=parameter):
            yield parameter
            yield from parameter.components
        case Reverse():
            yield predicate.parameter
        case _:
            pass
    for part in parts_of(predicate):
        yield from _parameters(part)


def _issue(parameter: Parameter) -> Issue:
    return Issue(
        "incomplete",
        f"The search parameter {parameter.code!r} is not ready yet: it finds what was stored since it came into force. "
        "POST [base]/$reindex, or SearchParameter/[id]/$reindex, makes it find all.",
        f"http.{parameter.code}",
        "HS-SEARCH-NOT-READY",
        severity="warning",
    )
