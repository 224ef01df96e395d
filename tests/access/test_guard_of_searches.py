"""What a policy lets searches find, at the level of HTTP: contained resources, chains, orders, long panels."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.access import AccessPolicy, Grant
from tests.access.people import NUMBERS, VITALS, as_, created, observation, within

pytestmark = pytest.mark.xdist_group("access")


def test_a_compiled_query_is_not_explained_to_who_is_limited(world: Any, people: tuple[str, str]) -> None:
    created(world, observation(people[0]))
    with as_(world, within(people[0])) as client:
        answer = client.get("Observation", headers={"Prefer": "explain"})
        assert answer.status_code == 200
        assert [entry["search"]["mode"] for entry in answer.json()["entry"]] == ["match"]
    with world.as_("operator") as operator:
        told = operator.get(f"Observation?patient={people[0]}", headers={"Prefer": "explain"}).json()
        assert [entry["search"]["mode"] for entry in told["entry"]] == ["match", "outcome"]


def prescription(patient: str, code: str) -> dict[str, Any]:
    """A MedicationRequest that contains its Medication, which is of nobody by itself."""
    inner = {"resourceType": "Medication", "id": "m", "code": {"coding": [{"system": "urn:test", "code": code}]}}
    return {
        "resourceType": "MedicationRequest",
        "contained": [inner],
        "status": "active",
        "intent": "order",
        "medicationReference": {"reference": "#m"},
        "subject": {"reference": f"Patient/{patient}"},
    }


@pytest.mark.parametrize("kind", ["container", "contained"])
@pytest.mark.parametrize("which", ["true", "both"])
def test_what_a_resource_contains_is_seen_by_who_may_see_the_resource(
    world: Any, people: tuple[str, str], which: str, kind: str
) -> None:
    mine, other = people
    code = f"mix-{next(NUMBERS)}"
    name = created(world, prescription(mine, code))
    created(world, prescription(other, code))
    query = f"Medication?code={code}&_contained={which}&_containedType={kind}&_include=MedicationRequest:subject"
    with world.as_("operator") as operator:
        assert operator.get(f"{query}&_total=accurate").json()["total"] == 2
    with as_(world, within(mine)) as client:
        bundle = client.get(f"{query}&_total=accurate").json()
        assert bundle["total"] == 1
        matches = [e["fullUrl"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
        assert matches == [f"http://test/fhir/MedicationRequest/{name}" + ("#m" if kind == "contained" else "")]
        assert [e["resource"]["id"] for e in bundle["entry"] if e["search"]["mode"] == "include"] == [mine]
        assert client.get(f"{query}&_count=1").json().get("link", [{}])[-1]["relation"] == "self"


def test_a_chain_leads_only_into_resources_that_the_reader_may_see(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    code = f"mix-{next(NUMBERS)}"
    name = created(world, prescription(mine, code))
    hidden = created(world, prescription(other, code))
    created(world, {**observation(other), "basedOn": [{"reference": f"MedicationRequest/{hidden}"}]})
    with as_(world, within(mine)) as client:
        found = client.get(f"MedicationRequest?medication.code={code}").json()
        assert [entry["resource"]["id"] for entry in found["entry"]] == [name]
        based = client.get(f"Observation?based-on:MedicationRequest.medication.code={code}").json()
        assert based["total"] == 0


def test_a_reverse_chain_is_of_what_the_reader_may_see_however_often_it_is_asked(
    world: Any, people: tuple[str, str]
) -> None:
    mine, other = people
    for who in people:
        created(world, observation(who, effectiveDateTime="2021-02-03"))
    queries = [
        f"Patient?_id={mine},{other}&_has:Observation:patient:date=gt2000",
        f"Patient?_id={other}&_has:Observation:subject:status=final&_total=accurate",
        f"Patient?_has:Observation:patient:category={VITALS}&_id={mine}",
    ]
    for _ in range(2):
        with world.as_("operator") as operator:
            assert [operator.get(query).json()["total"] for query in queries] == [2, 1, 1]
        with as_(world, within(mine)) as client:
            assert [client.get(query).json()["total"] for query in queries] == [1, 0, 1]


def test_an_order_by_several_keys_shows_no_more_than_the_policy(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    names = [created(world, observation(mine, effectiveDateTime=f"202{n}")) for n in range(4)]
    for n in range(4):
        created(world, observation(other, effectiveDateTime=f"202{n}"))
    with as_(world, within(mine)) as client:
        seen: list[str] = []
        address = "Observation?_sort=-date,_id&_count=1"
        while address:
            bundle = client.get(address).json()
            seen += [entry["resource"]["id"] for entry in bundle.get("entry", [])]
            address = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
        assert seen == names[::-1]


def test_a_criterion_that_cannot_be_read_allows_nothing_and_denies_everything(
    world: Any, people: tuple[str, str]
) -> None:
    mine, _ = people
    name = created(world, observation(mine))
    wrong = (("no-such-parameter", "x"),)
    with as_(world, within(mine, Grant("Observation", "rs", criteria=wrong))) as client:
        assert client.get(f"Observation/{name}").status_code == 404
    with as_(world, within(mine, denials=(Grant("Observation", "rs", criteria=wrong),))) as client:
        assert client.get(f"Observation/{name}").status_code == 404
        assert client.get(f"Patient/{mine}").status_code == 200


def test_a_panel_of_thousands_of_patients_is_held_to_like_a_short_one(world: Any, people: tuple[str, str]) -> None:
    """Then a read is judged in the server's process, and not by the database."""
    mine, other = people
    names = [created(world, observation(patient)) for patient in (mine, other)]
    panel = frozenset({f"Patient/{mine}", *(f"Patient/of-many-{n}" for n in range(5000))})
    with as_(world, AccessPolicy(layers=((Grant("*", "cruds", compartments=panel),),))) as client:
        assert client.get(f"Observation/{names[0]}").status_code == 200
        assert client.get(f"Observation/{names[1]}").status_code == 404
        assert client.get("Observation", params={"patient": mine}).json()["total"] == 1
        assert client.get("Observation", params={"patient": other}).json()["total"] == 0
        assert client.get(f"Patient/{mine}/$everything").status_code == 200
        assert client.get(f"Patient/{other}/$everything").status_code == 404
