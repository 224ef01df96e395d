"""What happens on the sign-in side, put on the trail: sign-ins, tokens, refusals, changes of accounts, broken glass."""

from __future__ import annotations

from typing import Protocol

from fhir_server.audit.event import Event, Part, Who
from fhir_server.audit.trail import Trail
from fhir_server.model.access import BREAK_GLASS
from fhir_server.model.clock import now_us


class Happening(Protocol):
    """What the sign-in side tells: `smart_auth.ports.Happening`."""

    @property
    def kind(self) -> str: ...
    @property
    def outcome(self) -> int: ...
    @property
    def account_id(self) -> str: ...
    @property
    def client_id(self) -> str: ...
    @property
    def fhir_user(self) -> str: ...
    @property
    def patient(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def request_id(self) -> str: ...
    @property
    def detail(self) -> str: ...


class Doors:
    """Fills the port `model.happening.Trail`."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    async def happened(self, happening: Happening) -> None:
        """Record a happening; return when it is durable.

        Raises:
            UnavailableError: 503; the database has not confirmed it in time.
        """
        await self._trail.record(event_of(happening))


def event_of(happening: Happening) -> Event:
    who = Who(
        subject=happening.account_id,
        client_id=happening.client_id,
        fhir_user=happening.fhir_user,
        purpose=BREAK_GLASS if happening.kind.startswith("break-glass") else "",
    )
    patient = happening.patient.removeprefix("Patient/")
    part = Part(
        happening.kind,
        patients=(patient,) if patient else (),
        detail=happening.detail,
        outcome=happening.outcome,
    )
    return Event(now_us(), part, who, happening.address, happening.request_id)
