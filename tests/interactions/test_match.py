"""`Patient/$match`: what is found, how sure it is, and what is never certain."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.interactions.matching.facts import facts_of
from fhir_server.interactions.matching.score import compared
from fhir_server.interactions.matching.similarity import jaro_winkler

GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"


def person(**changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "name": [{"family": "Zwölfer", "given": ["Marieke"]}],
        "gender": "female",
        "birthDate": "1971-04-09",
        **changes,
    }


def matched(client: httpx.Client, resource: dict[str, Any], **more: Any) -> list[tuple[str, str, float]]:
    rows: list[dict[str, Any]] = [{"name": "resource", "resource": resource}]
    rows += [{"name": n, "valueBoolean" if isinstance(v, bool) else "valueInteger": v} for n, v in more.items()]
    answer = client.post("Patient/$match", json={"resourceType": "Parameters", "parameter": rows})
    assert answer.status_code == 200, answer.text
    return [
        (e["resource"]["id"], e["search"]["extension"][0]["valueCode"], e["search"]["score"])
        for e in answer.json().get("entry", [])
        if e["search"]["mode"] == "match"
    ]


@pytest.fixture
def mark() -> str:
    """Makes the facts of one test its own: tests share a server."""
    return uuid.uuid4().hex[:10]


def stored(client: httpx.Client, resource: dict[str, Any]) -> str:
    answer = client.post("Patient", json=resource)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_an_identifier_of_the_same_system_with_name_and_birth_date_is_certain(client: httpx.Client, mark: str) -> None:
    mrn = [{"system": "http://hospital.example/mrn", "value": mark}]
    made = stored(client, person(identifier=mrn))
    ((found, grade, score),) = [m for m in matched(client, person(identifier=mrn)) if m[0] == made]
    assert (found, grade) == (made, "certain")
    assert 0.95 <= score <= 1
    assert matched(client, person(identifier=mrn), onlyCertainMatches=True)[0][0] == made


def test_name_and_birth_date_alone_are_never_certain(client: httpx.Client, mark: str) -> None:
    name = [{"family": f"Fam{mark}", "given": ["Ines"]}]
    made = stored(client, person(name=name))
    assert matched(client, person(name=name))[0] == (made, "probable", 0.94)
    assert matched(client, person(name=name), onlyCertainMatches=True) == []


def test_several_independent_facts_are_certain_without_an_identifier(client: httpx.Client, mark: str) -> None:
    facts = {
        "name": [{"family": f"Fam{mark}", "given": ["Ines"]}],
        "telecom": [
            {"system": "phone", "value": "+49 (30) 555-0199"},
            {"system": "email", "value": f"{mark}@x.example"},
        ],
        "address": [{"line": ["Hauptstr. 12"], "postalCode": "10115"}],
    }
    made = stored(client, person(**facts))
    assert matched(client, person(**facts))[0][:2] == (made, "certain")
    other = {**facts, "telecom": [{"system": "phone", "value": "030 5550199"}]}
    assert matched(client, person(**other))[0][:2] == (made, "certain")
    assert matched(client, person(**other, birthDate="1971-04-08"))[0][1] == "probable"


def test_an_identifier_with_everything_else_against_it_is_told_as_certainly_not(
    client: httpx.Client, mark: str
) -> None:
    mrn = [{"system": "http://hospital.example/mrn", "value": mark}]
    made = stored(client, person(identifier=mrn))
    stranger = person(
        identifier=mrn, name=[{"family": "Okonkwo", "given": ["Bob"]}], gender="male", birthDate="2001-12-30"
    )
    assert [m[:2] for m in matched(client, stranger) if m[0] == made] == [(made, "certainly-not")]


@pytest.mark.parametrize(
    ("family", "birth"),
    [("Fam{}s", "1971-04-09"), ("FAM{}", "1971-09-04"), ("Fam{}", "1971-04-08"), ("fám{}", "1971-04")],
)
def test_slips_in_the_name_or_the_birth_date_still_find_the_person(
    client: httpx.Client, mark: str, family: str, birth: str
) -> None:
    made = stored(client, person(name=[{"family": f"Fam{mark}", "given": ["Ines"]}]))
    found = matched(client, person(name=[{"family": family.format(mark), "given": ["Ines"]}], birthDate=birth))
    assert found[0][0] == made  # those of other tests share the given name
    assert found[0][1] in ("probable", "possible")


def test_matches_are_sorted_and_cut_to_the_count(client: httpx.Client, mark: str) -> None:
    name = [{"family": f"Fam{mark}", "given": ["Ines"]}]
    near = stored(client, person(name=name, birthDate="1971-04-19"))
    exact = stored(client, person(name=name))
    found = matched(client, person(name=name))
    assert [m[0] for m in found][:2] == [exact, near]
    assert found[0][2] >= found[1][2]
    assert [m[0] for m in matched(client, person(name=name), count=1)] == [exact]


def test_two_certain_records_give_none_where_only_certain_ones_are_wanted(client: httpx.Client, mark: str) -> None:
    mrn = [{"system": "http://hospital.example/mrn", "value": mark}]
    for _ in range(2):
        stored(client, person(identifier=mrn))
    assert [m[1] for m in matched(client, person(identifier=mrn))][:2] == ["certain", "certain"]
    assert matched(client, person(identifier=mrn), onlyCertainMatches=True) == []


@pytest.mark.parametrize(
    "thin",
    [
        {"resourceType": "Patient"},
        {"resourceType": "Patient", "name": [{"family": "Smith"}], "gender": "male"},
        {"resourceType": "Patient", "birthDate": "1970-01-01"},
        {"resourceType": "Patient", "name": [{"family": "S"}], "telecom": [{"value": "12"}]},
    ],
)
def test_too_thin_a_description_is_refused(client: httpx.Client, thin: dict[str, Any]) -> None:
    answer = client.post("Patient/$match", json=thin)
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-MATCH-INPUT"


def test_other_resources_and_odd_counts_are_refused(client: httpx.Client) -> None:
    assert client.post("Patient/$match", json={"resourceType": "Observation"}).status_code == 400
    body = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": person()}]}
    body["parameter"].append({"name": "count", "valueInteger": 0})
    assert client.post("Patient/$match", json=body).status_code == 400


words = st.text(st.sampled_from("abcdefg"), max_size=8)


@given(words, words)
def test_likeness_is_symmetric_enough_bounded_and_one_for_the_same(one: str, other: str) -> None:
    likeness = jaro_winkler(one, other)
    assert 0 <= likeness <= 1
    assert (likeness == 1) == (one == other)


names = st.sampled_from(["Meyer", "Maier", "O'Neill", "de la Cruz", "X"])
dates = st.sampled_from(["1970-01-02", "1970-02-01", "1970", "1999-12-31"])
patients = st.fixed_dictionaries(
    {"name": st.lists(st.fixed_dictionaries({"family": names, "given": st.lists(names, max_size=2)}), max_size=2)},
    optional={"birthDate": dates, "gender": st.sampled_from(["male", "female", "other"])},
)


@given(patients, patients)
def test_demographics_alone_are_never_certain(one: dict[str, Any], other: dict[str, Any]) -> None:
    verdict = compared(facts_of(one), facts_of(other))
    assert 0 <= verdict.score <= 0.94
    assert verdict.grade != "certain"
