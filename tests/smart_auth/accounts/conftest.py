"""A small server that serves accounts alone: real MongoDB, records in memory, mails in the sink, browsers as people."""

from __future__ import annotations

import asyncio
import re
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from html import unescape
from typing import Any, TypeVar

import httpx
import pytest
from argon2 import PasswordHasher
from pymongo import MongoClient
from starlette.applications import Starlette
from starlette.requests import Request

from fhir_server.model.access import Identity
from fhir_server.model.clock import new_id
from fhir_server.model.errors import UnprocessableError
from fhir_server.model.happening import Happening
from smart_auth.account_side import AccountSide, Neighbours
from smart_auth.accounts import account_of, now
from smart_auth.model import Account
from smart_auth.passwords import Passwords
from smart_auth.ports import ConnectedApp, Decided, DoctorStanding
from smart_auth.store import AuthStore, Row
from smart_auth.vault import Vault

T = TypeVar("T")

ORIGIN = "http://localhost:8765"
PASSWORD = "tangerine gravel kazoo"
CSRF = re.compile(r'name="csrf" value="([^"]+)"')
LINK = re.compile(rf"{ORIGIN}(/auth/[a-z-]+\?token=\S+)")


class Loop:
    """An event loop in a thread of its own, in which the server lives; browsers block on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="accounts-server", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def close(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class ServerTransport(httpx.BaseTransport):
    """Lets a blocking client call the application; what it does after an answer is done when the answer is read."""

    def __init__(self, loop: Loop, app: Any, address: str) -> None:
        self._loop = loop
        self._transport = httpx.ASGITransport(app=app, client=(address, 50000))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self._loop.run(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._transport.handle_async_request(request)
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        body = b"".join([chunk async for chunk in answer.stream])
        return httpx.Response(answer.status_code, headers=answer.headers.raw, stream=httpx.ByteStream(body))


class MemoryRecords:
    """Records without a FHIR server."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.agents: list[str] = []
        self.refuses = False

    async def create(self, resource: dict[str, Any], agent: str) -> str:
        if self.refuses:
            raise UnprocessableError("not today")
        reference = f"{resource['resourceType']}/{new_id()}"
        self.kept[reference] = {**resource, "id": reference.partition("/")[2]}
        self.agents.append(agent)
        return reference

    async def read(self, reference: str) -> dict[str, Any] | None:
        return self.kept.get(reference)

    async def update(self, resource: dict[str, Any], agent: str) -> None:
        self.kept[f"{resource['resourceType']}/{resource['id']}"] = resource
        self.agents.append(agent)


@dataclass
class MemoryApplications:
    """The process by which doctors are verified, without a FHIR server; the real one is `resources.verification`."""

    records: MemoryRecords
    approvals: int = 1
    kept: dict[str, list[Decided]] = field(default_factory=dict)

    async def open(self, practitioner: str, account_id: str) -> None:
        self.kept.setdefault(practitioner, [])

    async def decide(self, practitioner: str, decision: str, by: str, user: str | None, note: str) -> DoctorStanding:
        decisions = self.kept.setdefault(practitioner, [])
        state = self._state_of(decisions)
        able = {"applied": ("approve", "reject")}.get(state, ("reopen",))
        if decision not in able:
            raise UnprocessableError(f"The application is {state}: only {' or '.join(able)} is possible.")
        if decision == "approve" and by in self._approvers(decisions):
            raise UnprocessableError("You have approved this already: somebody else must, too.")
        decisions.append(Decided(by, decision, now(), note))
        state = self._state_of(decisions)
        self.records.kept[practitioner]["active"] = state == "verified"
        return DoctorStanding(state, tuple(decisions), len(decisions) + 1)

    def _state_of(self, decisions: list[Decided]) -> str:
        if decisions and decisions[-1].decision == "reject":
            return "rejected"
        return "verified" if len(self._approvers(decisions)) >= self.approvals else "applied"

    @staticmethod
    def _approvers(decisions: list[Decided]) -> set[str]:
        found: set[str] = set()
        for decision in decisions:
            found = {*found, decision.by} if decision.decision == "approve" else set()
        return found


class ListTrail:
    def __init__(self) -> None:
        self.happenings: list[Happening] = []

    async def happened(self, happening: Happening) -> None:
        self.happenings.append(happening)

    def details(self, kind: str) -> list[str]:
        return [happening.detail for happening in self.happenings if happening.kind == kind]


class Apps:
    def __init__(self) -> None:
        self.allowed: dict[str, list[ConnectedApp]] = {}
        self.cut_off: list[str] = []

    async def of(self, account_id: str) -> list[ConnectedApp]:
        return self.allowed.get(account_id, [])

    async def revoke(self, account_id: str, grant_id: str) -> None:
        self.allowed[account_id] = [app for app in await self.of(account_id) if app.grant_id != grant_id]

    async def credentials_changed(self, account_id: str) -> None:
        self.cut_off.append(account_id)


