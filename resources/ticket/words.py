"""The words of tickets: codes and extensions of this server's own.

A ticket is a Task: `focus` the thread, `for` the patient, `performerType` the pool (a CareTeam), `owner` who has
claimed it, `restriction.period` by when it is to be answered.

Spec: https://hl7.org/fhir/R4/task.html
"""

from __future__ import annotations

from typing import Any

from resources.communication.words import reference_of

Json = dict[str, Any]

TASKS = "urn:healthsphere:task"
POOLS = "urn:healthsphere:pool"
BUSINESS = "urn:healthsphere:ticket-status"

#: What the answer is, and the moments by which response times are told.
OUTPUT = "urn:healthsphere:ticket-output"
CLAIMED = "urn:healthsphere:extension:claimed"
ANSWERED = "urn:healthsphere:extension:answered"

#: Of a CareTeam: when it works, how soon it answers, and who is on call.
HOURS = "urn:healthsphere:extension:business-hours"
ON_CALL = "urn:healthsphere:extension:on-call"

TICKET, PAGE = "ticket", "page"


def is_a(task: Json, code: str) -> bool:
    rows = task.get("code", {}).get("coding", [])
    return any(row.get("system") == TASKS and row.get("code") == code for row in rows)


def coded(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def pool_of(task: Json) -> str:
    """The care team that answers a ticket."""
    for concept in task.get("performerType", []):
        for row in concept.get("coding", []):
            if row.get("system") == POOLS:
                return str(row.get("code", ""))
    return ""


def with_extension(task: Json, url: str, **value: Any) -> Json:
    """The Task with one extension of that kind."""
    others = [row for row in task.get("extension", []) if row.get("url") != url]
    return {**task, "extension": [*others, {"url": url, **value}]}


def instant_in(task: Json, url: str) -> str:
    rows = [row for row in task.get("extension", []) if row.get("url") == url]
    return str(rows[0].get("valueInstant", "")) if rows else ""


def owner_of(task: Json) -> str:
    return reference_of(task.get("owner"))
