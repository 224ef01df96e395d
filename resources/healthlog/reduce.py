"""Fewer points that draw the same line: of each stretch of time the lowest and the highest, in their order. Pure.

Nothing that a reader would look for is lost: the first and the last point, and the extremes of every stretch, stand as
they were measured. An average would hide the one value that matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from resources.healthlog.points import Point

#: A pause of so many usual distances is a gap, which a chart does not draw through.
GAP = 4
LEAST_FOR_GAPS = 4


def reduced(points: Sequence[Point], most: int) -> list[Point]:
    """At most so many of the points, which are in order.

    Args:
        most: four at least
    """
    if len(points) <= most:
        return list(points)
    stretches = (most - 2) // 2
    first_us, last_us = points[0].moment_us, points[-1].moment_us
    wide_us = max(1, -(-(last_us - first_us + 1) // stretches))
    lowest: dict[int, int] = {}
    highest: dict[int, int] = {}
    for index, point in enumerate(points):
        stretch = (point.moment_us - first_us) // wide_us
        if stretch not in lowest or point.value < points[lowest[stretch]].value:
            lowest[stretch] = index
        if stretch not in highest or point.value > points[highest[stretch]].value:
            highest[stretch] = index
    kept = {0, len(points) - 1, *lowest.values(), *highest.values()}
    return [points[index] for index in sorted(kept)]


def gaps(points: Sequence[Point]) -> list[tuple[int, int]]:
    """Where measurements pause: from the last before to the first after."""
    between = [(a.moment_us, b.moment_us) for a, b in pairwise(points) if b.moment_us > a.moment_us]
    if len(between) < LEAST_FOR_GAPS:
        return []
    usual_us = median(end - start for start, end in between)
    return [(start, end) for start, end in between if end - start > GAP * usual_us]
