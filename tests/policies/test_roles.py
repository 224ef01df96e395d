"""What each role sees and changes, by what is stored."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.access import Identity, Scope
from tests.policies.conftest import World, somebody

BOOKED = {"resourceType": "Appointment", "status": "booked"}


def ref(reference: str) -> dict[str, str]:
    return {"reference": reference}


def observation(world: World, patient: str, **more: Any) -> str:
    return world.put("Observation", status="final", code={"text": "x"}, subject=ref(patient), **more)


@pytest.fixture(scope="module")
def ours(world: World) -> dict[str, str]:
    """Two patients with a little record each, a doctor of the first, an organization each."""
    made: dict[str, str] = {}
    made["org"] = world.put("Organization", name="Ours")
    made["other-org"] = world.put("Organization", name="Theirs")
    made["doctor"] = world.put("Practitioner")
    made["other-doctor"] = world.put("Practitioner")
    made["mine"] = world.put("Patient", managingOrganization=ref(made["org"]))
    made["not-mine"] = world.put("Patient", managingOrganization=ref(made["other-org"]))
    world.put(
        "CareTeam",
        status="active",
        subject=ref(made["mine"]),
        participant=[{"member": ref(made["doctor"])}],
    )
    for whose in ("mine", "not-mine"):
        made[f"observation-{whose}"] = observation(world, made[whose])
        made[f"device-{whose}"] = world.put("Device", patient=ref(made[whose]))
        made[f"coverage-{whose}"] = world.put(
            "Coverage", status="active", beneficiary=ref(made[whose]), payor=[ref(made["org"])]
        )
        made[f"audit-{whose}"] = world.put(
            "AuditEvent",
            type={"code": "rest"},
            recorded="2026-11-01T10:00:00Z",
            agent=[{"requestor": True}],
            source={"observer": {"display": "us"}},
            entity=[{"what": ref(made[whose])}],
        )
    made["location"] = world.put("Location", name="Room 1")
    return made


def patient(ours: dict[str, str], **more: Any) -> Identity:
    return somebody("patient", ours["mine"], **more)


def doctor(ours: dict[str, str], **more: Any) -> Identity:
    return somebody("practitioner", ours["doctor"], ours["org"], **more)


# --- patients -------------------------------------------------------------------------------------------------------


def test_a_patient_sees_the_own_record_and_the_directory_and_nobody_elses(world: World, ours: dict[str, str]) -> None:
    me = patient(ours)
    assert world.allowed(me, "Patient") == {ours["mine"]}
    assert world.allowed(me, "Observation", "s") == {ours["observation-mine"]}
    assert world.allowed(me, "Device") == {ours["device-mine"]}
    assert world.allowed(me, "AuditEvent", "s") == {ours["audit-mine"]}
    assert {ours["doctor"], ours["other-doctor"]} <= world.allowed(me, "Practitioner")
    assert ours["location"] in world.allowed(me, "Location", "s")
    assert not world.policy(me).may("Location", "c")
    assert not world.policy(me).may("Subscription", "r")


def test_a_patient_changes_what_they_said_themselves_and_not_what_the_doctor_wrote(
    world: World, ours: dict[str, str]
) -> None:
    said = observation(world, ours["mine"], performer=[ref(ours["mine"])])
    assert world.allowed(patient(ours), "Observation", "u") == {said}
    assert not world.policy(patient(ours)).may("Observation", "d")
    assert not world.policy(patient(ours)).may("Condition", "c")
    assert world.allowed(patient(ours), "Patient", "u") == {ours["mine"]}
    world.delete(said)


def test_a_patient_cannot_write_into_another_record_by_naming_themselves_as_performer(
    world: World, ours: dict[str, str]
) -> None:
    smuggled = observation(world, ours["not-mine"], performer=[ref(ours["mine"])])
    for verb in ("c", "u"):
        assert smuggled not in world.allowed(patient(ours), "Observation", verb)
        wide = patient(ours, scopes=(Scope("patient", "*", "cruds"),), patient=ours["mine"])
        assert smuggled not in world.allowed(wide, "Observation", verb)
    world.delete(smuggled)


def test_a_patient_sees_messages_to_them_and_not_what_staff_write_about_them(
    world: World, ours: dict[str, str]
) -> None:
    mark = {"tag": [{"system": "urn:healthsphere:organization", "code": ours["org"].partition("/")[2]}]}
    to_them = world.put(
        "Communication", status="completed", meta=mark, subject=ref(ours["mine"]), recipient=[ref(ours["mine"])]
    )
    about = world.put(
        "Communication", status="completed", meta=mark, subject=ref(ours["mine"]), recipient=[ref(ours["doctor"])]
    )
    imported = world.put("Communication", status="completed", subject=ref(ours["mine"]))
    assert world.allowed(patient(ours), "Communication") == {to_them, imported}
    assert {to_them, about, imported} <= world.allowed(doctor(ours), "Communication")
    stranger = somebody("practitioner", ours["other-doctor"], ours["other-org"])
    assert not world.allowed(stranger, "Communication")


def test_a_proxy_acts_for_the_patient_while_the_relation_holds(world: World, ours: dict[str, str]) -> None:
    mother = world.put("RelatedPerson", patient=ref(ours["mine"]), active=True)
    assert world.allowed(somebody("proxy", mother), "Observation") == {ours["observation-mine"]}
    assert world.allowed(somebody("proxy", mother), "RelatedPerson", "u") == set()
    assert mother in world.allowed(somebody("proxy", mother), "RelatedPerson")
    for ended in ({"active": False}, {"period": {"end": "2020-01-01"}}, {"period": {"start": "2999-01-01"}}):
        world.put("RelatedPerson", mother.partition("/")[2], patient=ref(ours["mine"]), **ended)
        assert world.allowed(somebody("proxy", mother), "Observation") == set(), ended
    world.delete(mother)


# --- practitioners --------------------------------------------------------------------------------------------------


def test_a_practitioner_sees_the_patients_in_their_care_and_no_audit_trail(world: World, ours: dict[str, str]) -> None:
    me = doctor(ours)
    assert world.allowed(me, "Patient") == {ours["mine"]}
    assert world.allowed(me, "Observation", "u") == {ours["observation-mine"]}
    assert world.allowed(me, "Device", "u") == {ours["device-mine"]}
    assert not world.policy(me).may("AuditEvent", "r")
    assert not world.policy(me).may("Consent", "u")
    assert world.allowed(somebody("practitioner", ours["other-doctor"], ours["other-org"]), "Patient") == set()


RELATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "care team": ("CareTeam", {"status": "active", "participant": [{"member": "DOCTOR"}], "subject": "PATIENT"}),
    "role in a care team": (
        "CareTeam",
        {
            "status": "active",
            "period": {"start": "2020-01-01"},
            "participant": [{"member": "ROLE"}],
            "subject": "PATIENT",
        },
    ),
    "appointment": (
        "Appointment",
        {
            "status": "booked",
            "start": "2026-12-01T10:00:00Z",
            "end": "2026-12-01T10:30:00Z",
            "participant": [
                {"actor": "DOCTOR", "status": "accepted"},
                {"actor": "PATIENT", "status": "accepted"},
            ],
        },
    ),
    "encounter": (
        "Encounter",
        {
            "status": "in-progress",
            "class": {"code": "AMB"},
            "subject": "PATIENT",
            "participant": [{"individual": "DOCTOR"}],
        },
    ),
    "referral": (
        "ServiceRequest",
        {"status": "active", "intent": "order", "subject": "PATIENT", "performer": ["DOCTOR"]},
    ),
    "task": ("Task", {"status": "requested", "intent": "order", "for": "PATIENT", "owner": "DOCTOR"}),
}

ENDED: dict[str, tuple[str, dict[str, Any]]] = {
    "care team that is no more": ("care team", {"status": "inactive"}),
    "care team of the past": ("care team", {"period": {"end": "2021"}}),
    "care team to come": ("care team", {"period": {"start": "2999"}}),
    "appointment that was cancelled": ("appointment", {"status": "cancelled"}),
    "appointment of years ago": (
        "appointment",
        {"start": "2019-12-01T10:00:00Z", "end": "2019-12-01T10:30:00Z"},
    ),
    "appointment of a group": (
        "appointment",
        {
            "participant": [
                {"actor": "DOCTOR", "status": "accepted"},
                {"actor": "PATIENT", "status": "accepted"},
                {"actor": "ANOTHER", "status": "accepted"},
            ]
        },
    ),
    "encounter of years ago": ("encounter", {"status": "finished", "period": {"end": "2019-01-01"}}),
    "referral that is done": ("referral", {"status": "completed"}),
    "task that was refused": ("task", {"status": "rejected"}),
}


def named(value: Any, names: dict[str, str]) -> Any:
    """The content with references in place of names."""
    if isinstance(value, dict):
        return {key: named(member, names) for key, member in value.items()}
    if isinstance(value, list):
        return [named(member, names) for member in value]
    return ref(names[value]) if value in names else value


@pytest.fixture(scope="module")
def names(world: World) -> dict[str, str]:
    found = {"DOCTOR": world.put("Practitioner"), "PATIENT": world.put("Patient"), "ANOTHER": world.put("Patient")}
    found["ROLE"] = world.put("PractitionerRole", practitioner=ref(found["DOCTOR"]), active=True)
    return found


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_opens_the_record_and_its_end_closes_it(world: World, names: dict[str, str], relation: str) -> None:
    resource_type, content = RELATIONS[relation]
    me = somebody("practitioner", names["DOCTOR"])
    assert world.allowed(me, "Patient") == set()
    made = world.put(resource_type, **named(content, names))
    assert world.allowed(me, "Patient") == {names["PATIENT"]}
    world.delete(made)
    assert world.allowed(me, "Patient") == set()


@pytest.mark.parametrize("case", ENDED)
def test_what_is_over_or_not_yet_relates_to_nobody(world: World, names: dict[str, str], case: str) -> None:
    relation, change = ENDED[case]
    resource_type, content = RELATIONS[relation]
    made = world.put(resource_type, **named({**content, **change}, names))
    assert world.allowed(somebody("practitioner", names["DOCTOR"]), "Patient") == set()
    world.delete(made)


def test_the_general_practitioner_sees_the_patient_and_a_role_that_ended_counts_no_more(world: World) -> None:
    practitioner = world.put("Practitioner")
    role = world.put("PractitionerRole", practitioner=ref(practitioner), active=True)
    patient = world.put("Patient", generalPractitioner=[ref(role)])
    assert world.allowed(somebody("practitioner", practitioner), "Patient") == {patient}
    assert world.allowed(somebody("practitioner", role), "Patient") == {patient}
    world.put("PractitionerRole", role.partition("/")[2], practitioner=ref(practitioner), active=False)
    assert world.allowed(somebody("practitioner", practitioner), "Patient") == set()


def test_nobody_makes_what_would_relate_them_to_a_stranger(world: World, ours: dict[str, str]) -> None:
    """Each of these is in the compartment of a patient of the doctor, so that a wide rule would allow it."""
    stranger, mine = ref(ours["not-mine"]), ref(ours["mine"])
    attempts = [
        world.put("CareTeam", status="active", subject=stranger, participant=[{"member": mine}]),
        world.put("ServiceRequest", status="active", intent="order", subject=stranger, performer=[mine]),
        world.put("Task", status="requested", intent="order", owner=mine, **{"for": stranger}),
        world.put(
            "Patient", generalPractitioner=[ref(ours["other-doctor"])], link=[{"other": mine, "type": "seealso"}]
        ),
    ]
    for attempt in attempts:
        kind = attempt.partition("/")[0]
        for verb in ("c", "u"):
            assert attempt not in world.allowed(doctor(ours), kind, verb), (attempt, verb)
        world.delete(attempt)


def test_the_staff_of_two_organizations_do_not_see_each_others_notes(world: World, ours: dict[str, str]) -> None:
    def mark(organization: str) -> dict[str, Any]:
        return {"tag": [{"system": "urn:healthsphere:organization", "code": ours[organization].partition("/")[2]}]}

    note = {"status": "active", "code": {"text": "watch out"}, "subject": ref(ours["mine"])}
    theirs = world.put("Flag", meta=mark("other-org"), **note)
    own = world.put("Flag", meta=mark("org"), **note)
    shared = world.put("Flag", meta={"tag": [*mark("org")["tag"], *mark("other-org")["tag"]]}, **note)
    imported = world.put("Flag", **note)
    assert world.allowed(doctor(ours), "Flag") == {own, shared, imported}
    freelance = somebody("practitioner", ours["doctor"])
    assert world.allowed(freelance, "Flag") == {imported}
    program = somebody("system", None, ours["other-org"], scopes=(Scope("system", "*", "rs"),))
    assert world.allowed(program, "Flag") == {theirs, shared, imported}
    everywhere = somebody("system", None, None, scopes=(Scope("system", "*", "rs"),))
    assert world.allowed(everywhere, "Flag") == {theirs, own, shared, imported}
    assert world.policy(doctor(ours)).stamp == ("urn:healthsphere:organization", ours["org"].partition("/")[2])
    assert world.policy(patient(ours)).stamp is None


# --- others ---------------------------------------------------------------------------------------------------------


def test_a_pharmacy_sees_prescriptions_addressed_to_it_or_claimed_by_it(world: World, ours: dict[str, str]) -> None:
    pharmacy = world.put("Organization", name="Pharmacy")
    order = {
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"text": "m"},
        "authoredOn": "2026-10-01",
        "subject": ref(ours["mine"]),
    }
    addressed = world.put("MedicationRequest", dispenseRequest={"performer": ref(pharmacy)}, **order)
    claimed = world.put("MedicationRequest", **order)
    elsewhere = world.put("MedicationRequest", **order)
    me = somebody("pharmacy", world.put("Practitioner"), pharmacy)
    world.put(
        "Task",
        status="accepted",
        intent="order",
        focus=ref(claimed),
        owner=ref(pharmacy),
        **{"for": ref(ours["mine"])},
    )
    assert world.allowed(me, "MedicationRequest") == {addressed, claimed}
    assert elsewhere not in world.allowed(me, "MedicationRequest", "s")
    assert world.allowed(me, "Patient") == {ours["mine"]}
    assert world.allowed(me, "Coverage") == {ours["coverage-mine"]}
    assert not world.policy(me).may("Observation", "r")
    assert not world.policy(me).may("MedicationRequest", "c")
    stranger_order = world.put("MedicationRequest", **{**order, "subject": ref(ours["not-mine"])})
    world.put(
        "Task", status="accepted", intent="order", focus=ref(stranger_order), owner=ref(pharmacy)
    )  # a task about nobody
    assert stranger_order not in world.allowed(me, "MedicationRequest")


def test_the_front_desk_sees_demographics_and_bookings_of_its_organization_and_nothing_clinical(
    world: World, ours: dict[str, str]
) -> None:
    me = somebody("front-desk", world.put("Practitioner"), ours["org"])
    world.put("PractitionerRole", practitioner=ref(ours["doctor"]), organization=ref(ours["org"]), active=True)
    booked = world.put("Patient")
    participant = [
        {"actor": ref(ours["doctor"]), "status": "accepted"},
        {"actor": ref(booked), "status": "accepted"},
    ]
    appointment = world.put(
        "Appointment",
        status="pending",
        participant=participant,
        start="2026-12-01T09:00:00Z",
        end="2026-12-01T09:20:00Z",
    )
    schedule = world.put("Schedule", actor=[ref(ours["doctor"])])
    slot = world.put(
        "Slot", status="free", schedule=ref(schedule), start="2026-12-01T10:00:00Z", end="2026-12-01T10:30:00Z"
    )
    assert world.allowed(me, "Patient") == {ours["mine"], booked}
    assert appointment in world.allowed(me, "Appointment", "u")
    assert world.allowed(me, "Coverage", "u") == {ours["coverage-mine"]}
    assert world.allowed(me, "Slot", "u") == {slot}
    assert world.allowed(doctor(ours), "Slot", "u") == {slot}
    for clinical in ("Observation", "Condition", "Encounter", "DocumentReference", "MedicationRequest", "CarePlan"):
        assert not world.policy(me).may(clinical, "r"), clinical
    world.delete(appointment)


def test_an_administrator_writes_the_directory_and_sees_no_patient(world: World, ours: dict[str, str]) -> None:
    policy = world.policy(somebody("administrator"))
    assert policy.may("Organization", "c")
    assert policy.may("ValueSet", "u")
    assert policy.may_operate("reindex")
    assert not policy.may_operate("purge")
    for hidden in ("Patient", "Observation", "AuditEvent", "Binary"):
        assert not any(policy.may(hidden, verb) for verb in "cruds"), hidden


def test_an_administrator_moderates_what_somebody_has_reported_and_sees_no_other_message(
    world: World, ours: dict[str, str]
) -> None:
    me = somebody("administrator")
    moderator = [{"coding": [{"system": "urn:healthsphere:role", "code": "moderator"}]}]
    told = {"tag": [{"system": "urn:healthsphere:thread", "code": "reported"}]}
    task: dict[str, Any] = {"status": "requested", "intent": "order", "for": ref(ours["mine"])}
    other, review = world.put("Task", **task), world.put("Task", **task, performerType=moderator)
    message: dict[str, Any] = {"status": "completed", "subject": ref(ours["mine"])}
    unheard, reported = world.put("Communication", **message), world.put("Communication", **message, meta=told)
    assert world.allowed(me, "Task") == {review}
    assert world.allowed(me, "Communication") == {reported}
    for written in (other, review, unheard, reported):
        world.delete(written)


def test_an_auditor_reads_the_trail_and_reviews_and_changes_no_record(world: World, ours: dict[str, str]) -> None:
    me = somebody("auditor")
    assert {ours["audit-mine"], ours["audit-not-mine"]} <= world.allowed(me, "AuditEvent", "s")
    policy = world.policy(me)
    assert policy.may("Consent", "r")
    for hidden in ("Patient", "Observation"):
        assert not policy.may(hidden, "r")
    assert not policy.may("AuditEvent", "u")


def test_a_program_has_what_its_scopes_say(world: World, ours: dict[str, str]) -> None:
    me = somebody("system", scopes=(Scope("system", "Observation", "rs"),))
    assert {ours["observation-mine"], ours["observation-not-mine"]} <= world.allowed(me, "Observation")
    policy = world.policy(me)
    assert not policy.may("Patient", "r")
    assert not policy.may("Observation", "c")
    assert not policy.may_operate("purge")


def test_the_operators_own_token_opens_everything_and_an_app_of_the_operator_has_its_scopes(world: World) -> None:
    assert world.policy(Identity("operator", "", "operator")).everything
    app = world.policy(Identity("op", "app", "operator", scopes=(Scope("user", "Patient", "r"),)))
    assert app.may("Patient", "r")
    assert not app.may("Patient", "c")
    assert not world.policy(Identity("op", "app", "operator", scope="openid")).may("Patient", "r")


@pytest.mark.parametrize("role", ["patient", "proxy", "practitioner", "pharmacy", "front-desk"])
@pytest.mark.parametrize("user", [None, "Device/1", "Organization/1", "Patient", ""])
def test_who_is_not_the_resource_that_the_role_needs_sees_nothing_at_all(
    world: World, ours: dict[str, str], role: Any, user: str | None
) -> None:
    if role in ("patient", "proxy") and user == "Patient":
        user = "Person/1"
    policy = world.policy(somebody(role, user, ours["org"]))
    for resource_type in ("Patient", "Observation", "Practitioner", "ValueSet", "Task"):
        assert not policy.may(resource_type, "r"), resource_type
        assert not policy.may(resource_type, "s"), resource_type
