"""Charts: fewer points, and every extreme of them."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from resources.healthlog.points import Point
from resources.healthlog.reduce import gaps, reduced

POINTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(-50, 50)), max_size=200).map(
    lambda rows: [Point(at, Fraction(value), f"o{n:04}", at) for n, (at, value) in enumerate(sorted(rows))]
)


@given(POINTS, st.integers(4, 40))
def test_what_is_left_is_in_order_and_keeps_the_ends_and_the_extremes(points: list[Point], most: int) -> None:
    left = reduced(points, most)
    assert len(left) <= max(most, 0)
    assert set(left) <= set(points)
    assert [p.id for p in left] == sorted(p.id for p in left)
    if points:
        assert (left[0], left[-1]) == (points[0], points[-1])
        values = [p.value for p in points]
        assert {min(values), max(values)} <= {p.value for p in left}


@given(POINTS)
def test_few_points_stay_as_they_are(points: list[Point]) -> None:
    assert reduced(points, max(4, len(points))) == points


def test_a_pause_is_a_gap_where_others_are_short() -> None:
    moments = [0, 10, 20, 30, 40, 500, 510]
    points = [Point(at, Fraction(1), str(at), at) for at in moments]
    assert gaps(points) == [(40, 500)]
    assert gaps(points[:3]) == []
