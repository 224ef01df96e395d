"""One server for the tests of access: with callers whose access is said in a test, and with those of the cast."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.model.access import AccessPolicy, Caller, Identity
from fhir_server.model.errors import UnauthorizedError
from fhir_server.policies.glass import BreakGlass
from fhir_server.policies.policies import Policies
from fhir_server.policies.roles import load_roles
from profiles.registry import registry
from profiles.terminology import terminology
from tests.access.asking import Asker
from tests.access.cast import CALLERS, contents, everything_stored, shown_of_doubles
from tests.access.people import NUMBERS
from tests.access.ways import Ways
from tests.conftest import BASE_URL

Json = dict[str, Any]


@dataclass
class Callers:
    """A gate that knows its callers by name: `Authorization: Bearer <name>`."""

    policies: Policies | None = None
    known: dict[str, Caller] = field(default_factory=dict)

    async def caller_of(self, authorization: str | None) -> Caller:
        name = (authorization or "").removeprefix("Bearer ")
        if name in self.known:
            return self.known[name]
        if name in CALLERS and self.policies is not None:
            return Caller(CALLERS[name], await self.policies.of(CALLERS[name]))
        raise UnauthorizedError("unknown")

    def noticed(self, types: Iterable[str], subject: str) -> None:
        if self.policies is not None:
            for name in types:
                self.policies.noticed(name, subject)

    def add(self, name: str, policy: AccessPolicy, **identity: Any) -> None:
        """A caller with a policy of the test's own, whatever the policies say of that name."""
        self.known[name] = Caller(Identity(name, "test-app", "patient", **identity), policy)


@dataclass
class World:
    """The server, and how to ask it as somebody.

    Attributes:
        contents: a resource of each type, as JSON with placeholders; each person has one of them
        ways: how it can be asked
    """

    server: Any
    callers: Callers
    contents: dict[str, str]
    ways: Ways
    asker: Asker

    def as_(self, name: str) -> httpx.Client:
        transport = self.server.client._transport
        return httpx.Client(
            transport=transport, base_url=self.server.base_url, headers={"Authorization": f"Bearer {name}"}
        )

    def policy_of(self, name: str) -> AccessPolicy:
        """What one of the cast may see now."""
        assert self.callers.policies is not None
        policy: AccessPolicy = self.server.run(self.callers.policies.of(CALLERS[name]))
        return policy


def policies_of(server: Any) -> Policies:
    """The policies, as a server with accounts makes them."""
    context = server.context
    store, known = context.repository.store, registry()
    return Policies(
        store,
        context.searcher,
        known,
        terminology(),
        load_roles(known),
        BreakGlass(store, None, None, most_minutes=60),  # type: ignore[arg-type]  # nobody breaks one here
        base_url=BASE_URL,
    )


@pytest.fixture(scope="session")
def world(make_server: Callable[..., Any], test_data: Path) -> World:
    callers = Callers()
    callers.add("operator", AccessPolicy())
    server = make_server({"gate": callers}, auth="on", text_search="all")
    made = contents(test_data / "r4-examples")
    with httpx.Client(transport=server.client._transport, base_url=server.base_url) as operator:
        operator.headers["Authorization"] = "Bearer operator"
        rest = operator.get("metadata").json()["rest"][0]
        stored = list(everything_stored(made))
        for portion in ([r for r in stored if (r["resourceType"] == "Provenance") is told] for told in (False, True)):
            entries = [
                {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in portion
            ]
            answer = operator.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
            rows = zip(portion, answer.json()["entry"], strict=True)
            refused = [(r["resourceType"], r["id"], row) for r, row in rows if row["response"]["status"][:3] != "201"]
            assert not refused, refused
        for resource in shown_of_doubles(made):  # one after the other: they come in the same order in every history
            assert operator.put(f"{resource['resourceType']}/{resource['id']}", json=resource).status_code == 201
    callers.policies = policies_of(server)
    server.run(callers.policies.open())
    return World(server, callers, made, Ways(rest, server.base_url), Asker(server))


@pytest.fixture
def people(world: Any) -> tuple[str, str]:
    """Two new patients."""
    names = tuple(f"p{next(NUMBERS)}-{letter}" for letter in "ab")
    with world.as_("operator") as operator:
        for name in names:
            answer = operator.put(f"Patient/{name}", json={"resourceType": "Patient", "id": name})
            assert answer.status_code == 201
    return names
