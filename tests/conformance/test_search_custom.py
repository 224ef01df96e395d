"""Search parameters of the operator's own, and `$reindex`.

Spec: https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.jobs.lease import Lease, LeaseLostError
from fhir_server.storage.store import Store

pytestmark = pytest.mark.xdist_group("search")

EYES = "http://example.org/eyes"
STRICT = {"Prefer": "handling=strict"}


def parameter(code: str, kind: str, expression: str, base: str = "Patient", **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "SearchParameter",
        "id": code,
        "url": f"http://example.org/SearchParameter/{code}",
        "name": code.replace("-", "").capitalize(),
        "status": "active",
        "description": "A parameter of our own.",
        "code": code,
        "base": [base],
        "type": kind,
        "expression": expression,
        **members,
    }


def patient(id: str, **members: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id, **members}


@pytest.fixture
def own(make_server: Callable[..., Any]) -> Any:
    server = make_server(job_lease_s=2)
    eyes = [{"url": EYES, "valueCodeableConcept": {"coding": [{"system": "http://colours", "code": "blue"}]}}]
    put(server, patient("old", extension=eyes, name=[{"given": ["A", "B"], "family": "Mayer"}], birthDate="1980-05-06"))
    put(server, patient("plain", multipleBirthInteger=2))
    return server


def put(server: Any, resource: dict[str, Any]) -> Any:
    answer = server.client.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
    assert answer.is_success, answer.text
    return answer


def found(server: Any, query: str, mode: str = "match") -> list[Any]:
    answer = server.client.get(query, headers=STRICT)
    assert answer.status_code == 200, answer.text
    entries = [e["resource"] for e in answer.json().get("entry", []) if e["search"]["mode"] == mode]
    return sorted(e["id"] for e in entries) if mode == "match" else entries


def finished(server: Any, address: str, query: Any = None) -> dict[str, Any]:
    """Start a job and wait for its end."""
    answer = server.client.post(address, params=query)
    assert answer.status_code == 202, answer.text
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        (row,) = server.client.get(answer.headers["Content-Location"]).json()["parameter"]
        job = {part["name"]: next(v for k, v in part.items() if k != "name") for part in row["part"]}
        if job["status"] not in ("waiting", "active"):
            return job
        time.sleep(0.1)
    raise AssertionError("the job does not end")


def test_a_parameter_is_there_at_once_and_complete_after_a_reindex(own: Any) -> None:
    assert own.client.get("Patient?eye-colour=blue", headers=STRICT).status_code == 400
    put(own, parameter("eye-colour", "token", f"Patient.extension('{EYES}').value"))
    assert found(own, "Patient?eye-colour=blue") == []
    (outcome,) = found(own, "Patient?eye-colour=blue", "outcome")
    assert outcome["issue"][0]["details"]["coding"][0]["code"] == "HS-SEARCH-NOT-READY"
    eyes = [{"url": EYES, "valueCodeableConcept": {"coding": [{"system": "http://colours", "code": "blue"}]}}]
    put(own, patient("new", extension=eyes))
    assert found(own, "Patient?eye-colour=http://colours|blue") == ["new"]

    job = finished(own, "SearchParameter/eye-colour/$reindex")
    assert (job["status"], job["done"], job["total"]) == ("completed", 3, 3)
    assert found(own, "Patient?eye-colour=blue") == ["new", "old"]
    assert found(own, "Patient?eye-colour=blue", "outcome") == []
    assert found(own, "Patient?eye-colour:missing=true") == ["plain"]
    statement = own.client.get("metadata").json()
    (row,) = [r for r in statement["rest"][0]["resource"] if r["type"] == "Patient"]
    assert {
        "name": "eye-colour",
        "definition": "http://example.org/SearchParameter/eye-colour",
        "type": "token",
    } in row["searchParam"]

    own.client.delete("SearchParameter/eye-colour")
    assert own.client.get("Patient?eye-colour=blue", headers=STRICT).status_code == 400


@pytest.mark.parametrize("how", ["deleted", "removed for good", "retired", "another expression"])
def test_a_parameter_that_was_out_of_force_is_not_ready_when_it_comes_back(own: Any, how: str) -> None:
    mine = parameter("eye-colour", "token", f"Patient.extension('{EYES}').value")
    put(own, mine)
    assert finished(own, "SearchParameter/eye-colour/$reindex")["status"] == "completed"
    assert found(own, "Patient?eye-colour=blue", "outcome") == []
    match how:
        case "deleted":
            own.client.delete("SearchParameter/eye-colour")
        case "removed for good":
            confirm = {"resourceType": "Parameters", "parameter": [{"name": "confirm", "valueBoolean": True}]}
            assert own.client.post("SearchParameter/eye-colour/$expunge", json=confirm).status_code == 200
        case "retired":
            put(own, {**mine, "status": "retired"})
        case _:
            put(own, {**mine, "expression": "Patient.gender"})
    eyes = [{"url": EYES, "valueCodeableConcept": {"coding": [{"system": "http://colours", "code": "blue"}]}}]
    put(own, patient("meanwhile", extension=eyes))
    put(own, mine)
    assert found(own, "Patient?eye-colour=blue") == ["old"]
    (outcome,) = found(own, "Patient?eye-colour=blue", "outcome")
    assert outcome["issue"][0]["details"]["coding"][0]["code"] == "HS-SEARCH-NOT-READY"
    assert finished(own, "SearchParameter/eye-colour/$reindex")["status"] == "completed"
    assert found(own, "Patient?eye-colour=blue") == ["meanwhile", "old"]
    assert found(own, "Patient?eye-colour=blue", "outcome") == []


def test_expressions_of_every_kind_are_indexed(own: Any) -> None:
    put(own, parameter("birth-order", "number", "Patient.multipleBirth as integer"))
    put(own, parameter("first-given", "string", "Patient.name.given.first()"))
    put(own, parameter("given-count", "number", "Patient.name.given.count()"))
    put(own, parameter("initials", "string", "Patient.name.select(given.first() & family)"))
    put(own, parameter("is-adult-by-2000", "token", "Patient.birthDate < @1982-01-01"))
    put(own, parameter("birth", "date", "Patient.birthDate"))
    assert finished(own, "$reindex", {"type": "Patient"})["status"] == "completed"
    assert found(own, "Patient?birth-order=2") == ["plain"]
    assert found(own, "Patient?first-given=a") == ["old"]
    assert found(own, "Patient?first-given=b") == []
    assert found(own, "Patient?given-count=2") == ["old"]
    assert found(own, "Patient?initials:exact=AMayer") == ["old"]
    assert found(own, "Patient?is-adult-by-2000=true") == ["old"]
    assert found(own, "Patient?birth=1980&_sort=birth") == ["old"]
    assert found(own, "Patient?_sort=-birth-order,first-given&_count=1") == ["plain"]


def test_references_and_composites_of_our_own(own: Any) -> None:
    put(own, {"resourceType": "Organization", "id": "o", "name": "First"})
    put(own, parameter("keeper", "reference", "Patient.managingOrganization", target=["Organization"]))
    component = [
        {"definition": "http://hl7.org/fhir/SearchParameter/individual-gender", "expression": "Patient.gender"},
        {"definition": "http://hl7.org/fhir/SearchParameter/individual-birthdate", "expression": "Patient.birthDate"},
    ]
    component = [{**row, "expression": row["expression"].removeprefix("Patient.")} for row in component]
    put(own, parameter("gender-birth", "composite", "Patient", component=component))
    put(own, patient("kept", gender="male", birthDate="1990", managingOrganization={"reference": "Organization/o"}))
    assert found(own, "Patient?keeper=Organization/o") == ["kept"]
    assert found(own, "Patient?keeper.name=first") == ["kept"]
    assert found(own, "Patient?gender-birth=male$1990") == ["kept"]
    assert found(own, "Patient?gender-birth=female$1990") == []


@pytest.mark.parametrize(
    ("resource", "told"),
    [
        (parameter("bad", "token", "Patient.nothing"), "nothing"),
        (parameter("bad", "token", "Patient.name.("), "Patient.name.("),
        (parameter("bad", "token", "Patient.gender.frobnicate()"), "frobnicate"),
        (parameter("gender", "token", "Patient.gender"), "already"),
        (parameter("bad.code", "token", "Patient.gender"), "letters, digits"),
        (parameter("bad", "special", "Patient.gender"), "the type is 'special'"),
        (parameter("bad", "token", "Observation.code"), "leads nowhere"),
        ({k: v for k, v in parameter("bad", "token", "x").items() if k != "expression"}, "an expression"),
        (parameter("bad", "composite", "Patient"), "two components"),
    ],
)
def test_a_parameter_that_cannot_be_searched_by_is_refused(own: Any, resource: dict[str, Any], told: str) -> None:
    resource["id"] = "bad"
    answer = own.client.put("SearchParameter/bad", json=resource)
    assert answer.status_code == 422, answer.text
    assert told in answer.json()["issue"][0]["diagnostics"]
    assert own.client.put("SearchParameter/bad", json={**resource, "status": "draft"}).status_code == 201


def test_a_parameter_of_another_process_comes_within_seconds(make_server: Callable[..., Any]) -> None:
    first = make_server()
    second = make_server(mongodb_database=first.settings.mongodb_database)
    put(first, parameter("shared-code", "token", "Patient.gender"))
    deadline = time.monotonic() + 10
    while second.client.get("Patient?shared-code=male", headers=STRICT).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    put(second, patient("s", gender="male"))
    assert found(first, "Patient?shared-code=male") == ["s"]


def test_parameters_of_a_transaction_come_too(own: Any) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "request": {"method": "PUT", "url": "SearchParameter/t-code"},
                "resource": parameter("t-code", "token", "Patient.gender"),
            }
        ],
    }
    assert own.client.post("", json=bundle).status_code == 200
    deadline = time.monotonic() + 10
    while own.client.get("Patient?t-code=male", headers=STRICT).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_jobs_are_told_of(own: Any) -> None:
    assert own.client.get("$reindex").json() == {"resourceType": "Parameters", "parameter": []}
    job = finished(own, "$reindex")
    (row,) = own.client.get("$reindex").json()["parameter"]
    assert row["part"][0] == {"name": "id", "valueString": job["id"]}
    assert own.client.get("$reindex?job=none").status_code == 404
    assert own.client.post("$reindex", params={"type": "Nonsense"}).status_code == 400
    assert own.client.post("SearchParameter/none/$reindex").status_code == 404


def test_a_reindex_whose_process_dies_again_and_again_goes_on_and_ends_complete(
    own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fhir_server.repository.reindex.PORTION", 3)
    monkeypatch.setattr("fhir_server.jobs.run.TELL_EVERY_S", 0.0)
    for number in range(20):
        put(own, patient(f"p{number:02}", multipleBirthInteger=7))
    put(own, parameter("born-as", "number", "Patient.multipleBirth as integer"))
    renewed, set_entries = Lease.put, Store.set_entries
    written: list[str] = []
    kept = 0

    async def deadly(lease: Lease, fields: dict[str, Any]) -> None:
        nonlocal kept
        await renewed(lease, fields)
        if "kept" in fields:
            kept += 1
            if kept % 4 == 0:
                await lease.release()  # as if it had run out
                raise LeaseLostError("dead")

    async def noted(store: Store, name: str, rows: Any) -> None:
        written.extend(row[0] for row in rows)
        await set_entries(store, name, rows)

    monkeypatch.setattr(Lease, "put", deadly)
    monkeypatch.setattr(Store, "set_entries", noted)
    job = finished(own, "$reindex", {"type": "Patient"})
    assert (job["status"], job["done"], job["total"]) == ("completed", 22, 22)
    assert sorted(written) == sorted(set(written)), "what was done is not done again"
    assert len(found(own, "Patient?born-as=7&_count=100")) == 20
    assert found(own, "Patient?born-as=7", "outcome") == []


def test_a_parameter_that_comes_while_a_reindex_is_interrupted_is_not_ready_when_it_ends(
    own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(own, parameter("before-it", "token", "Patient.gender"))
    dies = True

    async def dying(lease: Lease, fields: dict[str, Any]) -> None:
        await renewed(lease, fields)
        if dies and "kept" in fields and fields["kept"].get("at"):
            await lease.release(pause_s=2.0)
            raise LeaseLostError("dead")

    renewed = Lease.put
    monkeypatch.setattr(Lease, "put", dying)
    address = own.client.post("$reindex", params={"type": "Patient"}).headers["Content-Location"]
    deadline = time.monotonic() + 20
    while '"total","valueInteger":2' not in own.client.get(address).text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    dies = False
    put(own, parameter("amid-it", "token", "Patient.active"))
    deadline = time.monotonic() + 20
    while '"completed"' not in own.client.get(address).text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found(own, "Patient?before-it=male", "outcome") == []
    assert len(found(own, "Patient?amid-it=true", "outcome")) == 1
