"""What the health log adds to the server."""

from __future__ import annotations

from fhir_server.repository.rules import Sometimes
from resources.healthlog.duplicates import claim
from resources.healthlog.entry import concerns, entry_rule
from resources.healthlog.goals import goal_rule
from resources.part import Part

PART = Part(
    "healthlog",
    rules=(("Observation", entry_rule), ("Goal", goal_rule)),
    companions=(("Observation", Sometimes(claim, concerns)),),
)
