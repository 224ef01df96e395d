"""Nobody is booked who is not to be found, whichever way an Appointment is written; history is brought in as it was."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.conftest import BASE_URL, InProcessServer
from tests.resources.callers import Roles
from tests.resources.scheduling.conftest import CONSULTATION, at, hours, rules, service
from tests.resources.verification.conftest import Board, licence

Json = dict[str, Any]

PEOPLE = ("patient", "proxy", "desk")
WAYS = ("post", "put", "patch", "transaction", "batch")
JSON_PATCH = {"Content-Type": "application/json-patch+json"}


class Surgery(Board):
    """A board of doctors, a patient, who acts for the patient, and the front desk of the patient's clinic."""

    patient: str = ""

    def wish(self, *actors: str, **more: Any) -> Json:
        people = [{"actor": {"reference": one}, "status": "needs-action"} for one in (self.patient, *actors)]
        return {"resourceType": "Appointment", "status": "proposed", "participant": people, **more}

    def write(self, who: str, way: str, *actors: str, **more: Any) -> httpx.Response:
        """Ask for an Appointment with others, by one of the ways; the answer of an entry stands for that of its
        Bundle."""
        wish = self.wish(*actors, **more)
        match way:
            case "post":
                return self.call(who, "POST", "Appointment", wish)
            case "put":
                key = self.wished(who)
                return self.call(who, "PUT", key, {**wish, "id": key.partition("/")[2]})
            case "patch":
                steps = [{"op": "replace", "path": "/participant", "value": wish["participant"]}]
                return self.roles.as_(who).patch(self.wished(who), json=steps, headers=JSON_PATCH)
            case _:
                entry = {"request": {"method": "POST", "url": "Appointment"}, "resource": wish}
                return self.call(who, "POST", "", {"resourceType": "Bundle", "type": way, "entry": [entry]})

    def wished(self, who: str) -> str:
        """An Appointment that stands there, with nobody but the patient."""
        answer = self.call(who, "POST", "Appointment", self.wish())
        assert answer.status_code == 201, answer.text
        return f"Appointment/{answer.json()['id']}"


def told(answer: httpx.Response) -> tuple[int, str, str, str]:
    """What an answer refuses: status, key, words and place; of a batch, what its entry refuses."""
    status, body = answer.status_code, answer.json()
    if body["resourceType"] == "Bundle":
        response = body["entry"][0]["response"]
        status, body = int(response["status"][:3]), response["outcome"]
    (issue,) = body["issue"]
    place = issue.get("expression", [""])[0].removeprefix("Bundle.entry[0].resource.").removeprefix("Appointment.")
    return status, issue["details"]["coding"][0]["code"], issue["diagnostics"], place


def is_written(answer: httpx.Response) -> bool:
    body = answer.json()
    if answer.status_code == 200 and body["resourceType"] == "Bundle":
        return bool(body["entry"][0]["response"]["status"].startswith("201"))
    return answer.status_code in (200, 201)


@pytest.fixture(scope="module")
def surgery(make_server: Callable[..., InProcessServer]) -> Surgery:
    roles = Roles()
    roles.server = make_server({"gate": roles}, auth="on")
    roles.add("operator", "operator", scopes=())
    roles.add("system", "system")
    for number in (1, 2):
        roles.add(f"admin-{number}", "administrator")
    made = Surgery(roles.server, roles)
    clinic = made.put("Organization", name="Clinic")
    made.patient = made.put("Patient", managingOrganization={"reference": clinic})
    mother = made.put("RelatedPerson", patient={"reference": made.patient}, active=True)
    roles.add("patient", "patient", made.patient, patient=made.patient)
    roles.add("proxy", "proxy", mother, patient=made.patient)
    receptionist = made.put("Practitioner", active=True)
    made.put("PractitionerRole", practitioner={"reference": receptionist}, organization={"reference": clinic})
    roles.add("desk", "front-desk", receptionist, organization=clinic)
    return made


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", PEOPLE)
def test_nobody_names_a_doctor_who_is_hidden_by_any_way_of_writing(surgery: Surgery, who: str, way: str) -> None:
    out, found = surgery.doctor(licence("W-1")), surgery.verified(licence("W-2"))
    before = surgery.get(f"Appointment?actor={out}&_summary=count")["total"]
    refused = told(surgery.write(who, way, found, out))
    assert (refused[0], refused[3]) == (422, "participant[2].actor.reference")
    assert out in refused[2]
    assert surgery.get(f"Appointment?actor={out}&_summary=count")["total"] == before == 0
    assert is_written(surgery.write(who, way, found))


