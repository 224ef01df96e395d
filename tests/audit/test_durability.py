"""A lone change waits once: its record is durable behind it, in the same oplog, and makes it durable, too."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from pymongo import monitoring

from fhir_server.storage.store import Store

PATIENT = {"resourceType": "Patient", "active": True}
DURABLE, APPLIED = ("majority", True), (1, False)

#: What keeps watch, whatever is requested.
LEASES = {"_audit_state", "AuditEvent"}


class Concerns(monitoring.CommandListener):
    """Notes of each command that writes to a database how it is awaited."""

    def __init__(self) -> None:
        self.database = ""
        self.noted: list[tuple[str, tuple[Any, Any]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        concern = event.command.get("writeConcern")
        ours = event.database_name == self.database or event.command_name == "commitTransaction"
        if ours and concern and (name := event.command[event.command_name]) not in LEASES:
            what = name if type(name) is str else event.command_name
            self.noted.append((what, (concern.get("w"), concern.get("j"))))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@pytest.fixture(scope="module")
def watched(make_server: Callable[..., Any]) -> tuple[Any, Concerns]:
    concerns = Concerns()
    monitoring.register(concerns)
    server = make_server(audit="on")
    for name in ("Patient", "SearchParameter", "Binary"):  # the collections are made
        server.client.get(f"{name}?_summary=count")
    assert server.client.put("Patient/1", json={**PATIENT, "id": "1"}).status_code == 201
    concerns.database = server.settings.mongodb_database
    return server, concerns


def awaited(watched: tuple[Any, Concerns], method: str, address: str, **sent: Any) -> list[tuple[str, tuple[Any, Any]]]:
    server, concerns = watched
    concerns.noted.clear()
    answer = server.client.request(method, address, **sent)
    assert answer.is_success, answer.text
    return list(concerns.noted)


def test_a_create_is_applied_and_its_record_awaited(watched: tuple[Any, Concerns]) -> None:
    assert awaited(watched, "POST", "Patient", json=PATIENT) == [("Patient", APPLIED), ("_audit", DURABLE)]


def test_an_update_and_a_delete_are_applied_and_their_records_awaited(watched: tuple[Any, Concerns]) -> None:
    expected = [("_history", APPLIED), ("Patient", APPLIED), ("_audit", DURABLE)]
    changed = {**PATIENT, "id": "1", "gender": "female"}
    assert awaited(watched, "PUT", "Patient/1", json=changed) == expected
    assert awaited(watched, "DELETE", "Patient/1") == expected


def bundle(kind: str) -> dict[str, Any]:
    entry = {"resource": PATIENT, "request": {"method": "POST", "url": "Patient"}}
    return {"resourceType": "Bundle", "type": kind, "entry": [entry]}


def test_a_transaction_is_committed_and_its_record_awaited(watched: tuple[Any, Concerns]) -> None:
    noted = awaited(watched, "POST", "", json=bundle("transaction"))
    assert noted == [("commitTransaction", APPLIED), ("_audit", DURABLE)]


def test_what_is_read_again_before_the_answer_is_durable_by_itself(watched: tuple[Any, Concerns]) -> None:
    """Entries of a batch may read what others have written; data of a Binary is settled; parameters come in force."""
    assert ("Patient", DURABLE) in awaited(watched, "POST", "", json=bundle("batch"))
    binary = {"resourceType": "Binary", "contentType": "text/plain", "data": "aGk="}
    assert ("Binary", DURABLE) in awaited(watched, "POST", "Binary", json=binary)
    parameter = {
        "resourceType": "SearchParameter",
        "url": "http://x/SearchParameter/own",
        "name": "own",
        "status": "draft",
        "description": "own",
        "code": "own",
        "base": ["Patient"],
        "type": "token",
        "expression": "Patient.active",
    }
    assert ("SearchParameter", DURABLE) in awaited(watched, "POST", "SearchParameter", json=parameter)


def test_without_a_trail_each_write_is_durable_by_itself(make_server: Callable[..., Any]) -> None:
    concerns = Concerns()
    monitoring.register(concerns)
    server = make_server(audit="off")
    concerns.database = server.settings.mongodb_database
    assert ("Patient", DURABLE) in awaited((server, concerns), "POST", "Patient", json=PATIENT)


def test_a_change_during_which_the_primary_changed_is_not_acknowledged(
    watched: tuple[Any, Concerns], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record may stand in the oplog of another primary, which never had the change."""
    terms = count()
    monkeypatch.setattr(Store, "term", property(lambda _: next(terms)))
    answer = watched[0].client.post("Patient", json=PATIENT)
    assert answer.status_code == 503
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-STORE-UNAVAILABLE"
    assert watched[0].client.get("Patient?_summary=count").status_code == 200
