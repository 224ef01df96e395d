"""What of a plan was done: by windows of time, from what the patient and others have recorded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from resources.monitoring.planned import Activity, activity_of, rhythm_of
from tests.resources.monitoring.conftest import Ward

Json = dict[str, Any]

EXERCISE = {"coding": [{"system": "http://loinc.org", "code": "73985-4"}]}
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("repeat", "code", "times", "days"),
    [
        ({"frequency": 3, "period": 1, "periodUnit": "wk"}, None, 3, 7),
        ({"frequency": 1, "period": 2, "periodUnit": "d"}, None, 1, 2),
        ({"frequency": 1, "period": 6, "periodUnit": "h"}, None, 4, 1),
        ({"dayOfWeek": ["mon", "thu"]}, None, 2, 7),
        ({"dayOfWeek": ["mon"], "timeOfDay": ["08:00:00", "20:00:00"]}, None, 2, 7),
        ({"timeOfDay": ["08:00:00", "20:00:00"]}, None, 2, 1),
        ({}, "BID", 2, 1),
        ({}, "WK", 1, 7),
    ],
)
def test_a_timing_says_how_often_within_how_long(repeat: Json, code: str | None, times: int, days: int) -> None:
    rhythm = rhythm_of({"repeat": repeat, **({"code": {"coding": [{"code": code}]}} if code else {})})
    assert rhythm is not None
    assert rhythm.every is not None
    start = datetime(2026, 1, 5, tzinfo=UTC)
    assert (rhythm.times, start + rhythm.every - start) == (times, timedelta(days=days))


@pytest.mark.parametrize(
    "timing",
    [
        {"repeat": {"when": ["ACM"]}},
        {"repeat": {"frequency": 1, "period": 0.5, "periodUnit": "mo"}},
        {"repeat": {"frequency": 1, "period": 0, "periodUnit": "h"}},
        {"event": ["2026-01-01"]},
    ],
)
def test_a_timing_that_cannot_be_counted_is_not(timing: Json) -> None:
    assert rhythm_of(timing) is None


def weekly(since: str, until: str | None = None) -> Activity:
    period = {"start": since, **({"end": until} if until else {})}
    plan = {"id": "p", "period": period, "meta": {"lastUpdated": "2026-01-01T00:00:00Z"}}
    timing = {"repeat": {"frequency": 3, "period": 1, "periodUnit": "wk"}}
    activity = activity_of(plan, {"code": EXERCISE, "status": "in-progress", "scheduledTiming": timing}, None)
    assert activity is not None
    return activity


def test_weeks_begin_at_midnight_of_the_wall_clock_also_when_the_clocks_are_changed() -> None:
    now = datetime(2026, 4, 7, 12, tzinfo=UTC)
    starts = [start.astimezone(BERLIN) for start, _ in weekly("2026-03-16T08:00:00+01:00").windows(now, BERLIN)]
    assert [(one.day, one.hour) for one in starts] == [(16, 0), (23, 0), (30, 0), (6, 0)]


def test_a_plan_that_has_ended_has_no_windows_after_its_end_and_a_very_long_one_only_the_newest() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    assert len(list(weekly("2026-01-05", "2026-01-18").windows(now, UTC))) == 2
    long = list(weekly("1926-01-05").windows(now, UTC))
    assert 1000 <= len(long) <= 1002
    assert long[-1][1] > now


def test_what_was_given_up_is_not_counted() -> None:
    plan = {"id": "p", "period": {"start": "2026-01-05"}, "meta": {"lastUpdated": "2026-01-01T00:00:00Z"}}
    detail = {"code": EXERCISE, "scheduledTiming": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}}
    assert activity_of(plan, {**detail, "status": "in-progress"}, None) is not None
    assert activity_of(plan, {**detail, "status": "cancelled"}, None) is None
    assert activity_of(plan, {**detail, "status": "in-progress", "doNotPerform": True}, None) is None
    assert activity_of(plan, {"status": "in-progress", "code": EXERCISE, "scheduledString": "often"}, None) is None


def plan(ward: Ward, patient: str, weeks: int, *activities: Json) -> str:
    start = (datetime.now(UTC) - timedelta(weeks=weeks, hours=1)).date()
    return ward.made(
        {
            "resourceType": "CarePlan",
            "status": "active",
            "intent": "plan",
            "subject": {"reference": patient},
            "period": {"start": start.isoformat()},
            **({"activity": list(activities)} if activities else {}),
        }
    )


def done(ward: Ward, patient: str, days_ago: float, **more: Any) -> str:
    moment = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat(timespec="seconds")
    common = {"status": "final", "subject": {"reference": patient}, "code": EXERCISE, "effectiveDateTime": moment}
    stated = {"resourceType": "Observation", **common, "valueString": "cycling", **more}
    return ward.made({name: value for name, value in stated.items() if value is not None})


def parts(row: Json) -> Json:
    """The values of a parameter's parts; windows as `(planned, done, ended)`."""
    found: Json = {"window": []}
    for part in row["part"]:
        if part["name"] == "window":
            inner = {p["name"]: next(v for k, v in p.items() if k != "name") for p in part["part"]}
            found["window"].append((inner["planned"], inner["done"], inner["ended"]))
        else:
            found[part["name"]] = next(v for k, v in part.items() if k != "name")
    return found


DETAIL = {
    "status": "in-progress",
    "code": EXERCISE,
    "scheduledTiming": {"repeat": {"frequency": 3, "period": 1, "periodUnit": "wk"}},
}


