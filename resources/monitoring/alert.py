"""The resources of an alert: what happened, what stands, who was told, and who must act.

All carry the identifier of their episode. Pure: they are made here and written elsewhere.

Spec: https://hl7.org/fhir/R4/detectedissue.html, https://hl7.org/fhir/R4/flag.html,
https://hl7.org/fhir/R4/communication.html, https://hl7.org/fhir/R4/task.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.model.clock import instant_of, new_id
from resources.monitoring.engine import Episode
from resources.monitoring.threshold import Threshold
from resources.monitoring.words import reason_of

Json = dict[str, Any]

EPISODE = "urn:healthsphere:alert-episode"
CODES = "urn:healthsphere:CodeSystem:alert"

#: The states of a Task in which nobody has taken it on yet.
UNANSWERED = frozenset({"requested", "received", "on-hold", "rejected"})


class Alert:
    """Makes the resources of one episode."""

    def __init__(self, rule: Threshold, plan_id: str, episode_id: str, reason: str) -> None:
        self._rule = rule
        self._plan = {"reference": f"CarePlan/{plan_id}"}
        self._identifier = [{"system": EPISODE, "value": episode_id}]
        self._reason = reason
        self._code = {"coding": [{"system": CODES, "code": "threshold", "display": "Threshold"}], "text": rule.title}
        self._subject = {"reference": rule.subject}

    @classmethod
    def of(cls, rule: Threshold, plan_id: str, episode_id: str, episode: Episode) -> Alert:
        return cls(rule, plan_id, episode_id, reason_of(rule, episode))

    def issue(self, episode: Episode) -> Json:
        """What happened."""
        ids = dict.fromkeys(point.id for point in (*episode.evidence, episode.start))
        return {
            "resourceType": "DetectedIssue",
            "id": new_id(),
            "identifier": self._identifier,
            "status": "final",
            "code": self._code,
            "severity": "high" if self._rule.critical else "moderate",
            "patient": self._subject,
            "identifiedDateTime": instant_of(episode.start.moment_us),
            "implicated": [self._plan],
            "evidence": [{"detail": [{"reference": f"Observation/{one}"} for one in ids]}],
            "detail": self._reason,
        }

    def flag(self, episode: Episode) -> Json:
        """What stands, until it clears."""
        return {
            "resourceType": "Flag",
            "id": new_id(),
            "identifier": self._identifier,
            "status": "active",
            "category": [
                {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": "clinical"}]}
            ],
            "code": {**self._code, "text": self._reason},
            "subject": self._subject,
            "period": {"start": instant_of(episode.start.moment_us)},
        }

    def task(self, issue_id: str, now_us: int, *, held: bool) -> Json:
        """Who must act."""
        task: Json = {
            "resourceType": "Task",
            "id": new_id(),
            "identifier": self._identifier,
            "basedOn": [self._plan],
            "status": "on-hold" if held else "requested",
            "intent": "order",
            "priority": "stat" if self._rule.critical else "urgent",
            "code": self._code,
            "description": self._reason,
            "focus": {"reference": f"DetectedIssue/{issue_id}"},
            "for": self._subject,
            "authoredOn": instant_of(now_us),
            "owner": {"reference": self._rule.tell[0]},
        }
        return with_quiet(task, held=held)

    def communication(self, issue_id: str, recipient: str, now_us: int, *, held: bool) -> Json:
        """Who was told; where quiet hours hold it, who will be."""
        told: Json = {
            "resourceType": "Communication",
            "id": new_id(),
            "identifier": self._identifier,
            "basedOn": [self._plan],
            "status": "on-hold" if held else "completed",
            "category": [self._code],
            "priority": "stat" if self._rule.critical else "urgent",
            "subject": self._subject,
            "about": [{"reference": f"DetectedIssue/{issue_id}"}],
            "recipient": [{"reference": recipient}],
            "payload": [{"contentString": self._reason}],
        }
        return told if held else {**told, "sent": instant_of(now_us)}


def with_quiet(task: Json, *, held: bool) -> Json:
    """A Task that says that quiet hours hold it, or no longer does."""
    if held:
        return {**task, "businessStatus": {"text": "quiet hours"}}
    return {name: value for name, value in task.items() if name != "businessStatus"}
