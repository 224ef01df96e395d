"""Who signs what, what a signature closes, and how it is verified."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import ECKey

from fhir_server.model import codec
from resources.prescription import paper
from resources.prescription.keys import key_in
from resources.prescription.signature import canonical, is_good, signed
from resources.signing import signer_of
from tests.conftest import BASE_URL
from tests.resources.prescription.conftest import Clinic, all_of, given, key_of, values

Json = dict[str, Any]


def test_only_the_prescriber_signs(clinic: Clinic) -> None:
    address = clinic.drafted()
    for who in ("other-doctor",):
        answer = clinic.call(who, "POST", f"{address}/$sign")
        assert (answer.status_code, key_of(answer)) == (403, "HS-RX-NOT-PRESCRIBER")
    for who in ("pharmacy", "patient", "system"):
        answer = clinic.call(who, "POST", f"{address}/$sign")
        assert (answer.status_code, key_of(answer)) == (403, "HS-ACCESS-OPERATION")
    assert clinic.get(address)["status"] == "draft"


def test_a_prescriber_signs_what_one_of_their_roles_requests(clinic: Clinic) -> None:
    role = clinic.put("PractitionerRole", active=True, practitioner={"reference": clinic.names["doctor"]})
    old = clinic.put("PractitionerRole", active=False, practitioner={"reference": clinic.names["doctor"]})
    clinic.do("doctor", clinic.drafted(requester={"reference": role}), "sign")
    refused = clinic.call("doctor", "POST", f"{clinic.drafted(requester={'reference': old})}/$sign")
    assert (refused.status_code, key_of(refused)) == (403, "HS-RX-NOT-PRESCRIBER")


def test_only_the_prescriber_changes_a_prescription(clinic: Clinic) -> None:
    address = clinic.drafted()
    changed = {**clinic.get(address), "note": [{"text": "after meals"}]}
    other = clinic.call("other-doctor", "PUT", address, changed)
    assert (other.status_code, key_of(other)) == (403, "HS-RX-NOT-PRESCRIBER")
    assert clinic.call("doctor", "PUT", address, changed).status_code == 200
    assert clinic.call("system", "PUT", address, clinic.get(address)).status_code == 200
    clinic.do("doctor", address, "sign")
    held = {**clinic.get(address), "status": "on-hold"}
    for who in ("other-doctor", "system"):
        answer = clinic.call(who, "PUT", address, held)
        assert (answer.status_code, key_of(answer)) == (403, "HS-RX-NOT-PRESCRIBER")
    assert clinic.call("pharmacy", "PUT", address, held).status_code in (403, 404)
    assert clinic.call("doctor", "PUT", address, held).status_code == 200


def test_nobody_of_the_staff_writes_one_in_force(clinic: Clinic) -> None:
    answer = clinic.call("doctor", "POST", "MedicationRequest", {**clinic.order(), "status": "active"})
    assert (answer.status_code, key_of(answer)) == (422, "HS-RX-UNSIGNED")
    plan = {**clinic.order(), "status": "active", "intent": "plan"}
    answer = clinic.call("doctor", "POST", "MedicationRequest", plan)
    assert answer.status_code == 201, "a plan is nothing to dispense"
    address = f"MedicationRequest/{answer.json()['id']}"
    answer = clinic.call("doctor", "PUT", address, {**answer.json(), "intent": "order"})
    assert (answer.status_code, key_of(answer)) == (422, "HS-RX-UNSIGNED")
    told = {**clinic.order(), "status": "active", "reportedBoolean": True}
    assert clinic.call("doctor", "POST", "MedicationRequest", told).status_code == 201


def test_what_was_signed_elsewhere_comes_in_as_it_is_and_is_said_not_to_be_signed_here(clinic: Clinic) -> None:
    tags = [{"system": "urn:healthsphere:prescription", "code": "signed"}, {"system": "urn:x", "code": "kept"}]
    order = {**clinic.order(), "status": "active", "meta": {"tag": tags}}
    answer = clinic.call("system", "POST", "MedicationRequest", order)
    assert answer.status_code == 201
    assert answer.json()["meta"]["tag"] == tags[1:]
    address = f"MedicationRequest/{answer.json()['id']}"
    verified = values(clinic.do("doctor", address, "verify"))
    assert (verified["signed"], verified["valid"]) == (False, False)
    refused = clinic.call("operator", "POST", f"{address}/$accept", given(pharmacy=clinic.names["pharmacy"]))
    assert (refused.status_code, key_of(refused)) == (422, "HS-RX-NOT-SIGNED")
    answer = clinic.call("system", "PUT", address, {**answer.json(), "status": "stopped"})
    assert answer.status_code == 200


def test_what_is_signed_stays_as_it_is(clinic: Clinic) -> None:
    address, _ = clinic.signed()
    order = clinic.get(address)
    quantity = {"dispenseRequest": {"quantity": {"value": 200, "unit": "capsule"}}}
    for change in (quantity, {"note": [{"text": "more"}]}, {"text": {"status": "additional", "div": "<div/>"}}):
        for who in ("doctor", "operator"):
            body = {**order, **change}
            if "text" in change:
                body["text"] = {"status": "additional", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}
            answer = clinic.call(who, "PUT", address, body)
            assert (answer.status_code, key_of(answer)) == (422, "HS-RX-SIGNED"), change
    answer = clinic.call("operator", "DELETE", address)
    assert (answer.status_code, key_of(answer)) == (422, "HS-RX-SIGNED")
    patch = [{"op": "replace", "path": "/dispenseRequest/quantity/value", "value": 20.0}]
    answer = clinic.servers[0].client.patch(
        address,
        content=json.dumps(patch),
        headers={"Authorization": "Bearer doctor", "Content-Type": "application/json-patch+json"},
    )
    assert (answer.status_code, key_of(answer)) == (422, "HS-RX-SIGNED"), "20.0 is not the 20 that was signed"
    without_tag = {name: value for name, value in order.items() if name != "meta"}
    answer = clinic.call("doctor", "PUT", address, {**without_tag, "statusReason": {"text": "x"}})
    assert answer.status_code == 200
    assert answer.json()["meta"]["tag"] == order["meta"]["tag"]


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"dosageInstruction": None}, "HS-RX-INCOMPLETE"),
        ({"requester": None}, "HS-RX-INCOMPLETE"),
        (
            {"medicationCodeableConcept": None, "medicationReference": {"reference": "Medication/none"}},
            "HS-RX-INCOMPLETE",
        ),
        ({"intent": "proposal"}, "HS-RX-NO-DRAFT"),
        ({"doNotPerform": True}, "HS-RX-NO-DRAFT"),
        ({"status": "active"}, "HS-RX-NO-DRAFT"),
        ({"medicationCodeableConcept": {"text": "Oxycodone 10 MG Oral Tablet"}}, "HS-RX-CONTROLLED"),
        (
            {"medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": "N05BA01"}]}},
            "HS-RX-CONTROLLED",
        ),
    ],
)
def test_what_cannot_be_signed_is_refused_with_the_reason(clinic: Clinic, content: Json, key: str) -> None:
    order = {name: value for name, value in {**clinic.order(), **content}.items() if value is not None}
    address = clinic.put("MedicationRequest", **order)
    answer = clinic.call("operator", "POST", f"{address}/$sign")
    assert (answer.status_code, key_of(answer)) == (422, key), answer.text


def test_it_is_signed_once(clinic: Clinic) -> None:
    address, _ = clinic.signed()
    again = clinic.call("doctor", "POST", f"{address}/$sign")
    assert (again.status_code, key_of(again)) == (422, "HS-RX-NO-DRAFT")
    draft = clinic.drafted()
    requests = [clinic.request("doctor", "POST", f"{draft}/$sign") for _ in range(4)]
    answers = clinic.servers[0].gather(*requests)
    assert sorted(answer.status_code for answer in answers) in (
        [200, 412, 412, 412],
        [200, 412, 412, 422],
        [200, 412, 422, 422],
        [200, 422, 422, 422],
    )
    assert len(clinic.found(f"Task?focus={draft}")) == 1


def test_the_drafts_of_a_group_are_signed_together_with_one_token(clinic: Clinic) -> None:
    group = {"system": "urn:test:group", "value": "g-1"}
    one = clinic.drafted("Amoxicillin 500 MG", groupIdentifier=group)
    two = clinic.drafted("Omeprazole 20 MG", groupIdentifier=group)
    clinic.drafted("Loratadine 10 MG", groupIdentifier={**group, "value": "g-2"})
    answer = clinic.call("doctor", "POST", "MedicationRequest/$sign", given(group=group))
    assert answer.status_code == 200, answer.text
    signed_ones = {f"MedicationRequest/{order['id']}" for order in all_of(answer.json(), "prescription")}
    assert signed_ones == {one, two}
    token = values(answer.json())["token"]
    for address in (one, two):
        clinic.do("pharmacy", address, "accept", token=token)
    assert len(all_of(answer.json(), "document")) == 1
    none = clinic.call("doctor", "POST", "MedicationRequest/$sign", given(group=group))
    assert (none.status_code, key_of(none)) == (404, "HS-RX-GROUP")


def test_a_group_of_two_patients_is_none(clinic: Clinic) -> None:
    group = {"system": "urn:test:group", "value": "mixed"}
    clinic.drafted(groupIdentifier=group)
    other = clinic.put("Patient", generalPractitioner=[{"reference": clinic.names["doctor"]}])
    clinic.drafted(groupIdentifier=group, subject={"reference": other})
    answer = clinic.call("doctor", "POST", "MedicationRequest/$sign", given(group="urn:test:group|mixed"))
    assert (answer.status_code, key_of(answer)) == (422, "HS-RX-GROUP")


# --- the signature --------------------------------------------------------------------------------------------------


def signed_parts(clinic: Clinic, **content: Any) -> tuple[str, Json]:
    address = clinic.drafted(**content)
    return address, values(clinic.do("doctor", address, "sign"))


def test_the_signature_is_a_detached_jws_that_anybody_can_verify_with_the_published_key(clinic: Clinic) -> None:
    address, answer = signed_parts(clinic)
    provenance = answer["provenance"]
    assert provenance["target"] == [{"reference": f"{address}/_history/2"}]
    (signature,) = provenance["signature"]
    assert (signature["sigFormat"], signature["targetFormat"]) == ("application/jose", "application/fhir+json")
    assert signature["who"] == {"reference": clinic.names["doctor"]}
    detached = base64.b64decode(signature["data"]).decode()
    header, payload, _ = detached.split(".")
    assert payload == ""
    kid = json.loads(base64.urlsafe_b64decode(header + "==="))["kid"]
    answer = clinic.servers[0].client.get(f"{BASE_URL.removesuffix('/fhir')}/prescription-keys.json")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    published = {key["kid"]: key for key in answer.json()["keys"]}
    assert all("d" not in key for key in published.values())
    # Made anew from the version as it is read, by nothing but the rules of docs/operations-prescriptions.md.
    version = clinic.get(f"{address}/_history/2")
    bare = {name: value for name, value in version.items() if name not in ("id", "meta", "text")}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    key = ECKey.import_key(published[kid])
    assert jws.deserialize_compact(detached, key, algorithms=["ES256"], payload=text)
    with pytest.raises(BadSignatureError):
        jws.deserialize_compact(detached, key, algorithms=["ES256"], payload=text.replace(b"Amoxicillin", b"Morphine"))


def test_a_change_in_the_database_is_seen(clinic: Clinic) -> None:
    address, _ = clinic.signed()
    assert values(clinic.do("doctor", address, "verify"))["valid"] is True
    server, order_id = clinic.servers[0], address.partition("/")[2]
    store = server.context.repository.store

    async def forge(find: bytes, put: bytes) -> None:
        row = await store._database["MedicationRequest"].find_one({"_id": order_id})
        assert find in row["r"]
        await store._database["MedicationRequest"].update_one(
            {"_id": order_id}, {"$set": {"r": row["r"].replace(find, put)}}
        )

    server.run(forge(b'"value":20', b'"value":90'))
    verified = clinic.do("doctor", address, "verify")
    assert values(verified)["valid"] is False
    assert "The signature is not that of this content." in all_of(verified, "reason")
    server.run(forge(b'"value":90', b'"value":20'))
    assert values(clinic.do("doctor", address, "verify"))["valid"] is True


def test_another_server_of_the_database_verifies_what_this_one_signed(two_servers: Clinic) -> None:
    address, _ = two_servers.signed()
    first, second = (server.settings.data_dir for server in two_servers.servers)
    assert key_in(first).kid != key_in(second).kid
    answer = two_servers.call("doctor", "POST", f"{address}/$verify", server=1)
    assert values(answer.json())["valid"] is True


def test_the_key_is_the_servers_alone(clinic: Clinic) -> None:
    clinic.signed()
    file = clinic.servers[0].settings.data_dir / "prescription-key.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    key_in.cache_clear()
    assert values(clinic.do("doctor", clinic.signed()[0], "verify"))["valid"] is True


def test_a_key_that_cannot_be_read_is_said_and_signs_nothing(clinic: Clinic) -> None:
    file = clinic.servers[0].settings.data_dir / "prescription-key.pem"
    clinic.signed()
    there = file.read_bytes()
    address = clinic.drafted()
    try:
        file.write_bytes(b"no key")
        key_in.cache_clear()
        answer = clinic.call("doctor", "POST", f"{address}/$sign")
        assert (answer.status_code, key_of(answer)) == (503, "HS-RX-KEY")
        assert str(file) not in answer.text
    finally:
        file.write_bytes(there)
        key_in.cache_clear()
    clinic.do("doctor", address, "sign")


#: JSON as FHIR has it: no nulls, no empty objects; numbers that are written in several ways.
JSONS = strategies.recursive(
    strategies.booleans() | strategies.text() | strategies.decimals(allow_nan=False, allow_infinity=False, places=3),
    lambda inner: (
        strategies.lists(inner, min_size=1) | strategies.dictionaries(strategies.text(min_size=1), inner, min_size=1)
    ),
    max_leaves=12,
)


@drawn(strategies.dictionaries(strategies.text(min_size=1), JSONS, max_size=5))
def test_a_content_is_signed_the_same_however_it_was_sent_and_stored(content: Json) -> None:
    key = key_in(None)
    signature = signed(content, key)
    stored = codec.decode(codec.encode({"meta": {"versionId": "7"}, **dict(reversed(content.items()))}))
    stored.pop("meta") if "meta" in content else None
    stored = {**stored, **({"meta": content["meta"]} if "meta" in content else {})}
    assert is_good(stored, signature, key.public())
    assert not is_good({**stored, "dosage": "more"}, signature, key.public())
    assert canonical(stored) == canonical(content)


# --- the paper ------------------------------------------------------------------------------------------------------


def test_the_pdf_is_signed_and_is_the_patients(clinic: Clinic) -> None:
    address, answer = signed_parts(
        clinic, dispenseRequest={"quantity": {"value": 20, "unit": "capsule"}, "numberOfRepeatsAllowed": 2}
    )
    document = clinic.get(answer["document"]["reference"], "patient")
    assert document["context"]["related"] == [{"reference": address}]
    attachment = document["content"][0]["attachment"]
    pdf = (
        clinic.servers[0]
        .client.get(attachment["url"], headers={"Authorization": "Bearer patient", "Accept": "application/pdf"})
        .content
    )
    assert pdf.startswith(b"%PDF-")
    assert len(pdf) == attachment["size"]
    assert base64.b64decode(attachment["hash"]) == hashlib.sha1(pdf, usedforsecurity=False).digest()
    (entity,) = answer["provenance"]["entity"]
    assert entity["what"]["identifier"]["value"] == hashlib.sha256(pdf).hexdigest()
    assert clinic.call("pharmacy", "GET", answer["document"]["reference"]).status_code in (403, 404)
    signer = signer_of(clinic.servers[0].context)
    (signature,) = asyncio.run(signer.verify_pdf(pdf))
    assert (signature.valid, signature.whole) == (True, True)
    assert signature.reason.startswith("Prescribed by ")
    assert signature.signed_by == clinic.servers[0].settings.brand_name
    spot = len(pdf) // 3
    broken = pdf[:spot] + bytes([pdf[spot] ^ 1]) + pdf[spot + 1 :]
    assert [one.valid for one in asyncio.run(signer.verify_pdf(broken))] in ([False], [])
    told = clinic.call("patient", "GET", f"{answer['document']['reference']}/$verify-signature").json()
    assert values(told)["signed"] is True


def test_the_qr_code_holds_the_address_for_claiming(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    make = paper.segno.make
    monkeypatch.setattr(paper.segno, "make", lambda text, **more: texts.append(text) or make(text, **more))
    address, answer = signed_parts(clinic)
    assert [json.loads(text) for text in texts] == [{"urls": [f"{address}/$accept?token={answer['token']}"]}]


def test_letters_of_many_languages_are_drawn() -> None:
    sheet = paper.Sheet(["Ελένη Łukasz Привет"], ["नमस्ते"], [("Ünï", ["²"])], ["x"], "2026-11-25", "1")
    assert paper.drawn(sheet).startswith(b"%PDF-")
