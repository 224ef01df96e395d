"""How many commands each interaction sends to MongoDB, fixed, so that nobody adds one by accident.

They are counted by a command listener of the driver. Commands of other databases do not count, nor do those that only
keep the connection; `commitTransaction` does. Whether a query is a `find` or an `aggregate` is all the same here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from pymongo import monitoring

from tests.validation.profile.holding import profile

Json = dict[str, Any]
ENDS = ("commitTransaction", "abortTransaction")


#: Whether what runs was asked for within `Listener.noting`: requests, and the tasks that they start, inherit it.
_asked: ContextVar[bool] = ContextVar("asked", default=False)


class Listener(monitoring.CommandListener):
    """Notes the commands sent to one database by what is asked for while it is told to.

    What goes on beside it, as followers of the feed and timers do, does not count.
    """

    def __init__(self) -> None:
        self.database = ""
        self._lock = threading.Lock()
        self._noted: list[str] | None = None

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        ours = event.database_name == self.database or (event.database_name == "admin" and event.command_name in ENDS)
        with self._lock:
            watching = event.command.get("comment") == "watch"  # goes on all the time, whatever is requested
            if ours and not watching and _asked.get() and self._noted is not None:
                name = "query" if event.command_name in ("find", "aggregate") else event.command_name
                collection = event.command.get(event.command_name)
                self._noted.append(f"{name} {collection}" if type(collection) is str else name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass

    @contextmanager
    def noting(self) -> Iterator[list[str]]:
        noted: list[str] = []
        with self._lock:
            self._noted = noted
        token = _asked.set(True)
        try:
            yield noted
        finally:
            _asked.reset(token)
            with self._lock:
                self._noted = None


@pytest.fixture(scope="module")
def counted(make_server: Callable[..., Any]) -> tuple[Any, Listener]:
    """A server whose driver tells its commands; its collections have been made."""
    listener = Listener()
    monitoring.register(listener)  # known to every client that is made from now on; it notes one database alone
    server = make_server()
    listener.database = server.settings.mongodb_database
    client = server.client
    for number in range(10):
        client.put(f"Patient/p{number}", json=patient(f"p{number}"))
        client.put(f"Observation/o{number}", json=observation(f"o{number}"))
    for name in ("p0", "p1", "p2"):
        client.put(f"Patient/{name}", json=patient(name, active=True))
    client.put("Observation/inside", json=containing("inside"))
    client.put("Organization/g", json={"resourceType": "Organization", "id": "g", "name": "G"})
    client.put("Patient/gone", json=patient("gone"))
    client.delete("Patient/gone")
    client.post(
        "Patient", json=patient("", identifier=[{"value": "once"}]), headers={"If-None-Exist": "identifier=once"}
    )
    return server, listener


def patient(name: str, **members: Any) -> Json:
    resource: Json = {
        "resourceType": "Patient",
        "identifier": [{"system": "http://x", "value": f"id-{name}"}],
        "gender": "male",
        **members,
    }
    return {**resource, "id": name} if name else resource


def observation(name: str) -> Json:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "1"}]},
        "subject": {"reference": "Patient/p0"},
        "effectiveDateTime": "2020-01-01",
    }


def containing(name: str) -> Json:
    """An observation that contains its patient."""
    organization = {"reference": "Organization/g"}
    inner = {"resourceType": "Patient", "id": "p", "gender": "male", "managingOrganization": organization}
    return {**observation(name), "contained": [inner], "subject": {"reference": "#p"}}


def sent(counted: tuple[Any, Listener], method: str, address: str, status: int, **more: Any) -> list[str]:
    server, listener = counted
    with listener.noting() as noted:
        answer = server.client.request(method, address, **more)
    assert answer.status_code == status, answer.text
    return noted


READING = {
    "read": ("Patient/p0", 200, ["query Patient"]),
    "read of what never was": ("Patient/never", 404, ["query Patient"]),
    "read of what was deleted": ("Patient/gone", 410, ["query Patient"]),
    "vread of the current version": ("Patient/p0/_history/2", 200, ["query Patient"]),
    "vread of an earlier version": ("Patient/p0/_history/1", 200, ["query Patient", "query _history"]),
    "search, first page": ("Patient?_count=3", 200, ["query Patient"]),
    "search by identifier": ("Patient?identifier=http://x|id-p1", 200, ["query Patient"]),
    "search by patient, code and date": ("Observation?patient=p0&code=1&date=2020", 200, ["query Observation"]),
    "search by id": ("Patient?_id=p1,p2", 200, ["query Patient"]),
    "search, none found": ("Patient?identifier=nobody", 200, ["query Patient"]),
    "only a count": ("Patient?gender=male&_summary=count", 200, ["query Patient"]),
    "a page with its total": ("Patient?_count=3&_total=accurate", 200, ["query Patient", "query Patient"]),
    # The first tells whether the resource ever was, and how many versions it has.
    "history of a resource": ("Patient/p0/_history", 200, ["query Patient", "query _history"]),
    "history of a type": ("Patient/_history", 200, ["query _history"]),
    "metadata": ("metadata", 200, []),
    "a chain": ("Observation?subject:Patient.gender=male", 200, ["query Patient", "query Observation"]),
    "a chain to any type": ("Observation?subject.identifier=http://x|id-p0", 200, ["query Group", "query Observation"]),
    "a chain where nothing of the type contains others": (
        "Patient?organization.name=g",
        200,
        ["query Organization", "query Patient"],
    ),
    "two chains and their reverse": (
        "Observation?subject:Patient.gender=male&patient.active=true&patient._has:Observation:patient:code=1",
        200,
        ["query Patient", "query Patient", "query Observation"],  # the innermost of all chains are one command
    ),
    "a chain of two steps": (
        "Observation?patient.organization.name=g",
        200,
        ["query Organization", "query Patient", "query Observation"],
    ),
    "a reverse chain": ("Patient?_has:Observation:patient:code=1", 200, ["query Observation", "query Patient"]),
    "a list": ("Patient?_list=none", 200, ["query List", "query Patient"]),
    "a page with two includes": (
        "Observation?_count=2&_include=Observation:subject&_include=Observation:encounter",
        200,
        ["query Observation", "query Patient"],
    ),
    "a larger page with two includes and more": (
        "Observation?_count=10&_include=Observation:subject&_include=Observation:encounter"
        "&_revinclude=Provenance:target",
        200,
        ["query Observation", "query Patient"],
    ),
    "includes of two levels": (
        "Observation?_include=Observation:subject&_include:iterate=Patient:organization",
        200,
        ["query Observation", "query Patient"],
    ),
    "a named query": ("MedicationRequest?_query=current&patient=p0", 200, ["query MedicationRequest"]),
    "contained resources": ("Medication?code=1&_contained=true", 200, ["query Observation"]),
    "contained and other resources, with what they refer to": (
        "Patient?gender=male&_contained=both&_containedType=contained&_include=Patient:organization",
        200,
        ["query Observation", "query Organization"],
    ),
    "a compartment and one type": ("Patient/p0/Observation?code=1", 200, ["query Observation"]),
    "a whole compartment": ("Patient/p0/*", 200, ["listCollections", "query Observation"]),
    "two types": ("?_type=Patient,Observation", 200, ["query Observation"]),
    "the whole system": ("?_id=p0", 200, ["listCollections", "query Observation"]),
    # The types that there are, so that no command asks for sixty-six; then one page, whatever its size.
    "a page of $everything": ("Patient/p0/$everything?_count=1", 200, ["listCollections", "query Patient"]),
    # At the end of the compartment: what is referred to, and those resources, of which there are none here.
    "all of $everything": ("Patient/p0/$everything", 200, ["listCollections", "query Patient", "query Patient"]),
    "$lastn": ("Observation/$lastn?patient=p0&max=2", 200, ["query Observation"]),
    "$stats": ("Observation/$stats?subject=Patient/p0&code=1&statistic=count", 200, ["query Observation"]),
    "$docref": ("DocumentReference/$docref?patient=p0", 200, ["query DocumentReference"]),
    "$diff": ("Patient/p0/$diff?from=1", 200, ["query Patient", "query Patient", "query _history"]),
}


@pytest.mark.parametrize("name", READING)
def test_a_reading_interaction_sends_this_and_no_more(counted: tuple[Any, Listener], name: str) -> None:
    address, status, commands = READING[name]
    assert sorted(sent(counted, "GET", address, status)) == sorted(commands)


def test_a_following_page_is_as_cheap_as_the_first(counted: tuple[Any, Listener]) -> None:
    server, _ = counted
    for query in ("Patient?_count=3", "Patient?_count=3&_sort=identifier", "Patient?_count=3&_sort=-_lastUpdated"):
        bundle = server.client.get(query).json()
        address = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
        assert len(sent(counted, "GET", address, 200)) == 1, query


def test_the_history_of_the_whole_server_asks_for_its_types_and_then_once(counted: tuple[Any, Listener]) -> None:
    assert sent(counted, "GET", "_history", 200) == ["listCollections", "query _history"]


def test_reads_at_once_are_gathered(counted: tuple[Any, Listener]) -> None:
    server, listener = counted
    requests = [server.client.build_request("GET", f"{server.base_url}/Patient/p{number}") for number in range(8)]
    with listener.noting() as noted:
        answers = server.gather(*requests)
    assert [answer.status_code for answer in answers] == [200] * 8
    assert [answer.json()["id"] for answer in answers] == [f"p{number}" for number in range(8)]
    assert set(noted) == {"query Patient"}
    assert len(noted) < 8


def test_creates_at_once_are_gathered(counted: tuple[Any, Listener]) -> None:
    server, listener = counted
    requests = [server.client.build_request("POST", f"{server.base_url}/Patient", json=patient("")) for _ in range(8)]
    with listener.noting() as noted:
        answers = server.gather(*requests)
    assert [answer.status_code for answer in answers] == [201] * 8
    assert len({answer.json()["id"] for answer in answers}) == 8
    assert set(noted) == {"insert Patient"}
    assert len(noted) < 8


def test_a_create_is_one_insert(counted: tuple[Any, Listener]) -> None:
    assert sent(counted, "POST", "Patient", 201, json=patient("")) == ["insert Patient"]


def test_only_the_first_resource_of_a_type_that_contains_others_is_noted(counted: tuple[Any, Listener]) -> None:
    inner = {"resourceType": "Patient", "id": "p", "active": True}
    resource = {
        "resourceType": "Flag",
        "contained": [inner],
        "status": "active",
        "code": {"text": "x"},
        "subject": {"reference": "#p"},
    }
    without = {name: value for name, value in resource.items() if name != "contained"}
    without["subject"] = {"reference": "Patient/p0"}
    client = counted[0].client
    client.post("Flag", json=without)  # the collection is made
    assert sent(counted, "POST", "Flag", 201, json=without) == ["insert Flag"]
    assert sent(counted, "POST", "Flag", 201, json=resource) == ["update _containing", "insert Flag"]
    assert sent(counted, "POST", "Flag", 201, json=resource) == ["insert Flag"]


def test_an_update_reads_keeps_the_earlier_version_and_replaces_it(counted: tuple[Any, Listener]) -> None:
    commands = ["query Patient", "insert _history", "update Patient"]
    assert sent(counted, "PUT", "Patient/p3", 200, json=patient("p3", active=True)) == commands
    headers = {"If-Match": 'W/"1"'}
    assert sent(counted, "PUT", "Patient/p4", 200, json=patient("p4", active=True), headers=headers) == commands


def test_an_update_that_creates_looks_and_inserts(counted: tuple[Any, Listener]) -> None:
    assert sent(counted, "PUT", "Patient/fresh", 201, json=patient("fresh")) == ["query Patient", "insert Patient"]


def test_a_delete_reads_keeps_the_earlier_version_and_marks_it(counted: tuple[Any, Listener]) -> None:
    commands = ["query Patient", "insert _history", "update Patient"]
    assert sent(counted, "DELETE", "Patient/p5", 204) == commands
    assert sent(counted, "DELETE", "Patient/p5", 204) == ["query Patient"]


def test_what_is_refused_writes_nothing(counted: tuple[Any, Listener]) -> None:
    assert sent(counted, "POST", "Patient", 400, json={"resourceType": "Patient", "nothing": 1}) == []
    assert sent(counted, "PUT", "Patient/p6", 412, json=patient("p6"), headers={"If-Match": 'W/"9"'}) == [
        "query Patient"
    ]
    assert sent(counted, "GET", "Patient?birthdate=x", 400) == []
    assert sent(counted, "GET", "Nothing/1", 404) == []


CONDITIONAL = {"If-None-Exist": "identifier=http://x|conditional"}


def test_a_conditional_create_locks_its_criteria_only_to_create(counted: tuple[Any, Listener]) -> None:
    resource = patient("", identifier=[{"system": "http://x", "value": "conditional"}])
    first = sent(counted, "POST", "Patient", 201, json=resource, headers=CONDITIONAL)
    again = sent(counted, "POST", "Patient", 200, json=resource, headers=CONDITIONAL)
    assert first == CONDITIONAL_CREATE
    assert again == ["query Patient"]


CONDITIONAL_CREATE = ["query Patient", "update _locks", "query Patient", "insert Patient", "commitTransaction"]


def transaction(count: int, prefix: str) -> Json:
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": f"urn:uuid:00000000-0000-4000-8000-{prefix}{number:04}",
                "resource": patient(""),
                "request": {"method": "POST", "url": "Patient"},
            }
            for number in range(count)
        ],
    }


@pytest.mark.parametrize("count", [1, 20, 200])
def test_a_transaction_of_creates_costs_the_same_however_many_there_are(
    counted: tuple[Any, Listener], count: int
) -> None:
    noted = sent(counted, "POST", "", 200, json=transaction(count, f"{count:08}"))
    assert noted == ["insert Patient", "commitTransaction"]


def test_a_transaction_of_updates_reads_keeps_and_replaces_by_type(counted: tuple[Any, Listener]) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": resource, "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}}
            for resource in [
                *(patient(f"p{n}", active=False) for n in range(3)),
                *(observation(f"o{n}") for n in range(3)),
            ]
        ],
    }
    commands = sent(counted, "POST", "", 200, json=bundle)
    assert sorted(commands) == sorted(
        [
            "query Patient",
            "query Observation",
            "update _history",
            "update Patient",
            "update Observation",
            "commitTransaction",
        ]
    )


def test_a_validation_against_a_stored_profile_asks_whether_something_has_changed(
    counted: tuple[Any, Listener],
) -> None:
    definition = profile(
        "Patient", {"path": "maritalStatus", "binding": {"strength": "required", "valueSet": "http://e.example/v"}}
    )
    counted[0].client.put("StructureDefinition/p", json=definition)
    address = f"Patient/$validate?profile={definition['url']}"
    first = sent(counted, "POST", address, 200, json=patient(""))
    assert first == ["query StructureDefinition", "query StructureDefinition", "query ValueSet"]
    again = sent(counted, "POST", address, 200, json=patient(""))
    assert again == ["query StructureDefinition", "query ValueSet"]
    assert sent(counted, "POST", "Patient/$validate", 200, json=patient("")) == []
