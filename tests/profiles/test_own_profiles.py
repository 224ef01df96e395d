"""This server's own profiles: they are valid, their examples are judged as they say, and they are served and found."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from fhir_server.model.codec import encode
from fhir_server.search.ucum import canonical
from fhir_server.validation import Validator
from fhir_server.validation.profile.shelf import Shelf
from profiles.registry import STRUCTURES, own_definitions, registry
from profiles.terminology import terminology
from tests.profiles.own import PREFIX, PROFILES, bad, good, merged, of_ours, profile_of

Json = dict[str, Any]

KINDS = (STRUCTURES, "CodeSystem", "ValueSet")

#: That a resource should have a narrative is advice that these do without.
NARRATIVE = "dom-6"

FAULTS = [(name, number) for name, faults in bad().items() for number in range(len(faults))]


def judged(client: httpx.Client, resource: Json, profile: str) -> list[Json]:
    """The errors and warnings of `$validate`."""
    address = f"{resource['resourceType']}/$validate?profile={PREFIX}{profile}"
    answer = client.post(address, content=encode(resource), headers={"Content-Type": "application/fhir+json"})
    assert answer.status_code == 200, answer.text
    issues = [one for one in answer.json()["issue"] if one["severity"] != "information"]
    return [one for one in issues if NARRATIVE not in str(one["details"])]


@pytest.mark.parametrize("kind", KINDS)
def test_the_definitions_are_valid_by_themselves(kind: str) -> None:
    validator = Validator(registry(), terminology(), canonical)
    for definition in own_definitions(kind):
        issues = [one for one in validator.issues_of(definition) if one.severity == "error"]
        assert issues == [], definition["id"]
        assert definition["name"][:1].isupper()
        assert definition["name"].isalnum()


def test_each_profile_and_extension_has_a_snapshot_and_compiles() -> None:
    shelf = Shelf(registry(), terminology(), canonical)
    for definition in own_definitions(STRUCTURES):
        assert shelf.check_of(definition["url"]) is not None, shelf.why_not(definition["url"])
        assert "snapshot" not in definition, "it is made of the differential when it is loaded"


def test_each_profile_is_of_r4_itself_and_has_a_name_of_its_own() -> None:
    for name, definition in PROFILES.items():
        assert definition["url"] == f"{PREFIX}{name}"
        assert definition["baseDefinition"] == f"http://hl7.org/fhir/StructureDefinition/{definition['type']}"
    urls = [one["url"] for kind in KINDS for one in own_definitions(kind)]
    assert len(urls) == len(set(urls))


def test_each_profile_has_good_and_bad_examples() -> None:
    assert {profile_of(name) for name in good()} == set(PROFILES)
    assert set(bad()) == set(PROFILES)
    assert all(bad().values())
    for name, resource in good().items():
        assert resource["meta"]["profile"][0] == f"{PREFIX}{profile_of(name)}"


@pytest.mark.parametrize("name", good())
def test_a_good_example_is_valid_by_its_profile(client: httpx.Client, name: str) -> None:
    # What it claims of US Core is looked at where that is held: `test_own_profiles_and_us_core`.
    assert judged(client, of_ours(good()[name]), profile_of(name)) == []


@pytest.mark.parametrize(("name", "number"), FAULTS)
def test_a_bad_example_is_refused_for_the_one_reason_that_it_names(
    client: httpx.Client, name: str, number: int
) -> None:
    fault = bad()[name][number]
    resource = of_ours(merged(good()[name], fault["change"]))
    issues = judged(client, resource, name)
    found = [
        {
            "severity": one["severity"],
            "code": one["code"],
            "expression": one["expression"][0],
            "key": one["details"]["coding"][0]["code"],
        }
        for one in issues
    ]
    assert found == [fault["issue"]], (fault["fault"], issues)


@pytest.mark.parametrize("kind", KINDS)
def test_each_definition_is_read_where_its_type_and_id_say_and_found_by_its_url(
    client: httpx.Client, kind: str
) -> None:
    for definition in own_definitions(kind):
        read = client.get(f"{kind}/{definition['id']}")
        assert read.status_code == 200
        assert read.json() == json.loads(encode(definition))
        found = client.get(kind, params={"url": definition["url"]}).json()
        assert [entry["fullUrl"] for entry in found["entry"]] == [f"{client.base_url}{kind}/{definition['id']}"]
        assert found["total"] == 1


def test_searches_find_them_page_by_page(client: httpx.Client) -> None:
    address = "StructureDefinition?type=Task&_count=1"
    ids = []
    for _ in range(50):
        page = client.get(address).json()
        ids += [entry["resource"]["id"] for entry in page["entry"]]
        following = [one["url"] for one in page["link"] if one["relation"] == "next"]
        if not following:
            break
        (address,) = following
    ours = [name for name, one in PROFILES.items() if one["type"] == "Task"]
    assert [name for name in ids if name in PROFILES] == sorted(ours)
    assert len(ids) == len(set(ids))
    back = [one["url"] for one in page["link"] if one["relation"] == "previous"]
    assert [e["resource"]["id"] for e in client.get(back[0]).json()["entry"]] == [ids[-2]]
    assert page["link"][0]["relation"] == "self"
    assert client.get(page["link"][0]["url"]).json()["entry"] == page["entry"]


def test_searches_count_them(client: httpx.Client) -> None:
    counted = client.get("StructureDefinition?type=Schedule&_summary=count").json()
    listed = client.get("StructureDefinition?type=Schedule&_total=accurate").json()
    assert counted["total"] == listed["total"] == len(listed["entry"]) >= 1


def test_a_search_that_nothing_of_them_meets_does_not_find_them(client: httpx.Client) -> None:
    found = client.get("StructureDefinition?url=urn:healthsphere:StructureDefinition:healthsphere-nobody").json()
    assert "entry" not in found
    assert client.get("CodeSystem?url=urn:healthsphere:dispensing&status=retired").json()["total"] == 0
    code = client.get("CodeSystem", params={"code": "partly-dispensed", "_elements": "url"}).json()
    assert [entry["resource"]["url"] for entry in code["entry"]] == ["urn:healthsphere:dispensing"]


def test_a_cursor_that_this_server_did_not_make_is_refused(client: httpx.Client) -> None:
    for cursor in ("carried.x", "carried.", "carried.-1", "carried.1234567"):
        answer = client.get("StructureDefinition", params={"_cursor": cursor})
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-SEARCH-CURSOR"


def test_a_stored_definition_of_the_same_id_goes_before(make_server: Any) -> None:
    client = make_server().client
    (definition,) = [one for one in own_definitions(STRUCTURES) if one["id"] == "healthsphere-device"]
    stored = json.loads(encode({**definition, "title": "Mine"}))
    assert client.put("StructureDefinition/healthsphere-device", json=stored).status_code == 201
    found = client.get("StructureDefinition?type=Device").json()
    assert [entry["resource"]["title"] for entry in found["entry"]] == ["Mine"]
    assert client.get("StructureDefinition/healthsphere-device").json()["title"] == "Mine"


def test_the_capability_statement_names_them(client: httpx.Client) -> None:
    rows = client.get("metadata").json()["rest"][0]["resource"]
    supported = {row["type"]: row.get("supportedProfile", []) for row in rows}
    for definition in PROFILES.values():
        assert f"{definition['url']}|{definition['version']}" in supported[definition["type"]]
    named = {one for found in supported.values() for one in found}
    assert not any(":extension:" in one for one in named)


def test_a_version_that_is_not_held_is_not_taken_for_the_one_that_is(client: httpx.Client) -> None:
    patient = of_ours(good()["healthsphere-patient"])
    assert client.post(f"Patient/$validate?profile={PREFIX}healthsphere-patient|1.0.0", json=patient).status_code == 200
    refused = client.post(f"Patient/$validate?profile={PREFIX}healthsphere-patient|9.0.0", json=patient)
    assert refused.status_code == 400


def test_writes_are_held_to_them_where_the_policy_says_so(make_server: Any, tmp_path: Any) -> None:
    policy = tmp_path / "validation.toml"
    policy.write_text(f'[type.Device]\nrequired = ["{PREFIX}healthsphere-device"]\n')
    strict, lax = make_server(validation_file=policy).client, make_server().client
    whole = of_ours(good()["healthsphere-device"])
    bare = {"resourceType": "Device", "manufacturer": "Cuffs Ltd"}
    assert lax.post("Device", json=bare).status_code == 201
    refused = strict.post("Device", json=bare)
    assert refused.status_code == 422
    assert "healthsphere-device" in refused.text
    assert strict.put(f"Device/{whole['id']}", json=whole).status_code == 201
