"""Accounts that are disabled, and those that end with the record of their person: on a server with real accounts."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from pymongo import MongoClient

from fhir_server.model.clock import new_id
from integrations.realtime.hub import Hub
from integrations.realtime.stream import signals
from smart_auth.access_token import Claims
from smart_auth.accounts import Accounts, account_of, now
from smart_auth.app_state import AppStates, Sent
from smart_auth.launches import LaunchTokens
from smart_auth.model import Account, Authorization, AuthorizationRequest, Client, LaunchContext
from smart_auth.parts import Visit
from smart_auth.refresh_tokens import RefreshTokens
from smart_auth.rows import row_of
from smart_auth.throttle import PER_ACCOUNT
from tests.conftest import InProcessServer

Json = dict[str, Any]

SCOPE = "user/*.cruds"
HOST = "http://test"


class Town:
    """A server with accounts, and people who use it."""

    def __init__(self, server: InProcessServer) -> None:
        self.server = server
        front = server.app
        while hasattr(front, "app"):
            front = front.app
        self.entry = front._fhir._gate  # type: ignore[attr-defined]
        self.accounts = self.entry.accounts.parts.accounts
        self.operator = self.as_(server.settings.access_token_file.read_text().strip())

    def as_(self, token: str) -> httpx.Client:
        return httpx.Client(
            transport=self.server.client._transport,
            base_url=self.server.base_url,
            headers={"Authorization": f"Bearer {token}"},
        )

    def put(self, resource_type: str, **content: Any) -> str:
        name = f"t{uuid.uuid4().hex[:16]}"
        place = f"{resource_type}/{name}"
        answer = self.operator.put(place, json={"resourceType": resource_type, "id": name, **content})
        assert answer.status_code == 201, answer.text
        return place

    def account(self, role: Any, user: str | None, *patients: str, name: str = "Ida Berg") -> Account:
        row = self.accounts.add(
            email=f"{uuid.uuid4().hex[:12]}@example.org",
            name=name,
            role=role,
            state="active",
            fhir_user=user,
            patients=patients,
            password=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("tangerine gravel kazoo"),
        )
        return account_of(row)

    def token(self, account: Account) -> str:
        """An access token of an app that the account has let in, in a browser where it is signed in."""
        self.entry.accounts.sessions.begin(account, ("pwd",), address="", agent="")
        grant = Authorization(new_id(), "app", account.id, SCOPE, LaunchContext(), now())
        self.entry.authorization.authorizations.add(grant)
        claims = Claims(
            account.id, "app", SCOPE, account.role, grant.id, fhir_user=account.fhir_user, patients=account.patients
        )
        return str(self.entry.authorization.access_tokens.issue(claims, 3600).text)

    def feed(self, client: httpx.Client, person: str) -> str:
        """The path of a private calendar feed."""
        answer = client.post(f"{person}/$calendar-feed", json={"resourceType": "Parameters"})
        assert answer.status_code == 200, answer.text
        return "/calendar/" + str(answer.json()["parameter"][0]["valueUrl"]).rpartition("/")[2]

    def shown(self, path: str) -> int:
        with httpx.Client(transport=self.server.client._transport, base_url=HOST) as anybody:
            return anybody.get(path).status_code

    def pushed(self, client: httpx.Client) -> int:
        """One more browser takes pushes; how many do."""
        given = {"endpoint": f"https://push.example.org/{uuid.uuid4().hex}", "p256dh": "AAAA", "auth": "AAAA"}
        parts = [{"name": name, "valueString": value} for name, value in given.items()]
        body = {"resourceType": "Parameters", "parameter": [{"name": "subscription", "part": parts}]}
        answer = client.post("$notification-preferences", json=body)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["parameter"][-1]["valueInteger"])

    def holding(self, *needles: str) -> dict[str, list[Json]]:
        """All documents of the database that hold one of some texts, wherever it stands, by their collection."""
        found: dict[str, list[Json]] = {}
        settings = self.server.settings
        with MongoClient[Json](settings.mongodb_uri.get_secret_value()) as client:
            database = client[settings.mongodb_database]
            for name in database.list_collection_names():
                rows = [row for row in database[name].find() if any(one in repr(row) for one in needles)]
                if rows:
                    found[name] = rows
        return found

    def rows(self, collection: str, **about: Any) -> int:
        async def count() -> int:
            return len(await self.server.context.repository.store.rows(collection).all(about, limit=0))

        return self.server.run(count())


@pytest.fixture(scope="module")
def town(make_server: Callable[..., InProcessServer]) -> Town:
    return Town(make_server(auth="on"))


def test_disabling_an_account_ends_its_calendar_feed_its_pushes_and_what_listens(town: Town) -> None:
    patient = town.put("Patient")
    child = town.put("Patient")
    account, other = town.account("patient", patient, child), town.account("patient", town.put("Patient"))
    client = town.as_(town.token(account))
    mine, childs = town.feed(client, patient), town.feed(client, child)
    theirs = town.feed(town.as_(town.token(other)), str(other.fhir_user))
    assert town.pushed(client) == 1
    assert [town.shown(path) for path in (mine, childs, theirs)] == [200, 200, 200]
    bearer = town.entry.authorization.bearer
    identity = bearer.identify(client.headers["Authorization"])
    store = town.server.context.repository.store

    async def story() -> list[str]:
        stream = signals(Hub(store, every_s=0.02), store, patient, identity, None, bearer.stands)
        first = await anext(stream)
        await town.entry.accounts.administration.disable(account.id, by="somebody", visit=Visit())
        async with asyncio.timeout(60):
            last = await anext(stream)
        await stream.aclose()
        return [first.name, last.name]

    assert town.server.run(story()) == ["hello", "end"]
    assert [town.shown(path) for path in (mine, childs, theirs)] == [404, 404, 200]
    assert town.rows("_push_subscriptions", person=patient) == 0
    assert client.get(patient).status_code == 401


def test_an_account_that_is_somebody_else_now_has_no_feed_of_before(town: Town) -> None:
    first, second = town.put("Patient"), town.put("Patient")
    account = town.account("patient", first)
    path = town.feed(town.as_(town.token(account)), first)
    change = town.entry.accounts.administration.change(account.id, {"name": "Ida"}, by="x", visit=Visit())
    town.server.run(change)
    assert town.shown(path) == 200
    town.server.run(town.entry.accounts.administration.change(account.id, {"fhir_user": second}, by="x", visit=Visit()))
    assert town.shown(path) == 404


def erased(town: Town, patient: str, client: httpx.Client) -> Json:
    """The request for erasure of a record, when it was carried out."""
    asked = client.post(f"{patient}/$request-erasure", json={"resourceType": "Parameters"})
    assert asked.status_code == 201, asked.text
    task = asked.json()["parameter"][0]["valueReference"]["reference"]
    for _ in range(2):
        auditor = town.as_(town.token(town.account("auditor", None)))
        assert auditor.post(f"{task}/$approve-erasure").status_code == 200
    for _ in range(1200):
        found: Json = town.operator.get(task).json()
        if found["status"] in ("completed", "failed"):
            return found
        time.sleep(0.05)
    raise AssertionError("the erasure did not end within a minute")


def shut_out(client: httpx.Client, place: str) -> None:
    """A token is good no more, within the two seconds that a process takes to notice."""
    deadline = time.monotonic() + 30
    while client.get(place).status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_erasure_ends_the_accounts_of_its_person_with_proof(town: Town) -> None:
    patient, other = town.put("Patient"), town.put("Patient")
    mother = town.put("RelatedPerson", patient={"reference": patient}, active=True)
    carer = town.put("RelatedPerson", patient={"reference": patient}, active=True)
    account = town.account("patient", patient)
    ends = town.account("proxy", mother, patient)
    stays = town.account("proxy", carer, patient, other)
    token = town.token(account)
    client = town.as_(token)
    town.token(account)  # a second browser, and a second app
    carers = town.as_(town.token(stays))
    path = town.feed(client, patient)
    assert town.pushed(client) == 1
    done = erased(town, patient, client)
    assert done["status"] == "completed", done
    lines = {row["type"]["text"]: row for row in done["output"]}
    counts = {name: row["valueInteger"] for name, row in lines.items() if "valueInteger" in row}
    assert counts["accounts ended"] == 2
    assert (counts["sessions ended"], counts["apps cut off"]) == (2, 2)
    assert (counts["calendar feeds ended"], counts["push subscriptions ended"]) == (1, 1)
    assert len(lines["proof (sha256)"]["valueString"]) == 64
    rows = Accounts(town.entry._rows)
    assert rows.row(account.id) is None
    assert rows.row(ends.id) is None
    assert rows.rows_of_users([patient, mother]) == []
    kept = rows.row(stays.id)
    assert kept is not None
    assert kept["patients"] == [other]
    shut_out(client, patient)
    shut_out(carers, other)  # what was allowed when there were more patients has ended, too
    assert town.shown(path) == 404
    assert town.rows("_push_subscriptions", person=patient) == 0
    assert town.rows("_calendar_feeds", person=patient) == 0


def test_the_account_ends_as_well_where_something_of_the_record_stays(town: Town) -> None:
    patient = town.put("Patient")
    town.put(
        "Encounter",
        status="finished",
        **{"class": {"code": "AMB"}},
        subject={"reference": patient},
        period={"start": "2026-01-01", "end": "2026-01-02"},
    )
    account = town.account("patient", patient)
    done = erased(town, patient, town.as_(town.token(account)))
    assert done["status"] == "completed", done
    assert any(row["type"]["text"] == "retained" for row in done["output"])
    assert Accounts(town.entry._rows).row(account.id) is None
    assert town.operator.get(patient).json()["active"] is False


def busy(town: Town, account: Account, patient: str, carer: Account) -> None:
    """Everything that a person can have at the sign-in side, some of it revoked, used up or another's."""
    entry, parts, store = town.entry, town.entry.accounts.parts, town.entry._rows
    server, context = entry.authorization, LaunchContext(patient=patient)
    moment = now()
    for number, (whose, about) in enumerate(((account, LaunchContext()), (account, context), (carer, context))):
        grant = Authorization(new_id(), f"app-{number}", whose.id, f"{SCOPE} offline_access", about, moment)
        server.authorizations.add(grant)
        tokens = RefreshTokens(store, 10)
        first = tokens.find(tokens.make(grant, moment + timedelta(days=1)))
        assert first is not None
        tokens.replace(first)
        server._codes.claim(server._codes.find(server._codes.make(grant, "https://app", "x" * 43, 60), grant.client_id))
        if number == 0:
            server.authorizations.revoke(grant.id)
        LaunchTokens(store).make(grant.client_id, whose.id, about)
    request = AuthorizationRequest(new_id(), "app", "https://app", SCOPE, "", "", "x" * 43, moment)
    for one in (
        replace(request, launched_by=account.id),
        replace(request, id=new_id(), launched_by=carer.id, launch=context),
        replace(request, id=new_id(), context=context),
    ):
        store.rows("requests").insert_one(row_of(one, "id"))
    for kind, data in (
        ("reset", {"account_id": account.id}),
        ("proxy-offer", {"account_id": carer.id, "patient": patient, "name": account.name, "by": account.id}),
        ("outside-sign-in", {"links": account.id}),
        ("verify", {"email": account.email, "given": ["Ida"]}),
    ):
        parts.tickets.issue(kind, data, timedelta(days=1))
    for key in (f"mail:{account.email}", f"password:{account.email}", f"code:{account.id}"):
        parts.throttle.attempt(key, PER_ACCOUNT)
    store.rows("passkeys").insert_one({"_id": new_id(), "account_id": account.id, "name": "Phone"})
    town.server.run(parts.letters.known_already(account.email, account.name))
    states = AppStates(store, parts.vault)
    sent = Sent("urn:x", "settings", patient, {"resourceType": "Basic", "subject": {"reference": patient}})
    states.create(Client("app-1", "App", "none"), sent)
    related = {"resourceType": "RelatedPerson", "patient": {"reference": patient}}
    invitation = entry.accounts.registrar.invite(
        email=f"{uuid.uuid4().hex[:12]}@example.org",
        name="Olga Berg",
        role="proxy",
        by=account.id,
        visit=Visit(),
        patients=(patient,),
        inviter=account.name,
        resource=related,
    )
    town.server.run(invitation)
    parts.accounts.change(carer.id, {"invited_by": account.id, "inviter": account.name})


