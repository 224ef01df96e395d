"""How somebody wants to be told of things: a Basic resource for each person.

Spec: https://hl7.org/fhir/R4/basic.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.model import codec
from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit
from resources.notification.words import KINDS, URGENT

Json = dict[str, Any]

CODE = {"system": "urn:healthsphere:basic", "code": "notification-preferences"}
EXTENSION = "urn:healthsphere:extension:notification-preferences"

#: No kind of news, but what goes with some by mail: appointments as iCalendar.
INVITATION = "invitation"

#: All that a preference can be of: the kinds of news, what several of these begin with, and all others.
NAMED = ("*", INVITATION, *sorted({*KINDS, *(kind.partition("-")[0] for kind in KINDS)}))

#: The ways out of this server; the log of events is none that can be switched off.
CHANNELS = ("email", "sms", "push")

#: Of what nobody has said anything.
DEFAULT = ("email", "push")
DEFAULT_URGENT = CHANNELS


@dataclass(frozen=True, slots=True)
class Preferences:
    """Attributes:
    kinds: the ways for each kind of thing; `*` for all others
    quiet: from when to when nothing that can wait goes out, local minutes of the day; None: never
    """

    kinds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    quiet: tuple[int, int] | None = None
    zone: str = "UTC"
    language: str = "en"

    def ways(self, kind: str) -> tuple[str, ...]:
        """By which ways something of a kind is told."""
        known = self.kinds.get(kind, self.kinds.get(kind.partition("-")[0], self.kinds.get("*")))
        return known if known is not None else DEFAULT_URGENT if kind in URGENT else DEFAULT

    @property
    def invited(self) -> bool:
        """Whether mails about appointments carry them for a calendar; they do where nobody says otherwise."""
        return "email" in self.kinds.get(INVITATION, ("email",))

    def quiet_until(self, kind: str, moment_us: int) -> int | None:
        """When the quiet hours end in which a moment is; None where it is in none, or the kind does not wait."""
        if self.quiet is None or kind in URGENT or self.quiet[0] == self.quiet[1]:
            return None
        start, end = self.quiet
        local = datetime.fromtimestamp(moment_us / 1e6, UTC).astimezone(ZoneInfo(self.zone))
        minute = local.hour * 60 + local.minute
        inside = start <= minute < end if start < end else minute >= start or minute < end
        if not inside:
            return None
        day = local.date() + timedelta(days=1 if minute >= end else 0)
        # Made of the wall clock anew: the night may have an hour more or less.
        until = datetime(day.year, day.month, day.day, end // 60, end % 60, tzinfo=ZoneInfo(self.zone))
        return int(until.timestamp() * 1e6)


def basic_id(person: str) -> str:
    return f"prefs-{hashlib.sha256(person.encode()).hexdigest()[:40]}"


async def preferences_of(reads: Store | Unit, person: str) -> Preferences:
    version = await reads.get("Basic", basic_id(person))
    return read(codec.decode(version.body)) if version is not None and version.body is not None else Preferences()


def read(basic: Json) -> Preferences:
    """What a Basic of ours says; what it says wrongly is not said."""
    kinds: dict[str, tuple[str, ...]] = {}
    values: dict[str, str] = {}
    for row in basic.get("extension", []):
        if row.get("url") != EXTENSION:
            continue
        for part in row.get("extension", []):
            if part.get("url") == "preference":
                inner = [(one.get("url"), one.get("valueCode")) for one in part.get("extension", [])]
                kind = next((value for name, value in inner if name == "kind"), None)
                if kind:
                    kinds[kind] = tuple(value for name, value in inner if name == "channel" and value in CHANNELS)
            else:
                values[part.get("url", "")] = part.get("valueString") or part.get("valueCode") or ""
    quiet = (minutes_of(values.get("quiet-from", "")), minutes_of(values.get("quiet-to", "")))
    start, end = quiet
    return Preferences(
        kinds,
        (start, end) if start is not None and end is not None else None,
        values.get("zone") or "UTC",
        values.get("language") or "en",
    )


#: What preferences say, as rows: a name, the kind of value, and the value; or a name, nothing, and rows of its own.
Said = tuple[str, str, Any]


def said_by(preferences: Preferences) -> list[Said]:
    """What is stored, and what is answered."""
    rows: list[Said] = [
        ("preference", "", [("kind", "valueCode", kind), *(("channel", "valueCode", channel) for channel in channels)])
        for kind, channels in sorted(preferences.kinds.items())
    ]
    if preferences.quiet is not None:
        rows += [
            (name, "valueString", f"{minute // 60:02d}:{minute % 60:02d}")
            for name, minute in zip(("quiet-from", "quiet-to"), preferences.quiet, strict=True)
        ]
    return [*rows, ("zone", "valueString", preferences.zone), ("language", "valueCode", preferences.language)]


def shaped(rows: Iterable[Said], name: str, inner: str) -> list[Json]:
    """Rows as FHIR has them: extensions (`url`, `extension`), or parameters (`name`, `part`)."""
    return [
        {name: key, **({kind: value} if kind else {inner: shaped(value, name, inner)})} for key, kind, value in rows
    ]


def basic_of(person: str, preferences: Preferences) -> Json:
    """Preferences as they are stored."""
    parts = shaped(said_by(preferences), "url", "extension")
    author = {"author": {"reference": person}} if not person.startswith("CareTeam/") else {}
    return {
        "resourceType": "Basic",
        "id": basic_id(person),
        "extension": [{"url": EXTENSION, "extension": parts}],
        "code": {"coding": [CODE]},
        "subject": {"reference": person},
        **author,
    }


def minutes_of(text: str) -> int | None:
    """A time of day, `22:00`, in minutes; None where it is none."""
    hours, _, minutes = text.partition(":")
    if not (len(text) == 5 and hours.isdigit() and minutes.isdigit() and int(hours) < 24 and int(minutes) < 60):
        return None
    return int(hours) * 60 + int(minutes)