@pytest.mark.parametrize("who", ["patient", "proxy"])
def test_who_is_hidden_is_refused_to_patients_as_who_never_was(surgery: Surgery, who: str) -> None:
    out, nobody = surgery.doctor(licence("W-3")), f"Practitioner/x{uuid.uuid4().hex[:12]}"
    gone = surgery.put("Practitioner", active=True)
    assert surgery.call("system", "DELETE", gone).status_code in (200, 204)
    words = set()
    for one in (out, nobody, gone, surgery.role_of(out), f"PractitionerRole/{nobody[13:]}"):
        status, key, text, place = told(surgery.write(who, "post", one))
        words.add((status, key, text.replace(one, "[it]"), place))
    assert words == {
        (
            422,
            "HS-REF-MISSING",
            "There is no [it] on this server, and references must lead to something.",
            "participant[1].actor.reference",
        )
    }


def test_the_words_are_those_of_a_server_that_looks_at_every_reference(
    surgery: Surgery, make_server: Callable[..., InProcessServer]
) -> None:
    strict = make_server(referential_integrity="refuse")
    nobody = f"Practitioner/x{uuid.uuid4().hex[:12]}"
    wish = {**surgery.wish(nobody), "participant": surgery.wish(nobody)["participant"][1:]}
    theirs = told(strict.client.post("Appointment", json=wish))
    ours = told(surgery.call("patient", "POST", "Appointment", surgery.wish(nobody)))
    assert theirs[:3] == ours[:3]


@pytest.mark.parametrize("form", ["{base}/{one}", "{one}/_history/1", "{base}/{one}/_history/1"])
def test_no_way_to_write_a_reference_leads_around_it(surgery: Surgery, form: str) -> None:
    out = surgery.doctor()
    reference = form.format(base=BASE_URL, one=out)
    assert told(surgery.write("patient", "post", reference))[1] == "HS-REF-MISSING"
    assert told(surgery.write("desk", "post", reference))[1] == "HS-SCHED-NOT-BOOKABLE"


def test_the_front_desk_which_sees_them_is_told_why(surgery: Surgery) -> None:
    out = surgery.doctor(licence("W-4"))
    for one in (out, surgery.role_of(out)):
        status, key, text, _ = told(surgery.write("desk", "post", one, status="booked", **time(30)))
        assert (status, key) == (422, "HS-SCHED-NOT-BOOKABLE")
        assert text == f"{one} cannot be booked: not verified, not active, or without a licence in force."


def test_a_licence_that_is_over_counts_by_the_clock(surgery: Surgery) -> None:
    """Whoever is not marked yet is not booked either."""
    doctor = surgery.put("Practitioner", who="system", active=True, qualification=[licence("W-5", "2020-01-01")])
    assert told(surgery.write("patient", "post", doctor))[1] == "HS-REF-MISSING"


def time(day: int, minutes: int = 30) -> Json:
    start = at(day, "09:00")
    return {"start": start.isoformat(), "end": (start + timedelta(minutes=minutes)).isoformat()}


@pytest.mark.parametrize("who", ["system", "operator"])
@pytest.mark.parametrize("way", WAYS)
def test_programs_bring_in_what_was_as_it_was(surgery: Surgery, who: str, way: str) -> None:
    out = surgery.doctor(licence("W-6"))
    nobody = f"Practitioner/x{uuid.uuid4().hex[:12]}"
    assert is_written(surgery.write(who, way, out, surgery.role_of(out), nobody, status="booked", **time(31)))


def test_the_front_desk_writes_down_who_was_seen_and_books_nobody_anew(surgery: Surgery) -> None:
    out = surgery.doctor(licence("W-7"))
    assert is_written(surgery.write("desk", "post", out, status="booked", **time(-3)))
    assert not is_written(surgery.write("desk", "post", out, status="booked", **time(3)))


