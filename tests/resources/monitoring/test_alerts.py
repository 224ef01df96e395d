"""Alerts over HTTP, the change feed and timers: one for each episode, told to the right people at the right time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.jobs.follower import Changed
from fhir_server.jobs.timers import Timer
from fhir_server.model import codec
from fhir_server.model.clock import now_us
from resources.monitoring.escalation import Escalation
from resources.monitoring.watch import ESCALATE, Watch
from tests.resources.monitoring.conftest import Ward, clears_at, hours, plan_of, tells
from tests.resources.told import Told

Json = dict[str, Any]


def test_a_breach_raises_all_four_once_and_says_why(ward: Ward, patient: str) -> None:
    plan = ward.in_force(patient, clears_at(170), *tells("Practitioner/first"))
    ward.measured(patient, 175, 0)
    assert ward.counts(patient) == [0, 0, 0, 0]
    observation = ward.measured(patient, 192, 0)
    ward.measured(patient, 195, 0)
    assert ward.counts(patient) == [1, 1, 1, 1]
    [issue], [flag], [told], [task] = (
        ward.found(name, patient) for name in ("DetectedIssue", "Flag", "Communication", "Task")
    )
    reason = "Systolic blood pressure: 192 mm[Hg], > 180 mm[Hg]. It clears at or below 170 mm[Hg]."
    assert issue["detail"] == reason
    assert issue["implicated"] == [{"reference": plan}]
    assert issue["evidence"][0]["detail"] == [{"reference": observation}]
    assert flag["status"] == "active"
    assert (told["status"], told["recipient"]) == ("completed", [{"reference": "Practitioner/first"}])
    assert (task["status"], task["owner"]) == ("requested", {"reference": "Practitioner/first"})
    assert len({r["identifier"][0]["value"] for r in (issue, flag, told, task)}) == 1


def test_it_clears_at_its_own_level_and_the_next_breach_is_another_episode(ward: Ward, patient: str) -> None:
    ward.in_force(patient, clears_at(170))
    for value in (190, 175):
        ward.measured(patient, value, 0)
    ward.settle()
    assert ward.found("Flag", patient)[0]["status"] == "active"
    ward.measured(patient, 165, 0)
    ward.settle()
    [flag] = ward.found("Flag", patient)
    assert (flag["status"], set(flag["period"])) == ("inactive", {"start", "end"})
    assert ward.found("Task", patient)[0]["status"] == "requested", "what happened is still to be looked at"
    ward.measured(patient, 190, 0)
    assert ward.counts(patient) == [2, 2, 2, 2]


def test_other_units_are_converted_and_other_patients_left_alone(ward: Ward, patient: str) -> None:
    ward.in_force(patient)
    other = ward.patient()
    ward.measured(patient, 25, 0, unit="kPa")
    ward.measured(other, 250, 0)
    assert (ward.counts(patient)[0], ward.counts(other)[0]) == (1, 0)


def test_what_comes_late_alarms_nobody(ward: Ward, patient: str) -> None:
    plan = ward.threshold(patient, hours("late", 2))
    ward.client.post(f"{plan}/$back-test")
    ward.status(plan, "active")
    # In force since yesterday, as far as the server knows.
    stored = ward.client.get(plan).json()
    stored["period"] = {"start": (datetime.now(UTC) - timedelta(days=2)).isoformat(timespec="seconds")}
    assert ward.client.put(plan, json=stored).status_code == 200
    ward.measured(patient, 190, 3)
    assert ward.counts(patient) == [0, 0, 0, 0]
    ward.measured(patient, 190, 1)
    assert ward.counts(patient) == [1, 1, 1, 1]


def test_what_was_measured_before_it_was_in_force_raises_nothing(ward: Ward, patient: str) -> None:
    ward.measured(patient, 190, 1)
    ward.in_force(patient)
    ward.measured(patient, 170, 0)
    assert ward.counts(patient) == [0, 0, 0, 0]


def test_an_entry_that_is_taken_back_takes_its_alert_back(ward: Ward, patient: str) -> None:
    ward.in_force(patient)
    wrong = ward.measured(patient, 199, 0)
    assert ward.counts(patient) == [1, 1, 1, 1]
    resource = ward.client.get(wrong).json()
    ward.client.put(wrong, json={**resource, "status": "entered-in-error"})
    ward.settle()
    assert ward.found("DetectedIssue", patient)[0]["status"] == "entered-in-error"
    assert ward.found("Flag", patient)[0]["status"] == "entered-in-error"
    assert ward.found("Task", patient)[0]["status"] == "cancelled"
    ward.client.put(wrong, json=resource)
    assert ward.counts(patient) == [2, 2, 2, 2], "it was right after all"


def test_the_end_of_a_threshold_ends_its_alerts(ward: Ward, patient: str) -> None:
    plan = ward.in_force(patient)
    ward.measured(patient, 199, 0)
    ward.settle()
    assert ward.status(plan, "revoked").status_code == 200
    ward.settle()
    assert [flag["status"] for flag in ward.found("Flag", patient)] == ["inactive"]


def test_a_patients_own_threshold_informs_and_asks_nobody_to_act(ward: Ward, patient: str) -> None:
    ward.in_force(patient, kind="own-threshold")
    ward.measured(patient, 199, 0)
    assert ward.counts(patient) == [1, 1, 1, 0]
    assert ward.found("Communication", patient)[0]["recipient"] == [{"reference": patient}]


# --- told twice, and by two -----------------------------------------------------------------------------------------


def test_what_is_told_again_or_by_two_processes_at_once_raises_nothing_twice(ward: Ward, patient: str) -> None:
    plan = ward.in_force(patient)
    observation = ward.measured(patient, 199, 0)
    body = codec.encode(ward.client.get(observation).json())
    changed = Changed("Observation", observation.partition("/")[2], 1, False, now_us(), body)
    context = ward.context

    async def many() -> None:
        await asyncio.gather(*(Watch(context).handle([changed]) for _ in range(6)))

    ward.servers[0].run(many())
    assert ward.counts(patient) == [1, 1, 1, 1]
    ward.servers[0].run(Watch(context).judge(plan.partition("/")[2]))
    assert ward.counts(patient) == [1, 1, 1, 1]


def test_who_is_told_of_an_alert_has_one_event_and_one_mail_however_often_it_is_judged(
    ward: Ward, patient: str
) -> None:
    first, second = (ward.made({"resourceType": "Practitioner"}) for _ in range(2))
    news = Told(ward.servers[0], ward.client, first, second, patient)
    plan = ward.in_force(patient, hours("acknowledge", 1), *tells(first, second))
    ward.measured(patient, 199, 0)
    ward.settle()
    ward.servers[0].run(Watch(ward.context).judge(plan.partition("/")[2]))
    (issue,) = ward.found("DetectedIssue", patient)
    alert = ("alert", f"DetectedIssue/{issue['id']}")
    assert news.events(first) == news.mails(first) == [alert]
    assert news.events(second) == []
    due = Timer(ESCALATE, issue["identifier"][0]["value"], 0, {}, 1)
    ward.wait(1.1)
    for _ in range(2):
        ward.servers[0].run(Escalation(ward.context).escalate(due))
    assert news.events(second) == news.mails(second) == [alert]
    assert news.events(first) == [alert]
    assert news.events(patient) == []
    assert all("199" not in letter.text and "pressure" not in letter.text for letter in news.letters)


def test_what_is_critical_cannot_wait_and_quiet_hours_are_told_of_at_their_end(ward: Ward, patient: str) -> None:
    doctor, night = (ward.made({"resourceType": "Practitioner"}) for _ in range(2))
    news = Told(ward.servers[0], ward.client, doctor, night)
    ward.in_force(patient, {"url": "critical", "valueBoolean": True}, quiet_now(ward), *tells(night))
    ward.in_force(patient, quiet_now(ward), *tells(doctor))
    ward.measured(patient, 199, 0)
    ward.settle()
    assert [kind for kind, _ in news.events(night)] == ["alarm"]
    assert news.events(doctor) == []
    ward.wait(3)
    assert [kind for kind, _ in news.events(doctor)] == ["alert"]


def test_a_judgement_that_is_killed_leaves_nothing_and_the_next_one_raises_all(
    ward: Ward, patient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ward.threshold(patient)
    ward.client.post(f"{plan}/$back-test")
    ward.status(plan, "active")
    watch = Watch(ward.context)
    whole = Watch._raise

    async def killed(self: Watch, *given: Any) -> Any:
        await whole(self, *given)
        raise RuntimeError("killed")

    monkeypatch.setattr(Watch, "_raise", killed)
    ward.measured(patient, 199, 0)
    with pytest.raises(RuntimeError, match="killed"):
        ward.servers[0].run(watch.judge(plan.partition("/")[2]))
    assert [len(ward.found(name, patient)) for name in ("DetectedIssue", "Flag", "Communication", "Task")] == [0] * 4
    monkeypatch.undo()
    ward.servers[0].run(watch.judge(plan.partition("/")[2]))
    assert ward.counts(patient) == [1, 1, 1, 1]


# --- with time ------------------------------------------------------------------------------------------------------


def test_who_does_not_answer_is_followed_by_the_next(ward: Ward, patient: str) -> None:
    ward.in_force(patient, hours("acknowledge", 1), *tells("Practitioner/first", "Practitioner/second", "CareTeam/all"))
    ward.measured(patient, 199, 0)
    ward.settle()
    owners = []
    for _ in range(4):
        owners.append(ward.found("Task", patient)[0]["owner"]["reference"])
        ward.wait(1.01)
    assert owners == ["Practitioner/first", "Practitioner/second", "CareTeam/all", "CareTeam/all"]
    told = [one["recipient"][0]["reference"] for one in ward.found("Communication", patient)]
    assert told == ["Practitioner/first", "Practitioner/second", "CareTeam/all"]
    assert ward.found("Task", patient)[0]["priority"] == "stat"


def test_who_takes_the_task_ends_the_escalation(ward: Ward, patient: str) -> None:
    ward.in_force(patient, hours("acknowledge", 1), *tells("Practitioner/first", "Practitioner/second"))
    ward.measured(patient, 199, 0)
    ward.settle()
    [task] = ward.found("Task", patient)
    assert ward.client.put(f"Task/{task['id']}", json={**task, "status": "accepted"}).status_code == 200
    ward.wait(1.01)
    assert ward.found("Task", patient)[0]["owner"] == {"reference": "Practitioner/first"}
    assert len(ward.found("Communication", patient)) == 1


def quiet_now(ward: Ward) -> Json:
    """Quiet hours that began an hour ago and end in two."""
    moment = datetime.fromtimestamp(ward.clock() / 1e6, UTC)
    parts = [
        {"url": name, "valueTime": (moment + timedelta(hours=shift)).strftime("%H:%M:%S")}
        for name, shift in (("start", -1), ("end", 2))
    ]
    return {"url": "quiet", "extension": [*parts, {"url": "zone", "valueCode": "UTC"}]}


def test_quiet_hours_hold_the_telling_and_not_the_finding(ward: Ward, patient: str) -> None:
    ward.in_force(
        patient, hours("acknowledge", 1), quiet_now(ward), *tells("Practitioner/first", "Practitioner/second")
    )
    ward.measured(patient, 199, 0)
    assert ward.counts(patient) == [1, 1, 1, 1]
    assert ward.found("Communication", patient)[0]["status"] == "on-hold"
    assert ward.found("Task", patient)[0]["status"] == "on-hold"
    ward.wait(1.5)
    assert ward.found("Task", patient)[0]["status"] == "on-hold", "nobody is asked for an answer meanwhile"
    ward.wait(0.6)
    [told] = ward.found("Communication", patient)
    assert (told["status"], "sent" in told) == ("completed", True)
    assert ward.found("Task", patient)[0]["status"] == "requested"
    ward.wait(1.01)
    assert ward.found("Task", patient)[0]["owner"] == {"reference": "Practitioner/second"}


def test_what_clears_in_quiet_hours_is_told_to_nobody(ward: Ward, patient: str) -> None:
    ward.in_force(patient, quiet_now(ward))
    ward.measured(patient, 199, 0)
    ward.measured(patient, 120, 0)
    ward.settle()
    ward.wait(2.1)
    assert ward.found("Communication", patient)[0]["status"] == "not-done"
    assert ward.found("Task", patient)[0]["status"] == "cancelled"


def test_what_is_critical_is_told_in_quiet_hours(ward: Ward, patient: str) -> None:
    ward.in_force(patient, quiet_now(ward), {"url": "critical", "valueBoolean": True})
    ward.measured(patient, 199, 0)
    ward.settle()
    assert ward.found("Communication", patient)[0]["status"] == "completed"
    assert ward.found("Task", patient)[0]["priority"] == "stat"


def test_plans_of_other_kinds_are_none_of_its_business(ward: Ward, patient: str) -> None:
    plan = plan_of(patient)
    plan = {**plan, "category": [{"text": "anything"}], "status": "active"}
    ward.made(plan)
    ward.measured(patient, 199, 0)
    assert ward.counts(patient) == [0, 0, 0, 0]
