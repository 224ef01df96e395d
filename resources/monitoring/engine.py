"""What a threshold makes of measurements: episodes, from a breach to when it is clearly over. Pure.

Each point is judged by itself and by those before it, in the order in which they were measured, whatever order they
arrived in. So the same engine tells what would have been (`$back-test`) and what is, and an entry that comes late or
is taken back is reckoned with by judging anew.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from resources.healthlog.points import Point

#: A baseline of fewer measurements is none.
LEAST_OF_BASELINE = 5

Comparator = Literal["<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Criteria:
    """When an episode begins and ends.

    Attributes:
        comparator, level: what is a breach
        clear: a value that is not beyond this ends it; on the good side of `level`, or the same
        times, of: so many of the last so many must be breaches
        window_us: only points of this last while count; None for no limit
        mean: whether the mean of the window is judged, not single values
        lasting_us: how long breaches must have followed each other
        baseline_us: judged is the change against the median of this while before; None for the value as it is
        late_us: what arrives later than this after it was measured begins no episode
    """

    comparator: Comparator
    level: Fraction
    clear: Fraction
    times: int = 1
    of: int = 1
    window_us: int | None = None
    mean: bool = False
    lasting_us: int = 0
    baseline_us: int | None = None
    late_us: int | None = None

    @property
    def span_us(self) -> int:
        """How far back points matter for one."""
        return max(self.window_us or 0, self.baseline_us or 0, self.lasting_us)

    def beyond(self, value: Fraction, level: Fraction) -> bool:
        match self.comparator:
            case ">":
                return value > level
            case ">=":
                return value >= level
            case "<":
                return value < level
        return value <= level


@dataclass(frozen=True, slots=True)
class Episode:
    """A while in which a threshold was breached.

    Attributes:
        start: the point that began it
        figure: what was judged of it: the value, a mean, or the change against the baseline
        baseline: which that was, if any
        end: the point that ended it; None while it goes on
        evidence: the points that were breaches when it began
    """

    start: Point
    figure: Fraction
    baseline: Fraction | None
    end: Point | None
    evidence: tuple[Point, ...] = ()

    def overlaps(self, start_us: int, end_us: int | None) -> bool:
        own_end = self.end.moment_us if self.end else None
        return (end_us is None or self.start.moment_us < end_us) and (own_end is None or start_us < own_end)


def episodes(criteria: Criteria, points: Sequence[Point], *, from_us: int, on_time: bool = False) -> list[Episode]:
    """The episodes in points, which are in order.

    Args:
        from_us: earlier points are reckoned with, and begin none
        on_time: take each as if it had come when it was measured
    """
    found: list[Episode] = []
    judge = _Judge(criteria)
    current: Episode | None = None
    for point in points:
        judge.take(point)
        if current is not None:
            figure = judge.figure(point, current.baseline)
            if figure is not None and not criteria.beyond(figure, criteria.clear):
                found.append(Episode(current.start, current.figure, current.baseline, point, current.evidence))
                current = None
                judge.forget()
        elif point.moment_us >= from_us and judge.breached() and (on_time or not late(criteria, point)):
            figure, baseline = judge.judged
            current = Episode(point, figure, baseline, None, judge.evidence())
    return [*found, current] if current else found


def late(criteria: Criteria, point: Point) -> bool:
    """Whether a point came too late to alarm anybody."""
    return criteria.late_us is not None and point.arrived_us - point.moment_us > criteria.late_us


class _Judge:
    """Keeps what is needed of the points so far."""

    def __init__(self, criteria: Criteria) -> None:
        self._criteria = criteria
        self._window: deque[Point] = deque()
        self._sum = Fraction(0)
        self._before: deque[Point] = deque()
        self._sorted: list[Fraction] = []
        self._last: deque[tuple[Point, bool]] = deque(maxlen=criteria.of)
        self._since: int | None = None
        self.judged: tuple[Fraction, Fraction | None] = (Fraction(0), None)

    def take(self, point: Point) -> None:
        criteria = self._criteria
        baseline = self._baseline_at(point) if criteria.baseline_us is not None else None
        self._window.append(point)
        self._sum += point.value
        while criteria.window_us is not None and self._window[0].moment_us <= point.moment_us - criteria.window_us:
            self._sum -= self._window.popleft().value
        if criteria.window_us is None and len(self._window) > criteria.of:
            self._sum -= self._window.popleft().value
        figure = self.figure(point, baseline)
        breach = figure is not None and criteria.beyond(figure, criteria.level)
        self._last.append((point, breach))
        self._since = (self._since if self._since is not None else point.moment_us) if breach else None
        if figure is not None:
            self.judged = (figure, baseline)

    def figure(self, point: Point, baseline: Fraction | None) -> Fraction | None:
        """What is judged of the newest point; None where there is not enough to tell."""
        value = self._sum / len(self._window) if self._criteria.mean else point.value
        if self._criteria.baseline_us is None:
            return value
        return None if baseline is None else value - baseline

    def breached(self) -> bool:
        """Whether the newest point begins an episode."""
        point, breach = self._last[-1]
        if not breach or self._since is None or point.moment_us - self._since < self._criteria.lasting_us:
            return False
        return len(self.evidence()) >= self._criteria.times

    def evidence(self) -> tuple[Point, ...]:
        newest, window_us = self._last[-1][0].moment_us, self._criteria.window_us
        return tuple(
            p for p, breach in self._last if breach and (window_us is None or p.moment_us > newest - window_us)
        )

    def forget(self) -> None:
        """An episode is over: what belonged to it begins no other."""
        self._last.clear()
        self._since = None

    def _baseline_at(self, point: Point) -> Fraction | None:
        """The median of the while before a point, which joins those before the next one."""
        assert self._criteria.baseline_us is not None
        while self._before and self._before[0].moment_us < point.moment_us - self._criteria.baseline_us:
            self._sorted.pop(bisect_left(self._sorted, self._before.popleft().value))
        values = self._sorted
        half, odd = divmod(len(values), 2)
        median = None
        if len(values) >= LEAST_OF_BASELINE:
            median = values[half] if odd else (values[half - 1] + values[half]) / 2
        self._before.append(point)
        insort(self._sorted, point.value)
        return median
