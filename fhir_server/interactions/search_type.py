"""search within one resource type, by GET and by POST.

Spec: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from fhir_server.interactions.answers import preferences
from fhir_server.interactions.bundle import link, searchset
from fhir_server.interactions.context import Context
from fhir_server.interactions.subset import subset
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request
from fhir_server.search.parse import link_pairs


async def search_type(context: Context, request: Request) -> Answer:
    """GET [base]/[type]?…, POST [base]/[type]/_search: a searchset with the matches of one page."""
    resource_type = request.path[0]
    if request.method == "POST" and request.content_type not in ("application/x-www-form-urlencoded", ""):
        raise InvalidError(
            f"A search by POST sends its parameters as application/x-www-form-urlencoded, not {request.content_type}.",
            key="HS-SEARCH-FORM",
        )
    strict = preferences(request).get("handling", "").lower() == "strict"
    found = await context.searcher.search(
        resource_type,
        request.parameters,
        strict=strict,
        default_count=context.limits.default_page_size,
        max_count=context.limits.max_page_size,
    )
    search, page = found.search, found.page
    address = f"{request.base_url}/{resource_type}"

    def page_link(relation: str, cursor: str | None) -> dict[str, str]:
        return link(relation, address, link_pairs(search.applied, cursor))

    links = [page_link("self", search.cursor)]
    if search.cursor:
        links.append(page_link("first", None))
    if page.previous:
        links.append(page_link("previous", page.previous))
    if page.next:
        links.append(page_link("next", page.next))
    prefix = f"{request.base_url}/{resource_type}/"
    bodies = ((row["_id"], row["r"]) for row in page.rows)
    if search.summary in ("true", "text", "data") or search.elements:
        summary = None if search.summary in ("false", "count") else search.summary
        bodies = (
            (i, codec.encode(subset(codec.decode(body), summary=summary, elements=search.elements)))
            for i, body in bodies
        )
    return Answer(
        200,
        searchset(
            total=page.total,
            links=links,
            matches=((prefix + i, body) for i, body in bodies),
            issues=list(search.ignored),
        ),
    )
