"""What a query reaches beyond its own resource: references, searches, pages of searches.

Each resource is read once for a query, and reads that are wanted together go to the database together.

Spec: http://hl7.org/fhir/R4/graphql.html
"""

from __future__ import annotations

import asyncio
import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fhir_server.interactions.context import Context
from fhir_server.interactions.graphql.fault import too_costly
from fhir_server.model import codec
from fhir_server.model.errors import FhirError, InvalidError, Issue, NotFoundError
from fhir_server.search.contained import require_standing
from fhir_server.search.parse import link_pairs

Json = dict[str, Any]
Pairs = list[tuple[str, str]]

#: Further resources and searches that one query may ask for.
MOST_READS = 5_000
MOST_SEARCHES = 500

#: Searches of one query at a time: it shares the database with others.
PARALLEL = 8


class Place(msgspec.Struct, array_like=True):
    """Where a page of a connection lies: the search, the number of matches before it, the cursor of the search."""

    pairs: list[tuple[str, str]]
    offset: int = 0
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """Resources of one page, and what a connection tells of it."""

    resources: list[Json]
    offset: int
    size: int
    total: int | None
    first: str | None = None
    previous: str | None = None
    next: str | None = None


@dataclass(slots=True)
class Reach:
    """The world of one query."""

    context: Context
    base_url: str
    warnings: list[Issue] = field(default_factory=list)
    _reads: dict[str, asyncio.Task[Json]] = field(default_factory=dict)
    _searches: int = 0
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PARALLEL))

    async def read(self, resource_type: str, resource_id: str) -> Json:
        """A resource of this server.

        Raises:
            NotFoundError, GoneError: it is not there, or not any more.
        """
        key = f"{resource_type}/{resource_id}"
        task = self._reads.get(key)
        if task is None:
            if len(self._reads) >= MOST_READS:
                raise too_costly(f"The query asks for more than {MOST_READS:,} resources.")
            task = self._reads[key] = asyncio.ensure_future(self._read(resource_type, resource_id))
        return await task

    async def _read(self, resource_type: str, resource_id: str) -> Json:
        version = await self.context.repository.read(resource_type, resource_id)
        resource: Json = codec.decode(version.body or b"")
        return resource

    async def resolve(self, reference: str, within: Json) -> Json:
        """What a reference names: a contained resource, or one of this server.

        Raises:
            NotFoundError: it is not there, or on another server.
        """
        if reference.startswith("#"):
            for contained in within.get("contained", []):
                if contained.get("id") == reference[1:]:
                    return dict(contained)
            if reference == "#":
                return within
            raise NotFoundError(f"The resource contains no {reference!r}.", key="HS-GRAPHQL-REFERENCE")
        parts = reference.removeprefix(f"{self.base_url}/").split("/")
        if len(parts) >= 2 and self.context.registry.is_resource_type(parts[0]) and parts[2:3] in ([], ["_history"]):
            return await self.read(parts[0], parts[1])
        raise NotFoundError(
            f"The reference {reference!r} leads to no resource of this server.", key="HS-GRAPHQL-REFERENCE"
        )

    async def every(self, resource_type: str, pairs: Pairs) -> list[Json]:
        """The matches of a search, as many as a page may have; that there are more is told as a warning."""
        listed = await self.page(resource_type, pairs, default=self.context.limits.max_page_size, total=False)
        if listed.next is not None and not any(name == "_count" for name, _ in pairs):
            self.warnings.append(
                Issue(
                    "incomplete",
                    f"{resource_type}List shows the first {len(listed.resources)} matches; {resource_type}Connection "
                    "pages through all.",
                    key="HS-GRAPHQL-CUT",
                    severity="warning",
                )
            )
        return listed.resources

    async def page(self, resource_type: str, pairs: Pairs, *, default: int, total: bool) -> Listed:
        """One page of a search; `_cursor` among the pairs, by itself, names another page of the search it is from."""
        place = Place(pairs)
        if cursor := next((value for name, value in pairs if name == "_cursor"), None):
            place = place_of(cursor)
        asked = [*place.pairs, ("_total", "accurate" if total else "none")]
        if place.cursor is not None:
            asked.append(("_cursor", place.cursor))
        self._searches += 1
        if self._searches > MOST_SEARCHES:
            raise too_costly(f"The query makes more than {MOST_SEARCHES} searches.")
        async with self._gate:
            found = await self.context.searcher.search(
                resource_type,
                asked,
                strict=True,
                default_count=default,
                max_count=self.context.limits.max_page_size,
            )
        require_standing(found.search)  # what contains a match may be of any type, a list is of one
        size = found.search.count
        again = [(n, v) for n, v in link_pairs(found.search.applied, None) if n != "_total"]

        def other(offset: int, text: str | None) -> str | None:
            return None if text is None else cursor_of(Place(again, max(0, offset), text))

        return Listed(
            [codec.decode(row["r"]) for row in found.page.rows],
            place.offset,
            size,
            found.page.total,
            cursor_of(Place(again)) if place.cursor is not None else None,
            other(place.offset - size, found.page.previous),
            other(place.offset + size, found.page.next),
        )

    def close(self) -> None:
        """Give up reads that nobody awaits any more."""
        for task in self._reads.values():
            task.cancel()


def cursor_of(place: Place) -> str:
    return urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    try:
        return msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=Place)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise InvalidError(
            "`_cursor` is none that a connection of this server gave.", code="value", key="HS-GRAPHQL-CURSOR"
        ) from None


def is_gone(error: FhirError) -> bool:
    """Whether an error says that a resource is not there, which `optional: true` allows."""
    return error.status in (404, 410)
