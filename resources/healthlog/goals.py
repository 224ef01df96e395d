"""Goals that patients set for themselves: stated by who writes them, and theirs to change.

`expressedBy` says whose goal it is: "the individual responsible for establishing the goal". What a practitioner has
set is for practitioners to change, whoever it is about.

Spec: https://hl7.org/fhir/R4/goal-definitions.html#Goal.expressedBy
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_server.model.errors import ForbiddenError
from fhir_server.repository.changes import Json
from fhir_server.repository.rules import Write
from resources.healthlog.entry import themselves


def goal_rule(write: Write) -> Json | None:
    """Holds what patients, and those who act for them, write of Goals to their own.

    Raises:
        ForbiddenError: 403; somebody else has set it, or would have.
    """
    new, old = write.new, write.old
    if new is None or not themselves(write.caller.identity):
        return new
    user = str(write.caller.identity.fhir_user)
    if old is not None and not _by(old, user):
        raise ForbiddenError(
            f"{write.reference} was set by somebody else, who changes it; set a goal of your own.",
            key="HS-LOG-GOAL",
            expression="Goal",
        )
    if "expressedBy" not in new:
        return {**new, "expressedBy": {"reference": user}}
    if not _by(new, user):
        raise ForbiddenError(
            f"A goal that you set is your own: `expressedBy` can only be {user}.",
            key="HS-LOG-GOAL",
            expression="Goal.expressedBy",
        )
    return new


def _by(goal: Mapping[str, Any], user: str) -> bool:
    given = goal.get("expressedBy")
    return isinstance(given, dict) and f"/{given.get('reference', '')}".endswith(f"/{user}")
