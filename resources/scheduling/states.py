"""The states of Appointments, Slots and AppointmentResponses, and what a write of one must keep, however it comes.

Spec: https://hl7.org/fhir/R4/appointment.html#statuses, https://hl7.org/fhir/R4/slot.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.model.errors import ForbiddenError, UnprocessableError
from fhir_server.repository.rules import Write
from resources.scheduling import moment
from resources.scheduling.companion import BY, FOLLOWING, HOLDING, begins
from resources.scheduling.extensions import (
    ALTERNATIVE,
    HELD_UNTIL,
    ROUND,
    SERVERS_OWN,
    extensions,
    follows_appointment,
    without,
)
from resources.scheduling.schedules import participants_of
from resources.scheduling.shapes import shaped
from resources.states import StateMachine

Json = dict[str, Any]

APPOINTMENT = StateMachine(
    "Appointment",
    {
        "proposed": ("pending", "booked", "waitlist", "cancelled"),
        "waitlist": ("proposed", "pending", "booked", "cancelled"),
        "pending": ("booked", "waitlist", "cancelled"),
        "booked": ("pending", "arrived", "checked-in", "fulfilled", "noshow", "cancelled"),
        "arrived": ("booked", "checked-in", "fulfilled", "noshow", "cancelled"),
        "checked-in": ("arrived", "fulfilled", "cancelled"),
        "noshow": ("arrived",),
        "fulfilled": (),
        "cancelled": (),
    },
    {},
)

SLOT = StateMachine(
    "Slot",
    {
        "free": ("busy-tentative", "busy", "busy-unavailable"),
        "busy-tentative": ("free", "busy", "busy-unavailable"),
        "busy": ("free", "busy-tentative", "busy-unavailable"),
        "busy-unavailable": ("free", "busy-tentative", "busy"),
    },
    {},
)

RESPONSE = StateMachine(
    "AppointmentResponse",
    {
        "needs-action": ("accepted", "declined", "tentative"),
        "tentative": ("accepted", "declined", "needs-action"),
        "accepted": ("declined", "tentative"),
        "declined": ("accepted", "tentative"),
    },
    {},
    element="participantStatus",
    mistaken=False,
)

#: Those whose own Appointments these are, and who change times by operations alone.
PATIENT_SIDE = frozenset({"patient", "proxy"})

#: What those may write plainly of an Appointment: a wish.
WISHES = frozenset({"proposed", "waitlist"})

#: What says when, where and with whom.
AGREED = ("start", "end", "slot", "serviceType", "minutesDuration")


def keep_meaning(write: Write) -> Json | None:
    """The rule of Appointments, after the machine.

    Raises:
        UnprocessableError: 422; a no-show before the start, a cancellation without a reason.
        ForbiddenError: 403; a patient writes what only an operation changes for them.
    """
    new = write.new
    if new is None or not shaped(new):
        return new
    require_own_place(write)
    if begins(write, "noshow") and moment.parsed(new.get("start", ""), "Appointment.start") > moment.now():
        raise UnprocessableError(
            f"{write.reference} has not begun yet; nobody can have missed it.",
            key="HS-SCHED-NOT-BEGUN",
            expression="Appointment.status",
        )
    if begins(write, "cancelled") and "cancelationReason" not in new and write.old and write.old["status"] in HOLDING:
        raise UnprocessableError(
            f"{write.reference} is cancelled for a reason, which `cancelationReason` has to say.",
            key="HS-SCHED-REASON",
            expression="Appointment.cancelationReason",
        )
    if new.get("status") not in HOLDING:
        new = without_following(new)
    return new if new.get("status") == "pending" else without(new, HELD_UNTIL, ALTERNATIVE, ROUND)


def require_own_place(write: Write) -> None:
    """Patients ask for a time, or give one up; that somebody has one is for the operations to say."""
    if write.by or write.caller.identity.role not in PATIENT_SIDE or write.new is None:
        return
    new, old = write.new, write.old
    status = new.get("status")
    if any(list(extensions(new, url)) != list(extensions(old or {}, url)) for url in SERVERS_OWN):
        raise ForbiddenError(
            "What is held for you, and offered to you, is said by the server.", key="HS-SCHED-BY-OPERATION"
        )
    if old is None or old.get("status") in WISHES:
        if status in WISHES or (old is not None and status == "cancelled"):
            return
        raise ForbiddenError(
            f"You may write Appointments that are {' or '.join(sorted(WISHES))}; $hold and $book give you a time.",
            key="HS-SCHED-BY-OPERATION",
            expression="Appointment.status",
        )
    kept = all(new.get(name) == old.get(name) for name in AGREED) and participants_of(new) == participants_of(old)
    if kept and status in (old.get("status"), "cancelled"):
        return
    raise ForbiddenError(
        f"{write.reference} is agreed; you may cancel it, and $reschedule gives you another time.",
        key="HS-SCHED-BY-OPERATION",
        expression="Appointment",
    )


def without_following(appointment: Json) -> Json:
    """The Appointment without the Slots that followed it: these go when it takes no time any more."""
    slots = appointment.get("slot")
    if not slots:
        return appointment
    left = [slot for slot in slots if not str(slot.get("reference", "")).startswith(f"Slot/{FOLLOWING}")]
    if len(left) == len(slots):
        return appointment
    rest = {name: value for name, value in appointment.items() if name != "slot"}
    return {**rest, "slot": left} if left else rest


def keep_following(write: Write) -> Json | None:
    """The rule of Slots: those that follow an Appointment change with it alone.

    Raises:
        UnprocessableError: 422.
    """
    if write.old is not None and follows_appointment(write.old) and write.by != BY:
        raise UnprocessableError(
            f"{write.reference} shows what an Appointment takes, and changes with that alone.",
            key="HS-SCHED-SLOT",
            expression="Slot",
        )
    return write.new


def keep_voice(write: Write) -> Json | None:
    """The rule of AppointmentResponses: everybody answers for themselves.

    Raises:
        ForbiddenError: 403.
    """
    identity = write.caller.identity
    if write.new is None or write.by or not shaped(write.new) or identity.role not in (*PATIENT_SIDE, "practitioner"):
        return write.new
    actor = str(write.new.get("actor", {}).get("reference", ""))
    if identity.role == "practitioner":
        fits = actor == identity.fhir_user or actor.startswith("PractitionerRole/")
    else:
        fits = actor in {identity.patient, identity.fhir_user, *identity.patients} - {None}
    if not fits:
        raise ForbiddenError(
            "You answer for yourself: `actor` must be you.",
            key="HS-SCHED-VOICE",
            expression="AppointmentResponse.actor",
        )
    return write.new