def test_a_plan_says_what_of_it_was_done_week_by_week(ward: Ward, patient: str) -> None:
    mine = plan(ward, patient, 3, {"detail": DETAIL}, {"detail": {"status": "in-progress", "description": "rest"}})
    other = plan(ward, patient, 3, {"detail": DETAIL})
    start = (datetime.now(UTC) - timedelta(weeks=3, hours=1)).replace(hour=0, minute=0, second=0, microsecond=0)

    def ago(week: int, day: int) -> float:
        """A moment of a day of the plan, in days before now."""
        return (datetime.now(UTC) - (start + timedelta(weeks=week, days=day, hours=6))) / timedelta(days=1)

    for week, day in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 2), (1, 4), (2, 0), (2, 1)):
        done(ward, patient, ago(week, day))
    ward.made(
        {
            "resourceType": "Procedure",
            "status": "completed",
            "subject": {"reference": patient},
            "code": EXERCISE,
            "performedDateTime": (start + timedelta(weeks=2, days=4, hours=6)).isoformat(),
            "basedOn": [{"reference": mine}],
        }
    )
    done(ward, patient, ago(1, 3), basedOn=[{"reference": other}])  # of another plan
    done(ward, patient, ago(1, 5), status="entered-in-error")
    done(ward, ward.patient(), ago(1, 5))  # of somebody else
    done(ward, patient, ago(1, 5), code={"coding": [{"system": "http://loinc.org", "code": "8867-4"}]})
    answer = ward.client.get(f"{mine}/$progress")
    assert answer.status_code == 200, answer.text
    (row,) = answer.json()["parameter"]
    told = parts(row)
    assert told["code"] == EXERCISE
    assert told["window"][:3] == [(3, 4, True), (3, 2, True), (3, 3, True)]
    assert [ended for *_, ended in told["window"][3:]] == [False]
    assert (told["planned"], told["done"], told["percent"], told["streak"]) == (9, 9, 89, 1)
    newest = ward.client.get(f"{mine}/$progress", params={"windows": 2, "timezone": "UTC"}).json()["parameter"]
    assert parts(newest[0])["window"] == told["window"][2:]


def minutes(value: float, unit: str = "min") -> Json:
    return {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}


def test_a_plan_that_says_how_much_adds_up_what_was_measured_in_whatever_unit(ward: Ward, patient: str) -> None:
    mine = plan(ward, patient, 2, {"detail": {**DETAIL, "quantity": minutes(30)}})
    start = (datetime.now(UTC) - timedelta(weeks=2, hours=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    measured = (
        (0, minutes(45)),
        (2, minutes(1, "h")),
        (8, minutes(30)),
        (9, minutes(0.5, "h")),
        (10, minutes(7, "kg")),
    )
    for day, value in measured:
        ago = (datetime.now(UTC) - (start + timedelta(days=day, hours=6))) / timedelta(days=1)
        done(ward, patient, ago, valueString=None, valueQuantity=value)
    (row,) = ward.client.get(f"{mine}/$progress").json()["parameter"]
    told = parts(row)
    assert told["window"][:2] == [(3, 2, True), (3, 3, True)]
    assert (told["amountPlanned"], told["amountDone"]) == (minutes(180), minutes(165))
    assert told["amountPercent"] == 83  # 90 of 90, though it was 105, and 60 of 90
    windows = [part["part"] for part in row["part"] if part["name"] == "window"]
    reached = [part["valueQuantity"] for inner in windows for part in inner if part["name"] == "amountDone"]
    assert reached[:2] == [minutes(105), minutes(60)]


@pytest.mark.parametrize(
    ("source", "planned"),
    [
        ({"quantity": minutes(30)}, 90),
        ({"dailyAmount": minutes(0.5, "h")}, 3.5),
        ({"quantityQuantity": minutes(20)}, 60),
        ({"quantity": {**minutes(30), "comparator": ">"}}, None),
        ({"quantity": {"value": 30, "unit": "minutes"}}, None),
        ({"quantity": {**minutes(30), "code": "no unit"}}, None),
        ({"quantity": minutes(0)}, None),
        ({}, None),
    ],
)
def test_an_amount_is_for_each_time_or_for_a_day(source: Json, planned: float | None) -> None:
    base = {"id": "p", "period": {"start": "2026-01-05"}, "meta": {"lastUpdated": "2026-01-01T00:00:00Z"}}
    activity = activity_of(base, {**DETAIL, **source}, None)
    assert activity is not None
    if planned is None:
        assert activity.amount is None
    else:
        week = datetime(2026, 1, 5, tzinfo=UTC)
        assert activity.planned(week, week + timedelta(days=7)) == planned


def test_an_activity_that_is_a_request_of_its_own_is_counted_by_what_is_based_on_it(ward: Ward, patient: str) -> None:
    request = ward.made(
        {
            "resourceType": "ServiceRequest",
            "status": "active",
            "intent": "order",
            "subject": {"reference": patient},
            "code": EXERCISE,
            "occurrenceTiming": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
        }
    )
    mine = plan(ward, patient, 1, {"reference": {"reference": request}})
    done(ward, patient, 2, basedOn=[{"reference": request}])
    done(ward, patient, 3, basedOn=[{"reference": "ServiceRequest/other"}])
    (row,) = ward.client.get(f"{mine}/$progress").json()["parameter"]
    told = parts(row)
    assert sum(count for _, count, _ in told["window"]) == 1
    assert told["planned"] >= 7


@pytest.mark.parametrize("query", ["windows=0", "windows=401", "timezone=Mars", "other=1"])
def test_what_cannot_be_asked_is_refused(ward: Ward, patient: str, query: str) -> None:
    mine = plan(ward, patient, 1, {"detail": DETAIL})
    assert ward.client.get(f"{mine}/$progress?{query}").status_code == 400


def test_a_plan_without_anything_to_count_says_so(ward: Ward, patient: str) -> None:
    answer = ward.client.get(f"{plan(ward, patient, 1)}/$progress")
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-MONITOR-PLAN"
