"""The resources that go with a prescription: the work of pharmacies, what the prescriber must see to, what is told.

No text of these leaves the server by itself: people are notified that there is something to look at (`Desk.tell`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fhir_server.model.clock import instant_of, now_us
from resources.dispensing.codes import (
    FULFILMENT,
    MATTERS,
    STATES,
    SYSTEM,
    TASK_CODE,
    WITHDRAWAL,
    concept,
    ref,
    reference_in,
)
from resources.dispensing.states import MEANS

Json = dict[str, Any]

#: What people are told of, by code.
WORDS = {
    "refused": "A pharmacy has refused a prescription; it needs another pharmacy or another medicine",
    "given-back": "A pharmacy has given a prescription back",
    "failed": "A pharmacy could not dispense a prescription",
    "withdrawal-refused": "A pharmacy does not stop a prescription that you wanted to take back",
    "withdrawn": "A prescription was taken back",
    "dispensed-after-withdrawal": "A pharmacy wanted to dispense what you had taken back",
    "not-collected": "A medicine was not collected",
    "stock": "A pharmacy says whether it has the medicine",
    "transferred": "A prescription goes to another pharmacy",
}


def status_of(state: str) -> Json:
    """The elements of a Task that say its state."""
    status, words = MEANS[state]
    return {"status": status, "businessStatus": concept(STATES, state, words)}


def work_on(order: Json, order_id: str, state: str, owner: str | None) -> Json:
    """The Task that asks a pharmacy, or any pharmacy, to dispense a prescription."""
    moment = instant_of(now_us())
    task: Json = {
        "resourceType": "Task",
        "meta": {"tag": [{"system": SYSTEM, "code": FULFILMENT}]},
        **status_of(state),
        "intent": "order",
        "priority": order.get("priority", "routine"),
        "code": concept(TASK_CODE, "fulfill", "Fulfill the focal request"),
        "focus": ref(f"MedicationRequest/{order_id}"),
        "for": order["subject"],
        "authoredOn": moment,
        "lastModified": moment,
        "requester": order.get("requester"),
        "groupIdentifier": order.get("groupIdentifier"),
        "owner": None if owner is None else ref(owner),
        "performerType": [concept("http://terminology.hl7.org/CodeSystem/organization-type", "prov", "Pharmacy")],
    }
    return {name: value for name, value in task.items() if value is not None}


def withdrawal_of(order: Json, order_id: str, work: str, owner: str, wanted: str, reason: str) -> Json:
    """The Task that asks a pharmacy to stop what it has claimed: `wanted` is what the prescription becomes then."""
    return {
        "resourceType": "Task",
        "meta": {"tag": [{"system": SYSTEM, "code": WITHDRAWAL}]},
        "status": "requested",
        "intent": "order",
        "priority": "urgent",
        "code": concept(TASK_CODE, "abort", "Mark the focal resource as no longer active"),
        "focus": ref(work),
        "for": order["subject"],
        "authoredOn": instant_of(now_us()),
        **({"requester": order["requester"]} if "requester" in order else {}),
        "owner": ref(owner),
        "reasonCode": {"text": reason},
        "input": [
            {"type": {"text": "prescription"}, "valueReference": ref(f"MedicationRequest/{order_id}")},
            {"type": {"text": "status"}, "valueCode": wanted},
        ],
    }


def to_see_to(matter: str, order: Json, order_id: str, about: str | None = None) -> Json:
    """A Task for the prescriber: something has happened that they must see to."""
    task: Json = {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "priority": "urgent",
        "code": concept(MATTERS, matter, WORDS[matter]),
        "description": WORDS[matter] + (f": {about}" if about else ""),
        "focus": ref(f"MedicationRequest/{order_id}"),
        "for": order["subject"],
        "authoredOn": instant_of(now_us()),
    }
    if (prescriber := reference_in(order.get("requester"))) is not None:
        task["owner"] = ref(prescriber)
    return task


def tell(
    matter: str,
    order: Json,
    order_id: str,
    people: Iterable[str | None],
    *,
    sender: str | None = None,
    code: Json | None = None,
    text: str | None = None,
) -> Json:
    """What some people are told, as a Communication."""
    told: Json = {
        "resourceType": "Communication",
        "status": "completed",
        "category": [concept(MATTERS, matter, WORDS[matter])],
        "subject": order["subject"],
        "about": [ref(f"MedicationRequest/{order_id}")],
        "sent": instant_of(now_us()),
        "recipient": [ref(person) for person in dict.fromkeys(people) if person is not None],
        "sender": None if sender is None else ref(sender),
        "reasonCode": None if code is None else [code],
        "payload": [{"contentString": text or WORDS[matter]}],
    }
    return {name: value for name, value in told.items() if value not in (None, [])}


def alarm(order: Json, order_id: str, pharmacy: str) -> Json:
    """Somebody wanted to hand out what was taken back: a DetectedIssue that stays."""
    return {
        "resourceType": "DetectedIssue",
        "status": "final",
        "code": concept(MATTERS, "dispensed-after-withdrawal", WORDS["dispensed-after-withdrawal"]),
        "severity": "high",
        "patient": order["subject"],
        "identifiedDateTime": instant_of(now_us()),
        "author": ref(pharmacy),
        "implicated": [ref(f"MedicationRequest/{order_id}")],
        "detail": f"{pharmacy} wanted to dispense MedicationRequest/{order_id}, which was taken back.",
    }


def both(order: Json) -> list[str | None]:
    """The patient and the prescriber."""
    return [reference_in(order.get("subject")), reference_in(order.get("requester"))]
