"""patch: https://hl7.org/fhir/R4/http.html#patch."""

from __future__ import annotations

import asyncio
import json
import uuid
from base64 import b64encode
from typing import Any

import httpx
import pytest

JSON_PATCH = {"Content-Type": "application/json-patch+json"}
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
XML_PATCH = {"Content-Type": "application/xml-patch+xml"}
FHIR_JSON = {"Content-Type": "application/fhir+json"}


def created(client: httpx.Client, **more: Any) -> str:
    """The address of a new Patient."""
    answer = client.post("Patient", json={"resourceType": "Patient", "active": True, **more})
    assert answer.status_code == 201, answer.text
    return f"Patient/{answer.json()['id']}"


def identified() -> tuple[str, dict[str, Any]]:
    """Criteria, and the member of a Patient that they select."""
    value = str(uuid.uuid4())
    return f"identifier=http://t.example|{value}", {"identifier": [{"system": "http://t.example", "value": value}]}


def operation(kind: str, path: str, **parts: Any) -> dict[str, Any]:
    """An operation of a FHIRPath Patch; a part is given as `(name of its value[x], value)`."""
    rows = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    rows += [{"name": name, member: value} for name, (member, value) in parts.items()]
    return {"name": "operation", "part": rows}


def parameters(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(operations)}


def set_gender(code: str) -> dict[str, Any]:
    return parameters(operation("add", "Patient", name=("valueString", "gender"), value=("valueCode", code)))


def json_patch(client: httpx.Client, url: str, *operations: dict[str, Any], **headers: str) -> httpx.Response:
    return client.patch(url, content=json.dumps(operations), headers={**JSON_PATCH, **headers})


def binary(content_type: str, data: str) -> dict[str, Any]:
    return {"resourceType": "Binary", "contentType": content_type, "data": b64encode(data.encode()).decode()}


def entry(url: str, resource: dict[str, Any], method: str = "PATCH", **more: str) -> dict[str, Any]:
    row: dict[str, Any] = {"resource": resource, "request": {"method": method, "url": url}}
    if "fullUrl" in more:
        row["fullUrl"] = more.pop("fullUrl")
    row["request"] |= more
    return row


def bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def diagnostics(answer: httpx.Response) -> str:
    return str(answer.json()["issue"][0]["diagnostics"])


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


# --- refusals -------------------------------------------------------------------------------------------------------


