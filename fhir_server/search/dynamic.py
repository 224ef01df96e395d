"""The extraction of values by an expression that is more than paths: the type of each is known when it is seen.

Spec: https://hl7.org/fhir/R4/searchparameter-definitions.html#SearchParameter.expression
"""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath.expression import Expression
from fhir_server.model.errors import InvalidError
from fhir_server.search.entries import Further, Make
from fhir_server.search.entries.makers import Makers
from fhir_server.search.extraction import PRESENT, Entries, Extract, Resource, distinct
from profiles.registry import SearchParameter

#: FHIRPath's own types, which computed values have, as types of FHIR.
_COMPUTED = {
    "String": "string",
    "Boolean": "boolean",
    "Integer": "integer",
    "Decimal": "decimal",
    "Date": "date",
    "DateTime": "dateTime",
}


def dynamic_extract(expression: Expression, parameter: SearchParameter, makers: Makers, *, bare: bool) -> Extract:
    """The extraction of the values of an expression; a resource on which it fails leaves no entries."""
    known: dict[str, Make | None] = {}
    code = parameter.code

    def maker_of(qualified: str) -> Make | None:
        if qualified not in known:
            space, _, name = qualified.partition(".")
            name = name if space == "FHIR" else _COMPUTED.get(name, "")
            known[qualified] = makers.maker_of(parameter, name, None)
        return known[qualified]

    def extract(resource: Resource, _: Any, entries: Entries) -> None:
        try:
            items = expression.evaluate(resource)
        except InvalidError:
            return
        main: list[Any] = []
        further: Further = {}
        for item in items:
            make = maker_of(item.type)
            if make is not None and item.value is not None:
                make(item.value, main, further)
        if main:
            entries[code] = main[0] if bare else distinct(main)
        elif items:
            entries[code + PRESENT] = True
        for suffix, others in further.items():
            entries[code + suffix] = distinct(others)

    return extract
