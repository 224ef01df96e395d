"""Negotiation: `$confirm`, `$decline`, `$propose`, `$accept` and `$counter`.

A request waits, with its time held. Who offers the time confirms it, declines it, or offers others, each of which is
held until it is answered or has run out. The other side accepts one, by which the others are free again in the same
transaction, or names times of its own, a few times. All of it stands in the Appointment: what is held is what it says,
so that no half of a step can be left behind. What everybody said is kept as AppointmentResponses.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model.errors import ConflictError, ForbiddenError, InvalidError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.changes import Change
from fhir_server.storage.unit import Unit
from resources.scheduling import moment
from resources.scheduling.asking import Asking, patients_in
from resources.scheduling.booking import free_at, offered_by_waitlist
from resources.scheduling.changing import asking_at, changed, instance_of, reason_of, require_state
from resources.scheduling.companion import FOLLOWING
from resources.scheduling.extensions import (
    ALTERNATIVE,
    HELD_UNTIL,
    ROUND,
    extensions,
    reference,
    value,
    value_of,
    with_extension,
    without,
)
from resources.scheduling.parties import Party, party_of, require_decider, seen
from resources.scheduling.responses import answered, response_of
from resources.scheduling.schedules import participants_of
from resources.scheduling.visits import cancelled, require_concerned, waiting_again

Json = dict[str, Any]

#: How many times can be offered at once, and how often times can be answered with others.
MOST_ALTERNATIVES = 5
MOST_ROUNDS = 3

#: How long an offer is held where the Schedule says nothing.
USUAL_ANSWER = timedelta(hours=72)


def voice(party: Party, appointment: Json) -> str:
    """As which participant somebody answers: themselves, or for the front desk the first who offers the time.

    Empty where an Appointment names nobody.
    """
    if mine := party.among(appointment):
        return mine[0]
    people = participants_of(appointment)
    offering = [actor for actor in people if not actor.startswith("Patient/")]
    return next((actor for actor in offering if actor.startswith("Practitioner")), (offering or people or [""])[0])


def patient_of(party: Party, appointment: Json) -> str:
    """The patient as whom is answered; somebody else where an Appointment has none."""
    return next(iter(patients_in(appointment)), voice(party, appointment))


async def confirm(context: Context, request: Request) -> Answer:
    """Appointment/[id]/$confirm: what a patient has asked for is booked."""
    inputs = Inputs.of(request)
    inputs.only("comment")
    party = await party_of(context)
    _, before = await seen(context, instance_of(request))
    require_decider(party, before, "confirm")
    require_state(before, ("pending",), "confirm")
    comment = inputs.text("comment") or ""

    async def alter(unit: Unit, current: Json) -> tuple[Json, list[Change]]:
        require_state(current, ("pending",), "confirm")
        if any(extensions(current, ALTERNATIVE)):
            raise ConflictError(
                f"Other times are on offer in Appointment/{current['id']}: $accept takes one.", key="HS-SCHED-OFFERS"
            )
        actor = voice(party, current)
        everybody = frozenset(participants_of(current))
        booked = answered(without(current, HELD_UNTIL, ROUND), everybody, "accepted")
        said = response_of(current["id"], actor, "accepted", comment=comment, by="confirm")
        return {**booked, "status": "booked"}, said

    # A hold that has run out is taken again here, if nobody else has the time.
    return await changed(context, request, before, "confirm", alter, await asking_at(context, before, before["start"]))


async def decline(context: Context, request: Request) -> Answer:
    """Appointment/[id]/$decline: a request, or what is offered instead, is declined; the Appointment is cancelled."""
    inputs = Inputs.of(request)
    inputs.only("reason", "comment")
    party = await party_of(context)
    _, before = await seen(context, instance_of(request))
    require_concerned(party, before, "decline")
    reason = reason_of(inputs, "pat" if party.is_patient else "prov")
    comment = inputs.text("comment") or ""

    async def alter(unit: Unit, current: Json) -> tuple[Json, list[Change]]:
        require_state(current, ("pending",), "decline")
        actor = voice(party, current)
        said = response_of(current["id"], actor, "declined", comment=comment, by="decline")
        if offered_by_waitlist(current):
            return waiting_again(current), said
        return cancelled(answered(current, frozenset({actor}), "declined"), reason, comment), said

    return await changed(context, request, before, "decline", alter)


async def propose(context: Context, request: Request) -> Answer:
    """Appointment/[id]/$propose: who offers the time offers others instead."""
    return await offer(context, request, "propose")


async def counter(context: Context, request: Request) -> Answer:
    """Appointment/[id]/$counter: the patient names times of their own instead."""
    return await offer(context, request, "counter")


async def offer(context: Context, request: Request, by: str) -> Answer:
    """Offer other times, each of which is held.

    Raises:
        TakenError: 409; one of them is not free: none is offered.
        UnprocessableError: 422; too many times, or too often.
    """
    inputs = Inputs.of(request)
    inputs.only("start", "comment")
    party = await party_of(context)
    _, before = await seen(context, instance_of(request))
    if by == "propose":
        require_decider(party, before, "offer other times")
    elif not (party.is_patient and party.among(before)) and party.role not in ("operator", "system"):
        raise ForbiddenError("To name other times instead is for the patient.", key="HS-SCHED-PARTY")
    starts = [str(start) for start in inputs.all("start")]
    if not 1 <= len(set(starts)) <= MOST_ALTERNATIVES:
        raise InvalidError(
            f"One to {MOST_ALTERNATIVES} different `start`s were expected.",
            code="required",
            expression="Parameters.parameter.where(name='start')",
            key="HS-OP-PARAMETER",
        )
    require_state(before, ("pending",), by)
    asked = [await asking_at(context, before, start) for start in dict.fromkeys(starts)]
    comment = inputs.text("comment") or ""

    async def alter(unit: Unit, current: Json) -> tuple[Json, list[Change]]:
        require_state(current, ("pending",), by)
        rounds = int(value(current, ROUND) or 0) + (by == "counter")
        if rounds > MOST_ROUNDS:
            raise UnprocessableError(
                f"Times were answered with others {MOST_ROUNDS} times; accept one, decline, or call.",
                key="HS-SCHED-ROUNDS",
                expression="Appointment.extension",
            )
        return await with_offers(unit, current, asked, party, by, rounds, comment)

    return await changed(context, request, before, by, alter, asked[0])


async def with_offers(
    unit: Unit, current: Json, asked: Sequence[Asking], party: Party, by: str, rounds: int, comment: str
) -> tuple[Json, list[Change]]:
    """The Appointment with the times on offer, and the answers that say them."""
    actor = voice(party, current) if by == "propose" else patient_of(party, current)
    rows: list[Json] = []
    said: list[Change] = []
    until = ""
    for asking in asked:
        free, own = await free_at(unit, asking, strict=by == "counter", but=current["id"])
        rule = own[0].table.rule
        answer = timedelta(hours=rule.answer) if rule is not None else USUAL_ANSWER
        until = until or moment.text_of(moment.now() + answer)
        zone = rule.zone if rule is not None else moment.now().tzinfo
        assert zone is not None
        start, end = moment.text_of(free.start, zone), moment.text_of(free.end, zone)
        parts: list[Json] = [
            {"url": "start", "valueInstant": start},
            {"url": "end", "valueInstant": end},
            {"url": "until", "valueInstant": until},
            *([{"url": "by", "valueReference": {"reference": actor}}] if actor else []),
        ]
        parts += [{"url": "slot", "valueReference": {"reference": f"Slot/{slot}"}} for slot in free.slots]
        rows.append({"url": ALTERNATIVE, "extension": parts})
        said += response_of(current["id"], actor, "tentative", start=start, end=end, comment=comment, by=by)
    resource = without(current, ALTERNATIVE, HELD_UNTIL, ROUND)
    held = {"url": HELD_UNTIL, "valueInstant": until}
    counted = [{"url": ROUND, "valueInteger": rounds}] if rounds else []
    return answered(with_extension(resource, held, *counted, *rows), frozenset({actor}), "tentative"), said


async def accept(context: Context, request: Request) -> Answer:
    """Appointment/[id]/$accept: one of the times on offer is booked, the others are free again, in one step.

    Raises:
        ConflictError: 409; it is not on offer, not any more, or by the caller's own side.
    """
    inputs = Inputs.of(request)
    inputs.only("start", "comment")
    party = await party_of(context)
    _, before = await seen(context, instance_of(request))
    require_concerned(party, before, "accept")
    start, comment = inputs.text("start"), inputs.text("comment") or ""

    async def alter(unit: Unit, current: Json) -> tuple[Json, list[Change]]:
        require_state(current, ("pending",), "accept")
        if offered_by_waitlist(current) and party.among(current):
            require_not_run_out(value(current, HELD_UNTIL))
            everybody = frozenset(participants_of(current))
            booked = answered(without(current, HELD_UNTIL), everybody, "accepted")
            said = response_of(current["id"], voice(party, current), "accepted", comment=comment, by="accept")
            return {**booked, "status": "booked"}, said
        chosen = chosen_of(current, start)
        by_patient = reference(chosen, "by").startswith("Patient/")
        require_other_side(party, current, by_patient=by_patient)
        require_not_run_out(value(chosen, "until"))
        actor = voice(party, current) if by_patient else patient_of(party, current)
        begin, end = value(chosen, "start"), value(chosen, "end")
        return booked_at(current, chosen), response_of(
            current["id"], actor, "accepted", start=begin, end=end, comment=comment, by="accept"
        )

    return await changed(context, request, before, "accept", alter)


def require_not_run_out(until: Any) -> None:
    """Raises ConflictError: 409; what was offered is held no more."""
    if moment.parsed(until, "Appointment.extension") <= moment.now():
        raise ConflictError("The offer has run out.", key="HS-SCHED-RAN-OUT", expression="Appointment.extension")


def booked_at(current: Json, chosen: Json) -> Json:
    """The Appointment at one of the times on offer."""
    rest = {n: v for n, v in without(current, ALTERNATIVE, HELD_UNTIL, ROUND).items() if n != "minutesDuration"}
    following = [s for s in current.get("slot", ()) if str(s.get("reference", "")).startswith(f"Slot/{FOLLOWING}")]
    slots = [*(value_of(one) for one in extensions(chosen, "slot")), *following]
    times = {"start": value(chosen, "start"), "end": value(chosen, "end"), **({"slot": slots} if slots else {})}
    everybody = frozenset(participants_of(current))
    return {**answered({**rest, **times}, everybody, "accepted"), "status": "booked"}


def chosen_of(current: Json, start: str | None) -> Json:
    """The time on offer that begins at a moment; the only one where none is said.

    Raises:
        ConflictError: 409; there is none.
    """
    offers = list(extensions(current, ALTERNATIVE))
    if start is not None:
        wanted = moment.parsed(start, "Parameters.parameter.where(name='start')")
        offers = [one for one in offers if moment.parsed(value(one, "start"), "Appointment.extension") == wanted]
    if len(offers) != 1:
        told = ", ".join(str(value(one, "start")) for one in extensions(current, ALTERNATIVE)) or "none"
        raise ConflictError(
            f"`start` must be one of the times on offer in Appointment/{current['id']}: {told}.",
            key="HS-SCHED-OFFERS",
            expression="Parameters.parameter.where(name='start')",
        )
    return offers[0]


def require_other_side(party: Party, current: Json, *, by_patient: bool) -> None:
    """Raises ForbiddenError: 403; an offer is accepted by the side to which it was made."""
    if party.role in ("operator", "system"):
        return
    if party.is_patient == by_patient:
        raise ForbiddenError("The other side accepts what you have offered.", key="HS-SCHED-PARTY")