def test_nothing_is_there_to_be_patched(client: httpx.Client) -> None:
    address = created(client)
    assert client.delete(address).status_code == 204
    for gone, status in ((address, 410), ("Patient/never-was", 404), ("Patient/bad_id!", 400), ("Nonsense/1", 404)):
        answer = json_patch(client, gone, {"op": "remove", "path": "/active"})
        assert answer.status_code == status
        assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(
    ("operations", "status", "words"),
    [
        ([{"op": "test", "path": "/active", "value": False}], 422, "Operation 0 (test '/active'): found true"),
        ([{"op": "remove", "path": "/active"}, {"op": "remove", "path": "/nothing"}], 422, "Operation 1"),
        ([{"op": "replace", "path": "/id", "value": "other"}], 422, "id"),
        ([{"op": "remove", "path": "/id"}], 422, "id"),
        ([{"op": "replace", "path": "/resourceType", "value": "Person"}], 422, "'Person'"),
        ([{"op": "replace", "path": "", "value": 7}], 422, "resourceType"),
        ([{"op": "replace", "path": "/active", "value": "yes"}], 400, "'yes'"),
        ([{"op": "add", "path": "/birthDate", "value": "1980-02-30"}], 400, "1980-02-30"),
        ([{"op": "frob", "path": "/active"}], 400, "'frob'"),
        ([{"op": "add", "path": "active", "value": 1}], 400, "begins with /"),
        ([{"op": "add", "path": "/a~2", "value": 1}], 400, "after ~"),
        ([{"op": "add", "path": "/active"}], 400, "no `value`"),
        ([7], 400, "Operation 0"),
        ({"op": "add"}, 400, "array"),
        ([{"op": "test", "path": "/active", "value": True}] * 1001, 413, "1,001"),
        ([{"op": "copy", "from": "", "path": "/contact"}] * 110, 422, "levels"),
        (
            [{"op": "add", "path": "/x", "value": [1]}, *[{"op": "copy", "from": "/x", "path": "/x/-"}] * 40],
            422,
            "values",
        ),
    ],
)
def test_a_json_patch_that_cannot_be_carried_out_changes_nothing(
    client: httpx.Client, operations: Any, status: int, words: str
) -> None:
    address = created(client)
    answer = client.patch(address, content=json.dumps(operations), headers=JSON_PATCH)
    assert answer.status_code == status, answer.text
    assert words in diagnostics(answer)
    assert client.get(address).headers["ETag"] == 'W/"1"'


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (operation("delete", "Patient.nam"), 400, "'nam'"),
        (operation("delete", "Patient..active"), 400, "position"),
        (operation("delete", "Patient.name"), 422, "2 elements"),
        (operation("delete", "Patient"), 422, "whole resource"),
        (operation("delete", "Patient.name.count()"), 422, "computed"),
        (operation("replace", "Patient.gender", value=("valueCode", "male")), 422, "nothing"),
        (operation("replace", "Patient.active", value=("valueString", "yes")), 422, "boolean"),
        (operation("replace", "Patient.name[0]", value=("valuePeriod", {"start": "2020"})), 422, "HumanName"),
        (operation("replace", "Patient.id", value=("valueId", "other")), 422, "id"),
        (operation("add", "Patient", name=("valueString", "active"), value=("valueBoolean", False)), 422, "active"),
        (operation("add", "Patient", name=("valueString", "x"), value=("valueBoolean", False)), 422, "'x'"),
        (operation("insert", "Patient.name", index=("valueInteger", 3), value=("valueHumanName", {})), 422, "index 3"),
        (operation("insert", "Patient.active", index=("valueInteger", 0), value=("valueBoolean", True)), 422, "list"),
        (operation("move", "Patient.name", source=("valueInteger", 0), destination=("valueInteger", 2)), 422, "2"),
        (operation("move", "Patient.name", source=("valueInteger", 0)), 400, "destination"),
        (operation("move", "Patient.name", source=("valueInteger", -1), destination=("valueInteger", 0)), 400, "-1"),
        (operation("frob", "Patient.name"), 400, "'frob'"),
        ({"name": "operation"}, 400, "no parts"),
        ({"name": "other"}, 400, "operation"),
    ],
)
def test_a_fhirpath_patch_that_cannot_be_carried_out_changes_nothing(
    client: httpx.Client, change: dict[str, Any], status: int, words: str
) -> None:
    address = created(client, name=[{"family": "a"}, {"family": "b"}])
    answer = client.patch(address, json=parameters(change), headers=FHIR_JSON)
    assert answer.status_code == status, answer.text
    assert words in diagnostics(answer)
    assert client.get(address).headers["ETag"] == 'W/"1"'


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("<diff/>", 400, "no operation"),
        ("<diff><", 400, "XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><diff><remove sel="f:Patient/f:active"/></diff>', 400, "document type"),
        ("<diff><frob sel='f:Patient'/></diff>", 400, "'frob'"),
        ("<diff><remove/></diff>", 400, "sel"),
        ("<diff><remove sel='f:Patient/'/></diff>", 400, "name"),
        ("<diff><remove sel='f:Patient//f:active'/></diff>", 400, "name"),
        ("<diff><remove sel='count(f:Patient)'/></diff>", 400, "not expected"),
        ("<diff><remove sel='g:Patient'/></diff>", 400, "'g'"),
        ("<diff><remove sel='f:Patient'/></diff>", 422, "root"),
        ("<diff><remove sel='f:Patient/f:name'/></diff>", 422, "2 nodes"),
        ("<diff><remove sel='f:Patient/f:gender'/></diff>", 422, "nothing"),
        ("<diff><replace sel='f:Patient'><Person xmlns='http://hl7.org/fhir'/></replace></diff>", 422, "'Person'"),
        ("<diff><replace sel='f:Patient/f:id/@value'>x</replace></diff>", 422, "id"),
        ("<diff><replace sel='f:Patient/f:active/@value'>maybe</replace></diff>", 400, "maybe"),
    ],
)
def test_an_xml_patch_that_cannot_be_carried_out_changes_nothing(
    client: httpx.Client, body: str, status: int, words: str
) -> None:
    address = created(client, name=[{"family": "a"}, {"family": "b"}])
    answer = client.patch(address, content=body, headers=XML_PATCH)
    assert answer.status_code == status, answer.text
    assert words in diagnostics(answer)
    assert client.get(address).headers["ETag"] == 'W/"1"'


