"""Delivering what was told: a timer for each, so that nothing is lost with a process, and tried again later each time.

Each way is written down as soon as it is done. Between the two a process can die: then it is done again, under the same
key, by which mail programs and browsers know it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.outlets import UndeliverableError
from fhir_server.jobs.timers import Timer
from fhir_server.model import codec
from fhir_server.storage.rows import plain
from resources.notification.outbox import NOTIFICATIONS
from resources.notification.preferences import Preferences, preferences_of
from resources.notification.words import letter_of

Json = dict[str, Any]

#: Browsers that take pushes, by person.
SUBSCRIPTIONS = "_push_subscriptions"

#: What needs no more trying.
ENDED = frozenset({"delivered", "failed", "not-possible"})

_log = logging.getLogger("healthsphere.notifications")


class NotYetError(Exception):
    """Some ways have failed, and are tried again."""


async def deliver(context: Context, timer: Timer) -> int | None:
    """Deliver what a timer names; when to come again where quiet hours are in between.

    Raises:
        NotYetError: a way has failed.
    """
    rows = context.repository.store.rows(NOTIFICATIONS)
    row = await rows.get(timer.key)
    if row is None:
        return None
    store = context.repository.store
    preferences = await preferences_of(store, row["person"])
    later: int | None = None
    failed: list[str] = []
    for way in preferences.ways(row["kind"]):
        known = row["ways"].get(way, {"status": "waiting", "tries": 0})
        if known["status"] in ENDED:
            continue
        later_here = preferences.quiet_until(row["kind"], context.timers.now())
        if later_here is not None:
            status, tries, later = "waiting", known["tries"], later_here
        else:
            status, tries = await _by(context, way, row, preferences, timer.key), known["tries"] + 1
            if status == "waiting":
                failed.append(way)
        await rows.change(timer.key, {}, plain({f"ways.{way}": {"status": status, "tries": tries}}))
    if failed:
        raise NotYetError(f"{', '.join(failed)} failed")
    return later


async def _by(context: Context, way: str, row: Json, preferences: Preferences, key: str) -> str:
    """What came of one way."""
    outlet = context.outlets.get(way)
    places = await _places(context, way, row["person"]) if outlet is not None else []
    if outlet is None or not places:
        return "not-possible"
    letter = letter_of(row["kind"], preferences.language, key)
    if way == "email" and preferences.invited:
        letter = replace(letter, calendar=row.get("calendar", b""))
    ends: list[str] = []
    for place, forget in places:
        try:
            await outlet.send(place, letter)
            ends.append("delivered")
        except UndeliverableError:
            await forget()
            ends.append("failed")
        except Exception as error:  # whatever a mail server or a provider does: the others still get theirs
            _log.warning("a notification by %s failed: %s", way, type(error).__name__)
            ends.append("waiting")
    return next(status for status in ("delivered", "waiting", "failed") if status in ends)


Forget = Callable[[], Awaitable[None]]


async def _places(context: Context, way: str, person: str) -> list[tuple[Any, Forget]]:
    """Where somebody is reached by a way, each with how to forget it when it leads nowhere any more."""
    store = context.repository.store
    if way == "push":
        rows = store.rows(SUBSCRIPTIONS)
        return [(row, partial(rows.remove, row["_id"])) for row in await rows.all({"person": person}, limit=20)]
    kind, _, resource_id = person.partition("/")
    version = await store.get(kind, resource_id)
    telecom = codec.decode(version.body).get("telecom", []) if version is not None and version.body else []
    system = {"email": ("email",), "sms": ("sms", "phone")}[way]
    found = [
        row
        for row in telecom
        if row.get("system") in system and row.get("use") != "old" and row.get("value")
        if way == "email" or row["system"] == "sms" or row.get("use") == "mobile"
    ]
    found.sort(key=lambda row: int(row.get("rank", 1000)))
    return [(row["value"], _kept) for row in found[:1]]


async def _kept() -> None:
    """An address in the record of a person is not ours to take out."""
