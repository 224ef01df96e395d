"""A server with policies beside it, and what a policy means: the ids of stored resources that it lets through."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from fhir_server.access.compiled import Compiler
from fhir_server.access.entrance import Entrance
from fhir_server.app import definitions_of, indexer_of, store_of
from fhir_server.interactions.context import Context, Limits
from fhir_server.interactions.table import TABLE, dispatch
from fhir_server.jobs.feed import Feed
from fhir_server.jobs.jobs import Jobs
from fhir_server.jobs.timers import Timers
from fhir_server.model import codec
from fhir_server.model.access import AccessPolicy, Caller, Grant, Identity, Scope, Verb
from fhir_server.model.clock import new_id
from fhir_server.model.errors import FhirError
from fhir_server.model.exchange import Request
from fhir_server.policies.glass import BreakGlass, Glass
from fhir_server.policies.policies import Policies
from fhir_server.policies.roles import load_roles
from fhir_server.repository.carried import Carried
from fhir_server.repository.changes import Change
from fhir_server.repository.definitions import Definitions
from fhir_server.repository.integrity import Integrity
from fhir_server.repository.profiles import StoredDefinitions
from fhir_server.repository.repository import Repository
from fhir_server.repository.search import Searcher
from fhir_server.search.compartment import membership
from fhir_server.search.compile import all_of, condition_of, filter_of
from fhir_server.search.parse import parse
from fhir_server.search.query import Search
from fhir_server.search.ucum import canonical
from fhir_server.terminology.big import BigHoldings
from fhir_server.terminology.closures import Closures
from fhir_server.terminology.engine import Engine
from fhir_server.terminology.holdings import Holdings
from fhir_server.validation import Validator
from fhir_server.validation.profile.validator import ProfileValidator
from profiles.registry import registry
from profiles.terminology import terminology
from resources.parts import OPERATIONS
from tests.conftest import BASE_URL, InProcessServer

NOTHING: dict[str, Any] = {"_id": {"$in": []}}

EVERYTHING = (Scope("user", "*", "cruds"),)


@dataclass
class Trail:
    """An audit trail that remembers."""

    broken: list[Glass] = field(default_factory=list)
    mended: list[Glass] = field(default_factory=list)

    async def glass_broken(self, glass: Glass) -> None:
        self.broken.append(glass)

    async def glass_mended(self, glass: Glass) -> None:
        self.mended.append(glass)


class World:
    """A server, and policies as one of its processes would make them."""

    def __init__(self, server: InProcessServer, *, base_permits: bool = True) -> None:
        self.server = server
        self.client = server.client
        self.trail = Trail()
        self._base_permits = base_permits
        server.run(self._build())

    async def _build(self) -> None:
        settings = self.server.settings
        known = definitions_of(settings)
        indexer = indexer_of(settings, known)
        store, self._close = store_of(settings, known)
        await store.open()
        repository = Repository(
            store,
            indexer,
            Validator(registry(), terminology()),
            Integrity(store, known, BASE_URL, enforced=False),
        )

        async def create(resource: dict[str, Any]) -> str:
            change = Change("POST", resource["resourceType"], new_id(), resource, fresh=True)
            return (await repository.commit(change)).version.id

        searcher = Searcher(store, known, terminology(), BASE_URL, carried=Carried(indexer))
        self.store = store
        self.glass = BreakGlass(store, create, self.trail, most_minutes=60)
        self.policies = self.process(self.glass, searcher)
        await self.policies.open()
        self.compiler = Compiler(known, terminology(), BASE_URL, searcher.codes)
        self._entrance = Entrance(store, self.compiler, indexer, BASE_URL)
        definitions = Definitions(store, known, indexer)
        self._context = Context(
            registry=known,
            repository=repository,
            searcher=searcher,
            limits=Limits(),
            table=TABLE,
            operations=OPERATIONS,
            dispatch=dispatch,
            definitions=definitions,
            jobs=Jobs(store.rows),
            feed=Feed(store),
            timers=Timers(store.rows),
            profiles=ProfileValidator(registry(), terminology(), canonical, StoredDefinitions(store)),
            terminology=Engine(
                Holdings(StoredDefinitions(store)), BASE_URL, big=BigHoldings(store), closures=Closures(store)
            ),
            break_glass=self.glass,
        )

    def process(self, glass: BreakGlass, searcher: Searcher | None = None) -> Policies:
        """Policies as a process of the server makes them."""
        return Policies(
            self.store,
            searcher or Searcher(self.store, registry(), terminology(), BASE_URL),
            registry(),
            terminology(),
            load_roles(registry()),
            glass,
            base_url=BASE_URL,
            base_permits=self._base_permits,
        )

    def close(self) -> None:
        self.server.run(self._close())

    # --- what is there ----------------------------------------------------------------------------------------------

    def put(self, resource_type: str, named: str | None = None, /, **content: Any) -> str:
        """Store a resource; its reference."""
        resource_id = named or f"x{uuid.uuid4().hex[:12]}"
        body = {"resourceType": resource_type, "id": resource_id, **content}
        answer = self.client.put(f"{resource_type}/{resource_id}", json=body)
        assert answer.status_code in (200, 201), answer.text
        self.renew()
        return f"{resource_type}/{resource_id}"

    def delete(self, reference: str) -> None:
        assert self.client.delete(reference).status_code in (200, 204)
        self.renew()

    def renew(self) -> None:
        """What was written is known at once, as it is a second later."""
        self.policies.noticed("Consent", "")
        self.policies.noticed("Patient", "me")

    # --- what somebody does -----------------------------------------------------------------------------------------

    def call(self, identity: Identity, method: str, address: str, body: Any = None) -> tuple[int, Any]:
        """The status and the resource that somebody gets, as over HTTP."""

        async def answered() -> tuple[int, Any]:
            policy = await self.policies.of(identity)
            path, _, query = address.partition("?")
            request = Request(
                method,
                tuple(path.split("/")) if path else (),
                query,
                body=b"" if body is None else codec.encode(body),
                content_type="application/fhir+json",
                base_url=BASE_URL,
            )
            context = self._context.under(Caller(identity, policy), self._entrance.store_for(policy))
            try:
                answer = await dispatch(context, request)
            except FhirError as error:
                return error.status, error.outcome()
            return answer.status, codec.decode(answer.body) if answer.body else None

        return self.server.run(answered())

    # --- what a policy means ----------------------------------------------------------------------------------------

    def policy(self, identity: Identity) -> AccessPolicy:
        return self.server.run(self.policies.of(identity))

    def allowed(self, identity: Identity, resource_type: str, verb: Verb = "r") -> set[str]:
        """The references of the stored resources of a type that somebody may see or change."""
        policy = self.policy(identity)
        return self.server.run(self._found(policy, resource_type, verb))

    async def _found(self, policy: AccessPolicy, resource_type: str, verb: Verb) -> set[str]:
        """By the plain reading here, which must be what the guard of the server makes of it."""
        plain = filter_for(policy, resource_type, verb)
        guarded = all_of([{"d": None}, await self.compiler.filter_of(policy, resource_type, verb)])
        found = []
        for wanted in (plain, guarded):
            rows = await self.store.find(resource_type, wanted, sort=[], limit=10_000, fields={"_id": 1})
            found.append({f"{resource_type}/{row['_id']}" for row in rows})
        assert found[0] == found[1], "the guard reads this policy in another way"
        return found[0]


def filter_for(policy: AccessPolicy, resource_type: str, verb: Verb) -> dict[str, Any]:
    """A policy as the database's filter, as plainly as can be."""
    conditions: list[dict[str, Any]] = [{"d": None}]
    for layer in policy.layers:
        grants = [filter_of_grant(g, resource_type, verb) for g in layer if g.covers(resource_type, verb)]
        conditions.append({"$or": grants} if grants else NOTHING)
    hidden = [filter_of_grant(g, resource_type, verb) for g in policy.denials if g.covers(resource_type, verb)]
    return {"$and": [*conditions, *([{"$nor": hidden}] if hidden else [])]}


