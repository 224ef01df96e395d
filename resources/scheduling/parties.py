"""Who calls an operation of scheduling, and whether an Appointment is theirs to change.

Inside the operations nothing is hidden; so each asks here first. What a caller cannot see is not there for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.errors import ForbiddenError, UnprocessableError
from fhir_server.storage.document import Version
from resources.scheduling.schedules import participants_of, selves
from resources.scheduling.states import PATIENT_SIDE

Json = dict[str, Any]

#: Who changes Appointments of others as part of their work; systems and the operator do, too.
STAFF = frozenset({"practitioner", "front-desk", "system", "operator", "administrator"})


@dataclass(frozen=True, slots=True)
class Party:
    """A caller.

    Attributes:
        role: of the table of roles
        names: their references: the user's own, and the PractitionerRoles of a Practitioner
        patient: for whom a patient or a proxy acts where nobody is named
        patients: for whom the account acts beside themselves
    """

    role: str
    names: frozenset[str]
    patient: str | None
    patients: tuple[str, ...] = ()

    @property
    def is_patient(self) -> bool:
        return self.role in PATIENT_SIDE

    def among(self, appointment: Json) -> list[str]:
        """Which participants of an Appointment they are."""
        mine = self.names | ({self.patient, *self.patients} if self.is_patient else set())
        return [actor for actor in participants_of(appointment) if actor in mine]

    def decides(self, appointment: Json) -> bool:
        """Whether they speak for those who offer the time."""
        return self.role in STAFF and (self.role != "practitioner" or bool(self.among(appointment)))


async def party_of(context: Context) -> Party:
    identity = context.caller.identity
    user = identity.fhir_user
    names: frozenset[str] = frozenset()
    if user is not None:
        known, _ = await selves(context.repository.store.unguarded, [user])
        names = known[user]
    patient = identity.patient or (user if user is not None and user.startswith("Patient/") else None)
    return Party(identity.role, names, patient, identity.patients)


async def seen(context: Context, appointment_id: str) -> tuple[Version, Json]:
    """An Appointment that the caller sees.

    Raises:
        NotFoundError: 404; there is none that they see.
    """
    version = await context.seen.repository.read("Appointment", appointment_id)
    return version, codec.decode(version.body or b"")


def require_decider(party: Party, appointment: Json, what: str) -> None:
    """Raises ForbiddenError: 403; the caller is not of those who offer the time."""
    if not party.decides(appointment):
        raise ForbiddenError(
            f"To {what} is for the practitioner of Appointment/{appointment.get('id', '')} and the front desk.",
            key="HS-SCHED-PARTY",
        )


async def patients_for(context: Context, party: Party, named: Sequence[str]) -> list[str]:
    """For whom is booked: those who are named, whom the caller must see, or else the caller.

    Raises:
        NotFoundError: 404; the caller sees no such patient.
        UnprocessableError: 422; nobody is named, and the caller is no patient.
    """
    patients = list(named) or ([party.patient] if party.patient else [])
    for patient in patients:
        await context.seen.repository.read("Patient", patient.partition("/")[2])
    if not patients and party.role not in ("operator", "system"):
        raise UnprocessableError(
            "Say for whom: a participant of the Appointment, `patient-reference` or `patient-resource`.",
            key="HS-SCHED-PATIENT",
            code="required",
        )
    return patients
