"""`$calendar-feed`: a private address by which a calendar programme reads the appointments of a person.

Calendar programmes cannot sign in, so that whoever knows the address reads the feed. It cannot be guessed, is told
once, kept as a digest alone, and ends when its owner says so or asks for another. Titles say nothing unless the owner
wants it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model.clock import now_us
from fhir_server.model.errors import ForbiddenError
from fhir_server.model.exchange import Answer, Request
from fhir_server.storage.store import Store
from resources.scheduling import moment
from resources.scheduling.companion import HOLDING
from resources.scheduling.ical import calendar_of, event_of
from resources.scheduling.parties import party_of
from resources.scheduling.schedules import found, selves

Json = dict[str, Any]

FEEDS: Final = "_calendar_feeds"

#: How much of the past and the future a feed has, and how many appointments.
PAST, FUTURE, MOST = timedelta(days=60), timedelta(days=400), 2000


async def calendar_feed(context: Context, request: Request) -> Answer:
    """[type]/[id]/$calendar-feed: a new address; the one before ends.

    Raises:
        ForbiddenError: 403; it is somebody else's.
    """
    inputs = Inputs.of(request)
    inputs.only("details", "revoke")
    person = "/".join(request.path[:2])
    await context.repository.read(*request.path[:2])
    party = await party_of(context)
    mine = party.names | ({party.patient, *party.patients} if party.is_patient else set())
    if person not in mine and party.role != "operator":
        raise ForbiddenError("A calendar feed is made by the person whose appointments it has.", key="HS-SCHED-PARTY")
    rows = context.repository.store.unguarded.rows(FEEDS)
    await rows.remove_all({"person": person})
    if inputs.flag("revoke"):
        return answered(parameters_of())
    token = secrets.token_urlsafe(32)
    row = {"person": person, "details": inputs.flag("details"), "made": now_us(), "by": context.caller.identity.subject}
    await rows.put(digest_of(token), row)
    parts = urlsplit(request.base_url)
    url = f"{parts.scheme}://{parts.netloc}/calendar/{token}.ics"
    return answered(parameters_of({"name": "url", "valueUrl": url}))


async def end_feeds(context: Context, account_id: str, fhir_user: str | None) -> None:
    """End the feeds that an account has made, and those of its own person."""
    mine: list[Json] = [{"by": account_id}, *([{"person": fhir_user}] if fhir_user else [])]
    await context.repository.store.unguarded.rows(FEEDS).remove_all({"$or": mine})


async def feeds_of(store: Store, people: Sequence[str]) -> int:
    """How many feeds there are of some people."""
    return len(await store.unguarded.rows(FEEDS).all({"person": {"$in": list(people)}}, limit=0))


async def forget_feeds(store: Store, people: Sequence[str]) -> None:
    """End the feeds of some people, whose records are erased."""
    await store.unguarded.rows(FEEDS).remove_all({"person": {"$in": list(people)}})


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


async def feed_of(store: Store, token: str, base_url: str) -> bytes | None:
    """The feed that a token names, as iCalendar; None where it names none."""
    row = await store.unguarded.rows(FEEDS).get(digest_of(token))
    if row is None:
        return None
    now = moment.now()
    known, _ = await selves(store.unguarded, [row["person"]])
    appointments = await found(
        store.unguarded,
        "Appointment",
        {
            "x.actor": {"$in": sorted(known[row["person"]])},
            "x.date.s": {"$gte": moment.us_of(now - PAST), "$lt": moment.us_of(now + FUTURE)},
        },
        MOST,
    )
    details = bool(row["details"])
    events = [
        event_of(one, base_url, title=title_of(one) if details else "Appointment", people=details)
        for one in appointments
        if one.get("status") in HOLDING and "end" in one
    ]
    return calendar_of(events, properties={"x-wr-calname": "Appointments"})


def title_of(appointment: Json) -> str:
    """For what an Appointment is, for those who want their calendar to say it."""
    for concept in appointment.get("serviceType", ()):
        texts = [concept.get("text"), *(coding.get("display") for coding in concept.get("coding", ()))]
        if text := next((text for text in texts if text), None):
            return str(text)
    return "Appointment"
