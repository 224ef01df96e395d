"""What pharmacies do with a prescription, and what they cannot do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fhir_server.model.access import Scope
from tests.resources.prescription.conftest import Clinic, given, key_of, values

Json = dict[str, Any]


def refused(clinic: Clinic, who: str, address: str, operation: str, **parameters: Any) -> tuple[int, str]:
    answer = clinic.call(who, "POST", f"{address}/${operation}", given(**parameters))
    return answer.status_code, key_of(answer)


def quantity(value: float, unit: str = "capsule") -> Json:
    return {"value": value, "unit": unit}


# --- handing out ----------------------------------------------------------------------------------------------------


def test_parts_and_repeats_are_counted_and_never_more_than_is_prescribed(clinic: Clinic) -> None:
    asked = clinic.addressed(numberOfRepeatsAllowed=1)
    address, secret = clinic.claimed(dispenseRequest=asked)

    def hand_out(value: float, kind: str) -> None:
        handed = clinic.do("pharmacy", address, "dispense", 201, secret=secret, quantity=quantity(value))
        assert handed["quantity"] == {"value": value, "unit": "capsule"}
        assert handed["type"]["coding"][0]["code"] == kind

    assert refused(clinic, "pharmacy", address, "dispense", secret=secret, quantity=quantity(21)) == (
        422,
        "HS-RX-QUANTITY",
    )
    hand_out(12, "FFP")
    assert clinic.state(address) == "partly-dispensed"
    for value in (9, 0, -1):
        answer = refused(clinic, "pharmacy", address, "dispense", secret=secret, quantity=quantity(value))
        assert answer == (422, "HS-RX-QUANTITY")
    hand_out(8, "FFP")
    clinic.do("pharmacy", address, "close", secret=secret)
    assert clinic.get(address)["status"] == "active", "a repeat is left"
    assert clinic.state(address) == "addressed"
    assert refused(clinic, "pharmacy", address, "dispense", secret=secret) == (409, "HS-RX-STATE")
    secret = values(clinic.do("pharmacy", address, "accept"))["secret"]
    hand_out(20, "RFC")
    assert clinic.state(address) == "dispensed"
    assert refused(clinic, "pharmacy", address, "dispense", secret=secret) == (409, "HS-RX-STATE")
    clinic.do("pharmacy", address, "close", secret=secret)
    assert clinic.get(address)["status"] == "completed"
    handed_out = clinic.found(f"MedicationDispense?prescription={address}")
    assert sum(one["quantity"]["value"] for one in handed_out) == 40


def test_without_a_quantity_each_time_is_one_supply(clinic: Clinic) -> None:
    address, secret = clinic.claimed(dispenseRequest={"numberOfRepeatsAllowed": 1})
    first = clinic.do("pharmacy", address, "dispense", 201, secret=secret)
    second = clinic.do("pharmacy", address, "dispense", 201, secret=secret)
    assert [one["type"]["coding"][0]["code"] for one in (first, second)] == ["FFC", "RFC"]
    assert refused(clinic, "pharmacy", address, "dispense", secret=secret) == (409, "HS-RX-STATE")


def test_quantities_are_compared_by_what_they_mean(clinic: Clinic) -> None:
    ucum = "http://unitsofmeasure.org"
    prescribed = {"quantity": {"value": 1, "unit": "l", "system": ucum, "code": "L"}}
    address, secret = clinic.claimed(dispenseRequest=prescribed)
    part = {"value": 400, "unit": "ml", "system": ucum, "code": "mL"}
    handed = clinic.do("pharmacy", address, "dispense", 201, secret=secret, quantity=part)
    assert (handed["quantity"]["value"], handed["quantity"]["code"]) == (0.4, "L")
    more = {**part, "value": 601}
    assert refused(clinic, "pharmacy", address, "dispense", secret=secret, quantity=more) == (422, "HS-RX-QUANTITY")
    weight = {"value": 1, "unit": "g", "system": ucum, "code": "g"}
    assert refused(clinic, "pharmacy", address, "dispense", secret=secret, quantity=weight) == (422, "HS-RX-UNIT")
    clinic.do("pharmacy", address, "dispense", 201, secret=secret, quantity={**part, "value": 600})
    assert clinic.state(address) == "dispensed"


def test_another_medicine_needs_a_reason_and_the_prescribers_leave(clinic: Clinic) -> None:
    other = {"text": "Amoxicillin 500 MG (another maker)"}
    address, secret = clinic.claimed()
    answer = refused(clinic, "pharmacy", address, "dispense", secret=secret, medication=other)
    assert answer == (422, "HS-RX-SUBSTITUTION")
    handed = clinic.do(
        "pharmacy", address, "dispense", 201, secret=secret, medication=other, substitution_reason="out of stock"
    )
    assert handed["medicationCodeableConcept"] == other
    assert handed["substitution"]["wasSubstituted"] is True
    assert handed["substitution"]["reason"] == [{"text": "out of stock"}]
    address, secret = clinic.claimed(substitution={"allowedBoolean": False})
    parameters = {"secret": secret, "medication": other, "substitution_reason": "out of stock"}
    assert refused(clinic, "pharmacy", address, "dispense", **parameters) == (422, "HS-RX-SUBSTITUTION")


def test_only_who_has_claimed_it_and_shows_the_secret_goes_on(clinic: Clinic) -> None:
    address, secret = clinic.claimed(dispenseRequest=clinic.addressed())
    operations = {"dispense": {}, "close": {}, "reject": {"reason": "x"}, "transfer": {}}
    for operation, more in operations.items():
        for wrong in ({}, {"secret": ""}, {"secret": secret[:-1] + ("A" if secret[-1] != "A" else "B")}):
            answer = refused(clinic, "pharmacy", address, operation, **more, **wrong)
            assert answer == (403, "HS-RX-SECRET"), operation
        assert refused(clinic, "other-pharmacy", address, operation, secret=secret, **more)[0] == 404
    for who in ("patient", "doctor"):
        assert refused(clinic, who, address, "dispense", secret=secret) == (403, "HS-ACCESS-OPERATION")
    assert clinic.state(address) == "claimed"


def test_secrets_are_not_in_the_database(clinic: Clinic) -> None:
    address, token = clinic.signed()
    secret = values(clinic.do("pharmacy", address, "accept", token=token))["secret"]
    server, order_id = clinic.servers[0], address.partition("/")[2]
    row = server.run(server.context.repository.store.rows("_prescriptions").get(order_id))
    assert row["token"] != token
    assert row["secret"] != secret
    assert token not in str(row)
    assert secret not in str(row)


def test_a_pharmacy_writes_no_dispense_of_what_was_signed_here_by_itself(clinic: Clinic) -> None:
    address, _ = clinic.claimed()
    dispense = {
        "resourceType": "MedicationDispense",
        "status": "completed",
        "medicationCodeableConcept": {"text": "Amoxicillin"},
        "subject": {"reference": clinic.names["patient"]},
        "performer": [{"actor": {"reference": clinic.names["pharmacy"]}}],
        "authorizingPrescription": [{"reference": address}],
    }
    answer = clinic.call("pharmacy", "POST", "MedicationDispense", dispense)
    assert (answer.status_code, key_of(answer)) == (422, "HS-RX-DISPENSE")
    assert clinic.call("system", "POST", "MedicationDispense", dispense).status_code == 201
    elsewhere = clinic.put("MedicationRequest", **{**clinic.order(), "status": "active"})
    dispense["authorizingPrescription"] = [{"reference": elsewhere}]
    assert clinic.call("pharmacy", "POST", "MedicationDispense", dispense).status_code == 201


def test_what_is_on_hold_or_out_of_time_is_not_dispensed(clinic: Clinic) -> None:
    address, token = clinic.signed()
    order = clinic.get(address)
    clinic.call("doctor", "PUT", address, {**order, "status": "on-hold"})
    assert refused(clinic, "pharmacy", address, "accept", token=token) == (409, "HS-RX-STATE")
    clinic.call("doctor", "PUT", address, {**order, "status": "active"})
    secret = values(clinic.do("pharmacy", address, "accept", token=token))["secret"]
    clinic.call("doctor", "PUT", address, {**order, "status": "on-hold"})
    assert refused(clinic, "pharmacy", address, "dispense", secret=secret) == (409, "HS-RX-STATE")
    late = {"quantity": quantity(20), "validityPeriod": {"end": "2020-12-31"}}
    address, token = clinic.signed(dispenseRequest=late)
    assert refused(clinic, "pharmacy", address, "accept", token=token) == (409, "HS-RX-EXPIRED")


# --- refusing, giving back, sending on ------------------------------------------------------------------------------


def test_a_refusal_is_told_to_the_prescriber_who_sends_it_on(clinic: Clinic) -> None:
    address, _ = clinic.signed(dispenseRequest=clinic.addressed())
    assert refused(clinic, "pharmacy", address, "reject") == (400, "HS-OP-PARAMETER")
    task = clinic.do("pharmacy", address, "reject", reason="not in stock")
    assert (task["status"], task["statusReason"]["text"]) == ("rejected", "not in stock")
    (seen_to,) = clinic.matters(address, "refused")
    assert seen_to["owner"] == {"reference": clinic.names["doctor"]}
    assert [one["id"] for one in clinic.found(f"Task?owner={clinic.names['doctor']}&focus={address}", "doctor")] == [
        seen_to["id"]
    ]
    (told,) = clinic.matters(address, "refused", "Communication")
    assert {one["reference"] for one in told["recipient"]} == {clinic.names["patient"], clinic.names["doctor"]}
    assert refused(clinic, "pharmacy", address, "accept") == (409, "HS-RX-STATE")
    clinic.do("doctor", address, "transfer", to={"reference": clinic.names["other-pharmacy"]})
    assert clinic.state(address) == "addressed"
    clinic.do("other-pharmacy", address, "accept")


def test_what_was_claimed_is_given_back_to_all(clinic: Clinic) -> None:
    address, token = clinic.signed()
    secret = values(clinic.do("pharmacy", address, "accept", token=token))["secret"]
    task = clinic.do("pharmacy", address, "reject", secret=secret, reason="not in stock")
    assert (task["status"], "owner" in task) == ("requested", False)
    assert len(clinic.matters(address, "given-back")) == 1
    assert refused(clinic, "pharmacy", address, "dispense", secret=secret)[0] in (404, 409)
    clinic.do("other-pharmacy", address, "accept", token=token)


def test_what_was_dispensed_in_part_is_not_given_back_but_sent_on(clinic: Clinic) -> None:
    address, secret = clinic.claimed(dispenseRequest={"quantity": quantity(20)})
    clinic.do("pharmacy", address, "dispense", 201, secret=secret, quantity=quantity(5))
    assert refused(clinic, "pharmacy", address, "reject", secret=secret, reason="x") == (409, "HS-RX-STATE")
    there = {"reference": clinic.names["other-pharmacy"]}
    clinic.do("pharmacy", address, "transfer", secret=secret, to=there)
    other = values(clinic.do("other-pharmacy", address, "accept"))["secret"]
    answer = refused(clinic, "other-pharmacy", address, "dispense", secret=other, quantity=quantity(16))
    assert answer == (422, "HS-RX-QUANTITY")
    clinic.do("other-pharmacy", address, "dispense", 201, secret=other)
    assert sum(one["quantity"]["value"] for one in clinic.found(f"MedicationDispense?prescription={address}")) == 20


def test_the_patient_chooses_the_pharmacy_while_none_has_claimed_it(clinic: Clinic) -> None:
    address, token = clinic.signed(dispenseRequest=clinic.addressed())
    clinic.do("patient", address, "transfer", to={"reference": clinic.names["other-pharmacy"]})
    assert clinic.work(address)["owner"] == {"reference": clinic.names["other-pharmacy"]}
    assert refused(clinic, "pharmacy", address, "accept") == (403, "HS-RX-TOKEN")
    clinic.do("patient", address, "transfer")
    assert clinic.state(address) == "open"
    clinic.do("pharmacy", address, "accept", token=token)
    answer = refused(clinic, "patient", address, "transfer", to={"reference": clinic.names["other-pharmacy"]})
    assert answer == (409, "HS-RX-CLAIMED")
    address, _ = clinic.signed()
    assert refused(clinic, "other-doctor", address, "transfer") == (403, "HS-RX-SENDER")
    nowhere = {"reference": "Organization/none"}
    assert refused(clinic, "patient", address, "transfer", to=nowhere) == (422, "HS-RX-NO-PHARMACY")
    clinic.known["stranger"] = clinic.known["patient"].__class__(
        "stranger", "test", "patient", clinic.known["patient"].scopes, fhir_user="Patient/stranger"
    )
    assert refused(clinic, "stranger", address, "transfer")[0] == 404


def test_a_pharmacy_that_could_do_nothing_closes_it_as_failed(clinic: Clinic) -> None:
    address, secret = clinic.claimed()
    assert refused(clinic, "pharmacy", address, "close", secret=secret) == (409, "HS-RX-STATE")
    assert refused(clinic, "pharmacy", address, "close", secret=secret, failed=True) == (400, "HS-OP-PARAMETER")
    clinic.do("pharmacy", address, "close", secret=secret, failed=True, reason="no such strength")
    assert clinic.state(address) == "failed"
    (task,) = clinic.matters(address, "failed")
    assert "no such strength" in task["description"]
    clinic.do("doctor", address, "withdraw", reason="another strength")
    assert clinic.get(address)["status"] == "cancelled"


def test_the_rest_that_is_not_wanted_ends_the_prescription(clinic: Clinic) -> None:
    address, secret = clinic.claimed(dispenseRequest={"quantity": quantity(20), "numberOfRepeatsAllowed": 3})
    clinic.do("pharmacy", address, "dispense", 201, secret=secret)
    clinic.do("pharmacy", address, "close", secret=secret, final=True, reason="not needed any more")
    order = clinic.get(address)
    assert (order["status"], order["statusReason"]["text"]) == ("completed", "not needed any more")


def test_a_pharmacy_says_whether_it_has_the_medicine_before_it_is_claimed(clinic: Clinic) -> None:
    address, token = clinic.signed()
    assert refused(clinic, "pharmacy", address, "stock", answer="available")[0] == 404
    assert refused(clinic, "pharmacy", address, "stock", answer="maybe", token=token)[0] == 400
    told = clinic.do(
        "pharmacy", address, "stock", 201, answer="partly", token=token, quantity=quantity(8), when="2026-12-01"
    )
    assert told["reasonCode"][0]["coding"][0]["code"] == "partly"
    assert told["payload"] == [{"contentString": "The pharmacy has a part of it; 8 capsule; 2026-12-01"}]
    assert told["sender"] == {"reference": clinic.names["pharmacy"]}
    assert told["id"] in [
        one["id"] for one in clinic.found(f"Communication?recipient={clinic.names['patient']}", "patient")
    ]
    clinic.do("pharmacy", address, "accept", token=token)
    answer = refused(clinic, "other-pharmacy", address, "stock", answer="available", token=token)
    assert answer == (409, "HS-RX-CLAIMED")


# --- taking back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["cancelled", "stopped", "entered-in-error"])
def test_what_nobody_has_claimed_is_taken_back_at_once(clinic: Clinic, status: str) -> None:
    address, token = clinic.signed(dispenseRequest=clinic.addressed())
    assert refused(clinic, "other-doctor", address, "withdraw", reason="x") == (403, "HS-RX-NOT-PRESCRIBER")
    answer = values(clinic.do("doctor", address, "withdraw", reason="wrong dose", status=status))
    assert (answer["prescription"]["status"], answer["prescription"]["statusReason"]["text"]) == (status, "wrong dose")
    assert clinic.work(address)["status"] == "cancelled"
    assert refused(clinic, "pharmacy", address, "accept", token=token) == (409, "HS-RX-STATE")
    assert refused(clinic, "doctor", address, "withdraw", reason="x") == (409, "HS-RX-STATE")
    assert values(clinic.do("doctor", address, "verify"))["valid"] is True


def test_what_was_claimed_is_taken_back_when_the_pharmacy_agrees(clinic: Clinic) -> None:
    address, secret = clinic.claimed(dispenseRequest=clinic.addressed())
    asked = values(clinic.do("doctor", address, "withdraw", 202, reason="wrong dose", status="stopped"))
    task = asked["task"]
    assert (task["code"]["coding"][0]["code"], task["status"]) == ("abort", "requested")
    assert task["focus"] == {"reference": f"Task/{clinic.work(address)['id']}"}
    assert asked["prescription"]["status"] == "active", "the pharmacy may have handed it out a moment ago"
    assert task["id"] in [
        one["id"] for one in clinic.found(f"Task?owner={clinic.names['pharmacy']}&_sort=-_lastUpdated", "pharmacy")
    ]
    assert refused(clinic, "doctor", address, "withdraw", reason="again") == (409, "HS-RX-WITHDRAWAL")
    for operation, more in {"dispense": {}, "close": {}, "reject": {"reason": "x"}, "transfer": {}}.items():
        answer = refused(clinic, "pharmacy", address, operation, secret=secret, **more)
        assert answer == (409, "HS-RX-WITHDRAWAL"), operation
    wrong = refused(clinic, "pharmacy", address, "answer-withdrawal", secret="wrong", answer="accept")
    assert wrong == (403, "HS-RX-SECRET")
    answered = clinic.do("pharmacy", address, "answer-withdrawal", secret=secret, answer="accept")
    assert (answered["id"], answered["status"]) == (task["id"], "completed")
    order = clinic.get(address)
    assert (order["status"], order["statusReason"]["text"]) == ("stopped", "wrong dose")
    assert clinic.state(address) == "withdrawn"
    assert len(clinic.matters(address, "withdrawn", "Communication")) == 1


def test_dispensing_what_was_taken_back_is_refused_and_raises_the_alarm_once(clinic: Clinic) -> None:
    address, secret = clinic.claimed(dispenseRequest=clinic.addressed())
    clinic.do("doctor", address, "withdraw", 202, reason="wrong dose")
    clinic.do("pharmacy", address, "answer-withdrawal", secret=secret, answer="accept")
    for _ in range(2):
        assert refused(clinic, "pharmacy", address, "dispense", secret=secret) == (409, "HS-RX-WITHDRAWN")
    (issue,) = clinic.matters(address, "dispensed-after-withdrawal", "DetectedIssue")
    assert issue["severity"] == "high"
    (task,) = clinic.matters(address, "dispensed-after-withdrawal")
    assert task["owner"] == {"reference": clinic.names["doctor"]}
    assert clinic.found(f"MedicationDispense?prescription={address}") == []


def test_a_pharmacy_that_does_not_stop_says_why(clinic: Clinic) -> None:
    address, secret = clinic.claimed()
    clinic.do("pharmacy", address, "dispense", 201, secret=secret)
    clinic.do("doctor", address, "withdraw", 202, reason="wrong dose")
    agree = {"secret": secret, "answer": "accept"}
    assert refused(clinic, "pharmacy", address, "answer-withdrawal", **agree) == (409, "HS-RX-STATE")
    no_reason = {"secret": secret, "answer": "reject"}
    assert refused(clinic, "pharmacy", address, "answer-withdrawal", **no_reason) == (400, "HS-OP-PARAMETER")
    answer = clinic.do("pharmacy", address, "answer-withdrawal", **no_reason, reason="the patient has it")
    assert (answer["status"], answer["statusReason"]["text"]) == ("rejected", "the patient has it")
    (task,) = clinic.matters(address, "withdrawal-refused")
    assert "the patient has it" in task["description"]
    assert refused(clinic, "pharmacy", address, "answer-withdrawal", **agree) == (409, "HS-RX-WITHDRAWAL")
    clinic.do("pharmacy", address, "close", secret=secret)
    assert clinic.get(address)["status"] == "completed"


# --- who sees what --------------------------------------------------------------------------------------------------


def test_a_pharmacy_finds_its_own_prescriptions_and_no_others(clinic: Clinic) -> None:
    mine, _ = clinic.signed(dispenseRequest=clinic.addressed())
    theirs, _ = clinic.signed(dispenseRequest=clinic.addressed("other-pharmacy"))
    nobodys, token = clinic.signed()
    draft = clinic.drafted(dispenseRequest=clinic.addressed())

    def found() -> set[str]:
        return {
            f"MedicationRequest/{one['id']}"
            for one in clinic.found("MedicationRequest?_count=500&_sort=-_lastUpdated", "pharmacy")
        }

    assert mine in found()
    assert not {theirs, nobodys, draft} & found()
    clinic.do("pharmacy", nobodys, "accept", token=token)
    assert nobodys in found()
    for operation in ("accept", "stock", "verify"):
        more = {"answer": "none"} if operation == "stock" else {}
        assert refused(clinic, "pharmacy", theirs, operation, **more)[0] == 404
    for method, address in (("PUT", theirs), ("DELETE", mine), ("DELETE", theirs)):
        answer = clinic.call("pharmacy", method, address, clinic.get(theirs) if method == "PUT" else None)
        assert answer.status_code in (403, 404)


def test_an_operator_names_the_pharmacy_and_others_have_none(clinic: Clinic) -> None:
    address, token = clinic.signed()
    assert refused(clinic, "operator", address, "accept", token=token) == (400, "HS-OP-PARAMETER")
    wrong = {"reference": "Practitioner/doctor"}
    assert refused(clinic, "operator", address, "accept", token=token, pharmacy=wrong) == (400, "HS-OP-PARAMETER")
    clinic.do("operator", address, "accept", token=token, pharmacy={"reference": clinic.names["pharmacy"]})
    staff = clinic.known["pharmacy"]
    clinic.known["lost"] = staff.__class__("lost", "test", "pharmacy", staff.scopes, fhir_user=staff.fhir_user)
    assert refused(clinic, "lost", address, "accept", token=token) == (403, "HS-RX-NO-PHARMACY")


def test_what_is_hidden_is_not_there_whatever_it_is(clinic: Clinic) -> None:
    """An id that was never used, a draft, what was signed elsewhere, and what was deleted look the same."""
    unsigned = clinic.put("MedicationRequest", **{**clinic.order(), "status": "active"})
    deleted = clinic.put("MedicationRequest", **{**clinic.order(), "status": "active"})
    clinic.call("operator", "DELETE", deleted)
    for address in ("MedicationRequest/none", clinic.drafted(), unsigned, deleted, clinic.signed()[0]):
        for operation, more in {
            "accept": {"token": "wrong"},
            "stock": {"answer": "none", "token": "wrong"},
            "dispense": {"secret": "wrong"},
            "close": {"secret": "wrong"},
            "reject": {"reason": "x"},
            "transfer": {},
            "answer-withdrawal": {"answer": "accept", "secret": "wrong"},
            "verify": {},
        }.items():
            answer = refused(clinic, "pharmacy", address, operation, **more)
            assert answer == (404, "HS-READ-NOT-FOUND"), (address, operation)


def test_a_pharmacy_that_has_claimed_it_can_end_what_a_consent_hides_from_it(clinic: Clinic) -> None:
    patient = clinic.put("Patient", generalPractitioner=[{"reference": clinic.names["doctor"]}])
    subject = {"reference": patient}
    address, token = clinic.signed(subject=subject)
    secret = values(clinic.do("pharmacy", address, "accept", token=token))["secret"]
    clinic.put(
        "Consent",
        status="active",
        scope={"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        category=[{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        patient=subject,
        dateTime="2026-11-01",
        policyRule={"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}]},
        provision={"type": "deny"},
    )
    assert clinic.call("pharmacy", "GET", address).status_code == 404
    clinic.do("pharmacy", address, "dispense", 201, secret=secret)
    clinic.do("pharmacy", address, "close", secret=secret)
    assert clinic.get(address)["status"] == "completed"


def test_an_app_whose_token_only_reads_does_nothing(clinic: Clinic) -> None:
    address, secret = clinic.claimed(dispenseRequest=clinic.addressed())
    draft = clinic.drafted()
    for who in ("doctor", "patient", "pharmacy"):
        identity = clinic.known[who]
        clinic.known[f"reading-{who}"] = replace(identity, scopes=(Scope("user", "*", "rs"),))
        clinic.known[f"blind-{who}"] = replace(identity, scopes=(Scope("user", "Task", "cruds"),))
    calls: dict[str, list[tuple[str, str, Json]]] = {
        "doctor": [(draft, "sign", {}), (address, "withdraw", {"reason": "x"}), (address, "transfer", {})],
        "patient": [(address, "transfer", {})],
        "pharmacy": [
            (address, operation, {"secret": secret})
            for operation in ("accept", "dispense", "close", "reject", "transfer", "answer-withdrawal", "stock")
        ],
    }
    for who, rows in calls.items():
        for place, operation, more in rows:
            answer = refused(clinic, f"reading-{who}", place, operation, **more)
            assert answer == (403, "HS-ACCESS-SCOPE"), (who, operation)
        assert refused(clinic, f"blind-{who}", address, "verify") == (403, "HS-ACCESS-SCOPE")
        clinic.do(f"reading-{who}", address, "verify")
    answer = clinic.call("blind-pharmacy", "GET", "MedicationRequest/$changes")
    assert (answer.status_code, key_of(answer)) == (403, "HS-ACCESS-SCOPE")
    assert clinic.call("reading-pharmacy", "GET", "MedicationRequest/$changes").status_code == 200
    assert clinic.state(address) == "claimed"
