"""search across the types of the whole system, by GET and by POST.

Spec: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html#_type
"""

from __future__ import annotations

from fhir_server.interactions.context import Context
from fhir_server.interactions.explain import found_by
from fhir_server.interactions.searchset import how_of, page_answer, types_of
from fhir_server.model.exchange import Answer, Request


async def search_system(context: Context, request: Request) -> Answer:
    """GET [base]?…, POST [base]/_search: a searchset of the types that `_type` names; without it, of all types."""
    how = how_of(context, request)
    types = types_of(context, request)
    found = await found_by(context, request, lambda searcher: searcher.search_types(types, request.parameters, **how))
    return page_answer(request, found, "")