def test_what_stands_already_can_be_changed_otherwise(surgery: Surgery) -> None:
    doctor = surgery.verified(licence("W-8"))
    wish = surgery.call("patient", "POST", "Appointment", surgery.wish(doctor)).json()
    visit = surgery.call("desk", "POST", "Appointment", surgery.wish(doctor, status="booked", **time(32))).json()
    surgery.do("admin-1", doctor, "revalidate", reason="Somebody has complained.")
    for who, one in (("patient", wish), ("desk", wish), ("patient", visit), ("desk", visit)):
        place = f"Appointment/{one['id']}"
        now = surgery.get(place)
        answer = surgery.call(who, "PUT", place, {**now, "comment": f"by {who}"})
        assert answer.status_code == 200, answer.text
    # A doctor who was not there is not brought in, and those who are there take no other time.
    other = surgery.doctor()
    more = {**wish, "participant": [*wish["participant"], {"actor": {"reference": other}, "status": "needs-action"}]}
    assert told(surgery.call("patient", "PUT", f"Appointment/{wish['id']}", more))[1] == "HS-REF-MISSING"
    for one in ({**visit, **time(33)}, {**wish, "status": "booked", **time(33)}):
        assert told(surgery.call("desk", "PUT", f"Appointment/{one['id']}", one))[1] == "HS-SCHED-NOT-BOOKABLE"
    for one in (wish, visit):
        ended = {**one, "status": "cancelled", "cancelationReason": {"text": "Not there"}}
        assert surgery.call("patient", "PUT", f"Appointment/{one['id']}", ended).status_code == 200


def test_a_slot_of_who_is_hidden_is_not_taken_either(surgery: Surgery) -> None:
    out, found = surgery.doctor(licence("W-9")), surgery.verified(licence("W-10"))
    slots = {}
    for one in (out, found):
        schedule = surgery.put("Schedule", actor=[{"reference": one}])
        slots[one] = surgery.put("Slot", schedule={"reference": schedule}, status="free", **time(34))
    for who, more in (("desk", {"status": "booked", **time(34)}), ("patient", {})):
        status, key, text, place = told(surgery.write(who, "post", slot=[{"reference": slots[out]}], **more))
        assert (status, key, place) == (422, "HS-SCHED-NOT-BOOKABLE", "slot")
        assert out not in text
        assert is_written(surgery.write(who, "post", slot=[{"reference": slots[found]}], **more))


def test_book_does_not_bring_in_a_second_doctor_who_is_hidden(surgery: Surgery) -> None:
    out, found = surgery.doctor(licence("W-11")), surgery.verified(licence("W-12"))
    times = rules(hours("09:00", "17:00"), service(CONSULTATION, 30))
    surgery.put("Schedule", actor=[{"reference": found}], extension=[times])
    for who, key in (("patient", "HS-REF-MISSING"), ("desk", "HS-SCHED-NOT-BOOKABLE")):
        for operation in ("book", "hold"):
            draft = surgery.wish(found, out, **time(35))
            rows = [{"name": "appointment-resource", "resource": draft}]
            body = {"resourceType": "Parameters", "parameter": rows}
            assert told(surgery.call(who, "POST", f"Appointment/${operation}", body))[:2] == (422, key)
    assert surgery.get(f"Appointment?actor={found}&_summary=count")["total"] == 0


def test_whose_times_are_given_out_here_need_not_be_stored_here(surgery: Surgery) -> None:
    """An EHR may write Schedules of people whom it keeps for itself; what is offered of these can be booked."""
    elsewhere, nobody = (f"Practitioner/x{uuid.uuid4().hex[:12]}" for _ in range(2))
    times = rules(hours("09:00", "17:00"), service(CONSULTATION, 30))
    surgery.put("Schedule", actor=[{"reference": elsewhere}], extension=[times])
    for people, status in (((elsewhere, nobody), 422), ((elsewhere,), 201)):
        rows = [{"name": "appointment-resource", "resource": surgery.wish(*people, **time(36))}]
        body = {"resourceType": "Parameters", "parameter": rows}
        answer = surgery.call("patient", "POST", "Appointment/$book", body)
        assert answer.status_code == status, answer.text
    assert told(surgery.write("patient", "post", elsewhere))[1] == "HS-REF-MISSING"


def test_one_entry_of_a_bundle_is_named(surgery: Surgery) -> None:
    out = surgery.doctor()
    rows = [surgery.wish(), surgery.wish(out)]
    entries = [{"request": {"method": "POST", "url": "Appointment"}, "resource": one} for one in rows]
    answer = surgery.call("patient", "POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 422
    assert "Bundle.entry[1]" in answer.text