def filter_of_grant(grant: Grant, resource_type: str, verb: Verb) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = [{}]
    if grant.ids is not None:
        conditions.append({"_id": {"$in": sorted(grant.ids)}})
    if grant.compartments is not None:
        ways = [NOTHING]
        for reference in sorted(grant.compartments):
            focal, _, focal_id = reference.partition("/")
            if resource_type == focal:
                ways.append({"_id": focal_id})
            elif registry().compartments[focal].types.get(resource_type):
                predicate = membership(focal, focal_id, resource_type, registry())
                ways.append(condition_of(predicate, terminology()))
        conditions.append({"$or": ways})
    if grant.criteria:
        search: Search = parse(
            resource_type,
            grant.criteria,
            registry(),
            strict=True,
            default_count=1,
            max_count=1,
            base_url=BASE_URL,
        )
        conditions.append(dict(filter_of(search, terminology())))
    unless = [filter_of_grant(g, resource_type, verb) for g in grant.unless if g.covers(resource_type, verb)]
    if unless:
        conditions.append({"$nor": unless})
    return {"$and": conditions}


@pytest.fixture(scope="session")
def world(make_server: Callable[..., InProcessServer]) -> Iterator[World]:
    made = World(make_server())
    yield made
    made.close()


@pytest.fixture(scope="session")
def strict_world(make_server: Callable[..., InProcessServer]) -> Iterator[World]:
    """Where nothing is permitted that no Consent permits."""
    made = World(make_server(), base_permits=False)
    yield made
    made.close()


def somebody(role: Any, user: str | None = None, organization: str | None = None, **more: Any) -> Identity:
    given = {"scopes": EVERYTHING, **more}
    return Identity(given.pop("subject", "me"), "app", role, fhir_user=user, organization=organization, **given)
