"""`Appointment/$find`: times that can be booked, as proposed Appointments. ITI-115.

Computed from the rules, the locks and the Slots of this moment: nothing is made in advance, and nothing is stored of
what is offered. An offer is no promise; `$hold` makes one of it.

Spec: https://profiles.ihe.net/ITI/Scheduling/ITI-115.html
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fhir_server.interactions.bundle import link, searchset
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError, Issue
from fhir_server.model.exchange import Answer, Request
from resources.scheduling import moment
from resources.scheduling.bookable import bookable
from resources.scheduling.calendars import Calendar, Free, calendars, together
from resources.scheduling.offers import appointment_of, named, offer_id
from resources.scheduling.schedules import Timetable
from resources.scheduling.selection import asked_of, references, selected
from resources.scheduling.timing import Preferred, preferred_of

Json = dict[str, Any]

#: How much of the future is looked at where no end is said, and at most.
USUAL_SPAN = timedelta(days=31)
LONGEST_SPAN = timedelta(days=370)

#: Those that IHE names, and ours: `schedule` (all of them at once) and `ignore-appointment`.
NAMES = (
    "start", "end", "specialty", "visit-type", "practitioner", "organization", "location-string", "location-reference",
    "patient-reference", "patient-resource", "reason", "referral-identifier", "timing", "insurance-reference",
    "schedule", "ignore-appointment", "_count", "_after",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offer:
    """A time that can be booked, and with whom.

    Attributes:
        place: which of the sets of Schedules it is of; the first is preferred
    """

    free: Free
    place: int
    calendars: Sequence[Calendar]

    def __lt__(self, other: Offer) -> bool:
        return (self.free.start, self.place) < (other.free.start, other.place)


async def find(context: Context, request: Request) -> Answer:
    """Appointment/$find: a searchset of proposed Appointments, the earliest first; empty where nothing is free.

    Raises:
        InvalidError: 400; it is not said with whom, where or for what.
    """
    inputs = Inputs.of(request)
    inputs.only(*NAMES)
    asked = asked_of(inputs, request.base_url)
    now = moment.now()
    start, end = span_of(inputs, now)
    patients = references(inputs, "patient-reference", request.base_url, ("Patient",))
    count = min(inputs.whole("_count", least=1) or context.limits.default_page_size, context.limits.max_page_size)
    ignored = references(inputs, "ignore-appointment", request.base_url, ("Appointment",))[:1]
    if ignored and await context.repository.current("Appointment", ignored[0].partition("/")[2]) is None:
        ignored = ()  # whose times are not theirs to know stay taken
    after = after_of(inputs)
    preferred = preferred_of(inputs.resource("timing"))
    sets = await bookable(context, await selected(context, asked))
    offers = offered(context, sets, asked.visits, max(start, after[0]) if after else start, end, now=now, but=ignored)
    found: list[Offer] = []
    async for offer in chosen(offers, after, preferred):
        found.append(offer)
        if len(found) > count:
            break
    shown = found[:count]
    store = context.repository.store
    matches: list[tuple[str, bytes]] = []
    for offer in shown:
        key = await named(store, [c.table.id for c in offer.calendars], codes_in(offer, asked.visits))
        name = offer_id(key, offer.free.start)
        resource = appointment_of(name, offer.calendars, offer.free, "proposed", patients)
        matches.append((f"{request.base_url}/Appointment/{name}", codec.encode(resource)))
    address = f"{request.base_url}/Appointment/$find"
    given = pairs_of(inputs, request)
    links = [link("self", address, given)]
    if len(found) > count:
        last = shown[-1]
        cursor = f"{moment.us_of(last.free.start)}.{last.place}"
        links.append(link("next", address, [*((n, v) for n, v in given if n != "_after"), ("_after", cursor)]))
    body = searchset(total=None, links=links, matches=matches, issues=issues_of(shown, sets))
    return Answer(200, body)


def codes_in(offer: Offer, visits: Sequence[str]) -> list[str]:
    """The code by which the type of visit of an offer is found again."""
    mine = offer.calendars[0].service.codes
    return [next((visit for visit in visits if visit in mine), min(mine, default=""))] if mine else []


def pairs_of(inputs: Inputs, request: Request) -> list[tuple[str, str]]:
    """The parameters as a query, for links; what no query can say is left out, and was looked at all the same."""
    rows = [(name, value) for name in NAMES for value in inputs.all(name)]
    pairs = [(name, value.get("reference") if type(value) is dict else value) for name, value in rows]
    return [(name, str(value)) for name, value in pairs if value is not None]


def span_of(inputs: Inputs, now: datetime) -> tuple[datetime, datetime]:
    """From when to when times are looked for."""
    place = "Parameters.parameter.where(name='{}')"
    begin, until = inputs.text("start"), inputs.text("end")
    start = max(moment.parsed(begin, place.format("start")), now) if begin else now
    end = moment.parsed(until, place.format("end")) if until else start + USUAL_SPAN
    if until and begin and end < moment.parsed(begin, place.format("start")):
        raise InvalidError(
            f"`end` ({until}) is before `start` ({begin}).",
            code="value",
            expression=place.format("end"),
            key="HS-SCHED-SPAN",
        )
    return start, min(end, start + LONGEST_SPAN)


def after_of(inputs: Inputs) -> tuple[datetime, int] | None:
    """The offer behind which a page begins."""
    given = inputs.text("_after")
    if given is None:
        return None
    start, dot, place = given.partition(".")
    if not (dot and start.isascii() and start.isdigit() and place.isascii() and place.isdigit() and len(start) < 18):
        raise InvalidError(
            "`_after` is none that this server gave out.",
            code="value",
            expression="Parameters.parameter.where(name='_after')",
            key="HS-OP-PARAMETER",
        )
    return moment.datetime_of(int(start)), int(place)


class Offered:
    """Offers of some sets of Schedules in order, read from the database a portion of time after the other."""

    #: What is read first, and at most at once: a page is mostly full after a few days.
    FIRST = timedelta(days=14)

    def __init__(
        self,
        context: Context,
        sets: Sequence[Sequence[Timetable]],
        codes: Sequence[str],
        start: datetime,
        end: datetime,
        *,
        now: datetime,
        but: Sequence[str] = (),
    ) -> None:
        self._store = context.repository.store
        self._sets, self._codes, self._start, self._end, self._now = sets, codes, start, end, now
        self._but = but[0].partition("/")[2] if but else ""

    async def portions(self) -> Any:
        span = self.FIRST
        start = self._start
        tables = {table.id: table for one in self._sets for table in one}
        while start < self._end and tables:
            end = min(start + span, self._end)
            made = await calendars(
                self._store, list(tables.values()), self._codes, start, end, now=self._now, but=self._but
            )
            yield self._between({calendar.table.id: calendar for calendar in made}, start, end)
            start, span = end, span * 4

    def _between(self, known: dict[str, Calendar], start: datetime, end: datetime) -> Iterator[Offer]:
        return heapq.merge(
            *(
                self._of(place, [known[table.id] for table in one], start, end)
                for place, one in enumerate(self._sets)
                if all(table.id in known for table in one)
            )
        )

    def _of(self, place: int, together_: list[Calendar], start: datetime, end: datetime) -> Iterator[Offer]:
        for free in together(together_, start, end, self._now):
            yield Offer(free, place, together_)


def offered(context: Context, sets: Sequence[Sequence[Timetable]], codes: Sequence[str], start: datetime,
            end: datetime, *, now: datetime, but: Sequence[str] = ()) -> Offered:  # fmt: skip
    return Offered(context, sets, codes, start, end, now=now, but=but)


async def chosen(offers: Offered, after: tuple[datetime, int] | None, preferred: Preferred | None) -> Any:
    """Those behind a place, at the times that are preferred."""
    async for portion in offers.portions():
        for offer in portion:
            if after is not None and (offer.free.start, offer.place) <= after:
                continue
            if preferred is None or preferred.fits(offer):
                yield offer


def issues_of(shown: Sequence[Offer], sets: Sequence[Sequence[Timetable]]) -> list[Issue]:
    """Why nothing is offered: a mystery to nobody."""
    if shown:
        return []
    told = (
        "No Schedule that you may see is of what you ask for."
        if not sets
        else "There are Schedules of what you ask for, and none has time then."
    )
    return [Issue("informational", told, key="HS-SCHED-NOTHING", severity="information")]
