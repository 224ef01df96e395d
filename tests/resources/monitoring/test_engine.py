"""Thresholds: when an episode begins and ends, and that what is judged bit by bit comes to the same as all at once."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.healthlog.points import Point
from resources.monitoring.compare import Raised, steps
from resources.monitoring.engine import Criteria, Episode, episodes


def points(*values: int, apart: int = 10, late: frozenset[int] = frozenset()) -> list[Point]:
    return [
        Point(n * apart, Fraction(value), f"o{n:03}", n * apart + (10**6 if n in late else 0))
        for n, value in enumerate(values)
    ]


def criteria(**more: Any) -> Criteria:
    return Criteria(**{"comparator": ">", "level": Fraction(100), "clear": Fraction(90), **more})


def spans(found: list[Episode]) -> list[tuple[int, int | None]]:
    return [(e.start.moment_us // 10, e.end.moment_us // 10 if e.end else None) for e in found]


def judged(rule: Criteria, *values: int, **more: Any) -> list[tuple[int, int | None]]:
    return spans(episodes(rule, points(*values, **more), from_us=0))


def test_it_goes_on_until_a_value_is_on_the_good_side_of_the_clearing_level() -> None:
    assert judged(criteria(), 80, 101, 95, 102, 91, 90, 101) == [(1, 5), (6, None)]


@pytest.mark.parametrize(
    ("comparator", "clear", "expected"),
    [(">", 100, (2, 3)), (">=", 100, (1, 4)), ("<", 100, (0, 1)), ("<=", 100, (0, 2))],
)
def test_each_comparator_breaches_and_clears_at_its_own_values(comparator: Any, clear: int, expected: Any) -> None:
    rule = criteria(comparator=comparator, clear=Fraction(clear))
    assert judged(rule, 90, 100, 101, 100, 99)[0] == expected


def test_so_many_of_the_last_must_be_breaches() -> None:
    assert judged(criteria(times=2, of=3), 101, 80, 80, 101, 80, 101) == [(5, None)]


def test_breaches_before_the_window_do_not_count() -> None:
    assert judged(criteria(times=2, of=2, window_us=10), 101, 101) == []
    assert judged(criteria(times=2, of=2, window_us=11), 101, 101) == [(1, None)]


def test_the_mean_of_a_window_is_judged() -> None:
    assert judged(criteria(mean=True, window_us=30), 95, 95, 140, 60, 60, 60) == [(2, 4)]


def test_breaches_must_last() -> None:
    assert judged(criteria(lasting_us=20), 101, 101, 80, 101, 101, 101) == [(5, None)]


def test_a_change_is_judged_against_the_median_before_which_then_stands_still() -> None:
    rule = criteria(level=Fraction(5), clear=Fraction(2), baseline_us=1000)
    found = episodes(rule, points(70, 71, 70, 69, 70, 76, 76, 76, 76, 76, 76, 71), from_us=0)
    assert spans(found) == [(5, 11)]
    assert (found[0].baseline, found[0].figure) == (70, 6)


def test_without_enough_of_a_baseline_nothing_is_judged() -> None:
    assert judged(criteria(level=Fraction(5), clear=Fraction(2), baseline_us=1000), 70, 71, 70, 69, 200) == []


def test_what_comes_late_begins_nothing_and_is_reckoned_with() -> None:
    assert judged(criteria(late_us=50), 101, 80, late=frozenset({0})) == []
    assert judged(criteria(times=2, of=2, late_us=50), 101, 101, late=frozenset({0})) == [(1, None)]
    assert spans(episodes(criteria(late_us=50), points(101, late=frozenset({0})), from_us=0, on_time=True)) == [
        (0, None)
    ]


def test_what_was_before_begins_nothing() -> None:
    assert spans(episodes(criteria(), points(101, 102), from_us=10)) == [(1, None)]


# --- step by step ---------------------------------------------------------------------------------------------------

CRITERIA = st.builds(
    Criteria,
    comparator=st.sampled_from(["<", "<=", ">", ">="]),
    level=st.integers(-5, 5).map(Fraction),
    clear=st.just(Fraction(0)),
    times=st.integers(1, 2),
    of=st.integers(2, 4),
    window_us=st.none() | st.integers(1, 40),
    mean=st.booleans(),
    lasting_us=st.integers(0, 20),
    baseline_us=st.none() | st.integers(10, 100),
).map(
    lambda c: Criteria(
        c.comparator, c.level, c.level + (1 if c.comparator[0] == "<" else -1), c.times, c.of, c.window_us, c.mean,
        c.lasting_us, c.baseline_us,
    )
)  # fmt: skip
HISTORY = st.lists(st.tuples(st.integers(0, 300), st.integers(-10, 10)), max_size=30).map(
    lambda rows: [Point(at, Fraction(value), f"o{n:03}", at) for n, (at, value) in enumerate(sorted(rows))]
)


class Live:
    """Raises alerts as the follower of the feed does, in memory."""

    def __init__(self, rule: Criteria) -> None:
        self.rule = rule
        self.raised: dict[str, Raised] = {}
        self.told: list[int] = []

    def judge(self, there: list[Point]) -> None:
        there = sorted(there, key=lambda p: (p.moment_us, p.id))
        for step in steps(episodes(self.rule, there, from_us=0), list(self.raised.values()), 0):
            if step.do == "withdraw":
                assert step.raised is not None
                del self.raised[step.raised.id]
                continue
            assert step.episode is not None
            start, end = step.episode.start, step.episode.end
            if step.raised is None:
                self.told.append(start.moment_us)
            name = step.raised.id if step.raised else f"{start.id}/{len(self.told)}"
            self.raised[name] = Raised(name, start.moment_us, end.moment_us if end else None)

    @property
    def spans(self) -> list[tuple[int, int | None]]:
        return sorted(((r.start_us, r.end_us) for r in self.raised.values()), key=lambda s: (s[0], s[1] or 10**9))


def expected(rule: Criteria, history: list[Point]) -> list[tuple[int, int | None]]:
    return [
        (e.start.moment_us, e.end.moment_us if e.end else None)
        for e in episodes(rule, history, from_us=0, on_time=True)
    ]


@given(CRITERIA, HISTORY)
def test_what_a_back_test_says_is_what_is_raised_when_it_comes_measurement_by_measurement(
    rule: Criteria, history: list[Point]
) -> None:
    live = Live(rule)
    for count in range(len(history) + 1):
        live.judge(history[:count])
        live.judge(history[:count])  # told again
    assert live.spans == expected(rule, history)
    assert live.told == [start for start, _ in expected(rule, history)]


@given(CRITERIA, HISTORY, st.randoms(use_true_random=False), st.integers(0, 5))
def test_in_whatever_order_they_come_and_are_taken_back_the_alerts_are_those_of_the_history(
    rule: Criteria, history: list[Point], random: Any, wrong: int
) -> None:
    live, there = Live(rule), []
    order = list(history)
    random.shuffle(order)
    for point in order:
        there.append(point)
        live.judge(there)
    for point in order[:wrong]:
        there.remove(point)
        live.judge(there)
    assert live.spans == expected(rule, sorted(there, key=lambda p: (p.moment_us, p.id)))
