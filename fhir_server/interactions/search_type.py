"""search within one resource type, by GET and by POST.

Spec: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from fhir_server.interactions.context import Context
from fhir_server.interactions.explain import found_by
from fhir_server.interactions.searchset import how_of, page_answer
from fhir_server.model.exchange import Answer, Request


async def search_type(context: Context, request: Request) -> Answer:
    """GET [base]/[type]?…, POST [base]/[type]/_search: a searchset with the matches of one page."""
    resource_type = request.path[0]
    how = how_of(context, request)
    found = await found_by(context, request, lambda searcher: searcher.search(resource_type, request.parameters, **how))
    return page_answer(request, found, resource_type)
