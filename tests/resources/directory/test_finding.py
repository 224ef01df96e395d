"""Doctors are found by what they do, where, in which language, for how much, and when they are free."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from pymongo import monitoring

from resources.directory.finding import NEXT_SLOT, PRACTICE, VERIFIED_ON
from resources.directory.record import FEE
from resources.directory.specialties import codes_for, specialties
from tests.conformance.test_command_counts import Listener
from tests.resources.callers import Roles
from tests.resources.directory.conftest import (
    BARE_CARDIOLOGY,
    CARDIOLOGY,
    DERMATOLOGY,
    Town,
    accepts,
    fee,
    speaks,
)
from tests.resources.prescription.conftest import given, key_of
from tests.resources.verification.conftest import ahead, licence

Json = dict[str, Any]


def clinic_of(town: Town, **content: Any) -> str:
    """An organization of the test's own, so that it finds its own doctors alone."""
    return town.put("Organization", **{"name": f"Clinic {uuid.uuid4().hex[:6]}", **content})


def within(organization: str) -> str:
    return f"organization={organization}"


# --- what -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["cardio", "CARDIOLOGY", "heart", "Herz", "kardiologe", "cœur", "corazon"])
def test_words_find_coded_cardiology(town: Town, words: str) -> None:
    clinic = clinic_of(town)
    of = {"organization": {"reference": clinic}}
    _, named = town.seen(**of)
    _, bare = town.seen(specialty=[BARE_CARDIOLOGY], **of)
    town.seen(specialty=[DERMATOLOGY], **of)
    wanted = {named, bare} if words != "cœur" else set()  # no phrase of the table begins so
    assert set(town.doctors(f"{within(clinic)}&text={words}")) == wanted


def test_a_code_finds_what_a_service_says_and_words_find_texts_of_nobodys_table(town: Town) -> None:
    clinic = clinic_of(town)
    of = {"organization": {"reference": clinic}}
    service = town.put("HealthcareService", specialty=[CARDIOLOGY], name="Bloodletting with leeches")
    _, served = town.seen(specialty=[], healthcareService=[{"reference": service}], **of)
    _, texted = town.seen(specialty=[{"text": "Leech therapy"}], **of)
    _, own = town.seen(**of)
    code = "specialty=http://snomed.info/sct|394579002"
    assert set(town.doctors(f"{within(clinic)}&{code}")) == {served, own}
    assert set(town.doctors(f"{within(clinic)}&text=leech")) == {served, texted}
    assert set(town.doctors(f"{within(clinic)}&text=leech&{code}")) == {served}
    assert town.doctors(f"{within(clinic)}&text=eech") == []  # words are found from their beginning


def test_the_table_of_specialties_says_each_code_once() -> None:
    codes = [code for one in specialties() for code in one.codes]
    assert len(codes) == len(set(codes)) > 60
    assert codes_for("   ") == ()
    assert "http://snomed.info/sct|394814009" in codes_for("Hausarzt")


def test_a_name_is_found_from_its_beginning_without_accents(town: Town) -> None:
    family = f"Żółć{uuid.uuid4().hex[:6]}"
    _, role = town.seen(family=family)
    assert town.doctors(f"name={family[:4]}&name=ver&text=cardio") == [role]
    assert town.doctors(f"name=zo{family[2:]}") == [role]
    assert town.doctors(f"name={family}&name=otto") == []


def test_a_language_is_found_in_any_of_its_regions(town: Town) -> None:
    clinic = clinic_of(town)
    of = {"organization": {"reference": clinic}}
    _, swiss = town.seen(communication=[speaks("de-CH"), speaks("fr")], **of)
    _, english = town.seen(communication=[speaks("en")], **of)
    town.seen(**of)
    assert town.doctors(f"{within(clinic)}&language=de") == [swiss]
    assert set(town.doctors(f"{within(clinic)}&language=fr&language=en")) == {swiss, english}


# --- where ------------------------------------------------------------------------------------------------------------


def test_near_is_near_at_one_kilometre_and_at_fifty(town: Town) -> None:
    clinic = clinic_of(town)
    of = {"organization": {"reference": clinic}}
    # A degree of latitude is 111.195 km.
    places = {km: town.place(10.0 + km / 111.195, 20.0) for km in (0.99, 1.01, 49.9, 50.1)}
    roles = {km: town.seen(location=[{"reference": place}], **of)[1] for km, place in places.items()}
    asked = f"{within(clinic)}&near=10|20"
    assert town.doctors(f"{asked}|1|km") == [roles[0.99]]
    assert town.doctors(asked) == [roles[0.99], roles[1.01], roles[49.9]]
    assert town.doctors(f"{asked}|51|km") == [roles[0.99], roles[1.01], roles[49.9], roles[50.1]]
    found = town.searched(f"{asked}|1|km")["entry"][0]["search"]["extension"]
    (distance,) = (row["valueDistance"] for row in found if "valueDistance" in row)
    assert (distance["unit"], round(distance["value"], 2)) == ("km", 0.99)


