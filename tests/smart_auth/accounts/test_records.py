"""Accounts on the real repository: what registration makes is a valid resource, read and changed by version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.app import definitions_of, indexer_of, store_of
from fhir_server.model.errors import FhirError, InvalidError, PreconditionFailedError
from fhir_server.records import RepositoryRecords
from fhir_server.repository.integrity import Integrity
from fhir_server.repository.repository import Repository
from fhir_server.validation import Validator
from profiles.registry import registry
from profiles.terminology import terminology
from smart_auth import people
from smart_auth.people import Application, PersonName

NAME = PersonName("Ida Maria", "Berg")
RESOURCES: list[dict[str, Any]] = [
    people.patient(NAME, "1980-03-01", "ida@example.org"),
    people.practitioner(PersonName("", "Doc"), "d@example.org", active=True),
    people.practitioner(
        NAME, "d@example.org", active=False, application=Application("Cardiology", "L-1", "Board", "Clinic")
    ),
    people.related_person(NAME, "p@example.org", "Patient/3"),
]


@pytest.fixture
def records(make_server: Callable[..., Any]) -> Any:
    """Records in the database of a server, and a way to call them in its loop."""
    server = make_server()
    known = definitions_of(server.settings)
    store, close = store_of(server.settings, known)
    repository = Repository(
        store,
        indexer_of(server.settings, known),
        Validator(registry(), terminology()),
        Integrity(store, known, server.settings.base_url, enforced=False),
    )
    server.run(store.open())
    yield RepositoryRecords(repository), server
    server.run(close())


def test_what_accounts_are_made_with_is_valid_and_served(records: Any) -> None:
    kept, server = records
    for resource in RESOURCES:
        reference = server.run(kept.create(resource, "account-1"))
        served = server.client.get(reference).json()
        assert {name: value for name, value in served.items() if name not in ("id", "meta")} == resource
        assert server.run(kept.read(reference)) == served


def test_a_change_is_a_version_and_does_not_overwrite_another(records: Any) -> None:
    kept, server = records
    reference = server.run(kept.create(RESOURCES[2], "account-1"))
    read = server.run(kept.read(reference))
    server.run(kept.update({**read, "active": True}, "account-1"))
    served = server.client.get(reference).json()
    assert (served["active"], served["meta"]["versionId"]) == (True, "2")
    with pytest.raises(FhirError) as error:
        server.run(kept.update({**read, "active": False}, "account-1"))
    assert isinstance(error.value, PreconditionFailedError)


def test_what_is_not_there_and_what_is_not_valid(records: Any) -> None:
    kept, server = records
    assert server.run(kept.read("Patient/none")) is None
    reference = server.run(kept.create(RESOURCES[0], "account-1"))
    server.client.delete(reference)
    assert server.run(kept.read(reference)) is None
    with pytest.raises(InvalidError):
        server.run(kept.create({"resourceType": "Patient", "birthDate": "yesterday"}, "account-1"))


def test_a_name_is_taken_apart_at_its_last_word() -> None:
    assert people.name_of("Ida Maria Berg") == NAME
    assert people.name_of("Doc") == PersonName("", "Doc")
    assert str(PersonName("", "Doc")) == "Doc"


@pytest.mark.parametrize(
    ("reference", "kind"),
    [("Patient/3", "Patient"), ("Patient/", None), ("patient/3", None), ("https://x/Patient/3", None), ("", None)],
)
def test_the_type_of_a_reference(reference: str, kind: str | None) -> None:
    assert people.type_of(reference) == kind
