"""Scheduling, joined."""

from __future__ import annotations

from fhir_server.interactions.registration import Operation
from resources.part import Part
from resources.scheduling.booking import book, hold
from resources.scheduling.companion import adopt, take_times
from resources.scheduling.find import find
from resources.scheduling.responses import note_answers
from resources.scheduling.rules_of_schedule import schedule_rule
from resources.scheduling.states import APPOINTMENT, RESPONSE, SLOT, keep_following, keep_meaning, keep_voice

OWN = "urn:healthsphere:OperationDefinition"
TYPES = ("Appointment",)

PART = Part(
    "scheduling",
    operations=(
        Operation("find", f"{OWN}:appointment-find", find, types=TYPES, type=True),
        Operation("hold", f"{OWN}:appointment-hold", hold, types=TYPES, type=True, affects_state=True, elevated=True),
        Operation("book", f"{OWN}:appointment-book", book, types=TYPES, type=True, affects_state=True, elevated=True),
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
        ("Appointment", take_times),
        ("AppointmentResponse", note_answers),
        ("Schedule", adopt),
    ),
)