def test_a_body_that_is_no_patch_is_told_what_one_is(client: httpx.Client) -> None:
    address = created(client)
    odd = client.patch(address, content="x", headers={"Content-Type": "text/turtle"})
    assert odd.status_code == 415
    assert "application/json-patch+json" in odd.headers["Accept-Patch"]
    resource = client.patch(address, json={"resourceType": "Patient"}, headers=FHIR_JSON)
    assert (resource.status_code, "Parameters" in diagnostics(resource)) == (400, True)
    array = client.patch(address, json=[], headers={"Content-Type": "application/json"})
    assert (array.status_code, "application/json-patch+json" in diagnostics(array)) == (400, True)
    assert client.patch(address, content=b"", headers=JSON_PATCH).status_code == 400


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


# --- in Bundles -----------------------------------------------------------------------------------------------------

CHANGES = [
    binary("application/json-patch+json", '[{"op":"add","path":"/gender","value":"other"}]'),
    set_gender("other"),
    binary(
        "application/xml-patch+xml",
        '<diff xmlns="http://hl7.org/fhir"><add sel="Patient/active" pos="after"><gender value="other"/></add></diff>',
    ),
    binary("application/merge-patch+json", '{"gender":"other"}'),
]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_entries_can_be_patches_in_each_format(client: httpx.Client, kind: str) -> None:
    addresses = [created(client) for _ in CHANGES]
    criteria, member = identified()
    conditional = created(client, **member)
    answer = client.post(
        "",
        json=bundle(
            kind,
            *map(entry, addresses, CHANGES),
            entry(f"Patient?{criteria}", CHANGES[1], ifMatch='W/"1"'),
        ),
    )
    assert answer.status_code == 200, answer.text
    responses = [row["response"] for row in answer.json()["entry"]]
    assert [(r["status"], r["etag"]) for r in responses] == [("200", 'W/"2"')] * 5
    for address in (*addresses, conditional):
        assert client.get(address).json()["gender"] == "other"
    assert client.get(f"{conditional}/_history").json()["entry"][0]["request"]["method"] == "PATCH"


@pytest.mark.parametrize(
    ("url", "resource", "more", "status"),
    [
        ("Patient/never-was", CHANGES[1], {}, "404"),
        ("Patient?identifier=never-was", CHANGES[1], {}, "404"),
        ("{address}", CHANGES[1], {"ifMatch": 'W/"9"'}, "412"),
        ("{address}", binary("application/json-patch+json", '[{"op":"test","path":"/active","value":1}]'), {}, "422"),
        ("{address}", binary("text/plain", "x"), {}, "415"),
        ("{address}", {"resourceType": "Binary", "contentType": "application/json-patch+json"}, {}, "400"),
        ("{address}", {**CHANGES[0], "data": "***"}, {}, "400"),
        ("{address}", {"resourceType": "Patient"}, {}, "400"),
    ],
)
def test_a_patch_that_fails_fails_its_entry_or_the_whole_transaction(
    client: httpx.Client, url: str, resource: dict[str, Any], more: dict[str, str], status: str
) -> None:
    address = created(client)
    criteria, member = identified()
    url = url.replace("{address}", address)
    other = entry("Patient", {"resourceType": "Patient", **member}, "POST")
    whole = client.post("", json=bundle("transaction", other, entry(url, resource, **more)))
    assert whole.status_code == int(status), whole.text
    assert whole.json()["issue"][0]["diagnostics"].startswith("Entry 1: ")
    assert client.get(f"Patient?{criteria}").json()["total"] == 0
    each = client.post("", json=bundle("batch", other, entry(url, resource, **more)))
    assert [row["response"]["status"] for row in each.json()["entry"]] == ["201", status]
    assert client.get(address).headers["ETag"] == 'W/"1"'


