"""patch: https://hl7.org/fhir/R4/http.html#patch."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from typing import Any

import httpx
import pytest

from tests.interactions.patches import (
    FHIR_JSON,
    JSON_PATCH,
    MERGE_PATCH,
    XML_PATCH,
    created,
    diagnostics,
    identified,
    json_patch,
    operation,
    parameters,
    set_gender,
)

# --- formats --------------------------------------------------------------------------------------------------------


def test_a_json_patch_makes_the_next_version_and_history_tells_the_method(client: httpx.Client) -> None:
    address = created(client)
    answer = json_patch(client, address, {"op": "replace", "path": "/active", "value": False})
    assert answer.status_code == 200
    assert answer.headers["ETag"] == 'W/"2"'
    assert answer.headers["Location"].endswith(f"{address}/_history/2")
    assert answer.json()["active"] is False
    assert client.get(address).json() == answer.json()
    history = client.get(f"{address}/_history").json()["entry"]
    assert [row["request"]["method"] for row in history] == ["PATCH", "POST"]


@pytest.mark.parametrize(
    "content_type", ["application/fhir+json", "application/json", "application/fhir+json; charset=utf-8"]
)
def test_a_fhirpath_patch_comes_as_parameters(client: httpx.Client, content_type: str) -> None:
    address = created(client)
    answer = client.patch(address, content=json.dumps(set_gender("female")), headers={"Content-Type": content_type})
    assert answer.status_code == 200
    assert answer.json()["gender"] == "female"


def test_a_fhirpath_patch_can_come_in_xml(client: httpx.Client) -> None:
    body = (
        '<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="operation"/>'
        '<part><name value="type"/><valueCode value="delete"/></part>'
        '<part><name value="path"/><valueString value="Patient.active"/></part></parameter></Parameters>'
    )
    answer = client.patch(
        created(client, gender="male"), content=body, headers={"Content-Type": "application/fhir+xml"}
    )
    assert answer.status_code == 200
    assert answer.json().keys() == {"resourceType", "id", "meta", "gender"}


def test_a_merge_patch_says_what_is_to_be_there_and_by_null_what_is_to_be_gone(client: httpx.Client) -> None:
    address = created(client, gender="male", name=[{"family": "Okafor", "given": ["Ada", "Grace"]}])
    patch = {"active": False, "gender": None, "name": [{"family": "Okonkwo"}], "maritalStatus": {"text": "?"}}
    answer = client.patch(address, content=json.dumps(patch), headers=MERGE_PATCH)
    assert (answer.status_code, answer.headers["ETag"]) == (200, 'W/"2"')
    changed = {name: value for name, value in answer.json().items() if name not in ("resourceType", "id", "meta")}
    assert changed == {"active": False, "name": [{"family": "Okonkwo"}], "maritalStatus": {"text": "?"}}
    assert client.get(address).json() == answer.json()


def test_a_merge_patch_is_checked_as_every_patch_is(client: httpx.Client) -> None:
    address = created(client)

    def refused(content: str, url: str = address, **headers: str) -> tuple[int, str]:
        answer = client.patch(url, content=content, headers={**MERGE_PATCH, **headers})
        return answer.status_code, answer.json()["issue"][0]["details"]["coding"][0]["code"]

    assert refused('[{"op":"remove","path":"/active"}]') == (400, "HS-PATCH-FORMAT")
    assert refused('{"id":"another"}') == (422, "HS-PATCH-IDENTITY")
    assert refused('{"resourceType":"Group"}') == (422, "HS-PATCH-IDENTITY")
    assert refused('{"gender":"unheard-of"}')[0] == 400
    assert refused('{"active":false}', **{"If-Match": 'W/"7"'})[0] == 412
    assert refused('{"active":false}', "Patient/never-was")[0] == 404
    assert client.get(address).headers["ETag"] == 'W/"1"'


def test_an_object_in_plain_json_that_is_no_parameters_is_a_merge_patch(client: httpx.Client) -> None:
    address = created(client)
    answer = client.patch(address, json={"active": False})  # as fhirpy sends it
    assert (answer.status_code, answer.json()["active"]) == (200, False)
    strict = client.patch(address, content='{"active":true}', headers=FHIR_JSON)
    assert (strict.status_code, "application/merge-patch+json" in diagnostics(strict)) == (400, True)


def test_a_merge_patch_can_be_conditional(client: httpx.Client) -> None:
    criteria, member = identified()
    created(client, **member)
    answer = client.patch(f"Patient?{criteria}", content='{"active":null}', headers=MERGE_PATCH)
    assert answer.status_code == 200
    assert "active" not in answer.json()


def test_an_xml_patch_works_on_the_xml_form(client: httpx.Client) -> None:
    address = created(client, name=[{"family": "Ōe", "given": ["K.", "Z."]}])
    body = (
        '<diff xmlns="http://hl7.org/fhir">'
        '<replace sel="Patient/active/@value">false</replace>'
        "<add sel=\"Patient/name/given[@value='K.']\" pos=\"before\"><given value='Kenzaburō'/></add>"
        '<remove sel="Patient/name/given[last()]"/>'
        "</diff>"
    )
    answer = client.patch(address, content=body.encode(), headers=XML_PATCH)
    assert answer.status_code == 200, answer.text
    assert answer.json()["active"] is False
    assert answer.json()["name"] == [{"family": "Ōe", "given": ["Kenzaburō", "K."]}]


def test_decimals_that_a_patch_does_not_touch_keep_their_digits(client: httpx.Client) -> None:
    resource = (
        '{"resourceType":"Observation","status":"final","code":{"text":"x"},'
        '"valueQuantity":{"value":1.10},"referenceRange":[{"low":{"value":0.00000001}}]}'
    )
    made = client.post("Observation", content=resource, headers=FHIR_JSON)
    address = f"Observation/{made.json()['id']}"
    xml = '<diff xmlns="http://hl7.org/fhir"><replace sel="Observation/status/@value">amended</replace></diff>'
    for headers, body in (
        (JSON_PATCH, '[{"op":"test","path":"/valueQuantity/value","value":1.1}]'),
        (FHIR_JSON, json.dumps(parameters())),
        (XML_PATCH, xml),
    ):
        answer = client.patch(address, content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert '"value":1.10}' in answer.text
        assert '"value":0.00000001}' in answer.text


@pytest.mark.parametrize(
    ("prefer", "kind"),
    [("return=minimal", None), ("return=representation", "Patient"), ("return=OperationOutcome", "OperationOutcome")],
)
def test_the_answer_is_what_prefer_asks_for(client: httpx.Client, prefer: str, kind: str | None) -> None:
    answer = json_patch(client, created(client), {"op": "remove", "path": "/active"}, Prefer=prefer)
    assert answer.status_code == 200
    assert (answer.json()["resourceType"] if answer.content else None) == kind


def test_what_a_removal_leaves_empty_goes_too(client: httpx.Client) -> None:
    address = created(client, name=[{"family": "a"}], contact=[{"name": {"text": "b"}}])
    answer = json_patch(
        client, address, {"op": "remove", "path": "/name/0"}, {"op": "remove", "path": "/contact/0/name/text"}
    )
    assert answer.status_code == 200
    assert answer.json().keys() == {"resourceType", "id", "meta", "active"}


def test_a_patch_cannot_set_version_and_moment(client: httpx.Client) -> None:
    meta = {"versionId": "77", "lastUpdated": "1999-01-01T00:00:00Z", "source": "http://a"}
    answer = json_patch(client, created(client), {"op": "add", "path": "/meta", "value": meta})
    assert answer.status_code == 200
    assert answer.json()["meta"]["versionId"] == "2"
    assert not answer.json()["meta"]["lastUpdated"].startswith("1999")
    assert answer.json()["meta"]["source"] == "http://a"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON_PATCH, '[{"op":"replace","path":"/contentType","value":"text/html"}]'),
        (XML_PATCH, "<diff><replace sel='f:Binary/f:contentType/@value'>text/html</replace></diff>"),
    ],
)
def test_a_binary_keeps_its_data_however_large(client: httpx.Client, headers: dict[str, str], body: str) -> None:
    data = b64encode(bytes(1_000_000)).decode()
    made = client.post("Binary", json={"resourceType": "Binary", "contentType": "text/plain", "data": data})
    answer = client.patch(f"Binary/{made.json()['id']}", content=body, headers=headers)
    assert answer.status_code == 200, answer.text[:500]
    kept = client.get(f"Binary/{made.json()['id']}", headers={"Accept": "application/fhir+json"}).json()
    assert (kept["contentType"], kept["data"], kept["meta"]["versionId"]) == ("text/html", data, "2")
    assert answer.json() == kept


# --- versions and races ---------------------------------------------------------------------------------------------


def test_if_match_names_the_version_that_is_patched(client: httpx.Client) -> None:
    address = created(client)
    change = {"op": "replace", "path": "/active", "value": False}
    assert json_patch(client, address, change, **{"If-Match": 'W/"1"'}).status_code == 200
    late = json_patch(client, address, change, **{"If-Match": 'W/"1"'})
    assert late.status_code == 412
    assert late.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-IF-MATCH"


def test_thirty_patches_at_once_all_take_effect(server: Any) -> None:
    address = created(server.client, extension=[{"url": f"http://t.example/{n}", "valueInteger": 0} for n in range(30)])
    requests = [
        server.client.build_request(
            "PATCH",
            f"{server.base_url}/{address}",
            content=json.dumps([{"op": "replace", "path": f"/extension/{n}/valueInteger", "value": n + 1}]),
            headers=JSON_PATCH,
        )
        for n in range(30)
    ]
    updates = [
        server.client.build_request(
            "PATCH",
            f"{server.base_url}/Patient?_id={address.removeprefix('Patient/')}",
            json=parameters(
                operation(
                    "add",
                    "Patient",
                    name=("valueString", "name"),
                    value=("valueHumanName", {"family": str(n)}),
                )
            ),
            headers=FHIR_JSON,
        )
        for n in range(15)
    ]
    answers = server.gather(*requests, *updates)
    assert [a.status_code for a in answers] == [200] * 45
    result = server.client.get(address).json()
    assert [e["valueInteger"] for e in result["extension"]] == list(range(1, 31))
    assert sorted(name["family"] for name in result["name"]) == sorted(str(n) for n in range(15))
    assert result["meta"]["versionId"] == "46"


def test_patches_on_two_server_processes_all_take_effect(make_server: Any) -> None:
    one = make_server()
    two = make_server(mongodb_database=one.settings.mongodb_database)
    address = created(one.client, extension=[{"url": f"http://t.example/{n}", "valueInteger": 0} for n in range(20)])

    async def patched(server: Any, places: range) -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=server.app)) as client:
            return [
                (
                    await client.patch(
                        f"{server.base_url}/{address}",
                        content=json.dumps([{"op": "replace", "path": f"/extension/{n}/valueInteger", "value": 1}]),
                        headers=JSON_PATCH,
                    )
                ).status_code
                for n in places
            ]

    first = asyncio.run_coroutine_threadsafe(patched(one, range(10)), one._loop)
    second = asyncio.run_coroutine_threadsafe(patched(two, range(10, 20)), two._loop)
    assert first.result(60) + second.result(60) == [200] * 20
    assert [e["valueInteger"] for e in one.client.get(address).json()["extension"]] == [1] * 20


def test_of_many_patches_of_one_version_one_wins(server: Any) -> None:
    address = created(server.client)
    answers = server.gather(
        *(
            server.client.build_request(
                "PATCH",
                f"{server.base_url}/{address}",
                content=json.dumps([{"op": "add", "path": "/name", "value": [{"text": str(n)}]}]),
                headers={**JSON_PATCH, "If-Match": 'W/"1"'},
            )
            for n in range(10)
        )
    )
    assert sorted(a.status_code for a in answers) == [200] + [412] * 9


# --- conditional ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON_PATCH, '[{"op":"add","path":"/gender","value":"other"}]'),
        (FHIR_JSON, json.dumps(set_gender("other"))),
        (
            XML_PATCH,
            '<diff><add sel="f:Patient/f:active" pos="after">'
            '<gender xmlns="http://hl7.org/fhir" value="other"/></add></diff>',
        ),
    ],
)
def test_a_conditional_patch_changes_the_one_match(client: httpx.Client, headers: dict[str, str], body: str) -> None:
    criteria, member = identified()
    url = f"Patient?{criteria}"
    assert client.patch(url, content=body, headers=headers).status_code == 404
    first = created(client, **member)
    answer = client.patch(url, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (f"Patient/{answer.json()['id']}", answer.json()["gender"]) == (first, "other")
    assert client.patch(url, content=body, headers={**headers, "If-Match": 'W/"1"'}).status_code == 412
    created(client, **member)
    several = client.patch(url, content=body, headers=headers)
    assert several.status_code == 412
    assert "Several" in diagnostics(several)


def test_a_conditional_patch_needs_criteria_that_are_understood(client: httpx.Client) -> None:
    assert json_patch(client, "Patient?nonsense=1", {"op": "remove", "path": "/active"}).status_code == 400
    assert json_patch(client, "Patient", {"op": "remove", "path": "/active"}).status_code == 412


# --- the statement --------------------------------------------------------------------------------------------------


def test_the_statement_lists_patch_and_its_formats(client: httpx.Client) -> None:
    statement = client.get("metadata").json()
    assert "application/json-patch+json" in statement["patchFormat"]
    assert all({"code": "patch"} in row["interaction"] for row in statement["rest"][0]["resource"])
