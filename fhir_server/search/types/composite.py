"""Composites: values that belong together, `code$value`.

Spec: https://hl7.org/fhir/R4/search.html#composite
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fhir_server.search.escape import split
from fhir_server.search.query import CompositeValue, Parameter, Value
from fhir_server.search.types.conditions import Filter, either, malformed

#: The condition that a parameter's values make on a field.
Condition = Callable[[Parameter, str, Sequence[Value]], Filter]


def parse_value(
    parameter: Parameter, name: str, text: str, parse_part: Callable[[Parameter, str, str], Value]
) -> CompositeValue:
    """Read one value for each component, parted by `$`.

    Raises:
        InvalidError: 400; too few or too many parts, or a part that its component cannot have.
    """
    parts = split(text, "$")
    if len(parts) != len(parameter.components) or not all(parts):
        expected = "$".join(f"[{c.code}]" for c in parameter.components)
        raise malformed(name, text, f"{expected} (a dollar sign inside a value is written \\$)", "HS-SEARCH-COMPOSITE")
    pairs = zip(parameter.components, parts, strict=True)
    return CompositeValue(tuple([parse_part(component, name, part) for component, part in pairs]))


def condition(parameter: Parameter, values: Sequence[Value], of_part: Condition) -> Filter:
    """One instance matches in all components; the first is also asked of its own parameter, whose index leads there."""
    composites = [v for v in values if isinstance(v, CompositeValue)]
    instance = either([{parameter.field: {"$elemMatch": _parts(parameter, v, of_part)}} for v in composites])
    if parameter.driver is None:
        return instance
    driving = of_part(parameter.driver, parameter.driver.field, [v.parts[0] for v in composites])
    return {"$and": [driving, instance]}


def _parts(parameter: Parameter, value: CompositeValue, of_part: Condition) -> Filter:
    pairs = enumerate(zip(parameter.components, value.parts, strict=True))
    return {"$and": [of_part(component, str(i), [part]) for i, (component, part) in pairs]}
