"""The maker of index entries for a search parameter and the FHIR type of a value, whichever kind the parameter is.

Spec: https://hl7.org/fhir/R4/search.html#ptypes
"""

from __future__ import annotations

from typing import Any

from fhir_server.search.entries import Further, Make, date, number, quantity, special, string, uri
from fhir_server.search.entries.reference import ReferenceEntries
from fhir_server.search.entries.token import TokenEntries
from profiles.registry import Element, Registry, SearchParameter
from profiles.terminology import Terminology


class Makers:
    """Chooses makers, for one server: its terminology tells about codes, its base URL what is local."""

    def __init__(self, registry: Registry, terminology: Terminology, base_url: str) -> None:
        self._registry = registry
        self._token = TokenEntries(terminology)
        self._reference = ReferenceEntries(self._token, base_url)

    def maker_of(self, parameter: SearchParameter, type_name: str, element: Element | None) -> Make | None:
        """The maker for values of a type under a parameter (no composite); None when they leave no entries."""
        if type_name == "Extension":
            return self._extension(parameter)
        match parameter.type:
            case "token":
                return self._token.maker_of(type_name, element)
            case "reference":
                return self._reference.maker_of(type_name, parameter.target)
            case "string":
                return string.maker_of(type_name)
            case "date":
                return date.maker_of(type_name)
            case "number":
                return number.maker_of(type_name)
            case "quantity":
                return quantity.maker_of(type_name)
            case "uri":
                return uri.maker_of(type_name)
            case "special":
                return special.maker_of(parameter.code)
        return None

    def _extension(self, parameter: SearchParameter) -> Make:
        """An extension is indexed by its `value[x]`, whose type is known when it is seen."""
        choice = self._registry.types["Extension"].elements["Extension.value[x]"]
        makers: dict[str, Make] = {}
        for code in (t.code for t in choice.types):
            maker = self.maker_of(parameter, code, None)
            if maker is not None:
                makers[f"value{code[0].upper()}{code[1:]}"] = maker

        def make(value: Any, main: list[Any], further: Further) -> None:
            for name, inner in value.items():
                maker = makers.get(name)
                if maker is not None:
                    maker(inner, main, further)

        return make
