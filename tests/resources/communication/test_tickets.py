"""Tickets over HTTP: who claims, who answers, what happens when nobody does, and what cannot wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from resources.ticket.figures import at_rank
from resources.ticket.red_flags import QUESTIONNAIRE, red_flags
from resources.ticket.words import ON_CALL
from tests.conftest import InProcessServer
from tests.resources.communication.conftest import Clock, Practice, key_of, practice_of

Json = dict[str, Any]

pytestmark = pytest.mark.xdist_group("communication")

#: A Monday, ten in the morning (UTC).
MONDAY_US = 1_925_028_000_000_000
HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock(MONDAY_US)


@pytest.fixture(scope="module")
def desk(make_server: Callable[..., InProcessServer], clock: Clock) -> Practice:
    return practice_of(make_server, now=clock)


@pytest.fixture
def cast(desk: Practice, clock: Clock) -> tuple[str, str, str, str]:
    """A patient, two doctors of a pool, and the pool."""
    clock.now_us = MONDAY_US
    first, second = desk.doctor(), desk.doctor()
    return desk.patient(), first, second, desk.team(first, second)


def opened(desk: Practice, patient: str, pool: str, **given: Any) -> tuple[Json, str | None]:
    """A ticket, and the notice that came with it."""
    answer = desk.call(
        patient, "Task/$open-ticket", pool=pool, **{"message": "May I have a new prescription?", **given}
    )
    assert answer.status_code == 201, answer.text
    rows = {row["name"]: row for row in answer.json()["parameter"]}
    return rows["return"]["resource"], rows.get("notice", {}).get("valueString")


def pages_of(desk: Practice, who: str, ticket: Json) -> list[Json]:
    return [one for one in desk.found(who, f"Task?focus=Task/{ticket['id']}") if one["status"] == "requested"]


def run(desk: Practice) -> None:
    desk.server.run(desk.server.context.timers.run_due())


def alarms(desk: Practice, person: str) -> int:
    from resources.notification.events import after  # noqa: PLC0415

    events = desk.server.run(after(desk.server.context.repository.store, person, 0, 1000))
    return sum(event.kind == "alarm" for event in events)


def test_a_question_is_claimed_and_answered(desk: Practice, cast: tuple[str, ...]) -> None:
    patient, first, second, pool = cast
    ticket, notice = opened(desk, patient, pool)
    assert notice is None
    assert (ticket["status"], ticket["priority"], ticket["for"]) == ("requested", "routine", {"reference": patient})
    place = f"Task/{ticket['id']}"
    assert desk.read(first, place).status_code == 200
    assert desk.read(first, ticket["focus"]["reference"]).status_code == 200
    stranger = desk.doctor()
    assert desk.read(stranger, place).status_code == 404
    claimed = desk.call(first, f"{place}/$claim").json()
    assert (claimed["status"], claimed["owner"]) == ("in-progress", {"reference": first})
    late = desk.call(second, f"{place}/$claim")
    assert (late.status_code, key_of(late)) == (409, "HS-TICKET-CLAIMED")
    resolved = desk.call(first, f"{place}/$resolve", answer="Of course")
    assert resolved.status_code == 200, resolved.text
    answer = resolved.json()["output"][0]["valueReference"]["reference"]
    assert desk.read(patient, answer).json()["payload"] == [{"contentString": "Of course"}]
    again = desk.call(first, f"{place}/$resolve", answer="Of course")
    assert (again.status_code, key_of(again)) == (409, "HS-TICKET-STATE")
    reopened = desk.call(patient, f"{place}/$reopen", note="It was the wrong one")
    assert reopened.status_code == 200, reopened.text
    assert (reopened.json()["status"], "owner" in reopened.json()) == ("requested", False)


def test_of_two_who_claim_at_once_one_does(desk: Practice, cast: tuple[str, ...]) -> None:
    patient, first, second, pool = cast
    ticket, _ = opened(desk, patient, pool)
    base = desk.server.base_url
    requests = [
        httpx.Request(
            "POST",
            f"{base}/Task/{ticket['id']}/$claim",
            headers={"Authorization": f"Bearer {who.partition('/')[2]}", "Content-Type": "application/fhir+json"},
            json={"resourceType": "Parameters"},
        )
        for who in (first, second) * 4
    ]
    answers = desk.server.gather(*requests)
    owner = desk.read(first, f"Task/{ticket['id']}").json()["owner"]["reference"]
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [409] * 4
    for answer, who in zip(answers, (first, second) * 4, strict=True):
        assert (answer.status_code == 200) == (who == owner)


def test_a_ticket_goes_to_another_pool_with_its_thread(desk: Practice, cast: tuple[str, ...]) -> None:
    patient, first, _, pool = cast
    other = desk.doctor()
    team = desk.team(other)
    ticket, _ = opened(desk, patient, pool)
    place, thread = f"Task/{ticket['id']}", ticket["focus"]["reference"]
    assert desk.call(first, f"{place}/$reroute", pool=team).status_code == 400  # without a note
    moved = desk.call(first, f"{place}/$reroute", pool=team, note="That is a matter of the skin")
    assert moved.status_code == 200, moved.text
    assert moved.json()["note"][0]["text"] == "That is a matter of the skin"
    assert desk.read(other, thread).status_code == 200
    assert len(desk.found(other, f"Communication?part-of={thread}")) == 1
    assert desk.read(first, thread).status_code == 404
    assert desk.read(first, place).status_code == 404


def test_a_ticket_is_given_to_somebody_of_its_pool_alone(desk: Practice, cast: tuple[str, ...]) -> None:
    patient, first, second, pool = cast
    ticket, _ = opened(desk, patient, pool)
    refused = desk.call(first, f"Task/{ticket['id']}/$assign", owner=desk.doctor())
    assert (refused.status_code, key_of(refused)) == (422, "HS-TICKET-POOL")
    assert desk.call(first, f"Task/{ticket['id']}/$assign", owner=second).json()["owner"] == {"reference": second}


def test_a_plain_write_changes_no_ticket(desk: Practice, cast: tuple[str, ...]) -> None:
    patient, first, _, pool = cast
    ticket, _ = opened(desk, patient, pool)
    place = f"Task/{ticket['id']}"
    desk.call(first, f"{place}/$claim")
    stored = desk.read(first, place).json()
    with desk.as_(first) as client:
        for change in ({"status": "completed"}, {"priority": "stat"}):
            answer = client.put(place, json={**stored, **change})
            assert answer.status_code in (403, 422), answer.text
        made = client.post("Task", json={name: value for name, value in stored.items() if name not in ("id", "meta")})
        assert made.status_code in (403, 422)
    with desk.as_("Operator/operator") as operator:
        answer = operator.put(place, json={**stored, "status": "completed"})
        assert (answer.status_code, key_of(answer)) == (422, "HS-STATE-OPERATION")


def test_what_nobody_answers_in_time_is_raised_until_somebody_is_paged(
    desk: Practice, cast: tuple[str, ...], clock: Clock
) -> None:
    patient, first, _, pool = cast
    ticket, _ = opened(desk, patient, pool, priority="asap")
    place = f"Task/{ticket['id']}"
    run(desk)
    assert desk.read(first, place).json()["priority"] == "asap"
    clock.now_us += HOUR_US
    run(desk)
    late = desk.read(first, place).json()
    assert (late["priority"], late["businessStatus"]["coding"][0]["code"]) == ("stat", "late")
    (page,) = pages_of(desk, first, ticket)
    rung = alarms(desk, first)
    assert rung >= 1
    clock.now_us += HOUR_US // 4
    run(desk)
    assert alarms(desk, first) > rung
    assert len(pages_of(desk, first, ticket)) == 1
    heard = desk.call(first, f"Task/{page['id']}/$acknowledge")
    assert heard.status_code == 200, heard.text
    assert pages_of(desk, first, ticket) == []
    quiet = desk.call(first, f"{place}/$acknowledge")
    assert (quiet.status_code, key_of(quiet)) == (409, "HS-TICKET-QUIET")


def test_what_is_answered_in_time_is_not_raised(desk: Practice, cast: tuple[str, ...], clock: Clock) -> None:
    patient, first, _, pool = cast
    ticket, _ = opened(desk, patient, pool, priority="asap")
    desk.call(first, f"Task/{ticket['id']}/$resolve", answer="Yes")
    clock.now_us += 100 * HOUR_US
    run(desk)
    assert desk.read(first, f"Task/{ticket['id']}").json()["priority"] == "asap"


def test_red_flags_page_who_is_on_call_and_tell_the_patient_what_to_do(
    desk: Practice, cast: tuple[str, ...], clock: Clock
) -> None:
    patient, first, _, _ = cast
    night = desk.doctor()
    team = desk.team(night)
    pool = desk.team(first, extension=[{"url": ON_CALL, "valueReference": {"reference": team}}])
    ticket, notice = opened(desk, patient, pool, topic="A question", message="Hello. I have chest pain.")
    assert (ticket["priority"], notice) == ("stat", red_flags().notices["en"])
    run(desk)
    assert (alarms(desk, night), alarms(desk, first)) == (1, 0)
    clock.now_us += 600_000_000
    run(desk)
    assert (alarms(desk, night), alarms(desk, first)) == (2, 1)  # the pool is called, too
    (page,) = pages_of(desk, night, ticket)
    assert desk.server.run(desk.server.context.timers.get("page", page["id"])) is not None
    assert desk.call(night, f"Task/{page['id']}/$acknowledge").status_code == 200
    assert desk.server.run(desk.server.context.timers.get("page", page["id"])) is None


def test_a_yes_to_a_structured_question_pages_too(desk: Practice, cast: tuple[str, ...]) -> None:
    patient, _, _, pool = cast
    answers = {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": QUESTIONNAIRE,
        "status": "completed",
        "item": [{"linkId": "breath", "answer": [{"valueBoolean": True}]}],
    }
    ticket, notice = opened(desk, patient, pool, answers=answers)
    assert ticket["priority"] == "stat"
    assert notice
    response = ticket["input"][0]["valueReference"]["reference"]
    stored = desk.read(patient, response).json()
    assert (stored["subject"], stored["author"]) == ({"reference": patient}, {"reference": patient})


def test_a_later_message_that_cannot_wait_raises_its_ticket(desk: Practice, cast: tuple[str, ...]) -> None:
    patient, first, _, pool = cast
    ticket, _ = opened(desk, patient, pool)
    message = desk.send(patient, ticket["focus"]["reference"], "Now I can't breathe")
    desk.server.run(desk.server.context.feed.caught_up())
    assert desk.read(first, f"Task/{ticket['id']}").json()["priority"] == "stat"
    assert len(pages_of(desk, first, ticket)) == 1
    notices = desk.found(patient, f"Communication?part-of={ticket['focus']['reference']}")
    told = [one for one in notices if one.get("inResponseTo") == [{"reference": message}]]
    assert [one["payload"][0]["contentString"] for one in told] == [red_flags().notices["en"]]


def test_response_times_are_told_by_pool(desk: Practice, cast: tuple[str, ...], clock: Clock) -> None:
    patient, first, _, pool = cast
    for minutes in (10, 20, 60):
        clock.now_us = MONDAY_US
        ticket, _ = opened(desk, patient, pool)
        clock.now_us = MONDAY_US + minutes * 60_000_000
        desk.call(first, f"Task/{ticket['id']}/$resolve", answer="Yes")
    opened(desk, patient, pool)
    with desk.as_(first) as client:
        (told,) = client.get("Task/$response-times").json()["parameter"]
    figures = {part["name"]: next(v for name, v in part.items() if name != "name") for part in told["part"]}
    assert figures == {
        "pool": {"reference": pool},
        "tickets": 4,
        "open": 1,
        "late": 0,
        "answered-median": 20.0,
        "answered-90": 60.0,
        "claimed-median": 20.0,
    }


@pytest.mark.parametrize(("share", "rank"), [(0.5, 2), (0.9, 4), (1.0, 4), (0.25, 1), (0.0, 1)])
def test_a_percentile_is_a_value_that_there_is(share: float, rank: int) -> None:
    assert at_rank([1, 2, 3, 4], share) == rank  # type: ignore[list-item]  # whole numbers do as well


def test_messages_are_limited_by_person(make_server: Callable[..., InProcessServer]) -> None:
    practice = practice_of(make_server, messages_per_minute=3)
    doctor = practice.doctor()
    patient = practice.patient(generalPractitioner=[{"reference": doctor}])
    thread = practice.thread(patient, doctor)
    for text in ("One", "Two", "Three")[:2]:
        practice.send(patient, thread, text)
    refused = practice.call(patient, f"{thread}/$send", message="Four")
    refused = refused if refused.status_code == 429 else practice.call(patient, f"{thread}/$send", message="Five")
    assert (refused.status_code, key_of(refused)) == (429, "HS-CHAT-RATE")
    assert int(refused.headers["retry-after"]) >= 1
    practice.send(doctor, thread, "I may still")