#: What stays and names the person by an id alone: the trail, the proof of the erasure with who asked for it, the job
#: that made it for its thirty days, and what was revoked, while signed tokens could still be good.
STAY = {"AuditEvent", "auth_revocations", "Task", "_history", "_jobs", "_job_pages"}


def test_no_row_names_a_person_whose_record_was_erased(town: Town) -> None:
    """Looked for in every document of the database, in whatever field: the id of the account, its address and name."""
    patient, other = town.put("Patient"), town.put("Patient")
    name = f"Ida{uuid.uuid4().hex[:10]}"
    account = town.account("patient", patient, name=name)
    carer = town.account("proxy", town.put("RelatedPerson", patient={"reference": other}), patient, other)
    client = town.as_(town.token(account))
    busy(town, account, patient, carer)
    grants = [row["_id"] for row in town.holding(account.id, patient)["auth_grants"]]
    needles = (account.id, account.email, name, patient, *grants)
    assert {f"auth_{one}" for one in KINDS} <= town.holding(*needles).keys()
    done = erased(town, patient, client)
    assert done["status"] == "completed", done
    after = town.holding(*needles)
    assert {one: rows for one, rows in after.items() if one not in STAY and not one.startswith("_audit")} == {}
    for row in after.get("auth_revocations", []):
        assert set(row) == {"_id", "kind", "name", "before_ms", "ends_at", "at"}
    assert not town.holding(account.email, name)
    # What others had goes on, but for the apps that they had opened with this patient.
    kept = Accounts(town.entry._rows).row(carer.id)
    assert kept is not None
    assert (kept["patients"], "invited_by" in kept, "inviter" in kept) == ([other], False, False)
    # Doing it all once more changes nothing and fails at nothing.
    ending = town.entry.accounts.ending
    town.server.run(ending.end(account.id))
    town.server.run(ending.forget([account.id], [patient]))


#: The collections of the sign-in side that name somebody.
KINDS = (
    *("accounts", "app_state", "attempts", "codes", "grants", "launches", "mails", "passkeys"),
    *("refresh_tokens", "requests", "sessions", "tickets"),
)
