"""batch and transaction: http://hl7.org/fhir/R4/http.html#transaction."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest


def bundle(*entries: dict[str, Any], kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def entry(method: str, url: str, resource: dict[str, Any] | None = None, **request: str) -> dict[str, Any]:
    full_url = request.pop("fullUrl", None)
    row: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        row["resource"] = resource
    if full_url is not None:
        row["fullUrl"] = full_url
    return row


def urn() -> str:
    return f"urn:uuid:{uuid.uuid4()}"


def identified(value: str, kind: str = "Patient", **more: Any) -> dict[str, Any]:
    return {"resourceType": kind, "identifier": [{"system": "http://t.example", "value": value}], **more}


def observation(reference: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": reference},
        **more,
    }


def ids(answer: httpx.Response) -> list[str]:
    """`Type/id` of each response entry."""
    return ["/".join(e["response"]["location"].split("/")[:2]) for e in answer.json()["entry"]]


def test_links_between_entries_follow_to_the_new_ids(client: httpx.Client) -> None:
    patient, document = urn(), urn()
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{patient}">her</a><img src="{document}"/></div>'
    answer = client.post(
        "",
        json=bundle(
            entry("POST", "Observation", observation(patient, text={"status": "generated", "div": div})),
            entry("POST", "Patient", {"resourceType": "Patient"}, fullUrl=patient),
            entry(
                "POST",
                "DocumentReference",
                {
                    "resourceType": "DocumentReference",
                    "status": "current",
                    "identifier": [{"system": "urn:ietf:rfc:3986", "value": patient}],
                    "subject": {"reference": patient},
                    "content": [{"attachment": {"url": document}}],
                },
                fullUrl=document,
            ),
        ),
    )
    assert answer.status_code == 200, answer.text
    made, her, paper = ids(answer)
    written = client.get(made).json()
    assert written["subject"]["reference"] == her
    assert f'href="{her}"' in written["text"]["div"]
    assert f'src="{paper}"' in written["text"]["div"]
    document_reference = client.get(paper).json()
    assert document_reference["content"][0]["attachment"]["url"] == paper
    assert document_reference["identifier"][0]["value"] == patient, "an identifier is no link"


def test_a_relative_reference_follows_the_entry_with_that_full_url(client: httpx.Client) -> None:
    answer = client.post(
        "",
        json=bundle(
            entry("POST", "Patient", {"resourceType": "Patient"}, fullUrl="http://ehr.example/fhir/Patient/7"),
            entry("POST", "Observation", observation("Patient/7"), fullUrl="http://ehr.example/fhir/Observation/1"),
        ),
    )
    patient, made = ids(answer)
    assert client.get(made).json()["subject"]["reference"] == patient != "Patient/7"


def test_responses_stand_in_the_order_of_the_request_whatever_the_order_of_work(client: httpx.Client) -> None:
    name = f"t-{uuid.uuid4()}"
    client.put(f"Patient/{name}", json={"resourceType": "Patient", "id": name})
    answer = client.post(
        "",
        json=bundle(
            entry("GET", f"Patient?_id={name}-new"),
            entry("PUT", f"Patient/{name}-new", {"resourceType": "Patient", "id": f"{name}-new"}),
            entry("POST", "Patient", {"resourceType": "Patient"}),
            entry("DELETE", f"Patient/{name}"),
        ),
    )
    entries = answer.json()["entry"]
    assert [e["response"]["status"] for e in entries] == ["200", "201", "201", "204"]
    assert entries[0]["resource"]["total"] == 1, "a read sees what the transaction wrote"
    assert client.get(f"Patient/{name}").status_code == 410


def test_a_failing_entry_is_named_and_undoes_all(client: httpx.Client) -> None:
    mark = str(uuid.uuid4())
    answer = client.post(
        "",
        json=bundle(
            entry("POST", "Patient", identified(mark)),
            entry("POST", "Observation", {"resourceType": "Observation", "statuss": "final", "code": {}}),
            entry("POST", "Patient", identified(mark, birthDate="1970-13-01")),
            entry("PUT", "Patient/x", {"resourceType": "Patient", "id": "x", "active": "yes"}),
        ),
    )
    issues = answer.json()["issue"]
    assert answer.status_code == 400
    assert {i["expression"][0] for i in issues} >= {
        "Bundle.entry[1].resource.statuss",
        "Bundle.entry[1].resource.status",
        "Bundle.entry[2].resource.birthDate",
        "Bundle.entry[3].resource.active",
    }
    assert issues[0]["diagnostics"].startswith("Entry 1: ")
    assert client.get(f"Patient?identifier={mark}").json()["total"] == 0


def test_a_failing_precondition_or_read_undoes_all(client: httpx.Client) -> None:
    name, mark = f"t-{uuid.uuid4()}", str(uuid.uuid4())
    client.put(f"Patient/{name}", json={"resourceType": "Patient", "id": name})
    for failing, status in (
        (entry("PUT", f"Patient/{name}", {"resourceType": "Patient", "id": name}, ifMatch='W/"9"'), 412),
        (entry("GET", "Patient/never-was"), 404),
        (entry("PATCH", f"Patient/{name}", {"resourceType": "Patient", "id": name}), 400),
        (entry("POST", "Nonsense", {"resourceType": "Nonsense"}), 400),
    ):
        answer = client.post("", json=bundle(entry("POST", "Patient", identified(mark)), failing))
        assert answer.status_code == status
        assert "Bundle.entry[1]" in answer.json()["issue"][0]["expression"][0]
        assert "Entry 1" in answer.json()["issue"][0]["diagnostics"]
    assert client.get(f"Patient?identifier={mark}").json()["total"] == 0
    assert client.get(f"Patient/{name}").headers["ETag"] == 'W/"1"'


def test_if_none_exist_takes_the_existing_resource_and_links_follow_to_it(client: httpx.Client) -> None:
    mark, place = str(uuid.uuid4()), urn()
    request = bundle(
        entry("POST", "Patient", identified(mark), fullUrl=place, ifNoneExist=f"identifier=http://t.example|{mark}"),
        entry("POST", "Observation", observation(place)),
    )
    first, second = client.post("", json=request), client.post("", json=request)
    assert [e["response"]["status"] for e in first.json()["entry"]] == ["201", "201"]
    assert [e["response"]["status"] for e in second.json()["entry"]] == ["200", "201"]
    assert ids(first)[0] == ids(second)[0]
    assert client.get(ids(second)[1]).json()["subject"]["reference"] == ids(first)[0]
    assert client.get(f"Patient?identifier={mark}").json()["total"] == 1


def test_two_entries_with_the_same_condition_make_one_resource(client: httpx.Client) -> None:
    mark = str(uuid.uuid4())
    criteria = f"identifier=http://t.example|{mark}"
    places = [urn(), urn()]
    answer = client.post(
        "",
        json=bundle(
            *(entry("POST", "Patient", identified(mark), fullUrl=place, ifNoneExist=criteria) for place in places),
            entry("POST", "Observation", observation(places[1])),
        ),
    )
    first, second, made = ids(answer)
    assert [e["response"]["status"] for e in answer.json()["entry"]] == ["201", "200", "201"]
    assert first == second
    assert client.get(made).json()["subject"]["reference"] == first
    assert client.get(f"Patient?{criteria}").json()["total"] == 1


def test_a_urn_that_names_no_entry_is_refused(client: httpx.Client) -> None:
    answer = client.post("", json=bundle(entry("POST", "Observation", observation(urn()))))
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[0].resource.subject.reference"]


@pytest.mark.parametrize(
    "url",
    [
        "_history",
        "Patient/_history?_count=1",
        "Patient/{name}/_history",
        "Patient?_sort=family",
        "Patient?_sort=-birthdate",
    ],
)
def test_every_kind_of_read_is_possible_inside_a_transaction(client: httpx.Client, url: str) -> None:
    name = f"t-{uuid.uuid4()}"
    patient = {"resourceType": "Patient", "id": name, "birthDate": "1970-01-01"}
    client.put(f"Patient/{name}", json=patient)
    answer = client.post(
        "",
        json=bundle(entry("PUT", f"Patient/{name}", {**patient, "active": True}), entry("GET", url.format(name=name))),
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()["entry"][1]["resource"]["entry"]
    if "_history" in url:
        assert found[0]["resource"]["active"] is True


def test_a_bundle_inside_a_batch_and_a_url_beside_the_base_are_refused(client: httpx.Client) -> None:
    inner = {"resourceType": "Bundle", "type": "batch"}
    beside = str(client.base_url).rstrip("/") + "x/Patient"
    rows = client.post(
        "", json=bundle(entry("POST", "", inner), entry("GET", beside), entry("HEAD", "metadata"), kind="batch")
    ).json()["entry"]
    assert [r["response"]["status"] for r in rows] == ["400", "400", "200"]
    assert "resource" not in rows[2]


def test_concurrent_transactions_with_one_condition_make_one_resource(server: Any) -> None:
    mark = str(uuid.uuid4())
    criteria = f"identifier=http://t.example|{mark}"
    request = bundle(
        entry("POST", "Patient", identified(mark), ifNoneExist=criteria),
        entry("POST", "Observation", observation(f"Patient?{criteria}")),
    )
    client = server.client
    client.post("", json=bundle(entry("POST", "Patient", identified(mark), ifNoneExist=criteria)))
    answers = server.gather(*(client.build_request("POST", server.base_url, json=request) for _ in range(12)))
    assert {a.status_code for a in answers} == {200}
    assert client.get(f"Patient?{criteria}").json()["total"] == 1
    (found,) = client.get(f"Patient?{criteria}").json()["entry"]
    assert client.get(f"Observation?subject=Patient/{found['resource']['id']}&_summary=count").json()["total"] == 12


def test_a_conditional_reference_leads_to_the_one_match_or_fails(client: httpx.Client) -> None:
    mark = str(uuid.uuid4())
    made = client.post("Practitioner", json=identified(mark, "Practitioner")).json()
    reference = f"Practitioner?identifier=http://t.example|{mark}"
    request = bundle(entry("POST", "Observation", observation("Patient/1", performer=[{"reference": reference}])))
    answer = client.post("", json=request)
    assert answer.status_code == 200, answer.text
    assert client.get(ids(answer)[0]).json()["performer"][0]["reference"] == f"Practitioner/{made['id']}"
    client.post("Practitioner", json=identified(mark, "Practitioner"))
    assert client.post("", json=request).status_code == 412, "two match"
    nobody = json.dumps(request).replace(mark, "nobody")
    refused = client.post("", content=nobody, headers={"Content-Type": "application/fhir+json"})
    assert refused.status_code == 412
    issue = refused.json()["issue"][0]
    assert "identifier=http://t.example|nobody" in issue["diagnostics"]
    assert issue["expression"] == ["Bundle.entry[0]"]


def test_conditional_update_and_delete_work_inside_a_transaction(client: httpx.Client) -> None:
    keep, drop = str(uuid.uuid4()), str(uuid.uuid4())
    standing = client.post("Patient", json=identified(keep)).json()
    leaving = client.post("Patient", json=identified(drop)).json()
    answer = client.post(
        "",
        json=bundle(
            entry("PUT", f"Patient?identifier=http://t.example|{keep}", identified(keep, gender="other")),
            entry("DELETE", f"Patient?identifier=http://t.example|{drop}"),
            entry("PUT", f"Patient?identifier=http://t.example|{keep}-2", identified(f"{keep}-2")),
            entry("DELETE", f"Patient?identifier=http://t.example|{drop}-never"),
        ),
    )
    assert [e["response"]["status"] for e in answer.json()["entry"]] == ["200", "204", "201", "204"]
    assert client.get(f"Patient/{standing['id']}").json()["gender"] == "other"
    assert client.get(f"Patient/{leaving['id']}").status_code == 410


@pytest.mark.parametrize(
    "entries",
    [
        [("PUT", "Patient/twice"), ("PUT", "Patient/twice")],
        [("PUT", "Patient/twice"), ("DELETE", "Patient/twice")],
    ],
)
def test_one_resource_changed_twice_is_refused(client: httpx.Client, entries: list[tuple[str, str]]) -> None:
    body = {"resourceType": "Patient", "id": "twice"}
    answer = client.post("", json=bundle(*(entry(m, u, body if m == "PUT" else None) for m, u in entries)))
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["code"] == "duplicate"
    assert client.get("Patient/twice").status_code == 404


def test_one_full_url_for_two_entries_is_refused(client: httpx.Client) -> None:
    place = urn()
    patient = {"resourceType": "Patient"}
    answer = client.post("", json=bundle(*(entry("POST", "Patient", patient, fullUrl=place) for _ in range(2))))
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"resourceType": "Patient"}, 400),
        ({"resourceType": "Bundle", "type": "collection"}, 400),
        ({"resourceType": "Bundle"}, 400),
        ({"resourceType": "Bundle", "type": "transaction", "entry": [{}]}, 400),
        ({"resourceType": "Bundle", "type": "transaction", "entry": "x"}, 400),
        ({"resourceType": "Bundle", "type": "transaction", "surprise": 1}, 400),
        (
            {
                "resourceType": "Bundle",
                "type": "transaction",
                "entry": [{"request": {"method": "POST", "url": "Patient"}}],
            },
            400,
        ),
        (
            {
                "resourceType": "Bundle",
                "type": "transaction",
                "entry": [{"request": {"method": "GET", "url": "http://x.example/Patient/1"}}],
            },
            400,
        ),
        ({"resourceType": "Bundle", "type": "transaction"}, 200),
        ({"resourceType": "Bundle", "type": "batch", "entry": [{}]}, 200),
    ],
)
def test_a_bundle_that_is_none_of_ours_is_refused_clearly(
    client: httpx.Client, body: dict[str, Any], status: int
) -> None:
    answer = client.post("", json=body)
    assert answer.status_code == status
    if status >= 400:
        assert answer.json()["issue"][0]["diagnostics"]


def test_a_bundle_with_more_entries_than_the_limit_is_refused(make_server: Any) -> None:
    server = make_server(max_bundle_entries=2)
    answer = server.client.post("", json=bundle(*(entry("GET", "Patient") for _ in range(3))))
    assert answer.status_code == 413
    assert "3 entries" in answer.json()["issue"][0]["diagnostics"]


def test_the_entries_of_a_batch_stand_for_themselves(client: httpx.Client) -> None:
    answer = client.post(
        "",
        json=bundle(
            entry("POST", "Patient", {"resourceType": "Patient"}),
            entry("POST", "Patient", {"resourceType": "Patient", "nonsense": 1}),
            entry("GET", "Patient/never-was"),
            entry("GET", "Patient?nonsense:x=1"),
            entry("DELETE", "Patient/never-was"),
            {},
            kind="batch",
        ),
    )
    rows = answer.json()["entry"]
    assert answer.json()["type"] == "batch-response"
    assert [r["response"]["status"] for r in rows] == ["201", "400", "404", "200", "204", "400"]
    assert rows[1]["response"]["outcome"]["issue"][0]["expression"] == ["Patient.nonsense"]
    assert rows[0]["response"]["etag"] == 'W/"1"'


def test_prefer_return_representation_puts_resources_into_the_response(client: httpx.Client) -> None:
    request = bundle(entry("POST", "Patient", {"resourceType": "Patient", "gender": "male"}))
    with_body = client.post("", json=request, headers={"Prefer": "return=representation"}).json()["entry"][0]
    without = client.post("", json=request).json()["entry"][0]
    assert with_body["resource"]["gender"] == "male"
    assert "resource" not in without


def test_a_large_transaction_is_written_whole(client: httpx.Client) -> None:
    mark = urn()
    entries = [entry("POST", "Patient", {"resourceType": "Patient"}, fullUrl=mark)]
    entries += [entry("POST", "Observation", observation(mark)) for _ in range(1200)]
    answer = client.post("", json=bundle(*entries))
    assert answer.status_code == 200
    assert len(answer.json()["entry"]) == 1201
    patient = ids(answer)[0]
    assert client.get(f"Observation?subject={patient}&_summary=count").json()["total"] == 1200
