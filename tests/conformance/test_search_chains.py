"""What chains, reverse chains and lists find, in a data set small enough to know by heart, and against a naive reading.

Spec: https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/search.html#has
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.xdist_group("search")

Json = dict[str, Any]
LOINC = "http://loinc.org"


def ref(to: str) -> Json:
    return {"reference": to}


def observation(name: str, code: str, subject: str, **more: Any) -> Json:
    coding = {"coding": [{"system": LOINC, "code": code}]}
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": coding,
        "subject": ref(subject),
    } | more


def patient(name: str, family: str, **more: Any) -> Json:
    return {"resourceType": "Patient", "id": name, "name": [{"family": family}], **more}


def agent(who: str) -> list[Json]:
    return [{"who": ref(who), "requestor": True}]


RESOURCES: list[Json] = [
    {"resourceType": "Organization", "id": "top", "name": "Top Trust"},
    {"resourceType": "Organization", "id": "ward", "name": "West Ward", "partOf": ref("Organization/top")},
    {"resourceType": "Organization", "id": "unit", "name": "Unit", "partOf": ref("Organization/ward")},
    {"resourceType": "Practitioner", "id": "doc", "name": [{"family": "Dorn", "given": ["Eva"]}], "gender": "female"},
    {"resourceType": "Practitioner", "id": "max", "name": [{"family": "Maxim"}], "gender": "male"},
    {"resourceType": "Device", "id": "dev", "deviceName": [{"name": "Abel Scope", "type": "model-name"}]},
    {"resourceType": "Group", "id": "g", "type": "person", "actual": True, "member": [{"entity": ref("Patient/a")}]},
    patient(
        "a",
        "Abel",
        birthDate="1950-03-01",
        gender="female",
        generalPractitioner=[ref("Practitioner/doc")],
        managingOrganization=ref("Organization/ward"),
    ),
    patient(
        "b",
        "Berg",
        birthDate="1980-01-01",
        gender="male",
        generalPractitioner=[ref("Practitioner/max"), ref("Organization/unit")],
    ),
    patient("c", "Abelard", gender="male", managingOrganization=ref("Organization/unit")),
    patient("d", "Dahl"),
    observation("o1", "1", "Patient/a", performer=[ref("Practitioner/doc")], valueQuantity={"value": 5, "unit": "mg"}),
    observation("o2", "2", "Patient/b", performer=[ref("Practitioner/max")]),
    observation("o3", "1", "Device/dev"),
    observation("o4", "1", "Patient/c/_history/1", hasMember=[ref("Observation/o1")]),
    observation("o5", "2", "Patient/c", hasMember=[ref("Observation/o2")]),
    observation("o6", "3", "http://other.example/fhir/Patient/a"),
    observation("o7", "3", "Group/g"),
    {
        "resourceType": "AuditEvent",
        "id": "e1",
        "type": {"code": "rest"},
        "recorded": "2020-01-01T00:00:00Z",
        "agent": agent("Practitioner/doc"),
        "source": {"observer": ref("Device/dev")},
        "entity": [{"what": ref("Observation/o2")}],
    },
    {
        "resourceType": "List",
        "id": "l",
        "status": "current",
        "mode": "changes",
        "entry": [
            {"item": ref("Patient/a")},
            {"item": ref("Patient/b"), "deleted": True},
            {"item": ref("http://test/fhir/Patient/c")},
            {"item": ref("Observation/o2/_history/1")},
            {"item": ref("http://other.example/fhir/Patient/d")},
        ],
    },
    {"resourceType": "List", "id": "k", "status": "current", "mode": "working", "entry": [{"item": ref("Patient/d")}]},
    {
        "resourceType": "Questionnaire",
        "id": "q1",
        "url": "http://q/1",
        "version": "2",
        "title": "One",
        "status": "active",
    },
    {"resourceType": "Questionnaire", "id": "q2", "url": "http://q/2", "title": "Two", "status": "active"},
    {"resourceType": "QuestionnaireResponse", "id": "r1", "questionnaire": "http://q/1|2", "status": "completed"},
    {"resourceType": "QuestionnaireResponse", "id": "r2", "questionnaire": "http://q/2", "status": "amended"},
]


@pytest.fixture(scope="module")
def data(make_server: Callable[..., Any]) -> Any:
    server = make_server()
    fill(server.client, RESOURCES)
    server.client.put("Patient/gone", json=patient("gone", "Abel"))
    server.client.put("Observation/gone", json=observation("gone", "1", "Patient/gone"))
    server.client.put("Observation/left", json=observation("left", "9", "Patient/gone"))
    server.client.delete("Patient/gone")
    server.client.delete("Observation/gone")
    return server


def fill(client: Any, resources: list[Json]) -> None:
    entries = [
        {"request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}, "resource": r} for r in resources
    ]
    answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text


def get(client: Any, query: str, status: int = 200, *, strict: bool = True) -> Json:
    place, _, criteria = query.partition("?")
    pairs = (part.partition("=") for part in criteria.split("&") if part)
    encoded = "&".join(f"{quote(name, safe=':')}={quote(value, safe='')}" for name, _, value in pairs)
    answer = client.get(f"{place}?{encoded}", headers={"Prefer": f"handling={'strict' if strict else 'lenient'}"})
    assert answer.status_code == status, answer.text[:600]
    result: Json = answer.json()
    return result


def found(client: Any, query: str) -> str:
    bundle = get(client, f"{query}&_count=500")
    ids = [entry["resource"]["id"] for entry in bundle.get("entry", [])]
    assert len(set(ids)) == len(ids)
    return " ".join(sorted(ids))


CASES = {
    "Observation?subject:Patient.name=abel": "o1 o4 o5",
    "Observation?subject.name:exact=Abel": "o1",
    "Observation?patient.name=berg": "o2",
    "Observation?subject.device-name=abel": "o3",
    "Observation?subject:Device.device-name=abel": "o3",
    "Observation?subject._id=g": "o7",
    "Observation?subject._id=a,dev": "o1 o3",
    "Observation?subject:Patient.birthdate=lt1960": "o1",
    "Observation?subject:Patient.birthdate=ge1950-03&subject:Patient.gender=male": "o2",
    "Observation?subject:Patient.gender:not=male": "o1",
    "Observation?subject:Patient.birthdate:missing=true": "o4 o5",
    "Observation?patient.organization.name=west": "o1",
    "Observation?patient.organization.partof.name=west": "o4 o5",
    "Observation?patient.organization.partof.partof.name=top": "o4 o5",
    "Observation?subject:Patient.general-practitioner:Practitioner.name=dorn": "o1",
    "Observation?subject:Patient.general-practitioner.name=dorn,unit": "o1 o2",
    "Observation?patient.general-practitioner.gender=male": "o2",
    "Observation?performer:Practitioner.family=dorn&code=1": "o1",
    "Observation?subject.name=nobody": "",
    "Observation?has-member.value-quantity=ge5": "o4",
    "Observation?has-member.subject:Patient.name=berg": "o5",
    "Patient?organization.name=w": "a",
    "Patient?link:Patient.name=x": "",
    "Group?member:Patient.family=abel": "g",
    "Patient?_has:Observation:patient:code=1": "a c",
    f"Patient?_has:Observation:patient:code={LOINC}|2": "b c",
    "Patient?_has:Observation:patient:code=1&_has:Observation:patient:code=2": "c",
    "Patient?_has:Observation:patient:code=1,2&gender=male": "b c",
    "Patient?_has:Observation:subject:code=3": "",
    "Device?_has:Observation:subject:code=1": "dev",
    "Group?_has:Observation:subject:code=3": "g",
    "Patient?_has:Observation:patient:performer.name=dorn": "a",
    "Patient?_has:Observation:patient:performer:Practitioner.gender=male": "b",
    "Patient?_has:Observation:patient:_has:AuditEvent:entity:agent=Practitioner/doc": "b",
    "Patient?_has:Observation:patient:_has:AuditEvent:entity:agent.name=dorn": "b",
    "Patient?_has:Observation:patient:_has:Observation:has-member:code=1": "a",
    "Patient?_has:Group:member:_id=g": "a",
    "Practitioner?_has:Patient:general-practitioner:_has:Observation:patient:code=1": "doc",
    "Practitioner?_has:Patient:general-practitioner:gender:not=male": "doc",
    "Patient?_has:Observation:patient:code:missing=false": "a b c",
    "Observation?patient._has:Group:member:_id=g": "o1",
    "Observation?code=1&patient._has:Observation:patient:code=2": "o4",
    "Patient?_list=l": "a c",
    "Patient?_list=l,k": "a c d",
    "Patient?_list=List/l&gender=male": "c",
    "Observation?_list=l": "o2",
    "Patient?_list=none": "",
    "Observation?patient._list=l": "o1 o4 o5",
    "?_list=l": "a c o2",
    "?_type=Patient,Observation&_list=l": "a c o2",
    "QuestionnaireResponse?questionnaire.title=one": "r1",
    "QuestionnaireResponse?questionnaire:Questionnaire.url=http://q/2": "r2",
    "Questionnaire?_has:QuestionnaireResponse:questionnaire:status=completed": "q1",
    "Questionnaire?_has:QuestionnaireResponse:questionnaire:status=amended,completed": "q1 q2",
}


@pytest.mark.parametrize(("query", "expected"), CASES.items())
def test_a_chain_finds_what_its_references_lead_to(data: Any, query: str, expected: str) -> None:
    assert found(data.client, query) == expected


@pytest.mark.parametrize(
    ("query", "status", "key"),
    [
        ("Patient?name.given=x", 400, "HS-SEARCH-CHAIN"),
        ("Patient?organization:Patient.name=x", 400, "HS-SEARCH-CHAIN"),
        ("Patient?_has:Observation:patient=x", 400, "HS-SEARCH-CHAIN"),
        ("Patient?_has:Nothing:patient:code=x", 400, "HS-SEARCH-CHAIN"),
        ("Patient?_has:Observation:code:code=x", 400, "HS-SEARCH-CHAIN"),
        ("Organization?_has:Observation:patient:code=x", 400, "HS-SEARCH-CHAIN"),
        ("Observation?patient.nonsense=x", 400, "HS-SEARCH-UNKNOWN"),
        ("Observation?subject.nonsense=x", 400, "HS-SEARCH-UNKNOWN"),
        ("Observation?nonsense.name=x", 400, "HS-SEARCH-UNKNOWN"),
        ("Observation?patient.birthdate=yesterday", 400, "HS-SEARCH-DATE"),
        ("Observation?patient.name:above=x", 400, "HS-SEARCH-MODIFIER"),
        ("Patient?_list=$current-problems", 400, "HS-SEARCH-LIST"),
        ("Patient?_list=a b", 400, "HS-SEARCH-VALUE"),
        ("Organization?" + "partof." * 6 + "name=x", 422, "HS-LIMIT-CHAIN"),
        ("Provenance?target.subject.name=x", 422, "HS-LIMIT-CHAIN"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_a_reason(data: Any, query: str, status: int, key: str) -> None:
    outcome = get(data.client, query, status)
    assert outcome["issue"][0]["details"]["coding"][0]["code"] == key
    assert outcome["issue"][0]["diagnostics"]


def test_an_unknown_end_of_a_chain_is_ignored_with_a_warning_unless_strict(data: Any) -> None:
    bundle = get(data.client, "Observation?patient.nonsense=x&code=2", strict=False)
    modes = [entry["search"]["mode"] for entry in bundle["entry"]]
    assert modes == ["match", "match", "outcome"]
    assert "nonsense" not in bundle["link"][0]["url"]


def test_five_steps_are_allowed_and_links_keep_the_chain(data: Any) -> None:
    get(data.client, "Organization?" + "partof." * 5 + "name=x")
    bundle = get(data.client, "Observation?subject:Patient.name=abel&_count=2")
    assert "subject:Patient.name=abel" in bundle["link"][0]["url"]
    following = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    rest = data.client.get(following).json()
    assert [entry["resource"]["id"] for entry in rest["entry"]] == ["o5"]


def test_a_conditional_delete_takes_a_chain(data: Any) -> None:
    client = data.client
    client.put("Observation/extra", json=observation("extra", "77", "Patient/a"))
    assert client.delete("Observation?patient.name=abel&code=77").status_code == 204
    assert client.get("Observation/extra").status_code == 410


def test_chains_equal_a_naive_evaluation_on_random_data(make_server: Callable[..., Any]) -> None:
    chance = random.Random(20)
    organizations = [{"resourceType": "Organization", "id": f"g{n}", "name": chance.choice("xyz")} for n in range(5)]
    people = [
        patient(f"p{n}", chance.choice("xyz"), gender=chance.choice(("male", "female")))
        | ({"managingOrganization": ref(f"Organization/g{chance.randrange(6)}")} if chance.random() < 0.7 else {})
        for n in range(12)
    ]
    findings = [
        observation(f"o{n}", chance.choice("123"), chance.choice((f"Patient/p{chance.randrange(14)}", "Group/p1")))
        for n in range(40)
    ]
    server = make_server()
    fill(server.client, [*organizations, *people, *findings])
    by_place = {f"{r['resourceType']}/{r['id']}": r for r in [*organizations, *people]}

    def family(one: Json) -> str:
        return str(one["name"][0]["family"])

    for letter in "xyz":
        wanted = {
            o["id"] for o in findings if family(by_place.get(o["subject"]["reference"], patient("", "-"))) == letter
        }
        assert found(server.client, f"Observation?subject.name={letter}") == " ".join(sorted(wanted))
        homes = {p["id"] for p in people if by_place.get(home(p), {}).get("name") == letter}
        assert found(server.client, f"Patient?organization.name={letter}") == " ".join(sorted(homes))
        two = {o["id"] for o in findings if o["subject"]["reference"].removeprefix("Patient/") in homes}
        assert found(server.client, f"Observation?patient.organization.name={letter}") == " ".join(sorted(two))
    for code in "123":
        having = {o["subject"]["reference"] for o in findings if o["code"]["coding"][0]["code"] == code}
        ids = {p["id"] for p in people if f"Patient/{p['id']}" in having}
        assert found(server.client, f"Patient?_has:Observation:patient:code={code}") == " ".join(sorted(ids))
        owners = {home(p).removeprefix("Organization/") for p in people if p["id"] in ids} & {
            g["id"] for g in organizations
        }
        nested = f"Organization?_has:Patient:organization:_has:Observation:patient:code={code}"
        assert found(server.client, nested) == " ".join(sorted(owners))


def home(person: Json) -> str:
    return str(person.get("managingOrganization", {}).get("reference", ""))
