"""How far a goal is reached."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from resources.healthlog.points import Point
from resources.monitoring.progress import Aim
from tests.resources.monitoring.conftest import UCUM, Ward

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("low", "high", "first", "last", "percent"),
    [
        (None, 120, 160, 140, 50),
        (None, 120, 160, 119, 100),
        (None, 120, 160, 170, 0),
        (None, 120, 110, 130, 0),
        (8000, None, 2000, 5000, 50),
        (8000, None, 2000, 1000, 0),
        (60, 70, 80, 75, 50),
        (60, 70, 80, 50, 0),
        (65, 65, 80, 65, 100),
    ],
)
def test_the_way_is_measured_from_the_first_value(
    low: int | None, high: int | None, first: int, last: int, percent: int
) -> None:
    aim = Aim(Fraction(low) if low is not None else None, Fraction(high) if high is not None else None)
    assert aim.share(Fraction(first), Fraction(last)) * 100 == percent


def test_a_streak_ends_with_the_newest_that_has_not_met_it() -> None:
    points = [Point(n, Fraction(value), str(n), n) for n, value in enumerate((1, 5, 1, 5, 6))]
    assert Aim(Fraction(5), None).streak(points) == 2


def goal(ward: Ward, patient: str, **detail: Any) -> str:
    measure = {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}
    return ward.made(
        {
            "resourceType": "Goal",
            "lifecycleStatus": "active",
            "description": {"text": "less"},
            "subject": {"reference": patient},
            "target": [{"measure": measure, **detail}],
        }
    )


def test_a_goal_says_how_far_it_is_reached(ward: Ward, patient: str) -> None:
    wanted = {"value": 120, "comparator": "<=", "system": UCUM, "code": "mm[Hg]"}
    aim = goal(ward, patient, detailQuantity=wanted)
    [empty] = ward.client.get(f"{aim}/$progress").json()["parameter"]
    assert [part["name"] for part in empty["part"]] == ["code", "count"]
    for hours, value in ((72, 160), (48, 150), (24, 140)):
        ward.measured(patient, value, hours)
    [target] = ward.client.get(f"{aim}/$progress").json()["parameter"]
    parts = {part["name"]: next(v for k, v in part.items() if k != "name") for part in target["part"]}
    assert (parts["count"], parts["last"]["value"], parts["percent"], parts["met"], parts["streak"]) == (
        3, 140, 50, False, 0,
    )  # fmt: skip
    assert round(parts["trend"]["value"]) == -10
    assert parts["trend"]["code"] == "mm[Hg]/d"


def test_a_goal_that_cannot_be_measured_says_so(ward: Ward, patient: str) -> None:
    answer = ward.client.get(f"{goal(ward, patient, detailString='feel better')}/$progress")
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-MONITOR-GOAL"
