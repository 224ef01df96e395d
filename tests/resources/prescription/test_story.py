"""From the draft to the closing, over HTTP, each as the one who does it."""

from __future__ import annotations

from tests.resources.prescription.conftest import Clinic, given, key_of, values


def test_a_prescription_goes_from_the_draft_to_the_pharmacy_and_to_its_end(clinic: Clinic) -> None:
    address = clinic.drafted(dispenseRequest=clinic.addressed())
    assert clinic.call("pharmacy", "GET", address).status_code == 404, "a draft is the doctor's own matter"
    signed = values(clinic.do("doctor", address, "sign"))
    assert signed["prescription"]["status"] == "active"
    assert signed["task"]["businessStatus"]["coding"][0]["code"] == "addressed"
    assert clinic.get(address, "pharmacy")["status"] == "active"
    assert [task["id"] for task in clinic.found(f"Task?focus={address}", "patient")] == [signed["task"]["id"]]

    accepted = values(clinic.do("pharmacy", address, "accept"))
    assert accepted["prescription"]["meta"]["versionId"] == "2"
    assert accepted["task"]["status"] == "accepted"
    secret = accepted["secret"]
    handed = clinic.do("pharmacy", address, "dispense", 201, secret=secret)
    assert handed["status"] == "completed"
    assert handed["quantity"] == {"value": 20, "unit": "capsule"}
    assert handed["type"]["coding"][0]["code"] == "FFC"
    assert clinic.get(f"MedicationDispense/{handed['id']}", "patient")["id"] == handed["id"]
    closed = values(clinic.do("pharmacy", address, "close", secret=secret))
    assert closed["task"]["status"] == "completed"
    assert clinic.get(address)["status"] == "completed"
    verified = values(clinic.do("patient", address, "verify"))
    assert (verified["signed"], verified["valid"], verified["status"]) == (True, True, "completed")


def test_whoever_shows_the_token_claims_what_is_addressed_to_nobody(clinic: Clinic) -> None:
    address, token = clinic.signed()
    assert clinic.state(address) == "open"
    assert clinic.call("pharmacy", "GET", address).status_code == 404
    for wrong in ({}, {"token": "wrong"}):
        assert clinic.call("pharmacy", "POST", f"{address}/$accept", given(**wrong)).status_code == 404
    secret = values(clinic.do("pharmacy", address, "accept", token=token))["secret"]
    assert clinic.get(address, "pharmacy")["status"] == "active"
    late = clinic.call("other-pharmacy", "POST", f"{address}/$accept", given(token=token))
    assert (late.status_code, key_of(late)) == (409, "HS-RX-CLAIMED")
    again = values(clinic.do("pharmacy", address, "accept", token=token))["secret"]
    assert again != secret
    lost = clinic.call("pharmacy", "POST", f"{address}/$dispense", given(secret=secret))
    assert (lost.status_code, key_of(lost)) == (403, "HS-RX-SECRET")
    clinic.do("pharmacy", address, "dispense", 201, secret=again)
