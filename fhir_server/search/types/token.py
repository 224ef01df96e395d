"""Tokens: codes, identifiers, booleans, contact points.

Spec: https://hl7.org/fhir/R4/search.html#token
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.search.escape import split, unescape
from fhir_server.search.normalize import fold, normalized
from fhir_server.search.query import CodeSet, Parameter, TextValue, TokenValue, TypedIdentifier, Value
from fhir_server.search.types.conditions import Filter, any_of, either, malformed, starts_with
from profiles.terminology import Terminology

SHAPE = "code, system|code, |code or system|"


def parse_token(name: str, text: str) -> TokenValue:
    """Read `code`, `system|code`, `|code` (no system) or `system|` (any code of the system).

    Raises:
        InvalidError: 400; more than one bar that is not escaped, or nothing beside it.
    """
    if "|" not in text:
        return TokenValue(None, unescape(text))
    parts = split(text, "|")
    if len(parts) == 1:
        return TokenValue(None, unescape(text))
    if len(parts) > 2 or parts == ["", ""]:
        raise malformed(name, text, f"{SHAPE} (a bar inside a code is written \\|)")
    return TokenValue(unescape(parts[0]), unescape(parts[1]) or None)


def parse_value(parameter: Parameter, name: str, modifier: str | None, text: str) -> Value:
    """Read a value in the shape that its modifier asks for."""
    if modifier == "of-type":
        parts = split(text, "|")
        if len(parts) != 3 or not all(parts):
            raise malformed(name, text, "system|code|value, all three present")
        return TypedIdentifier(*map(unescape, parts))
    if modifier == "text":
        return TextValue(normalized(unescape(text)))
    if modifier in ("in", "not-in"):
        return TextValue(unescape(text))
    value = parse_token(name, text)
    if modifier in ("above", "below") and not (value.system and value.code):
        raise malformed(name, text, "system|code, since only the system knows what is above and below")
    return value


def condition(field: str, modifier: str | None, values: Sequence[Value], terminology: Terminology) -> Filter:
    """The entries of a field match one of the values (reversing for `:not` is done by the caller)."""
    if modifier == "text":
        return either([starts_with(f"{field}:text", v.text) for v in values if isinstance(v, TextValue)])
    if modifier == "of-type":
        typed = [v for v in values if isinstance(v, TypedIdentifier)]
        return any_of(f"{field}:of-type", [f"{v.system}|{v.code}|{fold(v.value)}" for v in typed])
    entries: list[str] = []
    systems: list[str] = []
    for value in values:
        if isinstance(value, TokenValue):
            if value.code is None:
                systems.append(value.system or "")
            else:
                entries.append(entry_of(value.system, value.code, terminology))
        elif isinstance(value, CodeSet):
            entries += sorted(entry_of(system, code, terminology) for system, code in value.codes)
            systems += sorted(value.systems)
    conditions = [any_of(field, entries)] if entries or not systems else []
    return either(conditions + [starts_with(field, f"{system}|") for system in systems])


def entry_of(system: str | None, code: str, terminology: Terminology) -> str:
    """The index entry of a code: see the table in `search.index`."""
    if system is None:
        return f"={fold(code)}"
    return f"{system}|{code if system and terminology.is_case_sensitive(system) else fold(code)}"


def id_condition(values: Sequence[Value]) -> Filter:
    """`_id` is the document's own key; ids have no system, and case counts."""
    ids = [v.code for v in values if isinstance(v, TokenValue) and not v.system and v.code is not None]
    return any_of("_id", ids) if ids else {"_id": {"$in": []}}
