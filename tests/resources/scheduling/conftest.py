"""A clinic: doctors and rooms with Schedules, and the words by which tests speak of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from resources.scheduling.extensions import AVAILABILITY
from tests.conftest import InProcessServer

Json = dict[str, Any]

BUCHAREST = ZoneInfo("Europe/Bucharest")
CONSULTATION = {"coding": [{"system": "http://example.org/visits", "code": "consultation"}]}
HOUSE_CALL = {"coding": [{"system": "http://example.org/visits", "code": "house-call"}]}
#: The same day in all tests of a run, also when midnight comes.
TODAY = datetime.now(BUCHAREST).date()

WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def part(url: str, **value: Any) -> Json:
    return {"url": url, **value}


def service(concept: Json, minutes: int, before: int = 0, after: int = 0, *, confirmation: bool = False) -> Json:
    return part(
        "service",
        extension=[
            part("type", valueCodeableConcept=concept),
            part("minutes", valueInteger=minutes),
            part("bufferBefore", valueInteger=before),
            part("bufferAfter", valueInteger=after),
            part("confirmation", valueBoolean=confirmation),
        ],
    )


def hours(start: str, end: str, *days: str) -> Json:
    named = [part("daysOfWeek", valueCode=day) for day in days or WEEK]
    return part("hours", extension=[*named, part("start", valueString=start), part("end", valueString=end)])


def rules(*parts: Json, zone: str = "Europe/Bucharest", **numbers: int) -> Json:
    rows = [part("zone", valueCode=zone), *parts, *(part(name, valueInteger=n) for name, n in numbers.items())]
    return {"url": AVAILABILITY, "extension": rows}


class Clinic:
    """A server, and what the tests do with it. Each clinic has a day of its own far ahead, so that none is in another's
    way."""

    def __init__(self, server: InProcessServer, client: httpx.Client | None = None) -> None:
        self.server = server
        self.client = client or server.client

    def put(self, resource_type: str, content: Json, name: str | None = None) -> str:
        resource_id = name or f"t{uuid.uuid4().hex[:16]}"
        answer = self.client.put(
            f"{resource_type}/{resource_id}", json={"resourceType": resource_type, "id": resource_id, **content}
        )
        assert answer.status_code in (200, 201), answer.text
        return f"{resource_type}/{resource_id}"

    def doctor(self) -> str:
        return self.put("Practitioner", {"active": True, "name": [{"family": "Ionescu"}]})

    def patient(self) -> str:
        return self.put("Patient", {"name": [{"family": "Pop"}]})

    def room(self) -> str:
        return self.put("Location", {"name": "Room"})

    def schedule(self, actor: str, *parts: Json, zone: str = "Europe/Bucharest", **numbers: int) -> str:
        """A Schedule, open 9 to 17 every day for consultations of half an hour where nothing else is said."""
        given = list(parts) or [hours("09:00", "17:00"), service(CONSULTATION, 30)]
        return self.put(
            "Schedule",
            {"active": True, "extension": [rules(*given, zone=zone, **numbers)], "actor": [{"reference": actor}]},
        )

    def find(self, **parameters: Any) -> list[Json]:
        """The proposed Appointments of one page."""
        pairs = {name.replace("_", "-") if name != "_count" else name: value for name, value in parameters.items()}
        answer = self.client.get("Appointment/$find", params=pairs)
        assert answer.status_code == 200, answer.text
        rows = [row["resource"] for row in answer.json().get("entry", ())]
        return [row for row in rows if row["resourceType"] == "Appointment"]

    def call(self, operation: str, at: str = "", **parameters: Any) -> httpx.Response:
        """An operation of Appointments, by POST."""
        rows = [row_of(name.replace("_", "-"), v) for name, value in parameters.items() for v in several(value)]
        place = at or "Appointment"
        return self.client.post(f"{place}/${operation}", json={"resourceType": "Parameters", "parameter": rows})

    def booked(self, offer: Json, patient: str) -> Json:
        answer = self.call("book", appointment_reference=f"Appointment/{offer['id']}", patient_reference=patient)
        assert answer.status_code == 201, answer.text
        return the_one(answer)

    def appointment(self, start: datetime, minutes: int, *actors: str, status: str = "booked", **more: Any) -> Json:
        return {
            "resourceType": "Appointment",
            "status": status,
            "start": start.isoformat(),
            "end": (start + timedelta(minutes=minutes)).isoformat(),
            "participant": [{"actor": {"reference": actor}, "status": "accepted"} for actor in actors],
            **more,
        }

    def taken(self) -> list[Json]:
        """What the rows of locks say, of all Schedules."""

        async def rows() -> Any:
            return await self.server.context.repository.store.rows("_slot_locks").all(limit=0)

        return [taken | {"row": row["_id"]} for row in self.server.run(rows()) for taken in row["taken"]]


def several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def row_of(name: str, value: Any) -> Json:
    if isinstance(value, dict) and "resourceType" in value:
        return {"name": name, "resource": value}
    if isinstance(value, dict):
        return {"name": name, "valueCodeableConcept": value}
    if isinstance(value, bool):
        return {"name": name, "valueBoolean": value}
    if isinstance(value, int):
        return {"name": name, "valueInteger": value}
    if "/" in value and value[0].isupper() and " " not in value:
        return {"name": name, "valueReference": {"reference": value}}
    return {"name": name, "valueString": value}


def the_one(answer: httpx.Response) -> Json:
    """The one Appointment of an answer."""
    body = answer.json()
    if body["resourceType"] == "Appointment":
        return dict(body)
    (row,) = (row["resource"] for row in body["entry"] if row["resource"]["resourceType"] == "Appointment")
    return dict(row)


def at(day: int, clock: str, zone: tzinfo = BUCHAREST) -> datetime:
    """A time of day, some days from today on."""
    hour, minute = map(int, clock.split(":"))
    date = TODAY + timedelta(days=day)
    return datetime(date.year, date.month, date.day, hour, minute, tzinfo=zone).astimezone(UTC)


@pytest.fixture(scope="session")
def clinic(make_server: Callable[..., InProcessServer]) -> Clinic:
    return Clinic(make_server())


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Sets the clock of scheduling."""

    def to(moment: datetime) -> None:
        monkeypatch.setattr("resources.scheduling.moment.now", lambda: moment)

    return to
