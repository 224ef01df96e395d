"""Names that look into other resources: chains (`subject:Patient.name`), reverse chains (`_has:…`) and `_list`.

A chain whose reference may lead to several types, none of them named, is one link to each type that has the rest of it.

Spec: https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/search.html#has,
https://hl7.org/fhir/R4/search.html#list
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from fhir_server.model.errors import InvalidError, Issue, UnprocessableError
from fhir_server.search.escape import split, unescape
from fhir_server.search.parameters import ParameterTable, table_of
from fhir_server.search.query import Chain, Listed, Parameter, Predicate, Reverse
from fhir_server.search.types.conditions import malformed
from profiles.registry import Registry

#: Reads the rest of a name as a parameter of another type; an Issue when that type has no such parameter, None when
#: there is no value.
Read = Callable[[str, str], Predicate | Issue | None]

HAS = "_has:"
LIST = "_list"

#: Types that the untyped chains of one parameter may lead to, all its levels together.
MAX_LINKS = 200

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def looks_elsewhere(name: str) -> bool:
    """Whether a name is one of this module's."""
    return "." in name or name == LIST or name.startswith(HAS)


def chain_of(table: ParameterTable, name: str, read: Read) -> Chain | Issue | None:
    """Read `reference[:Type].rest`.

    Raises:
        InvalidError: 400; what stands before the dot is no reference, or cannot lead to that type.
    """
    head, _, rest = name.partition(".")
    code, colon, target = head.partition(":")
    parameter = table.parameters.get(code)
    if parameter is None:
        return table.unknown(code)
    if parameter.type != "reference":
        raise _wrong(f"{code!r} of {table.resource_type} is a {parameter.type} parameter, no reference", name)
    if colon and target not in parameter.targets:
        shown = ", ".join(parameter.targets[:12]) + (" …" if len(parameter.targets) > 12 else "")
        raise _wrong(f"{code!r} of {table.resource_type} refers to {shown}, not to {target[:40]!r}", name)
    targets = (target,) if colon else parameter.targets
    links: list[tuple[str, Predicate]] = []
    unknown: list[Issue] = []
    refused: list[InvalidError] = []
    empty = False
    for resource_type in targets:
        try:
            found = read(resource_type, rest)
        except InvalidError as error:
            refused.append(error)
            continue
        match found:
            case Issue():
                unknown.append(found)
            case None:
                empty = True
            case _:
                links.append((resource_type, found))
    if links:
        return Chain(table.resource_type, table.parameters["_id"], parameter, tuple(links))
    if empty:
        return None
    if refused:
        raise refused[0]
    if len(targets) == 1:
        return unknown[0]
    text = f"None of the types that {code!r} of {table.resource_type} refers to has the search parameter {rest[:60]!r}."
    return Issue("not-supported", text, f"http.{name[:80]}", "HS-SEARCH-UNKNOWN")


def reverse_of(table: ParameterTable, name: str, read: Read, registry: Registry) -> Reverse | Issue | None:
    """Read `_has:Type:reference:rest`.

    Raises:
        InvalidError: 400; parts are missing, or the type does not refer to the one that is searched in this way.
    """
    parts = name.split(":", 3)
    if len(parts) < 4 or not all(parts):
        raise _wrong("`_has` has the form _has:Type:reference:parameter", name)
    _, source, code, rest = parts
    if not registry.is_resource_type(source):
        raise _wrong(f"{source[:40]!r} is no resource type", name)
    referring = table_of(source, registry)
    parameter = referring.parameters.get(code)
    if parameter is None or parameter.type != "reference":
        raise _wrong(f"{source} has no reference parameter {code[:40]!r}", name)
    if table.resource_type not in parameter.targets:
        raise _wrong(f"{code!r} of {source} does not refer to {table.resource_type}", name)
    key = key_of(table, parameter)
    if key is None:
        raise _wrong(f"{code!r} of {source} holds canonical URLs, and {table.resource_type} has none", name)
    found = read(source, rest)
    if found is None or isinstance(found, Issue):
        return found
    return Reverse(table.resource_type, key, source, parameter, found)


def key_of(table: ParameterTable, reference: Parameter) -> Parameter | None:
    """What a reference names of a type: its id, or the canonical URL; None where it has none."""
    return table.parameters.get("url" if reference.canonical else "_id")


def listed_of(table: ParameterTable, name: str, text: str) -> Listed | None:
    """Read `_list`.

    Raises:
        InvalidError: 400; not the id of a List; a functional list stands by itself (see `named`).
    """
    lists: list[str] = []
    for part in split(text, ","):
        value = unescape(part)
        if value and _ID.fullmatch(value.removeprefix("List/")) is None:
            raise malformed(name, value, "the id of a List")
        if value:
            lists.append(value.removeprefix("List/"))
    key = table.parameters["_id"]
    return Listed(table.resource_type, key, tuple(dict.fromkeys(lists))) if lists else None


class Depth:
    """Counts how far the name of one parameter leads, and to how many types."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._links = 0

    def require(self, depth: int) -> None:
        """Refuse a step too many.

        Raises:
            UnprocessableError: 422; the chain is longer than is allowed, or leads to too many types.
        """
        self._links += 1
        if depth > self._limit:
            raise self._refused(f"has more than {self._limit} steps. Search in two requests")
        if self._links > MAX_LINKS:
            raise self._refused("leads to too many types. Name the type of each reference, as in subject:Patient.name")

    def _refused(self, why: str) -> UnprocessableError:
        return UnprocessableError(
            f"The search parameter {self._name[:80]!r} {why}.",
            code="too-costly",
            key="HS-LIMIT-CHAIN",
            expression=f"http.{self._name[:80]}",
        )


def about(issue: Issue, name: str) -> Issue:
    """The same issue, at the parameter as it was sent."""
    told = f"In {name[:80]!r}: {issue.diagnostics}" if looks_elsewhere(name) else issue.diagnostics
    return replace(issue, diagnostics=told, expression=f"http.{name[:80]}")


def _wrong(why: str, name: str) -> InvalidError:
    return InvalidError(
        f"The search parameter {name[:80]!r} cannot be followed: {why}.",
        code="value",
        key="HS-SEARCH-CHAIN",
        expression=f"http.{name[:80]}",
    )
