"""Which searches are certain to be quick, so that they may share a database command with others.

Sharing saves most of what a search costs, and has a price: the quickest of those that share waits for the slowest. So
only searches take part that an index leads to few documents, whatever else they ask.
"""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.search.query import AllOf, AnyOf, Comparison, Led, Predicate, ReferenceValue, Search, TokenValue, Value

#: Types to which one record seldom has more than some thousand others.
NARROW_TARGETS = ("Patient/", "Encounter/")

#: More values than this, such as a chain has found, are no quick search whatever they name.
FEW = 100


def is_quick(search: Search) -> bool:
    """Whether some predicate selects few documents by its index, or one index gives the page in its order."""
    if any(map(is_narrow, search.predicates)):
        return True
    if (
        search.checks
        or search.sort
        or search.only_total
        or search.total not in (None, "none")
        or len(search.predicates) != 1
    ):
        return False
    match search.predicates[0]:
        case Comparison(parameter, None, values):
            exact = all(isinstance(v, ReferenceValue) or (isinstance(v, TokenValue) and v.code) for v in values)
            return parameter.type in ("token", "reference") and exact and _are_few(values)
    return False


def is_narrow(predicate: Predicate) -> bool:
    """Whether a predicate selects few documents by its index."""
    match predicate:
        case Comparison(parameter, None, values) if parameter.field == "_id" or parameter.identifies:
            return all(isinstance(v, TokenValue) and v.code for v in values) and _are_few(values)
        case Comparison(parameter, None, values) if parameter.type == "reference":
            named = all(
                isinstance(v, ReferenceValue) and all(entry.startswith(NARROW_TARGETS) for entry in v.entries)
                for v in values
            )
            return named and _are_few(values)
        case AllOf(predicates):
            return any(map(is_narrow, predicates))
        case AnyOf(predicates):
            return all(map(is_narrow, predicates))
        case Led(references, containers):
            return is_narrow(references) and (containers is None or is_narrow(containers))
    return False


def _are_few(values: Iterable[Value]) -> bool:
    return sum(len(v.entries) if isinstance(v, ReferenceValue) else 1 for v in values) <= FEW
