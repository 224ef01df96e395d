"""A server with the records of two people, and callers whose access is said in the test."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.model.access import AccessPolicy, Caller, Grant, Identity
from fhir_server.model.errors import UnauthorizedError
from profiles.registry import registry

Json = dict[str, Any]

#: Whose records there are; what is B's is marked in ways that a search could find.
OWNERS = ("person-a", "person-b")
SECRET = "Zyxsecretb"

_PATIENT = re.compile(r"^(?:Patient/[A-Za-z0-9\-.]+|urn:uuid:.*)$")


@dataclass
class Callers:
    """A gate that knows its callers by name: `Authorization: Bearer <name>`."""

    known: dict[str, Caller] = field(default_factory=dict)

    async def caller_of(self, authorization: str | None) -> Caller:
        name = (authorization or "").removeprefix("Bearer ")
        if name not in self.known:
            raise UnauthorizedError("unknown")
        return self.known[name]

    def noticed(self, types: Iterable[str], subject: str) -> None:
        """These policies are made of no resources."""

    def add(self, name: str, policy: AccessPolicy, **identity: Any) -> None:
        self.known[name] = Caller(Identity(name, "test-app", "patient", **identity), policy)


def own(verbs: str, *owners: str, **limits: Any) -> AccessPolicy:
    """What somebody may do with the records of some patients, whatever their type."""
    compartments = frozenset(f"Patient/{owner}" for owner in owners)
    return AccessPolicy(layers=((Grant("*", verbs, compartments=compartments, **limits),),), operations=frozenset())


@dataclass
class World:
    """The server, and how to ask it as somebody."""

    server: Any
    callers: Callers
    types: list[str]

    def as_(self, name: str) -> httpx.Client:
        transport = self.server.client._transport
        return httpx.Client(
            transport=transport, base_url=self.server.base_url, headers={"Authorization": f"Bearer {name}"}
        )


def example_of(folder: Path, resource_type: str, codes: tuple[str, ...]) -> Json | None:
    """An official example of a type that is about a patient."""
    for path in sorted(folder.glob(f"{resource_type}-*.json")):
        text = path.read_text()
        if len(text) < 60_000 and re.search(r'"reference"\s*:\s*"Patient/', text):
            resource: Json = json.loads(text)
            if resource.get("resourceType") == resource_type:
                return resource
    return None


def owned(resource: Any, owner: str) -> Any:
    """The same resource about another patient."""
    if isinstance(resource, dict):
        return {
            name: f"Patient/{owner}"
            if name == "reference" and isinstance(value, str) and value.startswith("Patient/")
            else owned(value, owner)
            for name, value in resource.items()
        }
    if isinstance(resource, list):
        return [owned(value, owner) for value in resource]
    return resource


def records_of(folder: Path, owner: str) -> Iterator[Json]:
    """A patient, and one resource of each type that has a place in the compartment of a patient."""
    mark = SECRET if owner == OWNERS[1] else "Plain"
    yield {
        "resourceType": "Patient",
        "id": owner,
        "identifier": [{"system": "urn:test:mrn", "value": f"{mark}-1"}],
        "name": [{"family": mark, "given": ["Kim"]}],
        "birthDate": "1970-01-01",
        "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{mark} words</div>'},
    }
    for resource_type, codes in sorted(registry().compartments["Patient"].types.items()):
        if not codes or resource_type == "Patient":
            continue
        found = example_of(folder, resource_type, codes)
        if found is None:
            continue
        resource = owned(found, owner)
        resource["id"] = f"{owner}-{resource_type.lower()}"
        resource["meta"] = {"tag": [{"system": "urn:test:owner", "code": mark.lower()}]}
        resource.pop("contained", None) if '"#' not in json.dumps(found) else None
        yield resource


@pytest.fixture(scope="session")
def world(make_server: Callable[..., Any], test_data: Path) -> World:
    callers = Callers()
    callers.add("operator", AccessPolicy())
    for owner, name in zip(OWNERS, ("a", "b"), strict=True):
        callers.add(name, own("cruds", owner), patient=f"Patient/{owner}")
    server = make_server({"gate": callers}, auth="on", text_search="all")
    world = World(server, callers, [])
    folder = test_data / "r4-examples"
    with world.as_("operator") as operator:
        for owner in OWNERS:
            entries = [
                {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
                for r in records_of(folder, owner)
            ]
            answer = operator.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
            statuses = {
                e["resource"]["resourceType"]: row["response"]["status"]
                for e, row in zip(entries, answer.json()["entry"], strict=True)
            }
            refused = {name: status for name, status in statuses.items() if not status.startswith("201")}
            assert not refused, refused
        for name in registry().compartments["Patient"].types:
            found = operator.get(f"Patient/{OWNERS[1]}/{name}", params={"_summary": "count"})
            if found.status_code == 200 and found.json()["total"]:
                world.types.append(name)
    return world
