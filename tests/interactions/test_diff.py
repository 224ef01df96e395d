"""`$diff`: what changed, as a patch that makes one of the other."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.interactions.difference import comparable, patch_between
from fhir_server.model import codec
from fhir_server.patching.fhirpath_patch import fhirpath_patch_of
from profiles.registry import registry

Json = dict[str, Any]


def made(client: httpx.Client, *versions: Json) -> str:
    address = ""
    for resource in versions:
        if not address:
            address = f"{resource['resourceType']}/{client.post(resource['resourceType'], json=resource).json()['id']}"
        else:
            answer = client.put(address, json={**resource, "id": address.partition("/")[2]})
            assert answer.status_code == 200, answer.text
    return address


def operations(answer: httpx.Response) -> list[Json]:
    assert answer.status_code == 200, answer.text
    found = []
    for row in answer.json().get("parameter", []):
        assert row["name"] == "operation"
        parts = {}
        for part in row["part"]:
            (value,) = [value for key, value in part.items() if key != "name"]
            parts[part["name"]] = value
        found.append(parts)
    return found


BEFORE = {
    "resourceType": "Patient",
    "name": [{"family": "Doe", "given": ["Ann"]}],
    "gender": "female",
    "deceasedBoolean": False,
    "contact": [{"gender": "male", "name": {"text": "Max"}}],
}
AFTER = {
    "resourceType": "Patient",
    "name": [{"use": "official", "family": "Roe"}, {"family": "Doe", "given": ["Ann", "Bea"]}],
    "birthDate": "1970-05-06",
    "deceasedDateTime": "2020",
    "contact": [
        {"gender": "male", "name": {"text": "Max"}},
        {"relationship": [{"text": "son"}], "name": {"text": "Mo"}},
    ],
}


def test_each_difference_is_one_operation_with_the_old_value(client: httpx.Client) -> None:
    address = made(
        client,
        {"resourceType": "Patient", "gender": "male", "active": True},
        {"resourceType": "Patient", "gender": "female", "birthDate": "1970"},
    )
    assert operations(client.get(f"{address}/$diff")) == [
        {"type": "replace", "path": "Patient.gender", "previousValue": "male", "value": "female"},
        {"type": "delete", "path": "Patient.active", "previousValue": True},
        {"type": "add", "path": "Patient", "name": "birthDate", "value": "1970"},
    ]


def test_sent_as_a_patch_it_makes_the_second_of_the_first(client: httpx.Client) -> None:
    address = made(client, BEFORE, AFTER)
    difference = client.get(f"{address}/$diff?from=1&to=2")
    other = made(client, BEFORE)
    patched = client.patch(other, content=difference.content, headers={"Content-Type": "application/fhir+json"})
    assert patched.status_code == 200, patched.text
    assert comparable(patched.json()) == comparable(client.get(address).json())
    back = client.get(f"{address}/$diff?from=2&to=1")
    patched = client.patch(address, content=back.content, headers={"Content-Type": "application/fhir+json"})
    assert comparable(patched.json()) == comparable(BEFORE)
    assert operations(client.get(f"{address}/$diff?from=1&to=3")) == []


def test_versions_and_other_resources_can_be_named(client: httpx.Client, server: Any) -> None:
    one = made(client, {"resourceType": "Patient"}, {"resourceType": "Patient", "active": True})
    other = made(client, {"resourceType": "Patient", "active": False})
    replaced = [{"type": "replace", "path": "Patient.active", "previousValue": False, "value": True}]
    assert operations(client.get(f"{one}/$diff?from={other}")) == replaced
    assert operations(client.get(f"{one}/$diff?from={server.base_url}/{other}/_history/1&to=2")) == replaced
    assert operations(client.get(f"{one}/$diff?from=2&to={one}")) == []
    body = {"resourceType": "Parameters", "parameter": [{"name": "from", "valueString": other}]}
    assert operations(client.post(f"{one}/$diff", json=body)) == replaced


@pytest.mark.parametrize(
    "query", ["", "?from=x", "?from=Observation/1", "?form=1", "?from=1&from=2", "?from=1&to=Patient/"]
)
def test_what_cannot_be_understood_is_refused(client: httpx.Client, query: str) -> None:
    address = made(client, {"resourceType": "Patient"})
    assert client.get(f"{address}/$diff{query}").status_code == 400


def test_what_is_not_there_is_404_and_what_is_deleted_410(client: httpx.Client) -> None:
    address = made(client, {"resourceType": "Patient"})
    assert client.get(f"{address}/$diff?from=7").status_code == 404
    assert client.get(f"{address}/$diff?from=Patient/never-was").status_code == 404
    assert client.get("Patient/never-was/$diff").status_code == 404
    client.delete(address)
    assert client.get(f"{address}/$diff?from=1").status_code == 410


def rebuilt(before: Json, after: Json) -> Json:
    patch = codec.decode(codec.encode(patch_between(before, after, registry())))
    return fhirpath_patch_of(patch, before["resourceType"], registry()).apply(before)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"_birthDate": {"id": "a"}}, {"birthDate": "1970", "_birthDate": {"id": "b"}}),
        ({"name": [{"given": ["a", "b", "c"]}]}, {"name": [{"given": ["x", "b", "d", "c"]}]}),
        ({"name": [{"given": ["a"], "_given": [{"id": "1"}]}]}, {"name": [{"given": ["a"]}]}),
        ({"text": {"status": "generated", "div": "<div>a</div>"}}, {"text": {"status": "additional", "div": "<div/>"}}),
        ({"extension": [{"url": "a", "valueCode": "x"}]}, {"extension": [{"url": "b", "valueCode": "x"}]}),
        (
            {"contained": [{"resourceType": "Organization", "id": "o"}]},
            {"contained": [{"resourceType": "Patient", "id": "o"}]},
        ),
        (
            {},
            {
                "contact": [{"name": {"family": "x"}, "period": {"start": "2020"}}],
                "link": [{"type": "seealso", "other": {"reference": "Patient/1"}}],
            },
        ),
        ({"multipleBirthInteger": 2}, {"multipleBirthBoolean": True}),
    ],
)
def test_the_patch_is_true_for_every_shape(before: Json, after: Json) -> None:
    first, second = {"resourceType": "Patient", **before}, {"resourceType": "Patient", **after}
    assert rebuilt(first, second) == second
    assert rebuilt(second, first) == first


def altered(resource: Json, chance: random.Random) -> Json:
    """The resource with some members and rows gone, doubled or exchanged."""
    result = copy.deepcopy(resource)
    for node, _ in list(codec.walk(result)):
        for name in list(node):
            if name in ("resourceType", "id", "div", "status", "url") or name.startswith("_"):
                continue
            if chance.random() < 0.1 and node is result:
                del node[name]
            elif type(node.get(name)) is list and f"_{name}" not in node and chance.random() < 0.4:
                chance.shuffle(node[name])
                node[name] = node[name][chance.randint(0, 1) :] or node[name]
    return result


@pytest.mark.parametrize("seed", range(150))
def test_official_examples_are_rebuilt_from_their_differences(test_data: Path, seed: int) -> None:
    chance = random.Random(seed)
    files = sorted((test_data / "r4-examples").glob("*.json"))
    before = codec.decode(chance.choice(files).read_bytes())
    if before["resourceType"] in ("Bundle", "Parameters") or len(json.dumps(before, default=str)) > 30_000:
        return
    after = altered(before, chance)
    assert comparable(rebuilt(before, after)) == comparable(after)


def test_its_definition_is_a_valid_resource(client: httpx.Client) -> None:
    path = Path(__file__).parents[2] / "profiles" / "definitions" / "OperationDefinition-diff.json"
    outcome = client.post("OperationDefinition/$validate", content=path.read_bytes()).json()
    assert [issue["severity"] for issue in outcome["issue"]] == ["information", "warning"], outcome
    assert "dom-6" in outcome["issue"][1]["diagnostics"]  # advice to have a narrative
