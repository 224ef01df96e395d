"""The words by which prescriptions and the work on them are marked, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

Json = dict[str, Any]

#: Tags (`meta.tag`) that the server alone gives and takes.
SYSTEM: Final = "urn:healthsphere:prescription"
#: Of a MedicationRequest: it was signed on this server.
SIGNED: Final = "signed"
#: Of a Task: it is work on a signed prescription, changed by operations alone.
FULFILMENT: Final = "fulfilment"
#: Of a Task: the prescriber asks the pharmacy to stop.
WITHDRAWAL: Final = "withdrawal"

#: The code system of `Task.businessStatus`: `dispensing.states` has the states.
STATES: Final = "urn:healthsphere:dispensing"

#: The code system of what a Task or a Communication of this package is about.
MATTERS: Final = "urn:healthsphere:prescription-matter"

TASK_CODE: Final = "http://hl7.org/fhir/CodeSystem/task-code"

#: The operations that write prescriptions and the work on them.
OPERATIONS: Final = frozenset(
    {"sign", "accept", "reject", "dispense", "close", "transfer", "withdraw", "answer-withdrawal"}
)

#: Intents with which a MedicationRequest is a prescription, and no plan or proposal.
ORDERS: Final = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order"})

#: The roles of people; programs and the operator import what was done elsewhere.
PEOPLE: Final = frozenset({"patient", "proxy", "practitioner", "pharmacy", "front-desk", "administrator", "auditor"})


def is_marked(resource: Json | None, code: str) -> bool:
    """Whether a resource has a tag of the server's own."""
    tags = (resource or {}).get("meta", {}).get("tag", ())
    return any(tag.get("system") == SYSTEM and tag.get("code") == code for tag in tags)


def marked(resource: Json, code: str) -> Json:
    """The resource with a tag of the server's own; itself where it has it."""
    if is_marked(resource, code):
        return resource
    meta = resource.get("meta", {})
    return {**resource, "meta": {**meta, "tag": [*meta.get("tag", ()), {"system": SYSTEM, "code": code}]}}


def unmarked(resource: Json, codes: Iterable[str]) -> Json:
    """The resource without tags that only the server gives; itself where it has none."""
    taken = {code for code in codes if is_marked(resource, code)}
    if not taken:
        return resource
    meta = dict(resource["meta"])
    meta["tag"] = [t for t in meta["tag"] if t.get("system") != SYSTEM or t.get("code") not in taken]
    if not meta["tag"]:
        del meta["tag"]
    rest = {name: value for name, value in resource.items() if name != "meta"}
    return {**rest, "meta": meta} if meta else rest


def is_prescription(order: Json) -> bool:
    """Whether a MedicationRequest orders something, rather than proposing it or telling what somebody else ordered."""
    reported = order.get("reportedBoolean") is True or "reportedReference" in order
    return order.get("intent") in ORDERS and not reported


def reference_in(element: Any) -> str | None:
    """The `Type/id` of a Reference, without a version; None where it has none."""
    reference = element.get("reference") if isinstance(element, dict) else None
    return reference.partition("/_history/")[0] if isinstance(reference, str) else None


def pharmacy_in(order: Json) -> str | None:
    """The pharmacy that a prescription is addressed to."""
    return reference_in(order.get("dispenseRequest", {}).get("performer"))


def state_in(task: Json) -> str | None:
    """The code of a Task's business status."""
    for coding in task.get("businessStatus", {}).get("coding", ()):
        if coding.get("system") == STATES:
            code: str | None = coding.get("code")
            return code
    return None


def concept(system: str, code: str, display: str) -> Json:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def ref(reference: str) -> Json:
    return {"reference": reference}
