"""Search parameters that find what others find, so that they need no index of their own.

`Observation.patient` is that part of `subject` which refers to patients: the index of `subject` leads to it. And
`combo-code` is `code` and `component-code` together: the indexes of both do. Their entries are kept all the same, for
`:missing` and for sorting.

Spec: https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from fhir_server.search.query import Parameter
from profiles.registry import SearchParameter

#: References are left out of the sums: what they keep depends on the types that each is declared to point to.
_SUMMED = frozenset(("token", "string", "date", "number", "quantity", "uri"))

_OF_A_TYPE = re.compile(r"\.where\(resolve\(\) is \w+\)$")


def with_overlaps(
    plain: Mapping[str, Parameter], definitions: Mapping[str, SearchParameter], resource_type: str
) -> dict[str, Parameter]:
    """The parameters of a type, no composites, each told which others hold its entries (`within`, `parts`)."""
    ways = {code: ways_of(definitions[code], resource_type) for code in plain}
    return {
        code: replace(parameter, within=_wider(parameter, plain, ways), parts=_parts(parameter, plain, ways))
        for code, parameter in plain.items()
    }


def ways_of(definition: SearchParameter, resource_type: str) -> frozenset[str]:
    """The paths of an expression that start at the type."""
    branches = (definition.expression or "").split(" | ")
    return frozenset(b for b in branches if b.lstrip("(").startswith(f"{resource_type}."))


def _wider(parameter: Parameter, plain: Mapping[str, Parameter], ways: Mapping[str, frozenset[str]]) -> str | None:
    if parameter.type != "reference" or len(ways[parameter.code]) != 1:
        return None
    (way,) = ways[parameter.code]
    wanted = _OF_A_TYPE.sub("", way)
    if wanted == way:
        return None
    found = [p.field for p in plain.values() if p.type == "reference" and ways[p.code] == {wanted}]
    return found[0] if found else None


def _parts(
    parameter: Parameter, plain: Mapping[str, Parameter], ways: Mapping[str, frozenset[str]]
) -> tuple[Parameter, ...]:
    whole = ways[parameter.code]
    if parameter.type not in _SUMMED:
        return ()
    # Of two that find the same, one will do.
    lesser = {ways[p.code]: p for p in plain.values() if p.type == parameter.type and ways[p.code] < whole}
    parts = {w: p for w, p in lesser.items() if w and not any(w < other for other in lesser)}
    return tuple(parts.values()) if frozenset().union(*parts) == whole else ()
