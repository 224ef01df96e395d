"""Searching, for everybody who searches: the search interaction, conditional interactions, conditional references.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fhir_server.model import codec
from fhir_server.model.errors import PreconditionFailedError
from fhir_server.model.exchange import decoded
from fhir_server.search.compile import filter_of
from fhir_server.search.execute import SearchStore, page_of
from fhir_server.search.page import Page
from fhir_server.search.parse import parse
from fhir_server.search.query import Search
from fhir_server.search.resolve import resolve
from fhir_server.storage.document import FIELDS, Version, version_of
from profiles.registry import Registry
from profiles.terminology import Terminology

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Found:
    """A page and the search, as understood, that it is a page of."""

    search: Search
    page: Page


class Searcher:
    """Searches of one store, or of what a transaction sees."""

    def __init__(self, store: SearchStore, registry: Registry, terminology: Terminology, base_url: str) -> None:
        self._store = store
        self._registry = registry
        self._terminology = terminology
        self._base_url = base_url.rstrip("/") + "/"

    def within(self, store: SearchStore) -> Searcher:
        return Searcher(store, self._registry, self._terminology, self._base_url)

    async def search(
        self, resource_type: str, pairs: Pairs, *, strict: bool, default_count: int, max_count: int
    ) -> Found:
        """One page of what the parameters select.

        Raises:
            InvalidError: 400; a value is malformed, or a parameter unknown where `strict` is asked for.
        """
        search = parse(
            resource_type,
            pairs,
            self._registry,
            strict=strict,
            default_count=default_count,
            max_count=max_count,
            base_url=self._base_url,
        )
        search = await resolve(search, self._terminology, self._held_value_set)
        return Found(search, await page_of(self._store, search, self._terminology))

    async def matches(self, resource_type: str, criteria: str, *, limit: int) -> list[Version]:
        """The resources that the criteria of a conditional interaction select, at most `limit`.

        Raises:
            PreconditionFailedError: 412; the criteria hold no search parameter, so they would select everything.
            InvalidError: 400; a parameter is unknown or malformed.
        """
        search = parse(
            resource_type,
            decoded(criteria),
            self._registry,
            strict=True,
            default_count=limit,
            max_count=limit,
            base_url=self._base_url,
        )
        if not search.predicates:
            raise PreconditionFailedError(
                f"The criteria {criteria!r} hold no search parameter of {resource_type}.",
                code="required",
                key="HS-COND-EMPTY",
            )
        search = await resolve(search, self._terminology, self._held_value_set)
        conditions = filter_of(search, self._terminology)
        rows = await self._store.find(resource_type, conditions, sort=[("_id", 1)], limit=limit, fields=FIELDS)
        return [version_of(resource_type, row) for row in rows]

    async def _held_value_set(self, url: str) -> dict[str, Any] | None:
        rows = await self._store.find("ValueSet", {"x.url": url}, sort=[("t", -1)], limit=1, fields=FIELDS)
        return codec.decode(rows[0]["r"]) if rows else None
