"""`$validate` against profiles that are stored on the server, and the modes that ask about changes and deletions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.validation.profile.holding import BASE, Json, profile, value_set

NAMED: Json = {"resourceType": "Patient", "name": [{"family": "Shaw"}]}
UNNAMED: Json = {"resourceType": "Patient", "birthDate": "1970-05-06"}


@pytest.fixture(scope="module")
def stored(make_server: Callable[..., Any]) -> httpx.Client:
    """A server with a profile of its own, which needs a datatype profile, an extension and a value set."""
    server = make_server(referential_integrity="refuse")
    definitions = [
        profile(
            "Patient",
            {"path": "extension", "slicing": {"discriminator": [{"type": "value", "path": "url"}], "rules": "open"}},
            {"path": "extension", "sliceName": "flag", "type": [{"code": "Extension", "profile": [f"{BASE}flag"]}]},
            {"path": "name", "min": 1, "type": [{"code": "HumanName", "profile": [f"{BASE}whole"]}]},
            {
                "path": "maritalStatus",
                "binding": {"strength": "required", "valueSet": "http://e.example/ValueSet/v"},
            },
            name="named",
            version="1.0",
        ),
        profile("HumanName", {"path": "family", "min": 1}, name="whole"),
        profile("Extension", {"path": "url", "fixedUri": f"{BASE}flag"}, {"path": "value[x]", "min": 1}, name="flag"),
        value_set("v", ("http://c", "a")),
    ]
    for definition in definitions:
        answer = server.client.put(f"{definition['resourceType']}/{definition['id']}", json=definition)
        assert answer.status_code == 201, answer.text
    return server.client


def told(answer: httpx.Response) -> list[tuple[str, str]]:
    """Severity and place of all issues but the advice to have a narrative."""
    assert answer.status_code == 200, answer.text
    rows = [row for row in answer.json()["issue"] if "dom-6" not in row["diagnostics"]]
    return [(row["severity"], row.get("expression", [""])[0]) for row in rows]


def parameters(resource: Json | None = None, **given: Any) -> Json:
    rows = [{"name": name, "valueUri" if name == "profile" else "valueCode": value} for name, value in given.items()]
    if resource is not None:
        rows.append({"name": "resource", "resource": resource})
    return {"resourceType": "Parameters", "parameter": rows}


def test_a_profile_is_named_in_the_address_or_in_parameters(stored: httpx.Client) -> None:
    address = f"Patient/$validate?profile={BASE}named"
    assert told(stored.post(address, json=NAMED)) == [("information", "")]
    assert told(stored.post(address, json=UNNAMED)) == [("error", "Patient.name")]
    body = parameters(UNNAMED, profile=f"{BASE}named|1.0", mode="profile")
    assert told(stored.post("Patient/$validate", json=body)) == [("error", "Patient.name")]


def test_what_a_profile_names_is_looked_at_with_it(stored: httpx.Client) -> None:
    faulty = {
        "resourceType": "Patient",
        "extension": [{"url": f"{BASE}flag", "extension": [{"url": "x", "valueCode": "y"}]}],
        "name": [{"text": "x"}],
        "maritalStatus": {"coding": [{"system": "http://c", "code": "b"}]},
    }
    answer = stored.post(f"Patient/$validate?profile={BASE}named", json=faulty)
    assert sorted(told(answer)) == [
        ("error", "Patient.extension[0].value"),
        ("error", "Patient.maritalStatus"),
        ("error", "Patient.name[0].family"),
    ]
    coding = next(
        row["details"]["coding"] for row in answer.json()["issue"] if row["expression"] == ["Patient.maritalStatus"]
    )
    assert coding[1] == {"system": f"{BASE}named", "version": "1.0", "code": "Patient.maritalStatus"}


def test_what_a_resource_claims_is_looked_at_and_refuses_no_write(stored: httpx.Client) -> None:
    claiming = {**UNNAMED, "meta": {"profile": [f"{BASE}named"]}}
    assert told(stored.post("Patient/$validate", json=claiming)) == [("error", "Patient.name")]
    made = stored.post("Patient", json=claiming)
    assert made.status_code == 201
    assert told(stored.get(f"Patient/{made.json()['id']}/$validate")) == [("error", "Patient.name")]


def test_a_claim_that_nothing_is_known_of_is_a_warning(stored: httpx.Client) -> None:
    claiming = {**NAMED, "meta": {"profile": ["http://e.example/unknown"]}}
    found = told(stored.post("Patient/$validate", json=claiming))
    assert found == [("information", ""), ("warning", "Patient.meta.profile[0]")]


@pytest.mark.parametrize(
    "wanted",
    ["http://e.example/unknown", f"{BASE}named|7", "http://hl7.org/fhir/StructureDefinition/example-composition"],
)
def test_a_profile_that_is_not_held_is_refused_by_name(stored: httpx.Client, wanted: str) -> None:
    for body in (NAMED, {**NAMED, "name": "x"}):  # also where the structure is at fault
        answer = stored.post("Patient/$validate", params={"profile": wanted}, json=body)
        assert answer.status_code == 400
        (issue,) = answer.json()["issue"]
        assert issue["details"]["coding"][0]["code"] == "HS-OP-PROFILE"
        assert wanted in issue["diagnostics"]


def test_a_profile_with_a_differential_alone_is_validated_against(stored: httpx.Client) -> None:
    definition = profile("Patient", {"path": "name", "min": 1}, name="differential")
    definition["differential"] = definition.pop("snapshot")
    assert stored.put("StructureDefinition/differential", json=definition).status_code == 201
    address = f"Patient/$validate?profile={BASE}differential"
    assert told(stored.post(address, json=NAMED)) == [("information", "")]
    assert told(stored.post(address, json=UNNAMED)) == [("error", "Patient.name")]


def test_a_definition_that_is_changed_or_deleted_is_so_for_the_next_validation(stored: httpx.Client) -> None:
    definition = profile("Patient", {"path": "gender", "min": 1}, name="changing")
    address = f"Patient/$validate?profile={BASE}changing"
    stored.put("StructureDefinition/changing", json=definition)
    assert told(stored.post(address, json=NAMED)) == [("error", "Patient.gender")]
    definition["snapshot"]["element"][1]["min"] = 0
    stored.put("StructureDefinition/changing", json=definition)
    assert told(stored.post(address, json=NAMED)) == [("information", "")]
    stored.delete("StructureDefinition/changing")
    assert stored.post(address, json=NAMED).status_code == 400


def test_profiles_of_the_specification_are_there(stored: httpx.Client) -> None:
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/bodyweight"]},
    }
    places = {
        place for severity, place in told(stored.post("Observation/$validate", json=observation)) if severity == "error"
    }
    assert {"Observation.category", "Observation.subject", "Observation.code.coding", "Observation.effective"} <= places


def test_profiles_come_after_the_structure(stored: httpx.Client) -> None:
    found = told(stored.post(f"Patient/$validate?profile={BASE}named", json={**UNNAMED, "name": "x"}))
    assert found == [("error", "Patient.name"), ("information", "")]


def test_an_outcome_of_many_faults_is_cut(stored: httpx.Client) -> None:
    claiming = {**UNNAMED, "meta": {"profile": [f"{BASE}named"]}}
    entries = [{"fullUrl": f"http://a/Patient/{at}", "resource": claiming} for at in range(1200)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    issues = stored.post("Bundle/$validate", json=bundle).json()["issue"]
    assert len([row for row in issues if row["severity"] == "error"]) == 1000
    assert issues[-1]["diagnostics"] == "200 further issues of profiles are not listed."


def test_the_mode_delete_tells_who_refers_to_a_resource(stored: httpx.Client) -> None:
    organization = stored.post("Organization", json={"resourceType": "Organization", "name": "O"}).json()["id"]
    address = f"Organization/{organization}/$validate?mode=delete"
    assert told(stored.get(address)) == [("information", "")]
    referring = {**NAMED, "managingOrganization": {"reference": f"Organization/{organization}"}}
    patient = stored.post("Patient", json=referring).json()["id"]
    (issue,) = stored.get(address).json()["issue"]
    assert issue["severity"] == "error"
    assert f"Patient/{patient}" in issue["diagnostics"]
    assert stored.get(f"Organization/{organization}").status_code == 200


def test_the_mode_profile_needs_a_profile(stored: httpx.Client) -> None:
    answer = stored.post("Patient/$validate?mode=profile", json=NAMED)
    assert answer.status_code == 400
