"""How many commands limited readers send to the database: as few as anybody, and the same whether or not they see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pymongo import monitoring

from fhir_server.interactions.views import Views
from fhir_server.model.access import AccessPolicy, Caller, Grant, Identity
from fhir_server.storage.reads import LONG
from tests.access.conftest import Callers
from tests.conformance.test_command_counts import Listener

pytestmark = pytest.mark.xdist_group("access")

PATIENTS = 8
HIDDEN = Grant("Observation", "cruds", criteria=(("_security", "http://x|hidden"),))


def of(*numbers: int) -> AccessPolicy:
    """The policy of whoever sees the records of some patients, but what is marked as hidden."""
    grant = Grant("*", "rs", compartments=frozenset(f"Patient/p{number}" for number in numbers))
    return AccessPolicy(layers=((grant,), (grant,)), denials=(HIDDEN,))


def observation(name: str, number: int, **more: Any) -> dict[str, Any]:
    code = {"coding": [{"system": "http://loinc.org", "code": "1"}]}
    subject = {"reference": f"Patient/p{number}"}
    return {"resourceType": "Observation", "id": name, "status": "final", "code": code, "subject": subject, **more}


@pytest.fixture(scope="module")
def counted(make_server: Callable[..., Any]) -> tuple[Any, Listener]:
    listener = Listener()
    monitoring.register(listener)
    callers = Callers()
    callers.add("operator", AccessPolicy())
    callers.add("doctor", of(*range(PATIENTS)))
    for number in range(PATIENTS):
        callers.add(f"patient-{number}", of(number))
    server = make_server({"gate": callers}, auth="on")
    listener.database = server.settings.mongodb_database
    server.client.headers["Authorization"] = "Bearer operator"
    marked = {"meta": {"security": [{"system": "http://x", "code": "hidden"}]}}
    for number in range(PATIENTS):
        for resource in (
            {"resourceType": "Patient", "id": f"p{number}"},
            observation(f"o{number}", number),
            observation(f"h{number}", number, **marked),
        ):
            answer = server.client.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
            assert answer.status_code == 201, answer.text
    long = {"note": [{"text": "long " * LONG}]}
    server.client.put("Observation/long", json=observation("long", 0, **long))
    return server, listener


def sent(counted: tuple[Any, Listener], *asked: tuple[str, str]) -> tuple[list[str], list[Any]]:
    """The commands of some requests at once, each `(who, address)`, and the answers."""
    server, listener = counted
    requests = [
        server.client.build_request("GET", f"{server.base_url}/{address}", headers={"Authorization": f"Bearer {who}"})
        for who, address in asked
    ]
    with listener.noting() as noted:
        answers = server.gather(*requests)
    return noted, answers


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("Observation/o1", 200),
        ("Observation/h1", 404),  # denied
        ("Observation/o2", 404),  # another patient's
        ("Observation/long", 404),  # the same, and long
        ("Observation/never", 404),
    ],
)
def test_a_read_is_one_command_whether_it_is_seen_hidden_or_missing(
    counted: tuple[Any, Listener], address: str, status: int
) -> None:
    noted, (answer,) = sent(counted, ("patient-1", address))
    assert answer.status_code == status
    assert noted == ["query Observation"]


def test_what_is_hidden_and_long_is_not_fetched_and_who_may_see_it_gets_it_whole(counted: tuple[Any, Listener]) -> None:
    noted, (answer,) = sent(counted, ("patient-0", "Observation/long"))
    assert answer.status_code == 200
    assert len(answer.json()["note"][0]["text"]) > LONG
    assert noted == ["query Observation"] * 2


def test_reads_of_readers_with_different_policies_are_gathered(counted: tuple[Any, Listener]) -> None:
    asked = [(f"patient-{number}", f"Observation/o{number}") for number in range(PATIENTS)]
    noted, answers = sent(counted, *asked, ("doctor", "Observation/o3"), ("patient-0", "Observation/o1"))
    assert [answer.status_code for answer in answers] == [200] * (PATIENTS + 1) + [404]
    assert set(noted) == {"query Observation"}
    assert len(noted) <= 3


def test_searches_of_their_own_by_different_readers_are_gathered(counted: tuple[Any, Listener]) -> None:
    asked = [(f"patient-{number}", f"Observation?patient=p{number}&_sort=_id") for number in range(PATIENTS)]
    noted, answers = sent(counted, *asked, ("doctor", "Observation?patient=p3&_sort=_id"))
    found = [[entry["resource"]["id"] for entry in answer.json().get("entry", [])] for answer in answers]
    assert found == [*(["long", "o0"] if n == 0 else [f"o{n}"] for n in range(PATIENTS)), ["o3"]]
    assert set(noted) == {"query Observation"}
    assert len(noted) <= 3


def test_a_search_for_others_finds_nothing_with_one_command(counted: tuple[Any, Listener]) -> None:
    noted, (answer,) = sent(counted, ("patient-1", "Observation?patient=p2"))
    assert answer.json()["total"] == 0
    assert noted == ["query Observation"]


def test_a_caller_keeps_a_view_until_the_policy_changes(counted: tuple[Any, Listener]) -> None:
    context = counted[0].context
    fhir_views: Views = context_views(counted[0])
    identity = Identity("somebody", "app", "patient")
    first, other = of(1), of(1)
    view = fhir_views.of(Caller(identity, first))
    assert fhir_views.of(Caller(identity, first)) is view
    assert fhir_views.of(Caller(identity, other)) is not view
    assert view.context.caller == Caller(identity, first)
    assert view.context.unguarded is context


def context_views(server: Any) -> Views:
    front = server.app
    while hasattr(front, "app"):
        front = front.app
    views: Views = front._fhir._views
    return views