def test_near_goes_across_the_line_of_the_date(town: Town) -> None:
    clinic = clinic_of(town)
    of = {"organization": {"reference": clinic}}
    east, west = town.place(-17.0, 179.95), town.place(-17.0, -179.95)
    _, here = town.seen(location=[{"reference": east}], **of)
    _, there = town.seen(location=[{"reference": west}], **of)
    assert town.doctors(f"{within(clinic)}&near=-17|179.94|20|km") == [here, there]
    assert town.doctors(f"{within(clinic)}&near=-17|-179.94|20|km") == [there, here]
    assert town.doctors(f"{within(clinic)}&near=-17|179.94|5|km") == [here]


def test_a_place_stands_for_its_position_and_a_service_for_its_role(town: Town) -> None:
    clinic = clinic_of(town)
    home = town.place(47.0, 8.0)
    service = town.put("HealthcareService", location=[{"reference": town.place(47.01, 8.0)}])
    _, role = town.seen(healthcareService=[{"reference": service}], organization={"reference": clinic})
    assert town.doctors(f"{within(clinic)}&place={home}") == [role]
    answer = town.call("patient", "GET", f"PractitionerRole/$find-doctor?place={town.put('Location')}")
    assert (answer.status_code, key_of(answer)) == (404, "HS-DIRECTORY-PLACE")


def test_practices_of_one_name_are_told_apart(town: Town) -> None:
    clinics = [clinic_of(town, name="Heart Clinic") for _ in range(2)]
    for clinic, city in zip(clinics, ("Bonn", "Köln"), strict=True):
        address = {"line": ["Main Street 1"], "city": city}
        place = town.place(50.7, 7.1, name="House 2", address=address)
        town.seen(organization={"reference": clinic}, location=[{"reference": place}])
    query = "&".join(map(within, clinics))
    entries = town.searched(query)["entry"]
    told = [row["valueString"] for e in entries for row in e["search"].get("extension", ()) if row["url"] == PRACTICE]
    assert sorted(told) == [
        "Heart Clinic, House 2, Main Street 1, Bonn",
        "Heart Clinic, House 2, Main Street 1, Köln",
    ]
    assert len(town.doctors(f"{query}&city=koln")) == 1


# --- for whose money --------------------------------------------------------------------------------------------------


def test_insurance_is_found_by_plan_payer_network_and_coverage(town: Town) -> None:
    clinic = clinic_of(town)
    of = {"organization": {"reference": clinic}}
    insurer, network = town.put("Organization", name="Insurer"), town.put("Organization", name="Network")
    plan = town.put("InsurancePlan", name="Gold", ownedBy={"reference": insurer}, network=[{"reference": network}])
    coverage = town.put(
        "Coverage",
        status="active",
        beneficiary={"reference": town.roles.known["patient"].fhir_user},
        payor=[{"reference": insurer}],
    )
    program = {"coding": [{"system": "http://example.org/programs", "code": "public"}]}
    service = town.put("HealthcareService", program=[program], extension=[accepts(network)])
    _, by_plan = town.seen(extension=[accepts(plan)], **of)
    _, by_payer = town.seen(extension=[accepts(insurer)], **of)
    _, by_service = town.seen(healthcareService=[{"reference": service}], **of)
    town.seen(**of)
    assert set(town.doctors(f"{within(clinic)}&insurance={plan}")) == {by_plan, by_payer, by_service}
    assert set(town.doctors(f"{within(clinic)}&insurance={coverage}")) == {by_payer}
    assert town.doctors(f"{within(clinic)}&insurance=http://example.org/programs|public") == [by_service]
    other = town.put("Coverage", status="active", beneficiary={"reference": town.put("Patient")},
                     payor=[{"reference": insurer}])  # fmt: skip
    answer = town.call("patient", "GET", f"PractitionerRole/$find-doctor?insurance={other}")
    assert (answer.status_code, key_of(answer)) == (404, "HS-DIRECTORY-INSURANCE")


