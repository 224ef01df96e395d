"""The search parameters of a type, made ready for parsing, and what a name in a query means.

Spec: https://hl7.org/fhir/R4/searchparameter-registry.html, https://hl7.org/fhir/R4/search.html#modifiers
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

from fhir_server.model.errors import InvalidError, Issue
from fhir_server.search.charts import is_charted
from fhir_server.search.components import components_of
from fhir_server.search.entries.token import SYSTEMLESS
from fhir_server.search.overlap import ways_of, with_overlaps
from fhir_server.search.query import Parameter
from profiles.registry import Element, Registry, SearchParameter

MODIFIERS: dict[str, tuple[str, ...]] = {
    "string": ("missing", "exact", "contains"),
    "token": ("missing", "not", "text", "in", "not-in", "above", "below"),
    "reference": ("missing",),
    "uri": ("missing", "above", "below"),
    "date": ("missing",),
    "number": ("missing",),
    "quantity": ("missing",),
    "composite": ("missing",),
    "special": ("missing",),
}

#: The special parameters that have entries; the others are read where a search is (see `parse`).
_INDEXED_SPECIALS = frozenset(("near",))

#: Kept in fields of their own, not among the index entries.
FIELDS = {"_id": "_id", "_lastUpdated": "t"}

_SECOND_US = 1_000_000
_LONGEST_US = {"instant": 60 * _SECOND_US, "dateTime": 366 * 86_400 * _SECOND_US, "date": 366 * 86_400 * _SECOND_US}

_WHERE = re.compile(r"\.where\((?:[^()]|\([^()]*\))*\)")
_RESOLVES_TO = re.compile(r"resolve\(\) is (\w+)")
_CAST = re.compile(r"\((\S+) as \w+\)|(\S+)\.as\(\w+\)")

#: Named by the specification, and not for every type, or not with every setting.
_ELSEWHERE = frozenset(("_text", "_content", "near", "_score"))


class ParameterTable:
    """What can be searched in one resource type."""

    def __init__(self, resource_type: str, registry: Registry) -> None:
        self.resource_type = resource_type
        self._registry = registry
        definitions = registry.parameters_of(resource_type)
        own = {d.url: d for d in definitions.values()}
        plain = {
            code: _parameter_of(d, resource_type, registry)
            for code, d in definitions.items()
            if d.type in MODIFIERS
            and d.type != "composite"
            and d.expression
            and (d.type != "special" or code in _INDEXED_SPECIALS)
        }
        given = {code: parameter for code, parameter in plain.items() if not parameter.own}
        plain |= with_overlaps(given, definitions, resource_type)
        self.parameters: dict[str, Parameter] = dict(plain)
        for code, definition in definitions.items():
            if definition.type != "composite":
                continue
            parts = [part for part, _ in components_of(registry, definition)]
            self.parameters[code] = Parameter(
                code=code,
                type="composite",
                field=f"x.{code}",
                components=tuple(_parameter_of(p, resource_type, registry) for p in parts),
                driver=plain.get(own[parts[0].url].code) if parts[0].url in own else None,
                own=definition.own,
                ready=definition.ready,
            )
        self._bound: dict[str, tuple[Parameter, str | None]] = {}

    def bound(self, name: str) -> tuple[Parameter, str | None] | None:
        """The parameter and modifier that a name such as `code:in` means; None when there is no such parameter.

        Raises:
            InvalidError: 400; the parameter exists, and not with this modifier.
        """
        known = self._bound.get(name)
        if known is not None:
            return known
        code, colon, modifier = name.partition(":")
        parameter = self.parameters.get(code)
        if parameter is None or "." in modifier:
            return None
        if colon and modifier not in self.modifiers_of(parameter):
            raise self._no_modifier(parameter, name, modifier)
        result = (parameter, modifier or None)
        self._bound[name] = result  # only names that exist get here, so the table stays small
        return result

    def ways_of(self, code: str) -> frozenset[str]:
        """The paths from the type itself to what a parameter finds; empty for one that does not exist."""
        definition = self._registry.parameters_of(self.resource_type).get(code)
        return ways_of(definition, self.resource_type) if definition else frozenset()

    def modifiers_of(self, parameter: Parameter) -> tuple[str, ...]:
        """The modifiers that a parameter has here."""
        if parameter.code == "_id":
            return ("missing", "not")
        modifiers = MODIFIERS[parameter.type]
        if parameter.type == "token" and parameter.identifies:
            return (*modifiers, "of-type")
        if parameter.type == "reference":
            extra = ("above", "below") if parameter.canonical else ("identifier", *parameter.targets)
            return modifiers + extra
        return modifiers

    def _no_modifier(self, parameter: Parameter, name: str, modifier: str) -> InvalidError:
        supported = self.modifiers_of(parameter)
        shown = ", ".join(f":{m}" for m in supported[:12]) + (" …" if len(supported) > 12 else "")
        return InvalidError(
            f"The modifier {modifier[:40]!r} does not apply to the {parameter.type} parameter {parameter.code!r} of "
            f"{self.resource_type}; it has {shown}.",
            code="not-supported",
            key="HS-SEARCH-MODIFIER",
            expression=f"http.{name[:80]}",
        )

    def unknown(self, name: str) -> Issue:
        """Why a name was not understood, and what was perhaps meant."""
        code = name.partition(":")[0]
        expression = f"http.{name[:80]}"
        if code in _ELSEWHERE or (code in self.parameters and ":" in name):
            text = f"The search parameter {code!r} is not supported by this server."
            return Issue("not-supported", text, expression, "HS-SEARCH-UNSUPPORTED")
        near = get_close_matches(code, self.parameters, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        existing = ", ".join(sorted(self.parameters))
        text = f"{self.resource_type} has no search parameter {code[:60]!r}.{hint} It has: {existing}."
        return Issue("not-supported", text, expression, "HS-SEARCH-UNKNOWN")


def table_of(resource_type: str, registry: Registry) -> ParameterTable:
    """The search parameters of a type, prepared once."""
    return registry.kept(_table_of)(resource_type)


def _table_of(registry: Registry, resource_type: str) -> ParameterTable:
    return ParameterTable(resource_type, registry)


def _parameter_of(definition: SearchParameter, resource_type: str, registry: Registry) -> Parameter:
    found = list(_elements_of(definition.expression or "", resource_type, registry))
    elements = [(path[-1], only) for path, only in found]
    codes = {t.code for element, _ in elements for t in element.types}
    targets = definition.target
    if definition.type == "reference":
        allowed = {t for element, only in elements for t in _targets_of(element, only, registry)}
        targets = tuple(t for t in definition.target if t in allowed) or definition.target or registry.resource_types
    single = len({path[-1].path for path, _ in found}) == 1 and all(e.max == 1 for path, _ in found for e in path)
    bare = single and definition.code not in FIELDS and (definition.type == "date" or codes == {"Reference"})
    return Parameter(
        code=definition.code,
        type=definition.type,
        field=FIELDS.get(definition.code, f"x.{definition.code}"),
        targets=targets,
        canonical="canonical" in codes and "Reference" not in codes,
        identifies="Identifier" in codes,
        longest_us=_longest_us(codes) if definition.type == "date" else None,
        single=single,
        bare=bare and definition.type in ("date", "reference"),
        charted=bare and not definition.own and is_charted(resource_type, definition.code),
        systemless=definition.type == "token" and bool(codes) and codes <= SYSTEMLESS,
        own=definition.own,
        ready=definition.ready,
    )


def _longest_us(codes: set[str]) -> int | None:
    """An instant names a second at least, a date a leap year at most."""
    if not codes or not codes <= _LONGEST_US.keys():
        return None
    return max(_LONGEST_US[code] for code in codes)


def _targets_of(element: Element, only: str | None, registry: Registry) -> Iterator[str]:
    if only is not None:
        yield only
        return
    for kind in element.types:
        names = {url.rsplit("/", 1)[-1] for url in kind.targets}
        yield from registry.resource_types if not names or "Resource" in names else names


#: The elements from below the root to the one that is indexed.
ElementPath = tuple[Element, ...]


def _elements_of(expression: str, resource_type: str, registry: Registry) -> Iterator[tuple[ElementPath, str | None]]:
    """Where an expression leads to in one type, each with the type that `resolve() is` keeps, if any."""
    for branch in expression.split(" | "):
        only = _RESOLVES_TO.search(branch)
        path = _CAST.sub(r"\1\2", _WHERE.sub("", branch)).strip("() ")
        root, *steps = path.split(".")
        if root in (resource_type, "Resource", "DomainResource") and root in registry.types:
            for found in _walk(root, steps, registry):
                yield found, only.group(1) if only else None


def _walk(root: str, steps: list[str], registry: Registry) -> list[ElementPath]:
    places: list[tuple[str, ElementPath]] = [(root, ())]  # the type that defines the last element, and the way to it
    for step in steps:
        following: list[tuple[str, ElementPath]] = []
        for owner, way in places:
            starts = [(owner, way[-1].path if way else owner)]
            starts += [(t.code, t.code) for t in (way[-1].types if way else ()) if t.code in registry.types]
            for type_name, start in starts:
                elements = registry.types[type_name].elements
                names = (f"{start}.{step}", f"{start}.{step}[x]")
                following += [(type_name, (*way, elements[name])) for name in names if name in elements]
        places = following
    return [way for _, way in places if way]
