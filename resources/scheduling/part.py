"""Scheduling, joined."""

from __future__ import annotations

from functools import partial

from fhir_server.interactions.registration import Handler, Operation
from fhir_server.model.access import Verb
from fhir_server.repository.rules import Sometimes
from resources.part import Part
from resources.scheduling.aftermath import join
from resources.scheduling.booking import book, hold
from resources.scheduling.companion import adopt, take_times
from resources.scheduling.conflicts import explain
from resources.scheduling.feeds import calendar_feed, end_feeds
from resources.scheduling.find import find
from resources.scheduling.ical import ical
from resources.scheduling.locks import TimeTakenError
from resources.scheduling.naming import require_bookable
from resources.scheduling.negotiation import accept, confirm, counter, decline, propose
from resources.scheduling.responses import note_answers
from resources.scheduling.rules_of_schedule import schedule_rule
from resources.scheduling.series import book_series
from resources.scheduling.slots import keep_taken, may_lose
from resources.scheduling.states import APPOINTMENT, RESPONSE, SLOT, keep_following, keep_meaning, keep_voice
from resources.scheduling.video import join_visit
from resources.scheduling.visits import cancel, check_in, no_show, reschedule

OWN = "urn:healthsphere:OperationDefinition"
TYPES = ("Appointment",)


CREATE: tuple[str, Verb] = ("Appointment", "c")
UPDATE: tuple[str, Verb] = ("Appointment", "u")

_changing = partial(Operation, types=TYPES, affects_state=True, elevated=True)


def of_instance(code: str, handle: Handler) -> Operation:
    """An operation of one Appointment."""
    return _changing(code, f"{OWN}:appointment-{code}", handle, instance=True, needs=(UPDATE,))


def of_new(code: str, handle: Handler) -> Operation:
    """An operation that makes Appointments."""
    return _changing(code, f"{OWN}:appointment-{code}", handle, type=True, needs=(CREATE,))


PART = Part(
    "scheduling",
    operations=(
        Operation("find", f"{OWN}:appointment-find", find, types=TYPES, type=True),
        of_new("hold", hold),
        of_new("book", book),
        of_new("book-series", book_series),
        Operation("ical", f"{OWN}:appointment-ical", ical, types=TYPES, instance=True),
        Operation("join", f"{OWN}:appointment-join", join_visit, types=TYPES, instance=True, affects_state=True),
        Operation(
            "calendar-feed",
            f"{OWN}:calendar-feed",
            calendar_feed,
            types=("Patient", "Practitioner", "PractitionerRole", "RelatedPerson"),
            instance=True,
            affects_state=True,
        ),
        of_instance("confirm", confirm),
        of_instance("decline", decline),
        of_instance("propose", propose),
        of_instance("accept", accept),
        of_instance("counter", counter),
        of_instance("cancel", cancel),
        of_instance("reschedule", reschedule),
        of_instance("check-in", check_in),
        of_instance("no-show", no_show),
    ),
    rules=(
        ("Appointment", APPOINTMENT.rule),
        ("Appointment", keep_meaning),
        ("Slot", SLOT.rule),
        ("Slot", keep_following),
        ("AppointmentResponse", RESPONSE.rule),
        ("AppointmentResponse", keep_voice),
        ("Schedule", schedule_rule),
    ),
    companions=(
        ("Appointment", require_bookable),
        ("Appointment", take_times),
        ("AppointmentResponse", note_answers),
        ("Schedule", adopt),
        ("Slot", Sometimes(keep_taken, may_lose)),
    ),
    join=join,
    account_ended=end_feeds,
    explaining=((TimeTakenError, explain),),
)
