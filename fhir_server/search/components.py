"""The parts of a composite search parameter, each with the definition it is searched by.

Spec: https://hl7.org/fhir/R4/search.html#composite
"""

from __future__ import annotations

from profiles.registry import Registry, SearchParameter

#: R4 names the definitions of `relationship` crosswise: the code is said to be searched as a reference (`relatesto`)
#: and the target as a token (`relation`). The expressions beside them say what was meant.
_CROSSED = {"http://hl7.org/fhir/SearchParameter/DocumentReference-relationship"}


def components_of(registry: Registry, parameter: SearchParameter) -> tuple[tuple[SearchParameter, str], ...]:
    """The components of a composite in order: definition (its `type` rules how text is parsed) and expression."""
    definitions = [registry.search_parameters[url] for url, _ in parameter.component]
    if parameter.url in _CROSSED:
        definitions.reverse()
    return tuple(zip(definitions, (expression for _, expression in parameter.component), strict=True))
