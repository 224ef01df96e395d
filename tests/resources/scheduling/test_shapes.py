"""Whatever is sent is answered: what is not well-formed is refused, and never breaks anything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.scheduling.extensions import ALTERNATIVE, HELD_UNTIL, SCHEDULE
from tests.resources.scheduling.conftest import CONSULTATION, Clinic, Json, at, hours, rules, service

junk: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from(["", "x", "2026-01-01", "Patient/x", "#"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["url", "extension", "reference", "coding", "actor", "valueInteger"]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)


def sound() -> dict[str, Json]:
    return {
        "Appointment": {
            "status": "pending",
            "start": at(90, "09:00").isoformat(),
            "end": at(90, "09:30").isoformat(),
            "extension": [
                {"url": SCHEDULE, "valueReference": {"reference": "Schedule/x"}},
                {"url": HELD_UNTIL, "valueInstant": at(1, "09:00").isoformat()},
                {"url": ALTERNATIVE, "extension": [{"url": "start", "valueInstant": at(2, "09:00").isoformat()}]},
            ],
            "slot": [{"reference": "Slot/x"}],
            "serviceType": [CONSULTATION],
            "participant": [{"actor": {"reference": "Practitioner/x"}, "status": "accepted"}],
        },
        "Schedule": {
            "actor": [{"reference": "Practitioner/nobody"}],
            "extension": [rules(hours("09:00", "10:00", "mon"), service(CONSULTATION, 30))],
        },
        "AppointmentResponse": {
            "appointment": {"reference": "Appointment/x"},
            "actor": {"reference": "Patient/x"},
            "participantStatus": "accepted",
        },
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    rows = [path] if path else []
    if isinstance(value, dict):
        for name, inner in value.items():
            rows += places(inner, (*path, name))
    if isinstance(value, list):
        for number, inner in enumerate(value):
            rows += places(inner, (*path, number))
    return rows


def spoiled(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = spoiled(copy[path[0]], path[1:], new)
    return copy


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_a_resource_that_is_spoiled_anywhere_is_refused_or_taken(clinic: Clinic, data: st.DataObject) -> None:
    resource_type = data.draw(st.sampled_from(sorted(sound())))
    resource = sound()[resource_type]
    body = spoiled(resource, data.draw(st.sampled_from(places(resource))), data.draw(junk))
    answer = clinic.client.post(resource_type, json={"resourceType": resource_type, **body})
    assert answer.status_code < 500, (body, answer.text)
    if answer.status_code == 201:
        clinic.client.delete(f"{resource_type}/{answer.json()['id']}")


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_operations_answer_whatever_they_are_given(clinic: Clinic, data: st.DataObject) -> None:
    operation = data.draw(st.sampled_from(["find", "hold", "book", "book-series"]))
    names = ["appointment-reference", "start", "practitioner", "visit-type", "timing", "rrule", "_count", "schedule"]
    kinds = ["valueString", "valueReference", "valueTiming", "valueInteger", "valueCoding"]
    rows = [
        {"name": data.draw(st.sampled_from(names)), data.draw(st.sampled_from(kinds)): data.draw(junk)}
        for _ in range(data.draw(st.integers(0, 3)))
    ]
    appointment = sound()["Appointment"]
    draft = spoiled(appointment, data.draw(st.sampled_from(places(appointment))), data.draw(junk))
    if data.draw(st.booleans()) and operation != "find":
        rows.append({"name": "appointment-resource", "resource": {"resourceType": "Appointment", **draft}})
    answer = clinic.client.post(f"Appointment/${operation}", json={"resourceType": "Parameters", "parameter": rows})
    assert answer.status_code < 500, (rows, answer.text)


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_operations_on_an_appointment_answer_whatever_they_are_given(clinic: Clinic, data: st.DataObject) -> None:
    wish = {"status": "proposed", "participant": [{"actor": {"reference": "Practitioner/x"}, "status": "tentative"}]}
    found = clinic.client.put("Appointment/junk", json={"resourceType": "Appointment", "id": "junk", **wish})
    if found.status_code == 422:  # what was done to it last has ended it
        clinic.client.delete("Appointment/junk")
    operations = "confirm decline propose accept counter cancel reschedule check-in no-show join ical"
    operation = data.draw(st.sampled_from(operations.split()))
    names = st.sampled_from(["start", "end", "reason", "comment", "appointment-reference"])
    kinds = st.sampled_from(["valueString", "valueReference", "valueInstant", "valueCodeableConcept"])
    rows = [{"name": data.draw(names), data.draw(kinds): data.draw(junk)} for _ in range(data.draw(st.integers(0, 3)))]
    body = {"resourceType": "Parameters", "parameter": rows}
    answer = clinic.client.post(f"Appointment/junk/${operation}", json=body)
    assert answer.status_code < 500, (operation, rows, answer.text)


@pytest.mark.parametrize("name", ["start", "end", "until", "by"])
def test_an_offer_that_lacks_something_is_refused_when_it_is_written(clinic: Clinic, name: str) -> None:
    doctor = clinic.doctor()
    clinic.schedule(doctor)
    parts = {
        "start": {"valueInstant": at(91, "11:00").isoformat()},
        "end": {"valueInstant": at(91, "11:30").isoformat()},
        "until": {"valueInstant": at(2, "11:00").isoformat()},
        "by": {"valueReference": {"reference": doctor}},
    }
    offer = {"url": ALTERNATIVE, "extension": [{"url": n, **v} for n, v in parts.items() if n != name]}
    appointment = clinic.appointment(at(91, "09:00"), 30, doctor, status="pending", extension=[offer])
    answer = clinic.client.post("Appointment", json=appointment)
    assert answer.status_code == (201 if name == "by" else 422), answer.text
