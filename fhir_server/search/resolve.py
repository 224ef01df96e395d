"""Terminology modifiers (`:in :not-in :above :below` on tokens) to plain lists of codes, before a search is compiled.

Spec: https://hl7.org/fhir/R4/search.html#token, https://hl7.org/fhir/R4/valueset.html#compositions
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

from fhir_server.model.errors import InvalidError
from fhir_server.search.query import (
    CodeSet,
    Comparison,
    Predicate,
    Search,
    TextValue,
    TokenValue,
    Value,
    parts_of,
    with_parts,
)

_MODIFIERS = frozenset(("in", "not-in", "above", "below"))

#: More codes than this in one filter are no longer a search but a load.
MAX_CODES = 20_000


class UnlistedError(Exception):
    """The codes of a value set, or those above or below a code, cannot be listed; the text says why."""


class Codes(Protocol):
    """Lists codes."""

    async def codes_in(self, value_set: str, most: int) -> CodeSet:
        """The codes of a value set.

        Raises:
            UnlistedError: it is not held, its codes cannot be listed, or it has more than `most`.
        """

    async def family(self, system: str, code: str, most: int, *, above: bool) -> Collection[str]:
        """A code with all above it, or all below it; empty where there is no such code.

        Raises:
            UnlistedError: the code system is not held, or there are more than `most`.
        """


async def resolve(search: Search, codes: Codes) -> Search:
    """Replace the values of terminology modifiers by the codes that they mean; any other search comes back as it is.

    Raises:
        InvalidError: 400 with code `not-supported`; a value set or code system is not held, or has no list of codes.
    """
    if not any(map(_asks, search.predicates)):
        return search
    predicates: list[Predicate] = [await _resolved(p, codes) if _asks(p) else p for p in search.predicates]
    return replace(search, predicates=tuple(predicates))


def _asks(predicate: Predicate) -> bool:
    match predicate:
        case Comparison(parameter, modifier):
            return modifier in _MODIFIERS and parameter.type == "token"
        case _:
            return any(map(_asks, parts_of(predicate)))


async def _resolved(predicate: Predicate, codes: Codes) -> Predicate:
    if isinstance(predicate, Comparison):
        return await _resolved_comparison(predicate, codes) if _asks(predicate) else predicate
    parts = [await _resolved(part, codes) for part in parts_of(predicate)]
    return with_parts(predicate, tuple(parts))


async def _resolved_comparison(comparison: Comparison, codes: Codes) -> Comparison:
    name = f"{comparison.parameter.code}:{comparison.modifier}"
    values: list[Value] = []
    for value in comparison.values:
        if isinstance(value, TextValue):
            values.append(await _members(name, value.text, codes))
        elif isinstance(value, TokenValue):
            values.append(await _family(name, comparison.modifier, value, codes))
        else:
            values.append(value)
    return replace(comparison, values=tuple(values))


async def _members(name: str, value_set: str, codes: Codes) -> CodeSet:
    try:
        return await codes.codes_in(value_set, MAX_CODES)
    except UnlistedError as error:
        raise _unsupported(name, f"the value set {value_set[:200]!r} cannot be used: {error}") from None


async def _family(name: str, modifier: str | None, token: TokenValue, codes: Codes) -> CodeSet:
    """A code with all below it (`:below`), or with all above it (`:above`)."""
    system, code = token.system or "", token.code or ""
    try:
        found = await codes.family(system, code, MAX_CODES, above=modifier == "above")
    except UnlistedError as error:
        raise _unsupported(name, str(error)) from None
    if not found:
        raise _unsupported(name, f"the code system {system!r} has no code {code!r}")
    return CodeSet(frozenset((system, c) for c in found))


def _unsupported(name: str, why: str) -> InvalidError:
    return InvalidError(
        f"The search parameter {name!r} cannot be evaluated: {why}.",
        code="not-supported",
        key="HS-SEARCH-TERMINOLOGY",
        expression=f"http.{name}",
    )