def test_the_cheapest_comes_first_and_who_says_no_price_last(town: Town) -> None:
    clinic = clinic_of(town)
    of = {"organization": {"reference": clinic}}
    definition = town.put(
        "ChargeItemDefinition",
        url=f"urn:uuid:{uuid.uuid4()}",
        status="active",
        propertyGroup=[{"priceComponent": [{"type": "base", "amount": {"value": 40, "currency": "EUR"}}]}],
    )
    service = town.put("HealthcareService", extension=[{"url": FEE, "valueReference": {"reference": definition}}])
    _, dear = town.seen(extension=[fee(120.5)], **of)
    _, cheap = town.seen(healthcareService=[{"reference": service}], **of)
    _, dollars = town.seen(extension=[fee(60, "USD")], **of)
    _, silent = town.seen(**of)
    assert town.doctors(f"{within(clinic)}&_sort=price") == [cheap, dollars, dear, silent]
    assert town.doctors(f"{within(clinic)}&_sort=price&price-max=100") == [cheap, dollars]
    assert town.doctors(f"{within(clinic)}&price-max=120.50&currency=EUR&_sort=price") == [cheap, dear]
    answer = town.call("patient", "GET", "PractitionerRole/$find-doctor?price-max=cheap")
    assert (answer.status_code, key_of(answer)) == (400, "HS-OP-PARAMETER")


def test_telehealth_is_what_role_service_or_place_say(town: Town) -> None:
    clinic = clinic_of(town)
    of = {"organization": {"reference": clinic}}
    mode = {"coding": [{"code": "telehealth"}]}
    service = town.put("HealthcareService", characteristic=[mode])
    virtual = town.put("Location", physicalType={"coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/location-physical-type", "code": "vi"}]})  # fmt: skip
    _, served = town.seen(healthcareService=[{"reference": service}], **of)
    _, placed = town.seen(location=[{"reference": virtual}], **of)
    _, present = town.seen(**of)
    assert set(town.doctors(f"{within(clinic)}&telehealth=true")) == {served, placed}
    assert town.doctors(f"{within(clinic)}&telehealth=false") == [present]


# --- when -------------------------------------------------------------------------------------------------------------


def test_who_is_free_first_comes_first_with_times_that_can_be_booked(town: Town) -> None:
    clinic = clinic_of(town)
    of = {"organization": {"reference": clinic}}
    later, later_role = town.seen(**of)
    soon, soon_role = town.seen(**of)
    _, never = town.seen(**of)
    town.timetable(later, minimumNotice=60 * 24 * 9)
    schedule = town.timetable(soon, minimumNotice=60 * 24 * 2)
    assert town.doctors(within(clinic)) == [soon_role, later_role, never]
    assert town.doctors(f"{within(clinic)}&bookable=true") == [soon_role, later_role]
    assert town.doctors(f"{within(clinic)}&before={ahead(6)}") == [soon_role]

    bundle = town.searched(f"{within(clinic)}&_count=1")
    (first,) = [e for e in bundle["entry"] if e["search"]["mode"] == "match"]
    slots = [row["valueReference"] for row in first["search"]["extension"] if row["url"] == NEXT_SLOT]
    included = {f"{r['resourceType']}/{r['id']}": r for r in (e["resource"] for e in bundle["entry"])}
    assert len(slots) == 3
    assert {name.partition("/")[0] for name in included} >= {"Practitioner", "Organization"}
    offers = [included[slot["reference"]] for slot in slots]
    assert [offer["start"] for offer in offers] == sorted(slot["display"] for slot in slots)
    found = town.get(f"Appointment/$find?practitioner={soon}", "patient")
    assert [e["resource"]["id"] for e in found["entry"]][:3] == [offer["id"] for offer in offers]

    # What is shown is booked as it is, and is then shown to nobody.
    patient = town.roles.known["patient"].fhir_user
    wanted = {**offers[0], "status": "pending"}
    wanted["participant"] = [*wanted["participant"], {"actor": {"reference": patient}, "status": "accepted"}]
    body = {"resourceType": "Parameters", "parameter": [{"name": "appointment-resource", "resource": wanted}]}
    answer = town.call("patient", "POST", "Appointment/$book", body)
    assert answer.status_code == 201, answer.text
    again = town.searched(f"{within(clinic)}&_count=1")
    assert offers[0]["id"] not in {e["resource"]["id"] for e in again["entry"]}
    assert schedule


def test_a_timetable_counts_for_the_role_and_the_place_that_it_names(town: Town) -> None:
    clinic = clinic_of(town)
    of = {"organization": {"reference": clinic}}
    here, there = town.place(1.0, 1.0), town.place(2.0, 2.0)
    doctor, first = town.seen(location=[{"reference": here}], **of)
    second = town.role_of(doctor, specialty=[CARDIOLOGY], location=[{"reference": there}], **of)
    third = town.role_of(doctor, specialty=[CARDIOLOGY], **of)
    town.timetable(doctor, there)
    assert set(town.doctors(f"{within(clinic)}&bookable=true")) == {second, third}
    town.timetable(first)
    assert set(town.doctors(f"{within(clinic)}&bookable=true")) == {first, second, third}


# --- who is not found -------------------------------------------------------------------------------------------------


