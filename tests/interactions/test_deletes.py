"""Deletion where others refer to a resource, of many at once, and with all that refers to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conftest import InProcessServer

Json = dict[str, Any]


@pytest.fixture(scope="module")
def whole(make_server: Callable[..., InProcessServer]) -> InProcessServer:
    """A server that keeps references whole and deletes up to three matches at once."""
    return make_server(referential_integrity="refuse", conditional_delete_limit=3, cascade_limit=20)


@pytest.fixture
def strict(whole: InProcessServer) -> httpx.Client:
    return whole.client


def put(client: httpx.Client, resource: Json) -> httpx.Response:
    return client.put(f"{resource['resourceType']}/{resource['id']}", json=resource)


def patient(name: str, **more: Any) -> Json:
    return {"resourceType": "Patient", "id": name, **more}


def observation(name: str, subject: str, **more: Any) -> Json:
    code = {"text": "x"}
    return {
        "resourceType": "Observation", "id": name, "status": "final", "code": code, "subject": {"reference": subject},
        **more,
    }  # fmt: skip


def entry(method: str, url: str, resource: Json | None = None) -> Json:
    row: Json = {"request": {"method": method, "url": url}}
    return row if resource is None else {"fullUrl": f"http://test/fhir/{url}", "resource": resource, **row}


def transact(client: httpx.Client, *entries: Json) -> httpx.Response:
    return client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": list(entries)})


def fault(answer: httpx.Response) -> tuple[int, str, str]:
    issue = answer.json()["issue"][0]
    return answer.status_code, issue["details"]["coding"][0]["code"], issue["diagnostics"]


# --- referential integrity ------------------------------------------------------------------------------------------


def test_references_may_lead_nowhere_unless_the_server_keeps_them_whole(client: httpx.Client) -> None:
    assert put(client, observation("loose", "Patient/nowhere")).status_code == 201
    put(client, patient("loose"))
    put(client, observation("loose", "Patient/loose"))
    assert client.delete("Patient/loose").status_code == 204


@pytest.mark.parametrize("reference", ["Patient/none", "http://test/fhir/Patient/none", "Patient/none/_history/1"])
def test_a_reference_to_what_is_not_there_is_refused_with_its_place(strict: httpx.Client, reference: str) -> None:
    answer = put(strict, observation("o", reference))
    status, key, text = fault(answer)
    assert (status, key) == (422, "HS-REF-MISSING")
    assert "Patient/none" in text
    assert answer.json()["issue"][0]["expression"] == ["Observation.subject.reference"]
    assert strict.get("Observation/o").status_code == 404


def test_references_elsewhere_and_inside_are_no_matter(strict: httpx.Client) -> None:
    for reference in ("http://elsewhere.example/fhir/Patient/1", "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"):
        assert put(strict, observation("elsewhere", reference)).status_code in (200, 201)
    inner = {"resourceType": "Patient", "id": "p"}
    assert put(strict, observation("inside", "#p", contained=[inner])).status_code == 201


def test_what_others_refer_to_is_not_deleted_and_they_are_named(strict: httpx.Client) -> None:
    put(strict, patient("held"))
    for number in range(25):
        assert put(strict, observation(f"holds-{number:02}", "Patient/held")).status_code == 201
    status, key, text = fault(strict.delete("Patient/held"))
    assert (status, key) == (409, "HS-REF-IN-USE")
    assert text.count("Observation/holds-") == 20
    assert "and others" in text
    assert strict.get("Patient/held").status_code == 200


def test_what_nobody_refers_to_any_more_is_deleted(strict: httpx.Client) -> None:
    put(strict, patient("free"))
    put(strict, patient("other"))
    put(strict, observation("turned", "Patient/free"))
    put(strict, observation("gone", "Patient/free"))
    assert strict.delete("Patient/free").status_code == 409
    assert put(strict, observation("turned", "Patient/other")).status_code == 200
    assert strict.delete("Observation/gone").status_code == 204
    assert strict.delete("Patient/free").status_code == 204
    assert strict.delete("Patient/free").status_code == 204
    assert put(strict, observation("late", "Patient/free")).status_code == 422


def test_the_entries_of_a_transaction_count(strict: httpx.Client) -> None:
    made = transact(
        strict,
        entry("PUT", "Observation/tx", observation("tx", "Patient/tx")),
        entry("PUT", "Patient/tx", patient("tx")),
    )
    assert made.status_code == 200, made.text
    half = transact(strict, entry("DELETE", "Patient/tx"))
    assert fault(half)[:2] == (409, "HS-REF-IN-USE")
    turned = transact(
        strict,
        entry("DELETE", "Patient/tx"),
        entry("PUT", "Patient/tx2", patient("tx2")),
        entry("PUT", "Observation/tx", observation("tx", "Patient/tx2")),
    )
    assert turned.status_code == 200, turned.text
    both = transact(strict, entry("DELETE", "Patient/tx2"), entry("DELETE", "Observation/tx"))
    assert both.status_code == 200, both.text
    dangling = transact(strict, entry("PUT", "Observation/tx3", observation("tx3", "Patient/tx")))
    assert fault(dangling)[:2] == (422, "HS-REF-MISSING")


def test_patches_and_conditional_writes_are_looked_at_too(strict: httpx.Client) -> None:
    put(strict, patient("patched", identifier=[{"system": "urn:del", "value": "p"}]))
    put(strict, observation("patched", "Patient/patched", identifier=[{"system": "urn:del", "value": "o"}]))
    patch = [{"op": "replace", "path": "/subject/reference", "value": "Patient/never"}]
    headers = {"Content-Type": "application/json-patch+json"}
    assert strict.patch("Observation/patched", json=patch, headers=headers).status_code == 422
    wrong = observation("patched", "Patient/never")
    assert strict.put("Observation?identifier=urn:del|o", json=wrong).status_code == 422
    fresh = {k: v for k, v in observation("x", "Patient/never").items() if k != "id"}
    made = strict.post("Observation", json=fresh, headers={"If-None-Exist": "identifier=urn:del|fresh"})
    assert made.status_code == 422
    assert fault(strict.delete("Patient?identifier=urn:del|p"))[:2] == (409, "HS-REF-IN-USE")


def test_of_a_deletion_and_a_reference_at_once_only_one_happens(whole: InProcessServer) -> None:
    client = whole.client
    put(client, observation("warm", "Patient/never"))
    for number in range(15):
        target = f"race-{number}"
        put(client, patient(target))
        answers = whole.gather(
            client.build_request("DELETE", f"Patient/{target}"),
            client.build_request("PUT", f"Observation/{target}", json=observation(target, f"Patient/{target}")),
        )
        statuses = [answer.status_code for answer in answers]
        assert statuses in ([204, 422], [409, 201]), [answer.text for answer in answers]


# --- cascades -------------------------------------------------------------------------------------------------------


def family(client: httpx.Client, name: str) -> None:
    """A patient, an encounter of the patient, an observation in the encounter, and a patient apart."""
    coding = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}
    subject = {"reference": f"Patient/{name}"}
    visit = {"resourceType": "Encounter", "id": name, "status": "finished", "class": coding, "subject": subject}
    apart = f"{name}-apart"
    for resource in (
        patient(name),
        visit,
        patient(apart),
        observation(name, f"Patient/{apart}", encounter={"reference": f"Encounter/{name}"}),
        observation(apart, f"Patient/{apart}"),
    ):
        assert put(client, resource).status_code == 201


@pytest.mark.parametrize("how", [{"params": {"_cascade": "delete"}}, {"headers": {"X-Cascade": "delete"}}])
@pytest.mark.parametrize("kept_whole", [True, False])
def test_a_cascade_deletes_what_refers_directly_and_in_turn(
    client: httpx.Client, strict: httpx.Client, how: Any, kept_whole: bool
) -> None:
    used = strict if kept_whole else client
    name = f"family-{'h' if 'headers' in how else 'p'}"
    family(used, name)
    answer = used.delete(f"Patient/{name}", **how)
    assert answer.status_code == 200, answer.text
    told = answer.json()["issue"][0]["diagnostics"]
    assert told.startswith("3 resources were deleted: 1 Encounter, 1 Observation, 1 Patient")
    for gone in (f"Patient/{name}", f"Encounter/{name}", f"Observation/{name}"):
        assert gone in told
        assert used.get(gone).status_code == 410
    for left in (f"Patient/{name}-apart", f"Observation/{name}-apart"):
        assert used.get(left).status_code == 200


def test_a_cascade_ends_where_references_run_in_a_circle(client: httpx.Client) -> None:
    def linked(name: str, other: str) -> Json:
        return patient(name, link=[{"other": {"reference": f"Patient/{other}"}, "type": "seealso"}])

    put(client, linked("ring-1", "ring-2"))
    put(client, linked("ring-2", "ring-1"))
    assert "2 resources" in client.delete("Patient/ring-1?_cascade=delete").text
    assert client.get("Patient/ring-2").status_code == 410


def test_a_cascade_above_the_limit_deletes_nothing(strict: httpx.Client) -> None:
    put(strict, patient("many"))
    for number in range(20):
        put(strict, observation(f"many-{number}", "Patient/many"))
    status, key, text = fault(strict.delete("Patient/many?_cascade=delete"))
    assert (status, key) == (422, "HS-CASCADE-SIZE")
    assert "20" in text
    assert strict.get("Patient/many").status_code == 200
    assert strict.get("Observation/many-3").status_code == 200
    strict.delete("Observation/many-0")
    assert strict.delete("Patient/many?_cascade=delete").status_code == 200


def test_a_cascade_in_other_words_is_refused(client: httpx.Client) -> None:
    put(client, patient("words"))
    assert fault(client.delete("Patient/words?_cascade=all"))[:2] == (400, "HS-CASCADE")
    assert client.delete("Patient/words", headers={"X-Cascade": "delete", "If-Match": 'W/"7"'}).status_code == 412
    assert client.get("Patient/words").status_code == 200
    assert client.delete("Patient/words?_cascade=none").status_code == 204


# --- conditional deletes of many ------------------------------------------------------------------------------------


def labelled(client: httpx.Client, value: str, count: int) -> None:
    for number in range(count):
        put(client, patient(f"{value}-{number}", identifier=[{"system": "urn:many", "value": value}]))


def test_one_match_is_the_limit_unless_more_are_allowed(client: httpx.Client) -> None:
    labelled(client, "two", 2)
    status, key, text = fault(client.delete("Patient?identifier=urn:many|two"))
    assert (status, key) == (412, "HS-COND-MULTIPLE")
    assert text.startswith("2 Patient resources")
    assert client.get("Patient/two-0").status_code == 200


def test_as_many_as_allowed_are_deleted_together(strict: httpx.Client) -> None:
    labelled(strict, "three", 3)
    answer = strict.delete("Patient?identifier=urn:many|three", headers={"Prefer": "return=OperationOutcome"})
    assert answer.status_code == 200
    assert "3 resources were deleted: 3 Patient" in answer.text
    assert [strict.get(f"Patient/three-{n}").status_code for n in range(3)] == [410, 410, 410]
    assert strict.delete("Patient?identifier=urn:many|three").status_code == 204


def test_more_than_allowed_are_left_alone_and_counted(strict: httpx.Client) -> None:
    labelled(strict, "five", 5)
    status, key, text = fault(strict.delete("Patient?identifier=urn:many|five"))
    assert (status, key) == (412, "HS-COND-MULTIPLE")
    assert text.startswith("5 Patient resources")
    assert "3 at most" in text
    assert [strict.get(f"Patient/five-{n}").status_code for n in range(5)] == [200] * 5


def test_a_conditional_delete_can_cascade(strict: httpx.Client) -> None:
    labelled(strict, "led", 2)
    put(strict, observation("led", "Patient/led-1"))
    assert strict.delete("Patient?identifier=urn:many|led").status_code == 409
    answer = strict.delete("Patient?identifier=urn:many|led&_cascade=delete")
    assert "3 resources were deleted: 1 Observation, 2 Patient" in answer.text


# --- what the server says of itself ---------------------------------------------------------------------------------


def test_the_capability_statement_tells_how_deletes_are_done(client: httpx.Client, strict: httpx.Client) -> None:
    def row(of: httpx.Client) -> Json:
        rows: list[Json] = of.get("metadata", headers={"Accept": "application/fhir+json"}).json()["rest"][0]["resource"]
        return rows[0]

    assert row(client)["conditionalDelete"] == "single"
    assert row(client)["referencePolicy"] == ["literal", "logical"]
    assert row(strict)["conditionalDelete"] == "multiple"
    assert row(strict)["referencePolicy"] == ["literal", "logical", "enforced"]
