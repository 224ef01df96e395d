"""Preferred times of `$find`: what its `timing` says of days of the week, times of day and spans.

Spec: https://hl7.org/fhir/R4/datatypes.html#Timing
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from fhir_server.model.errors import InvalidError
from resources.scheduling import moment
from resources.scheduling.availability import WEEKDAYS, Span
from resources.scheduling.rules_of_schedule import clock_of
from resources.scheduling.shapes import fits

if TYPE_CHECKING:
    from resources.scheduling.find import Offer

Json = dict[str, Any]

#: Parts of the day (http://hl7.org/fhir/event-timing) as minutes since midnight.
PARTS_OF_DAY = {
    "MORN": (6 * 60, 12 * 60),
    "MORN.early": (6 * 60, 9 * 60),
    "MORN.late": (9 * 60, 12 * 60),
    "NOON": (11 * 60, 14 * 60),
    "AFT": (12 * 60, 18 * 60),
    "AFT.early": (12 * 60, 15 * 60),
    "AFT.late": (15 * 60, 18 * 60),
    "EVE": (18 * 60, 24 * 60),
    "EVE.early": (18 * 60, 20 * 60),
    "EVE.late": (20 * 60, 24 * 60),
}


CLOCK = re.compile(r"\d\d:\d\d", re.ASCII)

#: What is looked at of a Timing.
TIMING = {"repeat": {"dayOfWeek": [""], "when": [""], "timeOfDay": [""], "boundsPeriod": {"start": "", "end": ""}}}


@dataclass(frozen=True, slots=True)
class Preferred:
    """When somebody likes to come.

    Attributes:
        days: of the week; empty for any
        clocks: minutes since midnight within which a visit begins; empty for any
        spans: moments within which it lies; empty for any
    """

    days: frozenset[str]
    clocks: tuple[tuple[int, int], ...]
    spans: tuple[Span, ...]

    def fits(self, offer: Offer) -> bool:
        rule = offer.calendars[0].table.rule
        local = offer.free.start.astimezone(rule.zone if rule is not None else UTC)
        minute = local.hour * 60 + local.minute
        return (
            (not self.days or WEEKDAYS[local.weekday()] in self.days)
            and (not self.clocks or any(start <= minute < end for start, end in self.clocks))
            and (not self.spans or any(s <= offer.free.start and offer.free.end <= e for s, e in self.spans))
        )


def preferred_of(timing: Json | None) -> Preferred | None:
    """What a Timing says; None where nothing that can be told apart is said."""
    if timing is None:
        return None
    if not fits(TIMING, timing):
        raise InvalidError(
            "`timing` is no Timing.",
            code="structure",
            expression="Parameters.parameter.where(name='timing')",
            key="HS-OP-PARAMETER",
        )
    repeat = timing.get("repeat", {})
    clocks = [PARTS_OF_DAY[code] for code in repeat.get("when", ()) if code in PARTS_OF_DAY]
    clocks += [(clock_of(text), clock_of(text) + 1) for text in repeat.get("timeOfDay", ()) if CLOCK.match(text)]
    spans: list[Span] = []
    if bounds := repeat.get("boundsPeriod"):
        place = "Parameters.parameter.where(name='timing')"
        start = moment.parsed(bounds["start"], place) if "start" in bounds else moment.datetime_of(0)
        end = moment.parsed(bounds["end"], place) if "end" in bounds else moment.datetime_of(2**52)
        spans.append((start, end))
    return Preferred(frozenset(repeat.get("dayOfWeek", ())), tuple(clocks), tuple(spans))
