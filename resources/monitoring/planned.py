"""What a CarePlan asks its patient to do, and how often: activities with a Timing, as windows of time.

Spec: https://hl7.org/fhir/R4/careplan-definitions.html#CarePlan.activity, https://hl7.org/fhir/R4/datatypes.html#Timing
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from fractions import Fraction
from typing import Any

from dateutil.relativedelta import relativedelta

from fhir_server.interactions.stats import Code, scale_of
from fhir_server.model.dates import interval_of
from resources.healthlog.measures import UCUM

Json = dict[str, Any]

#: Is done no more, or never was to be done.
GIVEN_UP = frozenset({"cancelled", "stopped", "entered-in-error", "unknown"})

#: Codes of a Timing that say how often: times, and the days that these are for. http://hl7.org/fhir/R4/valueset-timing-abbreviation.html
OFTEN: dict[str, tuple[int, str]] = {
    **{"QD": (1, "d"), "BID": (2, "d"), "TID": (3, "d"), "QID": (4, "d"), "AM": (1, "d"), "PM": (1, "d")},
    **{"BED": (1, "d"), "WK": (1, "wk"), "MO": (1, "mo"), "Q1H": (24, "d"), "Q2H": (12, "d"), "Q3H": (8, "d")},
    **{"Q4H": (6, "d"), "Q6H": (4, "d"), "Q8H": (3, "d")},
}

#: Calendar units of a Timing; shorter ones are counted by the day.
UNITS = {"d": "days", "wk": "weeks", "mo": "months", "a": "years"}
SECONDS = {"s": 1, "min": 60, "h": 3600}

DAY = timedelta(days=1)

#: Windows that are counted; the newest of more.
MOST = 1000


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often something is to be done.

    Attributes:
        times: within each window
        every: how long a window is; None: there is one, the time that the plan is for
    """

    times: int
    every: relativedelta | None


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is to be done.

    Attributes:
        value: in `unit`, which is one of UCUM
        daily: it is for a day; else for each time
    """

    value: Fraction
    unit: str
    daily: bool


@dataclass(frozen=True, slots=True)
class Activity:
    """One activity of a plan.

    Attributes:
        concept: what is to be done, as the plan says it
        codes: by any of which a record names it
        since, until: from when to when
        names: the references by which a record says that it is based on it
        amount: None where the plan says only how often
    """

    concept: Json
    codes: tuple[Code, ...]
    rhythm: Rhythm
    since: datetime
    until: datetime | None
    names: frozenset[str]
    amount: Amount | None = None

    def planned(self, start: datetime, end: datetime) -> Fraction:
        """How much is to be done within a window, in the unit of the amount."""
        assert self.amount is not None
        return self.amount.value * (max(1, round((end - start) / DAY)) if self.amount.daily else self.rhythm.times)

    def windows(self, now: datetime, zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
        """The windows that have begun, the oldest first; those of whole days begin at midnight of the wall clock."""
        end = min(self.until, now) if self.until is not None else now
        if self.rhythm.every is None:
            if self.since < end or self.until is None:
                yield self.since, self.until or now
            return
        first = datetime.combine(self.since.astimezone(zone).date(), time())
        number = max(0, self._passed(first, end.astimezone(zone).replace(tzinfo=None)) - MOST)
        while (start := (first + self.rhythm.every * number).replace(tzinfo=zone)) < end:
            yield start, (first + self.rhythm.every * (number + 1)).replace(tzinfo=zone)
            number += 1

    def _passed(self, first: datetime, end: datetime) -> int:
        """About how many windows lie between two moments."""
        assert self.rhythm.every is not None
        one = (first + self.rhythm.every) - first
        return int((end - first) / one)


def activity_of(plan: Json, detail: Json, request: Json | None) -> Activity | None:
    """An activity that can be counted: it has a code and says how often; None for one that has not.

    Args:
        detail: `CarePlan.activity.detail`; empty where `request` stands for it
        request: the ServiceRequest that the activity refers to
    """
    source = request if request is not None else detail
    state = str(source.get("status", ""))
    if state in GIVEN_UP or state == "revoked" or source.get("doNotPerform") is True:
        return None
    concept = source.get("code", {})
    codes = tuple((c.get("system"), c["code"]) for c in concept.get("coding", ()) if "code" in c)
    kind = "occurrence" if request is not None else "scheduled"
    timing, period = source.get(f"{kind}Timing"), source.get(f"{kind}Period")
    rhythm = rhythm_of(timing) if timing is not None else Rhythm(1, None) if period is not None else None
    if not codes or rhythm is None:
        return None
    bounds = (timing or {}).get("repeat", {}).get("boundsPeriod") or period or plan.get("period") or {}
    begun = bounds.get("start") or plan.get("period", {}).get("start") or plan.get("created") or updated(plan)
    ended = bounds.get("end") or plan.get("period", {}).get("end")
    names = {f"CarePlan/{plan['id']}", *([f"ServiceRequest/{request['id']}"] if request is not None else [])}
    return Activity(
        concept,
        codes,
        rhythm,
        interval_of(begun).start.astimezone(UTC),
        interval_of(ended).end.astimezone(UTC) if ended else None,
        frozenset(names),
        amount_of(source),
    )


def amount_of(source: Json) -> Amount | None:
    """How much a detail, or a ServiceRequest, says is to be done; None where it is no quantity in a unit of UCUM."""
    for name, daily in (("dailyAmount", True), ("quantity", False), ("quantityQuantity", False)):
        quantity = source.get(name, {})
        value, unit = quantity.get("value"), quantity.get("code")
        known = quantity.get("system") == UCUM and scale_of((UCUM, unit or "")) is not None
        if value is not None and value > 0 and known and "comparator" not in quantity:
            return Amount(Fraction(value), unit, daily)
    return None


def updated(plan: Json) -> str:
    return str(plan["meta"]["lastUpdated"])


def rhythm_of(timing: Mapping[str, Any]) -> Rhythm | None:
    """How often a Timing says; None where it says nothing that can be counted."""
    repeat = timing.get("repeat", {})
    days, clock = len(repeat.get("dayOfWeek", ())), len(repeat.get("timeOfDay", ()))
    named = [OFTEN[c["code"]] for c in timing.get("code", {}).get("coding", ()) if c.get("code") in OFTEN]
    unit, length = repeat.get("periodUnit"), repeat.get("period", 1)
    if unit is None and days:
        unit, length = "wk", 1
    elif unit is None and clock:
        unit, length = "d", 1
    elif unit is None and named:
        return every(named[0][0], named[0][1], 1)
    elif unit is None:
        return Rhythm(int(repeat["count"]), None) if "count" in repeat else None
    times = int(repeat.get("frequency", 1)) if "frequency" in repeat else max(days, 1) * max(clock, 1)
    return every(times, str(unit), length)


def every(times: int, unit: str, length: Any) -> Rhythm | None:
    if unit in SECONDS:  # a window shorter than a day tells nobody anything: the day has so many of them
        a_day = round(times * 86_400 / (SECONDS[unit] * float(length))) if length > 0 else 0
        return Rhythm(a_day, relativedelta(days=1)) if a_day >= 1 else None
    if unit not in UNITS or length <= 0 or length != int(length):
        return None
    return Rhythm(times, relativedelta(**{UNITS[unit]: int(length)}))