@pytest.mark.parametrize("form", ["fhirpath", "fhirpath whole", "json", "json whole", "xml", "xml whole", "merge"])
def test_links_in_a_patch_follow_to_other_entries(client: httpx.Client, form: str) -> None:
    urn = f"urn:uuid:{uuid.uuid4()}"
    whole = form.endswith("whole")
    path = "Patient.managingOrganization"
    match form.removesuffix(" whole"):
        case "fhirpath":
            value = ("valueReference", {"reference": urn}) if whole else ("valueString", urn)
            change = parameters(operation("replace", path if whole else f"{path}.reference", value=value))
        case "json":
            row = {"op": "replace", "path": "/managingOrganization", "value": {"reference": urn}}
            if not whole:
                row |= {"path": "/managingOrganization/reference", "value": urn}
            change = binary("application/json-patch+json", json.dumps([row]))
        case "merge":
            row = {"managingOrganization": {"reference": urn}}
            change = binary("application/merge-patch+json", json.dumps(row))
        case _:
            selector = "Patient/managingOrganization/reference" + ("" if whole else "/@value")
            content = f'<reference value="{urn}"/>' if whole else urn
            step = f'<replace sel="{selector}">{content}</replace>'
            change = binary("application/xml-patch+xml", f'<diff xmlns="http://hl7.org/fhir">{step}</diff>')
    address = created(client, managingOrganization={"reference": "Organization/none"})
    answer = client.post(
        "",
        json=bundle(
            "transaction",
            entry(address, change),
            entry("Organization", {"resourceType": "Organization", "name": "o"}, "POST", fullUrl=urn),
        ),
    )
    assert answer.status_code == 200, answer.text
    location = "/".join(answer.json()["entry"][1]["response"]["location"].split("/")[:2])
    assert client.get(address).json()["managingOrganization"]["reference"] == location


def test_a_link_in_a_patch_that_leads_nowhere_is_refused(client: httpx.Client) -> None:
    value = ("valueReference", {"reference": f"urn:uuid:{uuid.uuid4()}"})
    change = parameters(operation("add", "Patient", name=("valueString", "managingOrganization"), value=value))
    answer = client.post("", json=bundle("transaction", entry(created(client), change)))
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-TXN-DANGLING"


def test_conditional_references_in_a_patch_are_resolved(client: httpx.Client) -> None:
    value = str(uuid.uuid4())
    made = client.post("Organization", json={"resourceType": "Organization", "identifier": [{"value": value}]}).json()
    reference = {"reference": f"Organization?identifier={value}"}
    for change in (
        parameters(
            operation(
                "add",
                "Patient",
                name=("valueString", "managingOrganization"),
                value=("valueReference", reference),
            )
        ),
        binary(
            "application/json-patch+json",
            json.dumps([{"op": "add", "path": "/managingOrganization", "value": reference}]),
        ),
    ):
        address = created(client)
        assert client.post("", json=bundle("transaction", entry(address, change))).status_code == 200
        assert client.get(address).json()["managingOrganization"]["reference"] == f"Organization/{made['id']}"


def test_a_transaction_changes_each_resource_once(client: httpx.Client) -> None:
    criteria, member = identified()
    address = created(client, **member)
    change = set_gender("other")
    for first in (entry(address, change), entry(f"Patient?{criteria}", change)):
        answer = client.post("", json=bundle("transaction", first, entry(address, change)))
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-TXN-DUPLICATE"


def test_a_patch_is_carried_out_after_the_creates_whatever_the_order(client: httpx.Client) -> None:
    criteria, member = identified()
    answer = client.post(
        "",
        json=bundle(
            "transaction",
            entry(f"Patient?{criteria}", set_gender("other")),
            entry("Patient", {"resourceType": "Patient", **member}, "POST"),
        ),
    )
    # The match is looked for before anything is created, as for conditional updates.
    assert answer.status_code == 404


# --- the statement --------------------------------------------------------------------------------------------------


def test_the_statement_lists_patch_and_its_formats(client: httpx.Client) -> None:
    statement = client.get("metadata").json()
    assert "application/json-patch+json" in statement["patchFormat"]
    assert all({"code": "patch"} in row["interaction"] for row in statement["rest"][0]["resource"])
