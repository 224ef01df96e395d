"""Read a search: the name and value pairs of a query to a typed tree.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fhir_server.model.errors import InvalidError, Issue
from fhir_server.search.controls import NAMES, SILENT, Controls
from fhir_server.search.escape import split, unescape
from fhir_server.search.parameters import table_of
from fhir_server.search.query import Comparison, MissingValue, Parameter, Predicate, Search, TextValue, Value
from fhir_server.search.types import composite, date, number, quantity, reference, string, token
from fhir_server.search.types.conditions import malformed
from profiles.registry import Registry

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
) -> Search:
    """Read the parameters of a type-level search, already decoded from their URL.

    Args:
        pairs: names and values as they were sent, in order
        strict: whether an unknown parameter is an error (`Prefer: handling=strict`) or ignored with a warning
        default_count: the page size when `_count` is not given
        max_count: the largest page; a larger `_count` is lowered to it
        base_url: of this server; references below it are local ones

    Raises:
        InvalidError: 400; one issue for each malformed value, each modifier that does not apply, and, when strict, each
            parameter that does not exist.
    """
    table = table_of(resource_type, registry)
    base = f"{base_url.rstrip('/')}/" if base_url else ""
    controls = Controls(table, max_count, min(default_count, max_count))
    predicates: list[Predicate] = []
    applied: list[tuple[str, str]] = []
    ignored: list[Issue] = []
    errors: list[Issue] = []
    for name, text in pairs:
        if not text or name in SILENT:
            continue
        try:
            if not (text.isascii() or _is_encodable(text)) or "\0" in text:
                raise malformed(name, text, "text without U+0000 and lone surrogates")
            if name in NAMES:
                took = None if (name, text) in applied else controls.take(name, text)
                if took is not None:
                    applied.append((name, took))
                continue
            bound = table.bound(name)
            if bound is None:
                ignored.append(table.unknown(name))
                continue
            predicate = _comparison(bound, name, text, base, registry)
            if predicate is not None:
                predicates.append(predicate)
                applied.append((name, text))
        except InvalidError as error:
            errors += error.issues
    ignored += controls.ignored
    if strict:
        errors += ignored
    if errors:
        raise InvalidError(errors)
    return Search(
        resource_type=resource_type,
        predicates=tuple(predicates),
        sort=controls.sort,
        count=controls.count,
        total=controls.total,
        summary=controls.summary,
        elements=controls.elements,
        cursor=controls.cursor,
        applied=tuple(applied),
        ignored=tuple([replace(issue, severity="warning") for issue in ignored]) if ignored else (),
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _comparison(
    bound: tuple[Parameter, str | None], name: str, text: str, base_url: str, registry: Registry
) -> Comparison | None:
    """One parameter with all its values; None when they are all empty."""
    parameter, modifier = bound
    values = tuple(
        [
            value_of(parameter, name, modifier, part, base_url, registry)
            for part in (split(text, ",") if "," in text else (text,))
            if part
        ]
    )
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
