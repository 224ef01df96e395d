"""Offers: proposed Appointments, which are computed and not stored, and how a client names one.

The id of an offer names a row that says which Schedules and which type of visit it is of, and its start. Rows are
written once for each such set, not for each offer; they say nothing of patients.

Spec: https://profiles.ihe.net/ITI/Scheduling/ITI-115.html
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from fhir_server.model.errors import NotFoundError
from fhir_server.storage.store import Store
from resources.scheduling import moment
from resources.scheduling.availability import Service
from resources.scheduling.calendars import Calendar, Free
from resources.scheduling.extensions import SCHEDULE
from resources.scheduling.local_time import zone_of
from resources.scheduling.schedules import actors_of

Json = dict[str, Any]

OFFERS = "_slot_offers"

_ID = re.compile(r"find\.([0-9a-f]{24})\.([0-9a-z]{1,8})")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

#: Names whose rows this process has written, by store.
_known: WeakKeyDictionary[Store, set[str]] = WeakKeyDictionary()
_MOST_KNOWN = 50_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an offer is of.

    Attributes:
        schedules: their ids; the first says how long a visit is
        codes: of the type of visit
        start: when it begins
    """

    schedules: tuple[str, ...]
    codes: tuple[str, ...]
    start: datetime


def key_of(schedules: Sequence[str], codes: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([list(schedules), list(codes)]).encode()).hexdigest()[:24]


async def named(store: Store, schedules: Sequence[str], codes: Sequence[str]) -> str:
    """The name of a set of Schedules with a type of visit, which anybody can follow from now on."""
    key = key_of(schedules, codes)
    known = _known.setdefault(store.unguarded, set())
    if key not in known:
        await store.unguarded.rows(OFFERS).put(key, {"schedules": list(schedules), "codes": list(codes)})
        if len(known) > _MOST_KNOWN:
            known.clear()
        known.add(key)
    return key


def offer_id(key: str, start: datetime) -> str:
    return f"find.{key}.{spelled(moment.us_of(start) // 60_000_000)}"


def is_offer(appointment_id: str) -> bool:
    return _ID.fullmatch(appointment_id) is not None


async def wanted_by(store: Store, appointment_id: str) -> Wanted:
    """What an id of an offer names.

    Raises:
        NotFoundError: 404; it is none that was given out here.
    """
    match = _ID.fullmatch(appointment_id)
    row = await store.unguarded.rows(OFFERS).get(match[1]) if match else None
    if match is None or row is None:
        raise NotFoundError(
            f"There is no Appointment/{appointment_id[:80]}, and $find has offered none of that id.",
            key="HS-SCHED-OFFER",
        )
    minutes = int(match[2], 36)
    start = moment.datetime_of(0) + timedelta(minutes=minutes)
    return Wanted(tuple(row["schedules"]), tuple(row["codes"]), start)


def spelled(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text or "0"


def appointment_of(
    appointment_id: str, calendars: Sequence[Calendar], free: Free, status: str, patients: Sequence[str]
) -> Json:
    """An Appointment of a time: who and what takes part, in the words of R4."""
    first = calendars[0]
    rule = first.table.rule
    zone = rule.zone if rule is not None else zone_of("UTC")
    service: Service = first.service
    actors = dict.fromkeys(actor for calendar in calendars for actor in actors_of(calendar.table.schedule))
    appointment: Json = {
        "resourceType": "Appointment",
        "id": appointment_id,
        "extension": [
            {"url": SCHEDULE, "valueReference": {"reference": f"Schedule/{calendar.table.id}"}}
            for calendar in calendars
        ],
        "status": status,
    }
    if category := first.table.schedule.get("serviceCategory"):
        appointment["serviceCategory"] = category
    if service.type:
        appointment["serviceType"] = [service.type]
    if specialty := first.table.schedule.get("specialty"):
        appointment["specialty"] = specialty
    appointment |= {
        "start": moment.text_of(free.start, zone),
        "end": moment.text_of(free.end, zone),
        "minutesDuration": round((free.end - free.start) / timedelta(minutes=1)),
    }
    if free.slots:
        appointment["slot"] = [{"reference": f"Slot/{slot}"} for slot in dict.fromkeys(free.slots)]
    people = [*actors, *patients]
    appointment["participant"] = [
        {"actor": {"reference": actor}, "required": "required", "status": "needs-action"} for actor in people
    ]
    return appointment
