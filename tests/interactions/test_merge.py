"""`Patient/$merge` and `$unmerge`: everything follows, nothing is lost, and all of it can be taken back."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

SYSTEM = "http://hospital.example/mrn"


def parameters(**given: Any) -> dict[str, Any]:
    rows = []
    for name, value in given.items():
        row: dict[str, Any] = {"name": name.replace("_", "-")}
        if isinstance(value, bool):
            row["valueBoolean"] = value
        elif isinstance(value, str):
            row["valueReference"] = {"reference": value}
        else:
            row["resource" if "resourceType" in value else "valueIdentifier"] = value
        rows.append(row)
    return {"resourceType": "Parameters", "parameter": rows}


def called(client: httpx.Client, operation: str, **given: Any) -> dict[str, list[Any]]:
    answer = client.post(f"Patient/${operation}", json=parameters(**given))
    assert answer.status_code == 200, answer.text
    found: dict[str, list[Any]] = {}
    for row in answer.json()["parameter"]:
        value = next(v for k, v in row.items() if k != "name")
        found.setdefault(row["name"], []).append(value)
    return found


class Pair:
    """Two records of one person, and what refers to the first."""

    def __init__(self, client: httpx.Client) -> None:
        mark = uuid.uuid4().hex[:10]
        self.client = client
        self.source, self.target = f"Patient/s{mark}", f"Patient/t{mark}"
        self.identifier = {"system": SYSTEM, "value": mark}
        self.observation, self.group, self.account = f"Observation/o{mark}", f"Group/g{mark}", f"Account/a{mark}"
        ref = {"reference": self.source}
        for address, more in {
            self.source: {"active": True, "identifier": [self.identifier], "name": [{"family": "Kim"}]},
            self.target: {"identifier": [{"system": SYSTEM, "value": f"t{mark}"}], "name": [{"family": "Kimm"}]},
            self.observation: {
                "status": "final",
                "code": {"text": "x"},
                "subject": ref,
                "note": [{"authorReference": ref, "text": "seen"}],
                "derivedFrom": [{"reference": f"Observation/o{mark}"}],
            },
            self.group: {
                "type": "person",
                "actual": True,
                "member": [{"entity": ref}, {"entity": {"reference": self.target}}],
            },
            self.account: {"status": "active", "subject": [ref, {"reference": f"{self.source}/_history/1"}]},
        }.items():
            name, _, logical_id = address.partition("/")
            body = {"resourceType": name, "id": logical_id, **more}
            answer = client.put(address, json=body)
            assert answer.status_code == 201, answer.text

    def read(self, address: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(address).json()
        del found["meta"]
        return found

    def all(self) -> list[dict[str, Any]]:
        return [self.read(a) for a in (self.source, self.target, self.observation, self.group, self.account)]


@pytest.fixture
def pair(client: httpx.Client) -> Pair:
    return Pair(client)


def test_everything_follows_to_the_target_and_the_source_leads_there(client: httpx.Client, pair: Pair) -> None:
    answer = called(client, "merge", source_patient=pair.source, target_patient=pair.target)
    observation = pair.read(pair.observation)
    assert observation["subject"] == {"reference": pair.target}
    assert observation["note"][0]["authorReference"] == {"reference": pair.target}  # no search parameter leads there
    assert pair.read(pair.group)["member"] == [{"entity": {"reference": pair.target}}] * 2
    assert pair.read(pair.account)["subject"][1] == {"reference": f"{pair.source}/_history/1"}
    source, target = pair.read(pair.source), pair.read(pair.target)
    assert source["active"] is False
    assert source["link"] == [{"other": {"reference": pair.target}, "type": "replaced-by"}]
    assert target["link"] == [{"other": {"reference": pair.source}, "type": "replaces"}]
    assert target["identifier"][1] == {**pair.identifier, "use": "old"}
    assert target == {k: v for k, v in answer["result"][0].items() if k != "meta"}
    assert client.get(f"Observation?subject={pair.target}").json()["total"] == 1
    assert client.get(f"Observation?subject={pair.source}").json()["total"] == 0


def test_the_provenance_names_every_version_that_was_made(client: httpx.Client, pair: Pair) -> None:
    answer = called(client, "merge", source_patient=pair.source, target_patient=pair.target)
    record = client.get(answer["provenance"][0]["reference"]).json()
    named = {row["reference"] for row in record["target"]}
    assert named == {f"{a}/_history/2" for a in (pair.source, pair.target, pair.observation, pair.group, pair.account)}
    assert record["activity"]["coding"][0]["code"] == "merge"
    assert [e["what"]["reference"] for e in record["entity"]] == [f"{a}/_history/1" for a in (pair.source, pair.target)]


def test_unmerging_restores_all_as_it_was(client: httpx.Client, pair: Pair) -> None:
    before = pair.all()
    answer = called(client, "merge", source_patient=pair.source, target_patient=pair.target)
    record = answer["provenance"][0]["reference"]
    assert "changed-since" not in called(client, "unmerge", provenance=record)
    assert pair.all() == before
    refused = client.post("Patient/$unmerge", json=parameters(provenance=record))
    assert refused.status_code == 422
    assert refused.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-MERGE-UNDONE"


def test_unmerging_leaves_what_was_changed_since_and_names_it(client: httpx.Client, pair: Pair) -> None:
    before = pair.all()
    answer = called(client, "merge", source_patient=pair.source, target_patient=pair.target)
    observation, target = pair.read(pair.observation), pair.read(pair.target)
    client.put(pair.observation, json={**observation, "status": "amended"})
    client.put(pair.target, json={**target, "gender": "female"})
    client.delete(pair.account)
    told = called(client, "unmerge", provenance=answer["provenance"][0]["reference"])
    kept = {row["reference"] for row in told["changed-since"]}
    assert kept == {pair.observation, pair.target, pair.account}
    assert pair.read(pair.observation)["subject"] == {"reference": pair.target}
    assert pair.read(pair.source) == before[0]
    assert pair.read(pair.group) == before[3]
    assert pair.read(pair.target) == {**before[1], "gender": "female"}  # without link and borrowed identifier
    assert client.get(pair.account).status_code == 410


def test_a_preview_tells_and_changes_nothing(client: httpx.Client, pair: Pair) -> None:
    before = pair.all()
    told = called(client, "merge", source_patient=pair.source, target_patient=pair.target, preview=True)
    assert {p["name"]: p["valueInteger"] for p in told["count"][0]} == {"Observation": 1, "Group": 1, "Account": 1}
    assert {row["reference"] for row in told["change"]} == {pair.observation, pair.group, pair.account}
    assert told["result"][0]["link"][0]["type"] == "replaces"
    assert "provenance" not in told
    assert pair.all() == before


def test_records_are_found_by_identifier_and_the_result_is_what_the_client_says(
    client: httpx.Client, pair: Pair
) -> None:
    result = {**pair.read(pair.target), "birthDate": "1980-01-01"}
    called(
        client, "merge", source_patient_identifier=pair.identifier, target_patient=pair.target, result_patient=result
    )
    target = pair.read(pair.target)
    assert target["birthDate"] == "1980-01-01"
    assert target["identifier"] == result["identifier"]


def test_what_arrives_late_follows_when_the_merge_is_said_again(client: httpx.Client, pair: Pair) -> None:
    called(client, "merge", source_patient=pair.source, target_patient=pair.target)
    assert "provenance" not in called(client, "merge", source_patient=pair.source, target_patient=pair.target)
    late = {"resourceType": "Flag", "status": "active", "code": {"text": "x"}, "subject": {"reference": pair.source}}
    made = client.post("Flag", json=late).json()["id"]
    called(client, "merge", source_patient=pair.source, target_patient=pair.target)
    assert client.get(f"Flag/{made}").json()["subject"] == {"reference": pair.target}


def test_what_cannot_be_merged_is_refused(client: httpx.Client, pair: Pair) -> None:
    def status(**given: Any) -> int:
        return client.post("Patient/$merge", json=parameters(**given)).status_code

    assert status(source_patient=pair.source, target_patient=pair.source) == 422
    assert status(source_patient=pair.source) == 400
    assert status(source_patient="Patient/never-was", target_patient=pair.target) == 404
    assert status(source_patient="Group/1", target_patient=pair.target) == 400
    unknown = {"system": SYSTEM, "value": "nobody"}
    assert status(source_patient_identifier=unknown, target_patient=pair.target) == 422
    other = {"resourceType": "Patient", "id": "other"}
    assert status(source_patient=pair.source, target_patient=pair.target, result_patient=other) == 422
    called(client, "merge", source_patient=pair.source, target_patient=pair.target)
    third = Pair(client)
    assert status(source_patient=pair.source, target_patient=third.target) == 422
    assert status(source_patient=third.source, target_patient=pair.source) == 422
    assert status(source_patient=pair.source) == 400
    assert client.post("Patient/$unmerge", json=parameters(provenance="Provenance/none")).status_code == 404


def test_of_two_merges_at_once_one_is_refused(server: Any, pair: Pair) -> None:
    third = Pair(pair.client)
    wanted = [
        pair.client.build_request(
            "POST", "Patient/$merge", json=parameters(source_patient=pair.source, target_patient=t)
        )
        for t in (pair.target, third.target)
    ]
    assert sorted(answer.status_code for answer in server.gather(*wanted)) == [200, 422]


def test_a_large_patient_is_merged_and_unmerged_in_portions(client: httpx.Client, pair: Pair) -> None:
    entries = [
        {
            "request": {"method": "POST", "url": "Observation"},
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": pair.source},
            },
        }
        for _ in range(600)
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert client.post("", json=bundle).status_code == 200

    def held(patient: str) -> int:
        total: int = client.get(f"Observation?subject={patient}&_summary=count").json()["total"]
        return total

    answer = called(client, "merge", source_patient=pair.source, target_patient=pair.target)
    assert (held(pair.source), held(pair.target)) == (0, 601)
    called(client, "unmerge", provenance=answer["provenance"][0]["reference"])
    assert (held(pair.source), held(pair.target)) == (601, 0)
