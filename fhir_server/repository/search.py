"""Searching, for everybody who searches: the search interaction, conditional interactions, conditional references.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from fhir_server.model.errors import InvalidError, PreconditionFailedError
from fhir_server.model.exchange import decoded
from fhir_server.repository.carried import Carried
from fhir_server.repository.profiles import StoredDefinitions
from fhir_server.repository.records import TRAIL
from fhir_server.search.across import page_across, parse_across
from fhir_server.search.bounds import BOUNDS, Bounds
from fhir_server.search.compartment import membership
from fhir_server.search.compile import Access, filter_of, unrestricted
from fhir_server.search.contained import page_of_contained, require_standing
from fhir_server.search.execute import SearchStore, page_of
from fhir_server.search.follow import Follower
from fhir_server.search.include import NOTHING, Included, Inclusion, fields_of
from fhir_server.search.inside import rows_in
from fhir_server.search.page import Page
from fhir_server.search.parse import parse
from fhir_server.search.query import Search
from fhir_server.search.readiness import with_readiness
from fhir_server.search.resolve import Codes, resolve
from fhir_server.search.reverse import Spreads
from fhir_server.storage.document import FIELDS, Version, version_of
from fhir_server.storage.store import Store
from fhir_server.terminology.searching import codes_of
from profiles.registry import Registry
from profiles.terminology import Terminology

Pairs = list[tuple[str, str]]

#: A type that has the parameters of all types, and no others.
COMMON = "Parameters"

#: So many types are searched without asking first which of them are stored.
FEW_TYPES = 8


@dataclass(frozen=True, slots=True)
class Found:
    """A page and the search, as understood, that it is a page of."""

    search: Search
    page: Page
    included: Included = NOTHING

    @property
    def matches(self) -> list[tuple[str, dict[str, Any]]]:
        """The rows of the page with their types."""
        return [(row.get("y", self.search.resource_type), row) for row in self.page.rows]


class Searcher:
    """Searches of one store, or of what a transaction sees."""

    def __init__(
        self,
        store: SearchStore,
        registry: Registry,
        terminology: Terminology,
        base_url: str,
        bounds: Bounds = BOUNDS,
        access: Access = unrestricted,
        containing: Callable[[], Collection[str]] = tuple,
        codes: Codes | None = None,
        carried: Carried | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._terminology = terminology
        self._base_url = base_url.rstrip("/") + "/"
        self._bounds = bounds
        self._access = access
        self._containing = containing
        self._carried = carried
        self._visible: Callable[[str], Awaitable[Mapping[str, Any]]] | None = None
        self.codes: Codes = codes or codes_of(StoredDefinitions(store), base_url)
        self._follower = Follower(store, terminology, self._base_url, access, containing, Spreads())

    @property
    def store(self) -> SearchStore:
        return self._store

    def within(self, store: SearchStore) -> Searcher:
        """The same searches of what a transaction sees."""
        inner = self.seen_by(store)
        inner._follower = replace(inner._follower, spreads=None)  # it would count, and forget
        return inner

    def seen_by(self, store: SearchStore) -> Searcher:
        """The same searches, sent by way of a store that hands them on."""
        inner = copy(self)
        inner._store, inner._follower = store, replace(self._follower, store=store)
        return inner

    def under(self, store: Store) -> Searcher:
        """Searches of the same server through a store that holds to somebody's access policy."""
        inner = self.within(store)
        inner._visible = store.visible
        return inner

    async def search(
        self,
        resource_type: str,
        pairs: Pairs,
        *,
        strict: bool,
        default_count: int,
        max_count: int,
        compartment: str = "",
    ) -> Found:
        """One page of what the parameters select, and what they include.

        Args:
            compartment: whose compartment is searched, such as `Patient/1`

        Raises:
            InvalidError: 400; a value is malformed, or a parameter unknown where `strict` is asked for.
            UnprocessableError: 422; it asks for more than is searched for at once.
        """
        self._bounds.require(pairs)
        search = self._parsed(
            resource_type,
            pairs,
            strict=strict,
            default_count=default_count,
            max_count=max_count,
            compartment=compartment,
        )
        self._require_whole(search)
        (search,) = await self._ready([search], checking=not search.looks_inside)
        if search.looks_inside:
            return await self._with_included(Found(search, await self._page_of_contained(search)))
        fields = fields_of(search.includes, resource_type, self._registry)
        beside = await self._beside(search)
        page = await page_of(self._store, search, self._terminology, self._access(resource_type), fields, beside)
        return await self._with_included(Found(search, page))

    async def _beside(self, search: Search, *, is_stored: bool = True) -> list[dict[str, Any]]:
        """What the server carries and a search selects; nothing refers to that, as checks would ask.

        Args:
            is_stored: whether anything of the type may be stored
        """
        name = search.resource_type
        if self._carried is None or name not in self._carried.types or search.checks:
            return []
        condition = filter_of(search, self._terminology, self._access(name))
        if self._visible is not None:
            condition = {"$and": [condition, await self._visible(name)]}
        return await self._carried.found(name, condition, self._store if is_stored else None)

    async def _page_of_contained(self, search: Search) -> Page:
        return await page_of_contained(
            self._store, search, self._containing(), self._registry, self._terminology, self._access
        )

    async def search_types(
        self,
        types: Sequence[str],
        pairs: Pairs,
        *,
        strict: bool,
        default_count: int,
        max_count: int,
        compartment: str = "",
    ) -> Found:
        """One page of what the parameters, common to some types, select in them; none named: in all types.

        Raises:
            InvalidError: 400; as for `search`, and a parameter that the types do not have in common.
        """
        self._bounds.require(pairs)
        if len(types) == 1:
            return await self.search(
                types[0],
                pairs,
                strict=strict,
                default_count=default_count,
                max_count=max_count,
                compartment=compartment,
            )
        # To ask for the types that are stored is one cheap command; to look into many that are not is many times that.
        stored = await self._store.collections() if not types or len(types) > FEW_TYPES else types
        there = {*stored, *(self._carried.types if self._carried is not None else ())}
        known = types or [name for name in sorted(there) if self._registry.is_resource_type(name) and name != TRAIL]

        def parse_one(name: str, given: Sequence[tuple[str, str]]) -> Search:
            return self._parsed(name, given, strict=False, default_count=default_count, max_count=max_count)

        # A type that has no parameters of its own tells which are common to all types, whichever are stored.
        judges = known if types else [*known, *({COMMON} - set(known))]
        searches = parse_across(judges, pairs, parse_one, self._registry, strict=strict)
        searches = [s for s in searches if s.resource_type in known and s.resource_type in there] or searches[:1]
        self._require_whole(searches[0])
        searches = [self._within(compartment, search) for search in searches]
        searches = await self._ready(searches)
        head = replace(searches[0], resource_type="")

        def fields(name: str) -> dict[str, int]:
            return fields_of(head.includes, name, self._registry)

        beside: list[dict[str, Any]] = []
        for search in searches:
            name = search.resource_type
            beside += [{**row, "y": name} for row in await self._beside(search, is_stored=name in stored)]
        searches = [s for s in searches if s.resource_type in stored] or searches[:1]
        page = await page_across(self._store, searches, self._terminology, self._access, fields, beside)
        return await self._with_included(Found(head, page))

    def _require_whole(self, search: Search) -> None:
        """Refuse includes of a search that shows narratives alone, as the specification demands."""
        if search.includes and search.summary == "text":
            raise InvalidError(
                "`_summary=text` cannot be asked for together with `_include` or `_revinclude`.",
                key="HS-SEARCH-INCLUDE",
                expression="http._summary",
            )

    async def _with_included(self, found: Found) -> Found:
        search, bounds = found.search, self._bounds
        if not search.includes or not found.page.rows:
            return found
        inclusion = Inclusion(
            self._store, self._registry, search.includes, self._access, bounds.includes, bounds.include_rounds
        )
        inside = [
            (search.resource_type, inner) for row in found.page.rows for inner in rows_in(row, search.resource_type)
        ]
        return replace(found, included=await inclusion.added_to(found.matches, inside))

    def _parsed(
        self,
        resource_type: str,
        pairs: Sequence[tuple[str, str]],
        *,
        strict: bool,
        default_count: int,
        max_count: int,
        compartment: str = "",
    ) -> Search:
        search = parse(
            resource_type,
            pairs,
            self._registry,
            strict=strict,
            default_count=default_count,
            max_count=max_count,
            base_url=self._base_url,
            max_chain_depth=self._bounds.chain_depth,
        )
        search = with_readiness(search)
        return self._within(compartment, search)

    def _within(self, compartment: str, search: Search) -> Search:
        """The same search of what is in a compartment; `compartment` is empty for a search of everything."""
        if not compartment:
            return search
        focal, _, focal_id = compartment.partition("/")
        predicate = membership(focal, focal_id, search.resource_type, self._registry)
        return replace(search, predicates=(predicate, *search.predicates), compartment=compartment)

    async def _ready(self, searches: Sequence[Search], *, checking: bool = False) -> list[Search]:
        """The searches with value sets as their codes, and with what other resources say as ids and references.

        Args:
            checking: whether a search may have checks, which no filter tells
        """
        resolved = [await resolve(search, self.codes) for search in searches]
        return await self._follower.follow(resolved, checking=checking)

    async def understood(
        self, resource_type: str, pairs: Pairs, *, strict: bool, default_count: int, max_count: int
    ) -> tuple[Search, Mapping[str, Any]]:
        """What the parameters select, as a search and as the database's filter, for those with an order of their own.

        Raises:
            InvalidError: 400; as for `search`.
        """
        self._bounds.require(pairs)
        search = self._parsed(resource_type, pairs, strict=strict, default_count=default_count, max_count=max_count)
        require_standing(search)
        (search,) = await self._ready([search])
        return search, filter_of(search, self._terminology, self._access(resource_type))

    def allowed(self, resource_type: str) -> list[Mapping[str, Any]]:
        """The conditions that a document of a type must meet to be seen, for those who put together a pipeline."""
        return list(self._access(resource_type))

    async def aggregate(self, resource_type: str, pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What a pipeline over a type's documents gives, of the store or of what a transaction sees; one command."""
        return await self._store.aggregate(resource_type, pipeline)

    async def matches(self, resource_type: str, criteria: str, *, limit: int) -> list[Version]:
        """The resources that the criteria of a conditional interaction select, at most `limit`.

        Raises:
            PreconditionFailedError: 412; the criteria hold no search parameter, so they would select everything.
            InvalidError: 400; a parameter is unknown or malformed.
        """
        conditions = await self._conditions(resource_type, criteria)
        rows = await self._store.find(resource_type, conditions, sort=[("_id", 1)], limit=limit, fields=FIELDS)
        return [version_of(resource_type, row) for row in rows]

    async def count(self, resource_type: str, criteria: str) -> int:
        """How many resources the criteria of a conditional interaction select; raises as `matches` does."""
        return await self._store.count(resource_type, await self._conditions(resource_type, criteria))

    async def _conditions(self, resource_type: str, criteria: str) -> Mapping[str, Any]:
        """The criteria of a conditional interaction as the database's filter."""
        pairs = decoded(criteria)
        self._bounds.require(pairs)
        search = self._parsed(resource_type, pairs, strict=True, default_count=1, max_count=1)
        require_standing(search)
        if not search.predicates:
            raise PreconditionFailedError(
                f"The criteria {criteria!r} hold no search parameter of {resource_type}.",
                code="required",
                key="HS-COND-EMPTY",
            )
        (search,) = await self._ready([search])
        return filter_of(search, self._terminology, self._access(resource_type))
