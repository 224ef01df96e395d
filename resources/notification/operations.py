"""`$notification-preferences` and `$deliveries`: how somebody wants to be told, and what they were told."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from fhir_server.interactions.answers import touched_by
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.jobs.timers import MOST_TRIES
from fhir_server.model.clock import instant_of
from fhir_server.model.errors import ForbiddenError, InvalidError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change
from resources.communication.speaking import MACHINES, reference_in
from resources.notification.delivering import ENDED, SUBSCRIPTIONS
from resources.notification.outbox import NOTIFICATIONS
from resources.notification.preferences import (
    CHANNELS,
    NAMED,
    Preferences,
    basic_id,
    basic_of,
    minutes_of,
    preferences_of,
    said_by,
    shaped,
)
from resources.notification.words import WORDS
from resources.time_zones import zone_named

Json = dict[str, Any]

MOST_SUBSCRIPTIONS = 20


def person_of(context: Context, inputs: Inputs) -> str:
    """Whom it is about: the caller; a program names somebody.

    Raises:
        ForbiddenError: 403; a person without a resource, or one who names somebody else.
        UnprocessableError: 422; a program names nobody.
    """
    identity, named = context.caller.identity, reference_in(inputs, "person")
    if identity.role in MACHINES:
        if named is None:
            raise UnprocessableError("Say whom it is about: `person`.", key="HS-NOTIFY-PERSON", code="required")
        return named
    if identity.fhir_user is None or named not in (None, identity.fhir_user):
        raise ForbiddenError("Everybody says for themselves how they are told of things.", key="HS-NOTIFY-PERSON")
    return identity.fhir_user


async def notification_preferences(context: Context, request: Request) -> Answer:
    """$notification-preferences: what is given is set; the answer is what holds then."""
    inputs = Inputs.of(request)
    inputs.only("person", "preference", "quiet-from", "quiet-to", "zone", "language", "subscription")
    person = person_of(context, inputs)
    store = context.repository.store.unguarded
    before = await preferences_of(store, person)
    wanted = _wanted(inputs, before)
    touched: list[Any] = []
    if wanted != before:
        change = Change("PUT", "Basic", basic_id(person), basic_of(person, wanted), by="notification-preferences")
        touched.append(await context.repository.commit(change))
    rows = store.rows(SUBSCRIPTIONS)
    for given in inputs.all("subscription"):
        await rows.put(*_subscription(person, dict(given)))
    known = await rows.all({"person": person}, newest_by="at", limit=MOST_SUBSCRIPTIONS + 1)
    for row in known[MOST_SUBSCRIPTIONS:]:
        await rows.remove(row["_id"])
    answer = answered(parameters_of(*_told(context, wanted, min(len(known), MOST_SUBSCRIPTIONS))))
    answer.touched = touched_by(touched)
    return answer


def _wanted(inputs: Inputs, before: Preferences) -> Preferences:
    """Preferences with what is given in place of what was.

    Raises:
        InvalidError: 400; a value means nothing.
        UnprocessableError: 422; there is no such kind of news.
    """
    kinds = dict(before.kinds)
    for given in inputs.all("preference"):
        parts = given if type(given) is list else []
        kind = next((value for name, value in parts if name == "kind"), None)
        channels = tuple(str(value) for name, value in parts if name == "channel")
        if type(kind) is not str or not kind:
            raise _wrong("preference", "a `kind`")
        if kind not in NAMED:
            raise UnprocessableError(
                f"Nothing of the kind {kind[:40]!r} is told here; there are {', '.join(NAMED)}.",
                code="code-invalid",
                expression="Parameters.parameter.where(name='preference').part.where(name='kind')",
                key="HS-NOTIFY-KIND",
            )
        if unknown := [channel for channel in channels if channel not in CHANNELS]:
            raise _wrong("channel", f"one of {', '.join(CHANNELS)}, not {unknown[0][:40]!r},")
        kinds[kind] = channels
    start, end = inputs.text("quiet-from"), inputs.text("quiet-to")
    quiet = before.quiet
    if start is not None or end is not None:
        first, last = minutes_of(start or ""), minutes_of(end or "")
        if first is None or last is None:
            raise _wrong("quiet-from", "two times of day, such as 22:00 and 07:00,")
        quiet = (first, last)
    zone = inputs.text("zone") or before.zone
    if zone_named(zone) is None:
        raise _wrong("zone", "an IANA time zone")
    language = inputs.text("language") or before.language
    if language not in WORDS:
        raise _wrong("language", f"one of {', '.join(WORDS)}")
    return replace(before, kinds=kinds, quiet=quiet, zone=zone, language=language)


def _subscription(person: str, given: Json) -> tuple[str, Json]:
    """The row of a browser's push subscription.

    Raises:
        InvalidError: 400; it is none.
    """
    endpoint, key, auth = (str(given.get(name, "")) for name in ("endpoint", "p256dh", "auth"))
    if urlsplit(endpoint).scheme != "https" or not key or not auth or len(endpoint) > 2000:
        raise _wrong("subscription", "an https `endpoint`, `p256dh` and `auth` of a browser's subscription")
    name = hashlib.sha256(endpoint.encode()).hexdigest()[:40]
    return name, {"person": person, "endpoint": endpoint, "p256dh": key, "auth": auth, "at": name}


def _told(context: Context, preferences: Preferences, subscriptions: int) -> list[Json]:
    rows = shaped(said_by(preferences), "name", "part")
    push = context.outlets.get("push")
    if push is not None and push.public_key:
        rows.append({"name": "push-key", "valueString": push.public_key})
    return [*rows, {"name": "subscriptions", "valueInteger": subscriptions}]


async def deliveries(context: Context, request: Request) -> Answer:
    """$deliveries: what somebody was told by which ways, the latest first."""
    inputs = Inputs.of(request)
    inputs.only("person")
    person = person_of(context, inputs)
    rows = context.repository.store.unguarded.rows(NOTIFICATIONS)
    told = []
    for row in await rows.all({"person": person}, newest_by="at", limit=100):
        ways = [
            {
                "name": "channel",
                "part": [
                    {"name": "name", "valueCode": way},
                    {"name": "status", "valueCode": _status(known)},
                    {"name": "tries", "valueInteger": known["tries"]},
                ],
            }
            for way, known in sorted(row["ways"].items())
        ]
        about: list[Json] = [
            {"name": "kind", "valueCode": row["kind"]},
            {"name": "focus", "valueReference": {"reference": row["focus"]}},
            {"name": "at", "valueInstant": instant_of(row["at"])},
        ]
        told.append({"name": "delivery", "part": about + ways})
    return answered(parameters_of(*told))


def _status(known: Json) -> str:
    if known["status"] in ENDED or known["tries"] < MOST_TRIES:
        return str(known["status"])
    return "failed"  # its timer was set aside


def _wrong(name: str, expected: str) -> InvalidError:
    return InvalidError(
        f"{name!r}: {expected} was expected.",
        code="value",
        expression=f"Parameters.parameter.where(name='{name}')",
        key="HS-OP-PARAMETER",
    )
