"""Which searches are certain to be quick, so that they may share a database command with others.

Sharing saves most of what a search costs, and has a price: the quickest of those that share waits for the slowest. So
only searches take part that an index leads to few documents, whatever else they ask.
"""

from __future__ import annotations

from fhir_server.search.query import Comparison, Predicate, ReferenceValue, Search, TokenValue

#: Types to which one record seldom has more than some thousand others.
NARROW_TARGETS = ("Patient/", "Encounter/")


def is_quick(search: Search) -> bool:
    """Whether some predicate selects few documents by its index, or one index gives the page in its order."""
    if any(map(_is_narrow, search.predicates)):
        return True
    if search.sort or search.only_total or search.total not in (None, "none") or len(search.predicates) != 1:
        return False
    match search.predicates[0]:
        case Comparison(parameter, None, values):
            exact = all(isinstance(v, ReferenceValue) or (isinstance(v, TokenValue) and v.code) for v in values)
            return parameter.type in ("token", "reference") and exact
    return False


def _is_narrow(predicate: Predicate) -> bool:
    match predicate:
        case Comparison(parameter, None, values) if parameter.field == "_id" or parameter.identifies:
            return all(isinstance(v, TokenValue) and v.code for v in values)
        case Comparison(parameter, None, values) if parameter.type == "reference":
            return all(
                isinstance(v, ReferenceValue) and all(entry.startswith(NARROW_TARGETS) for entry in v.entries)
                for v in values
            )
    return False
