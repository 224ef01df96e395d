"""A practice: people with roles, and the server as each of them sees it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from fhir_server.model.access import Caller, Identity, Scope
from fhir_server.model.errors import UnauthorizedError
from fhir_server.policies.glass import BreakGlass, Glass
from fhir_server.policies.policies import Policies
from fhir_server.policies.roles import load_roles
from profiles.registry import registry
from profiles.terminology import terminology
from tests.conftest import InProcessServer

Json = dict[str, Any]

NUMBERS = itertools.count()


class People:
    """A gate that knows its callers by name; what they may is what the table of roles says."""

    def __init__(self) -> None:
        self.known: dict[str, Identity] = {}
        self.policies: Any = None

    async def caller_of(self, authorization: str | None) -> Caller:
        identity = self.known.get((authorization or "").removeprefix("Bearer "))
        if identity is None:
            raise UnauthorizedError("unknown")
        return Caller(identity, await self.policies.of(identity))

    def noticed(self, types: Iterable[str], subject: str) -> None:
        for name in types:
            self.policies.noticed(name, subject)


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us


@dataclass
class Practice:
    """The server, and how to ask it as somebody."""

    server: InProcessServer
    people: People

    def as_(self, name: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {name.partition('/')[2]}"}
        return httpx.Client(
            transport=self.server.client._transport, base_url=self.server.base_url, headers=headers, timeout=60
        )

    def put(self, resource_type: str, **content: Any) -> str:
        name = f"c{next(NUMBERS)}"
        with self.as_("Operator/operator") as operator:
            answer = operator.put(
                f"{resource_type}/{name}", json={"resourceType": resource_type, "id": name, **content}
            )
        assert answer.status_code == 201, answer.text
        for identity in self.people.known.values():  # what somebody else wrote acts within two seconds
            self.people.policies.noticed(resource_type, identity.subject)
        return f"{resource_type}/{name}"

    def somebody(self, role: Any, resource_type: str, organization: str | None = None, **content: Any) -> str:
        reference = self.put(resource_type, **content)
        patient = reference if role == "patient" else None
        self.people.known[reference.partition("/")[2]] = Identity(
            reference.partition("/")[2],
            "test-app",
            role,
            scopes=(Scope("user", "*", "cruds"),),
            scope="user/*.cruds",
            fhir_user=reference,
            organization=organization,
            patient=patient,
            grant_id=reference,
        )
        return reference

    def patient(self, **content: Any) -> str:
        return self.somebody("patient", "Patient", **content)

    def doctor(self, organization: str | None = None, **content: Any) -> str:
        return self.somebody("practitioner", "Practitioner", organization, **content)

    def administrator(self) -> str:
        return self.somebody("administrator", "Practitioner")

    def team(self, *members: str, **content: Any) -> str:
        rows = [{"member": {"reference": member}} for member in members]
        return self.put("CareTeam", status="active", participant=rows, **content)

    def call(self, who: str, place: str, **given: Any) -> httpx.Response:
        """An operation, by POST."""
        rows = [row_of(name.replace("_", "-"), v) for name, value in given.items() for v in several(value)]
        with self.as_(who) as client:
            return client.post(place, json={"resourceType": "Parameters", "parameter": rows})

    def thread(self, who: str, *others: str, **given: Any) -> str:
        answer = self.call(who, "Communication/$open-thread", participant=list(others), **given)
        assert answer.status_code == 201, answer.text
        return f"Communication/{answer.json()['id']}"

    def send(self, who: str, thread: str, text: str, **given: Any) -> str:
        answer = self.call(who, f"{thread}/$send", message=text, **given)
        assert answer.status_code == 201, answer.text
        return f"Communication/{answer.json()['id']}"

    def read(self, who: str, reference: str) -> httpx.Response:
        with self.as_(who) as client:
            return client.get(reference)

    def found(self, who: str, query: str) -> list[Json]:
        with self.as_(who) as client:
            answer = client.get(query)
        assert answer.status_code == 200, answer.text
        return [row["resource"] for row in answer.json().get("entry", ())]


def several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def row_of(name: str, value: Any) -> Json:
    if isinstance(value, dict) and "resourceType" in value:
        return {"name": name, "resource": value}
    if isinstance(value, dict):
        return {"name": name, "part": [row_of(key, v) for key, inner in value.items() for v in several(inner)]}
    if isinstance(value, int):
        return {"name": name, "valueInteger": value}
    if value.partition("/")[0] in registry().resource_types and " " not in value:
        return {"name": name, "valueReference": {"reference": value}}
    return {"name": name, "valueString": value}


def key_of(answer: httpx.Response) -> str:
    return str(answer.json()["issue"][0]["details"]["coding"][0]["code"])


def practice_of(make_server: Callable[..., InProcessServer], **settings: Any) -> Practice:
    """A practice with a server of its own; `now` is the moment by which its timers are due."""
    people = People()
    parts: dict[str, Any] = {"gate": people}
    if "now" in settings:
        parts["now"] = settings.pop("now")
    server = make_server(parts, auth="on", **settings)
    people.policies = policies_of(server)
    people.known["operator"] = Identity("operator", "operator", "operator")
    return Practice(server, people)


class Unheard:
    """Nobody breaks a glass here."""

    async def glass_broken(self, glass: Glass) -> None:
        raise AssertionError("a glass was broken")

    async def glass_mended(self, glass: Glass) -> None:
        raise AssertionError("a glass was mended")


async def nothing_made(resource: Json) -> str:
    raise AssertionError("no review is made here")


def policies_of(server: InProcessServer) -> Policies:
    """Policies as a process of the server makes them."""
    context = server.context

    async def made() -> Policies:
        store = context.repository.store
        policies = Policies(
            store,
            context.searcher,
            registry(),
            terminology(),
            load_roles(registry()),
            BreakGlass(store, nothing_made, Unheard(), most_minutes=60),
            base_url=server.base_url,
            base_permits=True,
        )
        await policies.open()
        return policies

    return server.run(made())


@pytest.fixture(scope="session")
def practice(make_server: Callable[..., InProcessServer]) -> Practice:
    return practice_of(make_server)
