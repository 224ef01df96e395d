"""Accounts that are disabled, and those that end with the record of their person: on a server with real accounts."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from fhir_server.model.clock import new_id
from integrations.realtime.hub import Hub
from integrations.realtime.stream import signals
from smart_auth.access_token import Claims
from smart_auth.accounts import Accounts, account_of, now
from smart_auth.model import Account, Authorization, LaunchContext
from smart_auth.parts import Visit
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

    def account(self, role: Any, user: str | None, *patients: str) -> Account:
        row = self.accounts.add(
            email=f"{uuid.uuid4().hex[:12]}@example.org",
            name="Ida Berg",
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
