"""One page of a search as a searchset Bundle, whatever was searched: a type, several types, a compartment.

Spec: https://hl7.org/fhir/R4/search.html#return, https://hl7.org/fhir/R4/bundle.html#searchset
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypedDict

from fhir_server.interactions.answers import preferences
from fhir_server.interactions.bundle import link, searchset
from fhir_server.interactions.context import Context
from fhir_server.interactions.marks import marks_of
from fhir_server.interactions.subset import subset
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.search import Found
from fhir_server.search.parse import link_pairs
from fhir_server.search.query import Search

FORM = "application/x-www-form-urlencoded"


class How(TypedDict):
    """How a request wants its search read."""

    strict: bool
    default_count: int
    max_count: int


def how_of(context: Context, request: Request) -> How:
    """How a request wants its search read.

    Raises:
        InvalidError: 400; a POST whose body is no form.
    """
    if request.method == "POST" and request.content_type not in (FORM, ""):
        raise InvalidError(
            f"A search by POST sends its parameters as {FORM}, not {request.content_type}.", key="HS-SEARCH-FORM"
        )
    return How(
        strict=preferences(request).get("handling", "").lower() == "strict",
        default_count=context.limits.default_page_size,
        max_count=context.limits.max_page_size,
    )


def types_of(context: Context, request: Request) -> tuple[str, ...]:
    """The types that `_type` names, sorted; empty when there is no `_type`.

    Raises:
        InvalidError: 400; one of them is no resource type.
    """
    named = {name for key, text in request.parameters if key == "_type" for name in text.split(",") if name}
    for name in sorted(named):
        if not context.registry.is_resource_type(name):
            near = get_close_matches(name, context.registry.resource_types, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InvalidError(
                f"`_type` names {name[:60]!r}, which is no resource type of FHIR R4.{hint}",
                code="value",
                key="HS-SEARCH-TYPE",
                expression="http._type",
            )
    return tuple(sorted(named))


def page_answer(request: Request, found: Found, place: str) -> Answer:
    """The page as an answer; `place` is the path below the base at which its links find it."""
    search, page = found.search, found.page
    address = f"{request.base_url}/{place}" if place else request.base_url

    def page_link(relation: str, cursor: str | None) -> dict[str, str]:
        return link(relation, address, link_pairs(search.applied, cursor))

    links = [page_link("self", search.cursor)]
    if search.cursor:
        links.append(page_link("first", None))
    if page.previous:
        links.append(page_link("previous", page.previous))
    if page.next:
        links.append(page_link("next", page.next))
    shown = _Shown(search, request.base_url)
    return Answer(
        200,
        searchset(
            total=page.total,
            links=links,
            matches=shown.of(found.matches, search.elements),
            included=shown.of(found.included.rows, shown.qualified),
            issues=[*search.ignored, *found.included.issues],
            details=shown.marks(found.matches),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    """How the resources of a page are shown."""

    search: Search
    base_url: str

    @property
    def qualified(self) -> tuple[str, ...]:
        """The `_elements` that speak about included resources: those that name a type."""
        return tuple([name for name in self.search.elements if name[:1].isupper()])

    def of(
        self, rows: Sequence[tuple[str, Mapping[str, Any]]], elements: tuple[str, ...]
    ) -> Iterator[tuple[str, bytes]]:
        """Each row's full URL and what is shown of its resource."""
        summary = None if self.search.summary in ("false", "count") else self.search.summary
        for name, row in rows:
            body: bytes = row["r"]
            address = f"{self.base_url}/{name}/{row['_id']}"
            contained_id = row.get("i")
            if summary or elements or contained_id:
                resource = codec.decode(body)
                if contained_id:
                    address = f"{address}#{contained_id}"
                    resource = next(inner for inner in resource["contained"] if inner["id"] == contained_id)
                body = codec.encode(subset(resource, summary=summary, elements=elements))
            yield address, body

    def marks(self, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, bytes]:
        """What `entry.search` says besides its mode, by full URL; only a search of one type has any."""
        if not self.search.resource_type:
            return {}
        return marks_of([row for _, row in rows], f"{self.base_url}/{self.search.resource_type}/")
