"""What happens without a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fhir_server.jobs.follower import Changed
from fhir_server.jobs.timers import Timer
from fhir_server.model import codec
from fhir_server.model.clock import now_us
from resources.dispensing.later import DAY_US, NOT_COLLECTED, dispensed_elsewhere, not_collected
from tests.conftest import InProcessServer
from tests.resources.prescription.conftest import Clinic, made
from tests.resources.told import Told


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def __call__(self) -> int:
        return now_us() + self.ahead_us


@pytest.fixture(scope="module")
def later(make_server: Callable[..., InProcessServer]) -> tuple[Clinic, Clock]:
    clock = Clock()
    return made(make_server, now=clock), clock


def after(clinic: Clinic, clock: Clock, days: float) -> None:
    """Do what is due some days from now."""
    clock.ahead_us = round(days * DAY_US)
    server = clinic.servers[0]
    server.run(server.context.timers.run_due())


def test_what_nobody_collects_is_told_to_both_once(later: tuple[Clinic, Clock]) -> None:
    clinic, clock = later
    waiting, _ = clinic.signed()
    claimed, _ = clinic.claimed()
    handed, secret = clinic.claimed()
    clinic.do("pharmacy", handed, "dispense", 201, secret=secret)
    back, _ = clinic.signed()
    clinic.do("doctor", back, "withdraw", reason="x")
    after(clinic, clock, 13.9)
    assert clinic.matters(waiting, "not-collected") == []
    after(clinic, clock, 14.1)
    after(clinic, clock, 40)
    for address in (waiting, claimed):
        (task,) = clinic.matters(address, "not-collected")
        assert task["owner"] == {"reference": clinic.names["doctor"]}
        (told,) = clinic.matters(address, "not-collected", "Communication")
        people = {one["reference"] for one in told["recipient"]}
        assert people == {clinic.names["patient"], clinic.names["doctor"]}
    for address in (handed, back):
        assert clinic.matters(address, "not-collected") == []


def test_a_timer_that_comes_again_writes_no_second_task(later: tuple[Clinic, Clock]) -> None:
    clinic, _ = later
    waiting, _ = clinic.signed()
    server = clinic.servers[0]
    for _ in range(3):
        server.run(not_collected(server.context, Timer(NOT_COLLECTED, waiting.partition("/")[2], 0, {}, 0)))
    assert len(clinic.matters(waiting, "not-collected")) == 1
    assert len(clinic.matters(waiting, "not-collected", "Communication")) == 1


def test_both_have_one_event_and_one_mail_of_each_thing_that_happens_to_a_prescription(
    later: tuple[Clinic, Clock],
) -> None:
    clinic, clock = later
    clock.ahead_us = 0
    patient, doctor = clinic.names["patient"], clinic.names["doctor"]
    server = clinic.servers[0]
    with httpx.Client(
        transport=server.client._transport, base_url=server.base_url, headers={"Authorization": "Bearer operator"}
    ) as operator:
        news = Told(server, operator, patient, doctor)
        waiting, _ = clinic.signed()
        refused, _ = clinic.signed(dispenseRequest=clinic.addressed())
        clinic.do("pharmacy", refused, "reject", reason="we have none of it")
        for _ in range(2):
            timer = Timer(NOT_COLLECTED, waiting.partition("/")[2], 0, {}, 1)
            server.run(not_collected(server.context, timer))
        happened = [("prescription-refused", refused), ("prescription-not-collected", waiting)]
        for person in (patient, doctor):
            assert news.events(person, waiting, refused) == happened
            assert news.mails(person, waiting, refused) == happened
        assert all("Amoxicillin" not in letter.text for letter in news.letters)


def test_what_a_program_reports_as_handed_out_after_it_was_taken_back_raises_the_alarm(clinic: Clinic) -> None:
    address, secret = clinic.claimed()
    clinic.do("doctor", address, "withdraw", 202, reason="wrong dose")
    clinic.do("pharmacy", address, "answer-withdrawal", secret=secret, answer="accept")
    server = clinic.servers[0]

    def change(status: str, at_us: int, **content: Any) -> Changed:
        body = {"resourceType": "MedicationDispense", "status": status, **content}
        return Changed("MedicationDispense", "x", 1, False, at_us, codec.encode(body))

    named = {
        "authorizingPrescription": [{"reference": address}, {"reference": "MedicationRequest/none"}],
        "performer": [{"actor": {"reference": clinic.names["other-pharmacy"]}}],
    }
    moment = now_us()
    harmless = [
        change("completed", moment - DAY_US, **named),
        change("cancelled", moment + DAY_US, **named),
        change("completed", moment + DAY_US),
        Changed("MedicationDispense", "x", 2, True, moment, None),
    ]
    server.run(dispensed_elsewhere(server.context, harmless))
    assert clinic.matters(address, "dispensed-after-withdrawal") == []
    for _ in range(2):
        server.run(dispensed_elsewhere(server.context, [change("completed", moment + DAY_US, **named)]))
    (issue,) = clinic.matters(address, "dispensed-after-withdrawal", "DetectedIssue")
    assert issue["author"] == {"reference": clinic.names["other-pharmacy"]}
    assert len(clinic.matters(address, "dispensed-after-withdrawal")) == 1