@dataclass
class Browser:
    """One person's browser: keeps cookies, and sends the token of the page it has last seen with each form."""

    client: httpx.Client
    page: httpx.Response | None = None

    def get(self, path: str, **how: Any) -> httpx.Response:
        self.page = self.client.get(path, **how)
        return self.page

    def send(self, path: str, **fields: str) -> httpx.Response:
        """Fill the form of the page in and send it; the answer is where one ends up."""
        self.page = self.client.post(path, data={"csrf": self.csrf, **fields})
        return self.page

    @property
    def csrf(self) -> str:
        assert self.page is not None
        found = CSRF.search(self.page.text)
        assert found, self.page.text
        return found[1]

    @property
    def text(self) -> str:
        """What the page says, without tags."""
        assert self.page is not None
        return unescape(re.sub(r"<[^>]+>", " ", self.page.text))

    def sign_in(self, email: str, password: str = PASSWORD, next_path: str = "") -> httpx.Response:
        self.get("/auth/sign-in", params={"next": next_path} if next_path else None)
        return self.send("/auth/sign-in", email=email, password=password, next=next_path)


@dataclass
class Site:
    """The server and everything around it."""

    side: AccountSide
    store: AuthStore
    app: Starlette
    records: MemoryRecords
    trail: ListTrail
    apps: Apps
    tokens: dict[str, Identity]
    loop: Loop
    _stack: ExitStack
    _hasher: PasswordHasher = field(default_factory=lambda: PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))

    def browser(self, address: str = "198.51.100.7") -> Browser:
        """A browser of its own; all share the server's event loop."""
        client = httpx.Client(
            transport=ServerTransport(self.loop, self.app, address),
            base_url=self.side.parts.origin,
            follow_redirects=True,
        )
        self._stack.callback(client.close)
        return Browser(client)

    def account(
        self, email: str = "ida@example.org", *, role: str = "patient", state: str = "active", **more: Any
    ) -> Account:
        """An account with the usual password."""
        row = self.side.parts.accounts.add(
            email=email,
            name=more.pop("name", "Ida Berg"),
            role=role,  # type: ignore[arg-type]
            state=state,  # type: ignore[arg-type]
            fhir_user=more.pop("fhir_user", "Patient/3" if role == "patient" else None),
            password=self._hasher.hash(PASSWORD),
            **more,
        )
        return account_of(row)

    def row(self, email: str) -> Row:
        row = self.side.parts.accounts.row_of_email(email)
        assert row is not None
        return row

    def mails(self, to: str) -> list[Row]:
        return list(self.store.rows("mails").find({"to": to}).sort([("sent_at", 1), ("_id", 1)]))

    def link(self, to: str) -> str:
        """The path of the link in the latest mail to somebody."""
        found = LINK.search(self.mails(to)[-1]["text"])
        assert found
        return found[1]

    def proven_long_ago(self, email: str) -> None:
        """Let so much time pass that somebody must prove again who they are."""
        then = now() - timedelta(hours=1)
        self.store.rows("sessions").update_many(
            {"account_id": self.row(email)["_id"]}, {"$set": {"authenticated_at": then}}
        )


@pytest.fixture(scope="session")
def auth_store(mongodb_uri: str) -> Iterator[AuthStore]:
    """A database that these tests share, since making its collections takes a second."""
    name = f"hs_test_{uuid.uuid4().hex[:12]}"
    with MongoClient[Row](mongodb_uri, tz_aware=True) as client:
        yield AuthStore(client, name)
        client.drop_database(name)


@pytest.fixture
def make_site(auth_store: AuthStore) -> Iterator[Callable[..., Site]]:
    """Makes servers with rules of your choice, on an empty database."""
    database = auth_store.rows("accounts").database
    for collection in database.list_collection_names():
        database[collection].delete_many({})
    with ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)

        def make(*, base_url: str = f"{ORIGIN}/fhir", approvals: int = 1, **how: Any) -> Site:
            records, trail, apps = MemoryRecords(), ListTrail(), Apps()
            tokens: dict[str, Identity] = {}

            async def bearer(request: Request) -> Identity | None:
                return tokens.get(request.headers["authorization"].removeprefix("Bearer "))

            hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
            side = AccountSide(
                auth_store,
                Vault(("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",)),
                Neighbours(
                    *(records, trail, apps.credentials_changed, apps, bearer),
                    applications=MemoryApplications(records, approvals),
                ),
                base_url,
                **{"passwords": Passwords(hasher), **how},
            )

            stack.callback(lambda: loop.run(side.close()))
            loop.run(side.open())
            app = Starlette(routes=side.routes())
            return Site(side, auth_store, app, records, trail, apps, tokens, loop, stack)

        yield make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


@pytest.fixture
def browser(site: Site) -> Browser:
    return site.browser()
