"""Terminology modifiers (`:in :not-in :above :below` on tokens) to plain lists of codes, before a search is compiled.

Spec: https://hl7.org/fhir/R4/search.html#token, https://hl7.org/fhir/R4/valueset.html#compositions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

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
from profiles.terminology import Terminology

#: Fetches a ValueSet that is stored in this server by its canonical URL.
Held = Callable[[str], Awaitable[dict[str, Any] | None]]
Pair = tuple[str, str]

_MODIFIERS = frozenset(("in", "not-in", "above", "below"))

#: More codes than this in one filter are no longer a search but a load.
MAX_CODES = 20_000


async def resolve(search: Search, terminology: Terminology, held: Held) -> Search:
    """Replace the values of terminology modifiers by the codes that they mean; any other search comes back as it is.

    Raises:
        InvalidError: 400 with code `not-supported`; a value set or code system is not held, or has no list of codes.
    """
    if not any(map(_asks, search.predicates)):
        return search
    predicates: list[Predicate] = [await _resolved(p, terminology, held) if _asks(p) else p for p in search.predicates]
    return replace(search, predicates=tuple(predicates))


def _asks(predicate: Predicate) -> bool:
    match predicate:
        case Comparison(parameter, modifier):
            return modifier in _MODIFIERS and parameter.type == "token"
        case _:
            return any(map(_asks, parts_of(predicate)))


async def _resolved(predicate: Predicate, terminology: Terminology, held: Held) -> Predicate:
    if isinstance(predicate, Comparison):
        return await _resolved_comparison(predicate, terminology, held) if _asks(predicate) else predicate
    parts = [await _resolved(part, terminology, held) for part in parts_of(predicate)]
    return with_parts(predicate, tuple(parts))


async def _resolved_comparison(comparison: Comparison, terminology: Terminology, held: Held) -> Comparison:
    name = f"{comparison.parameter.code}:{comparison.modifier}"
    values: list[Value] = []
    for value in comparison.values:
        if isinstance(value, TextValue):
            values.append(await _Expansion(name, terminology, held).of(value.text))
        elif isinstance(value, TokenValue):
            values.append(_family(name, comparison.modifier, value, terminology))
        else:
            values.append(value)
    return replace(comparison, values=tuple(values))


def _family(name: str, modifier: str | None, token: TokenValue, terminology: Terminology) -> CodeSet:
    """A code with all below it (`:below`), or with all above it (`:above`)."""
    system, code = token.system or "", token.code or ""
    step = terminology.descendants if modifier == "below" else terminology.ancestors
    codes = step(system, code)
    if codes is None:
        raise _unsupported(name, f"the code system {system!r} is not held here, so its hierarchy is not known")
    if not codes:
        raise _unsupported(name, f"the code system {system!r} has no code {code!r}")
    return CodeSet(frozenset((system, c) for c in codes))


@dataclass(slots=True)
class _Expansion:
    """Enumerates one value set, with the value sets that it draws on."""

    name: str
    terminology: Terminology
    held: Held
    open: list[str] = field(default_factory=list)

    async def of(self, value_set: str) -> CodeSet:
        resource = await self.held(value_set)
        if resource is None:
            pairs = self.terminology.expansion(value_set)
            if pairs is None:
                raise self._refused(value_set, "it is not held on this server, or its codes cannot be listed here")
            return self._limited(value_set, CodeSet(pairs))
        if value_set in self.open:
            raise self._refused(value_set, "it includes itself")
        self.open.append(value_set)
        result = await self._composed(value_set, resource.get("compose") or {}, resource.get("expansion"))
        self.open.pop()
        return self._limited(value_set, result)

    async def _composed(self, value_set: str, compose: dict[str, Any], expansion: dict[str, Any] | None) -> CodeSet:
        if not compose.get("include"):
            if expansion is None or not _is_whole(expansion):
                raise self._refused(value_set, "it says neither what it includes nor, completely, which codes it has")
            return CodeSet(frozenset(_contained(expansion.get("contains", ()))))
        included = [await self._part(value_set, part) for part in compose["include"]]
        codes: frozenset[Pair] = frozenset().union(*(part.codes for part in included))
        systems: frozenset[str] = frozenset().union(*(part.systems for part in included))
        for part in [await self._part(value_set, part) for part in compose.get("exclude", ())]:
            if any(system in systems for system in part.systems | {system for system, _ in part.codes}):
                systems = self._without_open(value_set, systems, part)
            codes = frozenset(pair for pair in codes - part.codes if pair[0] not in part.systems)
        return CodeSet(codes, systems)

    def _without_open(self, value_set: str, systems: frozenset[str], excluded: CodeSet) -> frozenset[str]:
        cut = systems & {system for system, _ in excluded.codes} - excluded.systems
        if cut:
            system = min(cut)
            raise self._refused(value_set, f"it leaves single codes out of {system!r}, whose codes are not held here")
        return systems - excluded.systems

    async def _part(self, value_set: str, part: dict[str, Any]) -> CodeSet:
        """One include or exclude: its system's codes, cut down to those in every value set that it imports."""
        sets = [await self.of(imported) for imported in part.get("valueSet", ())]
        if "system" in part:
            sets.insert(0, self._of_system(value_set, part))
        if not sets:
            raise self._refused(value_set, "it includes something that is neither a code system nor a value set")
        result = sets[0]
        for other in sets[1:]:
            codes = {p for p in result.codes if p in other.codes or p[0] in other.systems}
            codes |= {p for p in other.codes if p[0] in result.systems}
            result = CodeSet(frozenset(codes), result.systems & other.systems)
        return result

    def _of_system(self, value_set: str, part: dict[str, Any]) -> CodeSet:
        system: str = part["system"]
        if "concept" in part:
            return CodeSet(frozenset((system, concept["code"]) for concept in part["concept"]))
        known = self.terminology.code_system(system)
        if "filter" not in part:
            if known is None:  # every code there is: no list is needed to tell whether a code is of the system
                return CodeSet(frozenset(), frozenset((system,)))
            return CodeSet(frozenset((system, code) for code in known.displays))
        codes: frozenset[str] | None = None if known is None else frozenset(known.displays)
        for condition in part["filter"]:
            met = None if known is None else known.filtered(condition)
            if met is None or codes is None:
                shown = f"{condition.get('property')} {condition.get('op')} {condition.get('value')}"
                raise self._refused(value_set, f"its filter {shown} on {system!r} cannot be evaluated here")
            codes &= met
        return CodeSet(frozenset((system, code) for code in codes or ()))

    def _limited(self, value_set: str, codes: CodeSet) -> CodeSet:
        if len(codes.codes) > MAX_CODES:
            raise self._refused(value_set, f"it has {len(codes.codes)} codes, and a search takes {MAX_CODES} at most")
        return codes

    def _refused(self, value_set: str, why: str) -> InvalidError:
        return _unsupported(self.name, f"the value set {value_set[:200]!r} cannot be used: {why}")


def _is_whole(expansion: dict[str, Any]) -> bool:
    return "contains" in expansion and expansion.get("total", 0) <= len(list(_contained(expansion["contains"])))


def _contained(rows: Any) -> list[Pair]:
    pairs: list[Pair] = []
    for row in rows:
        if "code" in row and not row.get("abstract"):
            pairs.append((row.get("system", ""), row["code"]))
        pairs += _contained(row.get("contains", ()))
    return pairs


def _unsupported(name: str, why: str) -> InvalidError:
    return InvalidError(
        f"The search parameter {name!r} cannot be evaluated: {why}.",
        code="not-supported",
        key="HS-SEARCH-TERMINOLOGY",
        expression=f"http.{name}",
    )
