"""`Patient/[id]/$access-ledger`: who saw or changed a patient's data, when, what and why, in words a patient can read.

It reads the same AuditEvents that a search for them finds, under the same access policy: who may not see those gets an
empty ledger.

Definition: `profiles/definitions/OperationDefinition-access-ledger.json`
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fhir_server.audit.codes import ENTITY_TYPE, HAPPENING, INTERACTION, REASON, ROLE
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model import codec
from fhir_server.model.errors import FhirError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.records import TRAIL

Json = dict[str, Any]

DEFAULT_COUNT = 50

#: What was done, in plain words; the type follows.
DONE: Final = {
    "read": "Read",
    "vread": "Read an earlier version of",
    "history-instance": "Read the history of",
    "history-type": "Read the history of",
    "history-system": "Read the history of",
    "search-type": "Searched",
    "search-system": "Searched",
    "create": "Created",
    "update": "Changed",
    "patch": "Changed",
    "delete": "Deleted",
    "operation": "Ran an operation on",
}

#: Purposes of use in plain words: http://terminology.hl7.org/CodeSystem/v3-ActReason.
PURPOSES: Final = {
    "TREAT": "treatment",
    "BTG": "emergency access (break the glass)",
    "ETREAT": "emergency treatment",
    "HPAYMT": "payment",
    "HOPERAT": "operations of the organization",
    "HRESCH": "research",
    "PUBHLTH": "public health",
    "PATRQT": "request of the patient",
    "FAMRQT": "request of the family",
}


async def access_ledger(context: Context, request: Request) -> Answer:
    """Patient/[id]/$access-ledger: 200 with one `access` for each time; 404 where there is no such patient."""
    inputs = Inputs.of(request)
    inputs.only("start", "end", "_count", "_cursor")
    patient = await context.repository.read("Patient", request.path[1])
    pairs = [("patient", f"Patient/{patient.id}"), ("_sort", "-date")]
    pairs += [("date", f"ge{start}")] if (start := inputs.text("start")) else []
    pairs += [("date", f"le{end}")] if (end := inputs.text("end")) else []
    pairs += [("_cursor", cursor)] if (cursor := inputs.text("_cursor")) else []
    count = min(inputs.whole("_count", least=1) or DEFAULT_COUNT, context.limits.max_page_size)
    found = await context.searcher.search(
        TRAIL, [*pairs, ("_count", str(count))], strict=True, default_count=count, max_count=count
    )
    events: list[Json] = [codec.decode(row["r"]) for _, row in found.matches]
    names = await names_of(context, {ref for event in events for ref in people_in(event)})
    rows = [{"name": "access", "part": parts_of(event, names)} for event in events]
    if found.page.next:
        rows.append({"name": "next", "valueString": found.page.next})
    return answered(parameters_of(*rows))


def people_in(event: Json) -> Iterable[str]:
    """The references to those who took part."""
    for agent in event.get("agent", []):
        reference = agent.get("who", {}).get("reference")
        if type(reference) is str and reference.count("/") == 1:
            yield reference


async def names_of(context: Context, references: Iterable[str]) -> dict[str, str]:
    """The names of people and organizations that the reader may see, by reference."""

    async def name_of(reference: str) -> tuple[str, str]:
        kind, _, resource_id = reference.partition("/")
        try:
            version = await context.repository.read(kind, resource_id)
        except FhirError:
            return reference, ""
        return reference, display_of(codec.decode(version.body or b"{}"))

    return dict(await asyncio.gather(*map(name_of, sorted(references))))


def display_of(resource: Json) -> str:
    """A resource's name as people write it."""
    name = resource.get("name")
    if type(name) is str:
        return name
    if type(name) is list and name and type(name[0]) is dict:
        first = name[0]
        if text := first.get("text"):
            return str(text)
        return " ".join(map(str, [*first.get("prefix", []), *first.get("given", []), first.get("family", "")])).strip()
    return ""


def parts_of(event: Json, names: Mapping[str, str]) -> list[Json]:
    """One line of the ledger."""
    agents = event.get("agent", [])
    user = next((a for a in agents if a.get("requestor")), agents[0] if agents else {})
    client = agents[0] if agents else {}
    parts: list[Json] = [
        {"name": "when", "valueInstant": event["recorded"]},
        {"name": "what", "valueString": done(event)},
    ]
    resources = [e["what"] for e in entities(event, "2") if "reference" in e.get("what", {})]
    parts += [{"name": "resource", "valueReference": what} for what in resources]
    if type(reference := user.get("who", {}).get("reference")) is str:
        who = {"reference": reference} | ({"display": names[reference]} if names.get(reference) else {})
        parts.append({"name": "who", "valueReference": who})
    if role := code_in([c for r in user.get("role", []) for c in r.get("coding", [])], ROLE):
        parts.append({"name": "role", "valueCode": role})
    for agent in agents:
        reference = agent.get("who", {}).get("reference", "")
        if agent is not user and reference.startswith("Organization/"):
            on_behalf = {"reference": reference} | ({"display": names[reference]} if names.get(reference) else {})
            parts.append({"name": "organization", "valueReference": on_behalf})
    if app := client.get("who", {}).get("identifier", {}).get("value"):
        parts.append({"name": "app", "valueString": app})
    for purpose in event.get("purposeOfEvent", []):
        code = code_in(purpose.get("coding", []), REASON)
        words = PURPOSES.get(code, code)
        told = f"{words}: {purpose['text']}" if purpose.get("text") else words
        parts.append({"name": "why", "valueString": told})
    parts.append({"name": "refused", "valueBoolean": event.get("outcome") != "0"})
    parts.append({"name": "event", "valueReference": {"reference": f"{TRAIL}/{event['id']}"}})
    return parts


def done(event: Json) -> str:
    """What was done, in plain words."""
    subtypes = event.get("subtype", [])
    code = code_in(subtypes, INTERACTION)
    words = DONE.get(code, "")
    if not words:
        own = code_in(subtypes, HAPPENING)
        shown = next((s.get("display") for s in subtypes if s.get("display")), "")
        return str(shown or own or event.get("type", {}).get("display", "") or "Something else")
    what = next((e["what"]["reference"] for e in entities(event, "2") if "reference" in e.get("what", {})), "")
    if not what:
        asked = next((e["description"] for e in entities(event, "2") if "description" in e), "")
        what = asked.partition(" ")[2]
    return f"{words} {what.partition('/')[0] or 'records of all kinds'}"


def entities(event: Json, code: str) -> list[Json]:
    """The entities of one type."""
    return [
        e
        for e in event.get("entity", [])
        if e.get("type", {}).get("code") == code and e["type"].get("system") == ENTITY_TYPE
    ]


def code_in(codings: Iterable[Json], system: str) -> str:
    """The first code of a system; empty where there is none."""
    return next((str(c["code"]) for c in codings if c.get("system") == system and "code" in c), "")
