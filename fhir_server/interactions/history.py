"""history of an instance, of a type, of the system.

Spec: https://hl7.org/fhir/R4/http.html#history
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.bundle import joined, link, timestamp
from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from fhir_server.model.dates import interval_of
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.history import HistoryQuery
from fhir_server.repository.repository import not_found
from fhir_server.storage.document import Version


async def history(context: Context, request: Request) -> Answer:
    """GET [base](/[type](/[id]))/_history with `_since`, `_at`, `_count`: newest versions first, paged."""
    scope = request.path[:-1]
    resource_type = scope[0] if scope else None
    resource_id = scope[1] if len(scope) > 1 else None
    query, applied = query_of(context, request, resource_type, resource_id)
    total = None
    if resource_type is not None and resource_id is not None:
        current = await context.repository.current(resource_type, resource_id)
        if current is None:
            raise not_found(resource_type, resource_id)
        counted = query.since_us is None and query.at is None and context.unguarded is None  # versions may be hidden
        total = current.version if counted else None
    page = await context.repository.history(query)
    address = "/".join((request.base_url, *request.path))
    links = [link("self", address, [*applied, *([("_cursor", query.cursor)] if query.cursor else [])])]
    if query.cursor:
        links.append(link("first", address, applied))
    if page.next:
        links.append(link("next", address, [*applied, ("_cursor", page.next)]))
    head = {
        "resourceType": "Bundle",
        "type": "history",
        "timestamp": timestamp(),
        "total": total,
        "link": links,
    }
    return Answer(200, joined(head, [entry_of(v, request.base_url) for v in page.versions]))


def query_of(
    context: Context, request: Request, resource_type: str | None, resource_id: str | None
) -> tuple[HistoryQuery, list[tuple[str, str]]]:
    """The parameters, and those of them that were applied, for the links."""
    count = context.limits.default_page_size
    known: dict[str, Any] = {}
    applied: list[tuple[str, str]] = []
    for name, value in request.parameters:
        match name:
            case "_since":
                known["since_us"] = interval_of(value).start_us
            case "_at":
                known["at"] = interval_of(value)
            case "_count":
                count = count_of(value, context.limits.max_page_size)
            case "_cursor":
                known["cursor"] = value
                continue
            case _:
                continue
        applied.append((name, value))
    return HistoryQuery(resource_type, resource_id, count=count, **known), applied


def count_of(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10) or int(text) == 0:
        raise InvalidError(
            f"`_count` is {text[:40]!r}; a whole number above 0, of at most 9 digits, was expected.",
            code="value",
            key="HS-HISTORY-COUNT",
        )
    return min(int(text), most)


def entry_of(version: Version, base_url: str) -> bytes:
    """One version as a history entry: how it came about, and what it was."""
    created = version.method == "POST"
    address = version.type if created else f"{version.type}/{version.id}"
    status = "204" if version.deleted else "201" if version.version == 1 else "200"
    parts: dict[str, Any] = {
        "request": {"method": version.method, "url": address},
        "response": {
            "status": status,
            "etag": f'W/"{version.version}"',
            "lastModified": instant_of(version.moment_us),
        },
    }
    head = codec.encode({"fullUrl": f"{base_url}/{version.type}/{version.id}"})
    tail = codec.encode(parts)
    middle = b"" if version.body is None else b',"resource":' + version.body
    return b"".join((head[:-1], middle, b",", tail[1:]))
