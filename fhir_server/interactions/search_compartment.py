"""search within a compartment: what belongs to one patient, encounter, practitioner, related person or device.

Spec: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/compartmentdefinition.html
"""

from __future__ import annotations

from fhir_server.interactions.context import Context
from fhir_server.interactions.explain import found_by
from fhir_server.interactions.searchset import how_of, page_answer, types_of
from fhir_server.model.errors import NotFoundError
from fhir_server.model.exchange import Answer, Request
from fhir_server.search.compartment import types_in

ALL = "*"


async def search_compartment(context: Context, request: Request) -> Answer:
    """GET [base]/[compartment]/[id]/[type]?…, `*` for all its types, or POST …/_search: a searchset.

    Raises:
        NotFoundError: 404; there is no such compartment, or no resource of this type is ever in it.
    """
    compartment, focal_id = request.path[0], request.path[1]
    member = request.path[2] if request.path[2] != "_search" else ALL
    types = types_in(compartment, context.registry)
    if not types:
        known = ", ".join(sorted(context.registry.compartments))
        raise _nothing(f"{compartment} has no compartment; {known} have one.")
    if member not in (ALL, *types):
        raise _nothing(f"No {member[:60]!r} is ever in the compartment of a {compartment}.")
    how = how_of(context, request)
    place = f"{compartment}/{focal_id}"
    if member != ALL:
        found = await found_by(
            context,
            request,
            lambda searcher: searcher.search(member, request.parameters, **how, compartment=place),
        )
    else:
        named = types_of(context, request) or types
        outside = [name for name in named if name not in types]
        if outside:
            raise _nothing(f"No {outside[0]!r} is ever in the compartment of a {compartment}.")
        found = await found_by(
            context,
            request,
            lambda searcher: searcher.search_types(named, request.parameters, **how, compartment=place),
        )
    return page_answer(request, found, f"{place}/{member}")


def _nothing(why: str) -> NotFoundError:
    return NotFoundError(why, code="not-supported", key="HS-SEARCH-COMPARTMENT")