def test_who_is_suspended_or_without_a_licence_vanishes_from_both_searches(town: Town) -> None:
    clinic = clinic_of(town)
    of = {"organization": {"reference": clinic}}
    doctor = town.verified(licence(uuid.uuid4().hex, ahead(40)))
    role = town.role_of(doctor, specialty=[CARDIOLOGY], **of)
    town.timetable(doctor)
    find = f"Appointment/$find?practitioner={doctor}"
    marks = town.searched(within(clinic))["entry"][0]["search"]["extension"]
    (since,) = [row["valueDateTime"] for row in marks if row["url"] == VERIFIED_ON]
    assert since == town.task(doctor)["lastModified"]

    def found(who: str) -> tuple[bool, bool]:
        offers = [e["resource"] for e in town.get(find, who).get("entry", ())]
        return role in town.doctors(within(clinic), who), any(o["resourceType"] == "Appointment" for o in offers)

    assert found("patient") == found("operator") == (True, True)
    # By the clock, before any timer has run.
    town.clock.ahead = timedelta(days=42)
    assert found("patient") == found("operator") == (False, False)
    town.clock.ahead = timedelta()
    town.do("admin-1", doctor, "revalidate", reason="A complaint about the licence.")
    assert found("patient") == found("operator") == (False, False)
    for admin in ("admin-1", "admin-2"):
        town.do(admin, doctor, "approve")
    assert found("patient") == (True, True)


# --- pages ------------------------------------------------------------------------------------------------------------


def test_pages_follow_one_another_without_gap_or_repeat(town: Town) -> None:
    clinic = clinic_of(town)
    roles = {town.seen(organization={"reference": clinic})[1] for _ in range(5)}
    address = f"PractitionerRole/$find-doctor?{within(clinic)}&_sort=name&_count=2"
    seen: list[str] = []
    while address:
        page = town.get(address, "patient")
        assert page["total"] == 5
        seen += [f"PractitionerRole/{e['resource']['id']}" for e in page["entry"] if e["search"]["mode"] == "match"]
        address = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
    assert len(seen) == 5
    assert set(seen) == roles


def test_where_nobody_fits_the_answer_says_so(town: Town) -> None:
    (entry,) = town.searched(within(clinic_of(town)))["entry"]
    assert (entry["search"]["mode"], key_of(entry["resource"])) == ("outcome", "HS-DIRECTORY-NOBODY")


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("near=95|10", "HS-SEARCH-NEAR"),
        ("_sort=distance", "HS-OP-PARAMETER"),
        ("_sort=beauty", "HS-OP-PARAMETER"),
        ("insurance=gold", "HS-OP-PARAMETER"),
        ("speciality=x", "HS-OP-UNKNOWN"),
        ("before=soon", "HS-SCHED-MOMENT"),
        ("price-max=10&currency=euro", "HS-OP-PARAMETER"),
    ],
)
def test_what_means_nothing_is_refused(town: Town, query: str, key: str) -> None:
    answer = town.call("patient", "GET", f"PractitionerRole/$find-doctor?{query}")
    assert answer.status_code in (400, 422)
    assert key_of(answer) == key


def test_it_is_asked_by_parameters_too(town: Town) -> None:
    clinic = clinic_of(town)
    _, role = town.seen(organization={"reference": clinic}, extension=[fee(10)])
    body = given(organization={"reference": clinic}, text="heart", telehealth=False)
    body["parameter"].append({"name": "price-max", "valueMoney": {"value": 20, "currency": "EUR"}})
    answer = town.call("patient", "POST", "PractitionerRole/$find-doctor", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["entry"][0]["resource"]["id"] == role.partition("/")[2]


def test_how_many_commands_it_takes_does_not_depend_on_how_many_are_found(make_server: Any) -> None:
    listener = Listener()
    monitoring.register(listener)
    server = make_server()
    listener.database = server.settings.mongodb_database
    roles = Roles(server=server)
    town = Town(server, roles)
    clinic, place = clinic_of(town), town.place(10.0, 20.0)
    service = town.put("HealthcareService", extension=[fee(30)])
    of = {"organization": {"reference": clinic}, "location": [{"reference": place}]}
    for number in range(12):
        doctor, _ = town.seen(healthcareService=[{"reference": service}], **(of if number < 9 else {}))
        town.timetable(doctor)
    query = f"near=10|20|5|km&text=cardio&_sort=next-slot&{within(clinic)}"
    town.doctors(query)  # the names of offers are written once in a process
    counts = []
    for more in ("&_count=9", "&_count=2", "&_count=1"):
        with listener.noting() as noted:
            assert len(town.doctors(query + more)) == int(more[-1])
        counts.append(Counter(noted))
    assert counts[0] == counts[1] == counts[2]
    assert counts[0].total() == 15, counts[0]
