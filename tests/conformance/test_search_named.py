"""Named queries and functional lists: each finds what its definition says, and the definitions say what there is.

Spec: https://hl7.org/fhir/R4/search.html#query, https://hl7.org/fhir/R4/search.html#list
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.search.named import QUERIES, NamedQuery
from fhir_server.search.parameters import table_of
from profiles.registry import definitions, registry

pytestmark = pytest.mark.xdist_group("search")

Json = dict[str, Any]
NOW = datetime.now(UTC)


def at(days: float) -> str:
    return (NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def concept(system: str, code: str) -> Json:
    return {"coding": [{"system": f"http://terminology.hl7.org/CodeSystem/{system}", "code": code}]}


def order(
    name: str, *, status: str = "active", intent: str = "order", validity: Json | None = None, day: int = 1
) -> Json:
    return {
        "resourceType": "MedicationRequest",
        "id": name,
        "status": status,
        "intent": intent,
        "medicationCodeableConcept": {"text": "x"},
        "subject": {"reference": "Patient/p"},
        "authoredOn": f"2020-01-{day:02}",
        **({"dispenseRequest": {"validityPeriod": validity}} if validity else {}),
    }


def appointment(name: str, days: float, status: str = "booked") -> Json:
    return {
        "resourceType": "Appointment",
        "id": name,
        "status": status,
        "start": at(days),
        "end": at(days + 0.02),
        "participant": [{"actor": {"reference": "Patient/p"}, "status": "accepted"}],
    }


def problem(name: str, clinical: str | None, verification: str | None = None) -> Json:
    return {
        "resourceType": "Condition",
        "id": name,
        "subject": {"reference": "Patient/p"},
        **({"clinicalStatus": concept("condition-clinical", clinical)} if clinical else {}),
        **({"verificationStatus": concept("condition-ver-status", verification)} if verification else {}),
    }


def allergy(name: str, clinical: str, verification: str) -> Json:
    return {
        "resourceType": "AllergyIntolerance",
        "id": name,
        "patient": {"reference": "Patient/p"},
        "clinicalStatus": concept("allergyintolerance-clinical", clinical),
        "verificationStatus": concept("allergyintolerance-verification", verification),
    }


def task(name: str, status: str, day: int) -> Json:
    return {"resourceType": "Task", "id": name, "status": status, "intent": "order", "authoredOn": f"2020-01-{day:02}"}


def encounter(name: str, status: str, day: int) -> Json:
    return {
        "resourceType": "Encounter",
        "id": name,
        "status": status,
        "class": {"code": "IMP"},
        "period": {"start": f"2020-01-{day:02}"},
    }


RESOURCES = [
    order("plain", day=1),
    order("now", validity={"start": at(-5), "end": at(5)}, day=2),
    order("open", validity={"start": at(-5)}, day=3),
    order("expired", validity={"start": "2020-01-01", "end": "2020-06-30"}, day=4),
    order("later", validity={"start": at(20), "end": at(40)}, day=5),
    order("stopped", status="stopped", day=6),
    order("proposed", intent="proposal", day=7),
    order("refill", intent="filler-order", day=8),
    appointment("past", -1),
    appointment("soon", 1.5),
    appointment("next", 0.2, "arrived"),
    appointment("off", 2, "cancelled"),
    appointment("far", 30),
    problem("real", "active", "confirmed"),
    problem("again", "recurrence"),
    problem("over", "resolved", "confirmed"),
    problem("wrong", "active", "refuted"),
    problem("error", None, "entered-in-error"),
    allergy("nuts", "active", "confirmed"),
    allergy("dust", "inactive", "confirmed"),
    allergy("no-nuts", "active", "refuted"),
    task("t2", "requested", 2),
    task("t1", "in-progress", 1),
    task("t3", "completed", 3),
    encounter("e1", "in-progress", 1),
    encounter("e2", "arrived", 2),
    encounter("e3", "finished", 3),
]


@pytest.fixture(scope="module")
def data(make_server: Callable[..., Any]) -> Any:
    server = make_server()
    entries = [
        {"request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}, "resource": r} for r in RESOURCES
    ]
    answer = server.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text[:1000]
    return server


def get(client: Any, query: str, status: int = 200) -> Json:
    answer = client.get(query, headers={"Prefer": "handling=strict"})
    assert answer.status_code == status, answer.text[:600]
    result: Json = answer.json()
    return result


def found(client: Any, query: str) -> str:
    """The ids of the matches, in order."""
    return " ".join(entry["resource"]["id"] for entry in get(client, query).get("entry", []))


CASES = {
    "MedicationRequest?_query=current&patient=p": "refill open now plain",
    "MedicationRequest?_query=current&patient=other": "",
    "MedicationRequest?_query=current&intent=filler-order": "refill",
    "MedicationRequest?_query=current&on=2020-03": "refill expired plain",
    "MedicationRequest?_query=current&on=2020-06-30T23:00:00%2B00:00": "refill expired plain",
    "MedicationRequest?_query=current&on=2020-07-01": "refill plain",
    "MedicationRequest?_query=current&_sort=authoredon": "plain now open refill",
    "MedicationRequest?_list=$current-medications&patient=p&_sort=-authoredon": "refill open now plain",
    "Patient/p/MedicationRequest?_query=current": "refill open now plain",
    "Patient/p/MedicationRequest?_query=current&_count=2": "refill open",
    "Appointment?_query=upcoming&from={two days ago}": "past next soon",
    "Appointment?_query=upcoming&patient=p": "next soon",
    "Appointment?_query=upcoming&patient=p&days=1": "next",
    "Appointment?_query=upcoming&days=100": "next soon far",
    "Condition?_query=current-problems&patient=p&_sort=_id": "again real",
    "Condition?_list=$current-problems&_sort=_id": "again real",
    "AllergyIntolerance?_query=current-allergies&patient=p": "nuts",
    "AllergyIntolerance?_list=$current-allergies": "nuts",
    "Task?_query=open": "t1 t2",
    "Encounter?_query=present": "e2 e1",
    "Encounter?_query=present&class=AMB": "",
    "MedicationRequest?validity=ge2026&validity=lt2020": "",
    "MedicationRequest?validity=2020": "expired",
}


@pytest.mark.parametrize(("query", "expected"), CASES.items())
def test_a_named_query_finds_what_its_definition_says_in_its_order(data: Any, query: str, expected: str) -> None:
    # The moment is not in the name of the test, which must be the same in every worker.
    assert found(data.client, query.replace("{two days ago}", at(-2))) == expected


def test_appointments_are_upcoming_from_another_moment_on(data: Any) -> None:
    assert found(data.client, f"Appointment?_query=upcoming&from={at(-2)}&days=3") == "past next"
    assert found(data.client, f"Appointment?_query=upcoming&from={at(20)[:10]}") == "far"


def test_the_links_of_a_page_say_which_moment_was_asked_about(data: Any) -> None:
    first = get(data.client, "MedicationRequest?_query=current&_count=3&patient=p")
    links = {link["relation"]: link["url"] for link in first["link"]}
    said = links["self"].removeprefix("http://test/fhir/MedicationRequest?_query=current&_count=3&patient=p&on=")
    assert abs((datetime.fromisoformat(said) - datetime.now(UTC)).total_seconds()) < 60
    assert f"on={said}" in links["next"]
    second = data.client.get(links["next"]).json()
    assert [entry["resource"]["id"] for entry in second["entry"]] == ["plain"]
    back = next(link["url"] for link in second["link"] if link["relation"] == "previous")
    assert [e["resource"]["id"] for e in data.client.get(back).json()["entry"]] == ["refill", "open", "now"]


def test_a_named_query_goes_by_post_and_with_includes_and_totals(data: Any) -> None:
    data.client.put("Patient/p", json={"resourceType": "Patient", "id": "p"})
    form = {"_query": "current", "_include": "MedicationRequest:subject", "_total": "accurate", "_count": "1"}
    bundle = data.client.post("MedicationRequest/_search", data=form).json()
    assert bundle["total"] == 4
    assert [entry["search"]["mode"] for entry in bundle["entry"]] == ["match", "include"]
    assert get(data.client, "MedicationRequest?_query=current&_summary=count")["total"] == 4


@pytest.mark.parametrize(
    ("query", "key", "named"),
    [
        ("MedicationRequest?_query=currant", "HS-SEARCH-QUERY", "Did you mean current?"),
        ("MedicationRequest?_query=open", "HS-SEARCH-QUERY", "MedicationRequest: current (prescriptions"),
        ("Patient?_query=mpi", "HS-SEARCH-QUERY", "Task: open"),
        ("?_query=current", "HS-SEARCH-QUERY", "MedicationRequest: current"),
        ("?_type=MedicationRequest,Task&_query=current", "HS-SEARCH-QUERY", "Task: open"),
        ("MedicationRequest?_query=current&_query=open", "HS-SEARCH-VALUE", "current"),
        ("MedicationRequest?_query=current&on=yesterday", "HS-SEARCH-VALUE", "dateTime"),
        ("MedicationRequest?_query=current&on=2020&on=2021", "HS-SEARCH-VALUE", "one value"),
        ("Appointment?_query=upcoming&days=0", "HS-SEARCH-VALUE", "1 to 3,660"),
        ("MedicationRequest?on=2020", "HS-SEARCH-UNKNOWN", "on"),
        ("Appointment?_query=upcoming&on=2020", "HS-SEARCH-UNKNOWN", "on"),
        ("Patient?_list=$current-problems", "HS-SEARCH-LIST", "$current-problems of Condition"),
        ("Condition?_list=$current-allergies", "HS-SEARCH-LIST", "$current-allergies of AllergyIntolerance"),
    ],
)
def test_what_no_query_is_or_takes_is_refused_and_told(data: Any, query: str, key: str, named: str) -> None:
    issue = get(data.client, query, 400)["issue"][0]
    assert issue["details"]["coding"][0]["code"] == key
    assert named in issue["diagnostics"]


def test_a_name_that_is_none_is_refused_however_lenient(data: Any) -> None:
    answer = data.client.get("MedicationRequest?_query=nothing", headers={"Prefer": "handling=lenient"})
    assert answer.status_code == 400


# --- definitions ------------------------------------------------------------------------------------------------------

by_name = pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.type}-{query.code}")


def test_no_two_queries_have_one_name() -> None:
    assert len({(query.type, query.code) for query in QUERIES}) == len(QUERIES)
    assert {row["url"] for row in definitions("OperationDefinition") if row["kind"] == "query"} == {
        query.definition for query in QUERIES
    }


@by_name
def test_the_definition_of_a_query_names_what_it_takes_and_is_a_valid_resource(data: Any, query: NamedQuery) -> None:
    (definition,) = [row for row in definitions("OperationDefinition") if row["url"] == query.definition]
    assert (definition["code"], definition["resource"], definition["kind"]) == (query.code, [query.type], "query")
    taken = [row["name"] for row in definition["parameter"] if row["use"] == "in"]
    assert taken == [parameter.name for parameter in query.parameters]
    outcome = data.client.post("OperationDefinition/$validate", json=definition).json()
    assert {issue["severity"] for issue in outcome["issue"]} <= {"information", "warning"}, outcome
    if query.functional_list:
        assert query.functional_list in definition["description"]


@by_name
def test_a_query_takes_no_name_of_a_search_parameter(query: NamedQuery) -> None:
    assert not {parameter.name for parameter in query.parameters} & set(table_of(query.type, registry()).parameters)


def test_the_capability_statement_lists_the_queries_of_a_type(data: Any) -> None:
    rest = get(data.client, "metadata")["rest"][0]
    listed = {
        (resource["type"], operation["name"]): operation["definition"]
        for resource in rest["resource"]
        for operation in resource["operation"]
    }
    for query in QUERIES:
        address = f"OperationDefinition/{query.type}-{query.code}"
        assert listed[query.type, query.code] == f"{data.base_url}/{address}"
        assert data.client.get(address).json()["kind"] == "query"


def test_search_parameters_of_this_server_have_valid_definitions(data: Any) -> None:
    own = {one["code"]: one for one in definitions("SearchParameter")}
    assert own.keys() == {"group-identifier", "validity"}
    rest = get(data.client, "metadata")["rest"][0]
    (row,) = [one for one in rest["resource"] if one["type"] == "MedicationRequest"]
    for code, one in own.items():
        outcome = data.client.post("SearchParameter/$validate", json=one).json()
        assert {issue["severity"] for issue in outcome["issue"]} <= {"information", "warning"}, outcome
        assert {"name": code, "definition": one["url"], "type": one["type"]} in row["searchParam"]
    definition = own["validity"]
    stored = data.client.put("SearchParameter/ours", json={**definition, "id": "ours"})
    assert stored.status_code == 201, stored.text
    assert found(data.client, "MedicationRequest?validity=2020") == "expired"
    data.client.delete("SearchParameter/ours")
