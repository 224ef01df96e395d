"""Locks: what keeps two Appointments from taking the same time.

For each Schedule and day there is one row in `_slot_locks`, which lists the times that are taken on that day and by
whom. Whoever takes a time writes the rows of its days in the transaction in which the Appointment is written. Two that
take times of one day write the same row, so that MongoDB lets the first commit and has the second start again, which
then sees what the first has taken. So what is looked at here is always all there is: no two can be taken that exceed
the capacity, at any minute, whatever process they come from (decision 46).

A hold that has run out is free, whether or not anybody has removed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakSet

from fhir_server.model.errors import ConflictError, Issue, UnprocessableError
from fhir_server.storage.rows import Row
from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit
from resources.scheduling.moment import datetime_of, text_of, us_of

LOCKS = "_slot_locks"

#: The longest time that one Appointment can take of a Schedule that is locked.
MOST_DAYS = 100

#: The stores whose indexes this process has looked after.
_prepared: WeakSet[Store] = WeakSet()

_DAY_US = 24 * 3600 * 1_000_000


class TimeTakenError(ConflictError):
    """409: somebody has the time already.

    Attributes:
        schedule: the id of the Schedule
        appointment: the id of the Appointment that does not get it, where there is one already
        wanted: that Appointment, by which others are found in its place
    """

    def __init__(
        self,
        schedule: str,
        start: datetime,
        end: datetime,
        *,
        appointment: str = "",
        wanted: Mapping[str, Any] | None = None,
        issues: Iterable[Issue] = (),
    ) -> None:
        told = f"The time from {text_of(start)} to {text_of(end)} of Schedule/{schedule} is taken."
        super().__init__(tuple(issues) or told, key="HS-SCHED-TAKEN", expression="Appointment.start")
        self.schedule, self.start, self.end = schedule, start, end
        self.appointment = appointment
        self.wanted = wanted

    def retold(self, issues: Iterable[Issue]) -> TimeTakenError:
        return TimeTakenError(
            self.schedule, self.start, self.end, appointment=self.appointment, wanted=self.wanted, issues=issues
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """A time of a Schedule that an Appointment takes.

    Attributes:
        schedule: the id of the Schedule
        start, end: buffers included
        capacity: how many there can be at once
        slot: the id of the Slot of an EHR that is taken, which can be taken once; empty where the time itself is
        until: when it is free again by itself
        kept: the ids of the Slots that show it
    """

    schedule: str
    start: datetime
    end: datetime
    capacity: int = 1
    slot: str = ""
    until: datetime | None = None
    kept: tuple[str, ...] = ()

    def row_ids(self) -> list[str]:
        """The rows of its days."""
        first, last = us_of(self.start) // _DAY_US, (us_of(self.end) - 1) // _DAY_US
        if last - first > MOST_DAYS:
            raise UnprocessableError(
                f"An Appointment can take {MOST_DAYS} days of Schedule/{self.schedule} at most.",
                key="HS-SCHED-TOO-LONG",
                expression="Appointment.end",
            )
        return [row_id(self.schedule, day) for day in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Taken:
    """A time that is taken."""

    appointment: str
    start_us: int
    end_us: int
    slot: str
    until_us: int | None
    kept: tuple[str, ...]

    def holds(self, now_us: int) -> bool:
        return self.until_us is None or self.until_us > now_us


def row_id(schedule: str, day: int) -> str:
    """The row of a day, counted from 1970, in UTC."""
    return f"{schedule}/{day}"


def row_ids(schedule: str, start: datetime, end: datetime) -> list[str]:
    """The rows of the days that a span meets."""
    return [row_id(schedule, day) for day in range(us_of(start) // _DAY_US, (us_of(end) - 1) // _DAY_US + 1)]


def taken_in(row: Row) -> list[Taken]:
    return [Taken(t["a"], t["s"], t["e"], t["k"], t["u"], tuple(t["p"])) for t in row["taken"]]


async def prepare(store: Store) -> None:
    """Have the indexes made, once in a process: who has what, and what may be forgotten.

    It is done beside the first Appointments, never within their transactions; all is right without it, and slower.
    """
    store = store.unguarded
    if store not in _prepared:
        _prepared.add(store)
        rows = store.rows(LOCKS)
        await rows.index("taken.a")
        await rows.index("taken.k")
        await rows.forget_after("past")


async def settle(unit: Unit, appointments: Iterable[str], claims: dict[str, list[Claim]], now: datetime) -> set[str]:
    """Give back what some Appointments have, and take what they claim now.

    Args:
        appointments: the ids of those that may have taken something before
        claims: for each Appointment what it takes

    Returns:
        The ids of the Slots that showed what they had.

    Raises:
        TimeTakenError: 409; somebody has it already.
    """
    rows = unit.rows(LOCKS)
    owners = set(appointments)
    wanted = sorted({row for mine in claims.values() for claim in mine for row in claim.row_ids()})
    asked: list[dict[str, Any]] = [{"_id": {"$in": wanted}}] if wanted else []
    asked += [{"taken.a": {"$in": sorted(owners)}}] if owners else []
    if not asked:
        return set()
    found = {row["_id"]: row for row in await rows.find({"$or": asked})}
    moment = us_of(now)
    shown: set[str] = set()
    others: dict[str, list[Taken]] = {}
    for name, row in found.items():
        mine = [taken for taken in taken_in(row) if taken.appointment in owners or taken.appointment in claims]
        shown |= {slot for taken in mine for slot in taken.kept}
        others[name] = [t for t in taken_in(row) if t not in mine and t.holds(moment)]
    for appointment, mine_now in claims.items():
        for claim in mine_now:
            for name in claim.row_ids():
                there = others.setdefault(name, [])
                _require_free(appointment, claim, [taken for taken in there if taken.appointment != appointment])
                there.append(_taken_by(appointment, claim))
    for name in sorted(others):
        fields = {"taken": [_row_of(taken) for taken in others[name]]}
        if name not in found:
            # What nobody looks at any more is forgotten by MongoDB.
            day = int(name.rpartition("/")[2])
            past = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day + 31)
            await rows.add([{"_id": name, "schedule": name.rpartition("/")[0], "past": past, **fields}])
        elif fields["taken"] != found[name]["taken"]:
            await rows.put(name, fields)
    return shown


def _require_free(appointment: str, claim: Claim, taken: Sequence[Taken]) -> None:
    start, end = us_of(claim.start), us_of(claim.end)
    if claim.slot:
        # Slots of an EHR may overlap, as it likes; each is taken once, and none together with a time by itself.
        if any(t.slot == claim.slot for t in taken):
            raise TimeTakenError(claim.schedule, claim.start, claim.end, appointment=appointment)
        taken = [t for t in taken if not t.slot]
    meeting = [t for t in taken if t.start_us < end and t.end_us > start]
    edges = sorted([(max(t.start_us, start), 1) for t in meeting] + [(t.end_us, -1) for t in meeting])
    depth = 0
    for _, step in edges:
        depth += step
        if depth >= claim.capacity:
            raise TimeTakenError(claim.schedule, claim.start, claim.end, appointment=appointment)


def _taken_by(appointment: str, claim: Claim) -> Taken:
    until = None if claim.until is None else us_of(claim.until)
    return Taken(appointment, us_of(claim.start), us_of(claim.end), claim.slot, until, claim.kept)


def _row_of(taken: Taken) -> Row:
    return {
        "a": taken.appointment,
        "s": taken.start_us,
        "e": taken.end_us,
        "k": taken.slot,
        "u": taken.until_us,
        "p": list(taken.kept),
    }


def spans_of(rows: Iterable[Row], now: datetime, *, but: str = "") -> list[tuple[datetime, datetime]]:
    """The times that are taken by others than one Appointment, each once."""
    moment = us_of(now)
    found = {t for row in rows for t in taken_in(row) if t.holds(moment) and t.appointment != but}
    return [(datetime_of(t.start_us), datetime_of(t.end_us)) for t in found]
