"""Every method and form of address that an entry can have, in batches and in transactions.

Spec: https://hl7.org/fhir/R4/http.html#transaction, https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

Json = dict[str, Any]
SYSTEM = "http://entries.example"
ACTIVE = {
    "resourceType": "Parameters",
    "parameter": [
        {
            "name": "operation",
            "part": [
                {"name": "type", "valueCode": "replace"},
                {"name": "path", "valueString": "Patient.active"},
                {"name": "value", "valueBoolean": True},
            ],
        }
    ],
}

both = pytest.mark.parametrize("kind", ["batch", "transaction"])


class Person:
    """A Patient with an identifier of its own."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.value = uuid.uuid4().hex
        self.id = f"entry-{self.value[:12]}"
        self.criteria = f"identifier={SYSTEM}|{self.value}"

    def resource(self, *, active: bool = False, with_id: bool = True) -> Json:
        identifier = [{"system": SYSTEM, "value": self.value}]
        named = {"id": self.id} if with_id else {}
        return {"resourceType": "Patient", **named, "identifier": identifier, "active": active}

    def stored(self) -> Person:
        assert self.client.put(f"Patient/{self.id}", json=self.resource()).status_code == 201
        return self

    def found(self) -> list[Json]:
        return [e["resource"] for e in self.client.get(f"Patient?{self.criteria}").json().get("entry", [])]


def carried_out(
    client: httpx.Client, kind: str, method: str, url: str, resource: Json | None = None, **more: str
) -> Json:
    """The entry of the answer to a Bundle of one entry."""
    entry: Json = {"request": {"method": method, "url": url, **more}}
    if resource is not None:
        entry["resource"] = resource
    answer = client.post("", json={"resourceType": "Bundle", "type": kind, "entry": [entry]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["type"] == f"{kind}-response"
    (row,) = answer.json()["entry"]
    return row  # type: ignore[no-any-return]


def status(row: Json) -> str:
    return str(row["response"]["status"])[:3]


@both
def test_an_entry_creates(client: httpx.Client, kind: str) -> None:
    person = Person(client)
    row = carried_out(client, kind, "POST", "Patient", person.resource(with_id=False))
    assert status(row) == "201"
    (found,) = person.found()
    assert row["response"]["location"].endswith(f"Patient/{found['id']}/_history/1")


@both
def test_an_entry_creates_where_nothing_matches(client: httpx.Client, kind: str) -> None:
    person = Person(client).stored()
    row = carried_out(client, kind, "POST", "Patient", person.resource(with_id=False), ifNoneExist=person.criteria)
    assert status(row) == "200"
    assert [found["id"] for found in person.found()] == [person.id]


@both
def test_an_entry_updates_and_creates_by_that(client: httpx.Client, kind: str) -> None:
    person = Person(client)
    assert status(carried_out(client, kind, "PUT", f"Patient/{person.id}", person.resource())) == "201"
    row = carried_out(client, kind, "PUT", f"Patient/{person.id}", person.resource(active=True), ifMatch='W/"1"')
    assert (status(row), row["response"]["etag"]) == ("200", 'W/"2"')
    assert person.found()[0]["active"] is True


@both
def test_an_entry_updates_what_matches(client: httpx.Client, kind: str) -> None:
    person = Person(client).stored()
    changed = person.resource(active=True, with_id=False)
    assert status(carried_out(client, kind, "PUT", f"Patient?{person.criteria}", changed)) == "200"
    assert [(found["id"], found["active"]) for found in person.found()] == [(person.id, True)]


@both
def test_an_entry_patches(client: httpx.Client, kind: str) -> None:
    person = Person(client).stored()
    assert status(carried_out(client, kind, "PATCH", f"Patient/{person.id}", ACTIVE)) == "200"
    assert person.found()[0]["active"] is True


@both
def test_an_entry_patches_what_matches(client: httpx.Client, kind: str) -> None:
    person = Person(client).stored()
    assert status(carried_out(client, kind, "PATCH", f"Patient?{person.criteria}", ACTIVE)) == "200"
    assert person.found()[0]["active"] is True


@both
def test_an_entry_deletes(client: httpx.Client, kind: str) -> None:
    person = Person(client).stored()
    assert status(carried_out(client, kind, "DELETE", f"Patient/{person.id}")) == "204"
    assert client.get(f"Patient/{person.id}").status_code == 410


@both
def test_an_entry_deletes_what_matches(client: httpx.Client, kind: str) -> None:
    person = Person(client).stored()
    assert status(carried_out(client, kind, "DELETE", f"Patient?{person.criteria}")) == "204"
    assert client.get(f"Patient/{person.id}").status_code == 410


@both
def test_an_entry_reads_searches_and_tells_history(client: httpx.Client, kind: str) -> None:
    person = Person(client).stored()
    read = carried_out(client, kind, "GET", f"Patient/{person.id}")
    assert (status(read), read["resource"]["id"]) == ("200", person.id)
    assert carried_out(client, kind, "GET", f"Patient?{person.criteria}")["resource"]["total"] == 1
    assert carried_out(client, kind, "GET", f"Patient/{person.id}/_history")["resource"]["type"] == "history"
    assert carried_out(client, kind, "GET", f"Patient/{person.id}/$meta")["resource"]["resourceType"] == "Parameters"
    assert status(carried_out(client, kind, "GET", f"Patient/{person.id}", ifNoneMatch='W/"1"')) == "304"
