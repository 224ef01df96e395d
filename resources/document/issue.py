"""Papers that the server issues and signs: `Encounter/[id]/$summary-pdf`, `Patient/[id]/$certificate`; and
`DocumentReference/[id]/$verify-signature`, by which anybody who has the paper here learns what its signature is worth.

What stands on them is read as the caller sees it. They are documents like any other: with a Binary, a chain of
replacements, previews, and access by the DocumentReference.
"""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any, Final

from fhir_server.interactions.answers import about, location_of, touched_by
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of, wrong
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import ConflictError, FhirError, NotFoundError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from resources.document.content import contents_of
from resources.document.making import documented, keep_or_discard, kept_as_issued
from resources.document.paper import Paper, Section, drawn
from resources.document.preview import MOST_BYTES, pieces_of
from resources.document.telling import amount, concept, medicine, name_of, span
from resources.document.upload import reference_of, require_seen
from resources.document.words import TYPE
from resources.signing import signer_of

Json = dict[str, Any]

LOINC: Final = "http://loinc.org"
SUMMARY: Final = {"coding": [{"system": LOINC, "code": "34133-9", "display": "Summary of episode note"}]}
CERTIFICATE: Final = {"coding": [{"system": LOINC, "code": "64289-6", "display": "Health certification"}]}

#: What is certified, and the sentence that does it.
KINDS: Final = {
    "attendance": ("Certificate of attendance", "attended this practice"),
    "unfit-for-work": ("Certificate of unfitness for work", "is unfit for work"),
    "fitness": ("Certificate of fitness", "was examined and found fit"),
}

#: Lines of one section of a summary.
MOST_LINES: Final = 200


async def summary_pdf(context: Context, request: Request) -> Answer:
    """The summary of a visit: 201 with its document.

    Raises:
        NotFoundError: 404; there is no such encounter for the caller.
        ConflictError: 409; the visit has not begun, or never was.
    """
    inputs = Inputs.of(request)
    inputs.only("note", "language", "replaces")
    version = await context.seen.repository.read("Encounter", request.path[1])
    encounter = codec.decode(version.body or b"{}")
    if encounter["status"] in ("planned", "cancelled", "entered-in-error"):
        raise ConflictError(
            f"Encounter/{version.id} is {encounter['status']!r}: there is nothing to sum up.",
            key="HS-DOCUMENT-VISIT",
            expression="Encounter.status",
        )
    patient = await read(context, encounter.get("subject", {}).get("reference"))
    sections = [who(patient), await visit(context, encounter), *(await found_in(context, version.id))]
    if note := inputs.text("note"):
        sections.append(Section("Note", lines=[note]))
    document = {
        "type": SUMMARY,
        "description": "Summary of a visit",
        "subject": {"reference": f"Patient/{patient['id']}"},
        "context": {"encounter": [{"reference": f"Encounter/{version.id}"}]},
    }
    return await issued(context, request, inputs, "Summary of a visit", sections, document)


async def certificate(context: Context, request: Request) -> Answer:
    """A certificate for a patient: 201 with its document.

    Raises:
        NotFoundError: 404; there is no such patient for the caller.
        InvalidError: 400; `kind` is unknown, or a date is none.
    """
    inputs = Inputs.of(request)
    inputs.only("kind", "start", "end", "text", "language", "replaces")
    kind = str(inputs.required("kind", inputs.choice("kind", KINDS)))
    title, sentence = KINDS[kind]
    patient = await read(context, f"Patient/{request.path[1]}")
    start, end = day_of(inputs, "start"), day_of(inputs, "end")
    if start and end and end < start:
        raise wrong("end", end, f"a day that is not before {start}")
    told = f"{name_of(patient)} {sentence}{f' from {start}' if start else ''}{f' until {end}' if end else ''}."
    lines = [told, *([text] if (text := inputs.text("text")) else [])]
    document = {
        "type": CERTIFICATE,
        "description": title,
        "subject": {"reference": f"Patient/{patient['id']}"},
        **({"context": {"period": {k: v for k, v in (("start", start), ("end", end)) if v}}} if start or end else {}),
    }
    return await issued(
        context, request, inputs, title, [who(patient), Section("It is certified", lines=lines)], document
    )


async def issued(
    context: Context, request: Request, inputs: Inputs, title: str, sections: list[Section], document: Json
) -> Answer:
    """Draw, sign and store a paper."""
    if replaces := inputs.text("replaces"):
        target = reference_of(replaces, TYPE)
        await require_seen(context, target, request)
        document["relatesTo"] = [{"code": "replaces", "target": {"reference": target}}]
    issuer = await issuer_of(context)
    moment = instant_of(now_us())
    footer = f"Issued {moment[:16].replace('T', ' ')} UTC, signed electronically by this server."
    paper = Paper(title, issuer, inputs.text("language") or "en", sections, footer)
    data = await asyncio.to_thread(drawn, paper)
    signed = await signer_of(context).sign_pdf(data, f"{title}, issued by {issuer}")
    content = await kept_as_issued(context, signed)
    document |= {"date": moment, "content": [{"attachment": {"title": title, "creation": moment}}]}
    storing = documented(context, document, [(0, content)], review=None, reviewed=False, mark="issued")
    outcomes = await keep_or_discard(context, [(0, content)], storing)
    made = outcomes[0].version
    answer = about(201, made.body, made)
    answer.headers["Location"] = location_of(made, request.base_url)
    answer.headers["X-Content-Location"] = f"{request.base_url}/Binary/{content.binary_id}"
    answer.touched = touched_by(outcomes)
    return answer


async def verify_signature(context: Context, request: Request) -> Answer:
    """What the signatures of a document are worth.

    Raises:
        NotFoundError: 404; there is no such document, or its content is not here.
        UnprocessableError: 422; it is no PDF.
    """
    Inputs.of(request).only()
    version = await context.repository.read(TYPE, request.path[1])
    contents = await contents_of(context, codec.decode(version.body or b"{}"))
    if not contents:
        raise NotFoundError(f"{TYPE}/{version.id} has no content on this server.", key="HS-DOCUMENT-CONTENT")
    binary = contents[0]
    if binary.blob is not None:
        await context.repository.store.blobs.quarantine.require_free(binary.blob)
    kind = str(codec.decode(binary.body or b"{}")["contentType"]).partition(";")[0]
    if kind != "application/pdf" or (binary.blob is not None and binary.blob.size > MOST_BYTES):
        raise UnprocessableError(
            f"Signatures are looked for in PDFs of up to {MOST_BYTES:,} bytes; this is {kind!r}.",
            code="not-supported",
            key="HS-DOCUMENT-SIGNATURE",
        )
    data = b"".join([piece async for piece in pieces_of(context, binary, MOST_BYTES)])
    found = await signer_of(context).verify_pdf(data)
    rows: list[Json] = [{"name": "signed", "valueBoolean": bool(found)}]
    for one in found:
        parts: list[Json] = [
            {"name": "valid", "valueBoolean": one.valid},
            {"name": "whole", "valueBoolean": one.whole},
        ]
        parts += [{"name": "by", "valueString": one.signed_by}] if one.signed_by else []
        parts += [{"name": "reason", "valueString": one.reason}] if one.reason else []
        rows.append({"name": "signature", "part": parts})
    return answered(parameters_of(*rows))


# --- what stands on it ----------------------------------------------------------------------------------------------


async def read(context: Context, reference: str | None) -> Json:
    """A resource, as the caller sees it.

    Raises:
        NotFoundError: 404; it is not there for the caller.
    """
    kind, _, resource_id = (reference or "").partition("/")
    if not resource_id or not context.registry.is_resource_type(kind):
        raise NotFoundError(f"There is no {reference or 'patient'} on this server.", key="HS-READ-NOT-FOUND")
    version = await context.seen.repository.read(kind, resource_id)
    found: Json = codec.decode(version.body or b"{}")
    return found


async def issuer_of(context: Context) -> str:
    """Who issues a paper, in words."""
    identity = context.caller.identity
    names = []
    for reference in (identity.fhir_user, identity.organization):
        if reference:
            try:
                names.append(name_of(await read(context, reference)))
            except FhirError:
                names.append(reference)  # gone meanwhile
    return ", ".join(names) or "HealthSphere"


def who(patient: Json) -> Section:
    facts = [("Name", name_of(patient)), ("Born", str(patient.get("birthDate", "not said")))]
    facts += [("Identifier", str(row["value"])) for row in patient.get("identifier", [])[:3] if "value" in row]
    return Section("Patient", facts)


async def visit(context: Context, encounter: Json) -> Section:
    facts = [("When", span(encounter.get("period")) or "not said"), ("Status", str(encounter["status"]))]
    for row in encounter.get("participant", []):
        if reference := row.get("individual", {}).get("reference"):
            try:
                facts.append(("With", name_of(await read(context, reference))))
            except FhirError:
                facts.append(("With", str(row["individual"].get("display", reference))))
    facts += [("Reason", text) for row in encounter.get("reasonCode", []) if (text := concept(row))]
    return Section("Visit", facts)


#: Sections of a summary: heading, type, and how one is told.
FOUND: Final = (
    (
        "Diagnoses",
        "Condition",
        lambda r: f"{concept(r.get('code'))} ({concept(r.get('clinicalStatus')) or 'not said'})",
    ),
    ("Findings", "Observation", lambda r: f"{concept(r.get('code'))}: {amount(r)}"),
    ("Procedures", "Procedure", lambda r: f"{concept(r.get('code'))} {span(r.get('performedDateTime'))}".strip()),
    ("Medicines", "MedicationRequest", medicine),
)


async def found_in(context: Context, encounter_id: str) -> list[Section]:
    """What belongs to an encounter, but for what was entered in error."""
    sections = []
    for heading, kind, tell in FOUND:
        pairs = [("encounter", f"Encounter/{encounter_id}"), ("_count", str(MOST_LINES))]
        found = await context.seen.searcher.search(
            kind, pairs, strict=True, default_count=MOST_LINES, max_count=MOST_LINES
        )
        resources = [codec.decode(row["r"]) for _, row in found.matches]
        lines = [f"• {tell(one)}" for one in resources if not in_error(one)]
        if lines:
            sections.append(Section(heading, lines=lines))
    return sections


def in_error(resource: Json) -> bool:
    return (
        resource.get("status") == "entered-in-error"
        or concept(resource.get("verificationStatus")) == "entered-in-error"
    )


def day_of(inputs: Inputs, name: str) -> str | None:
    """A day of the calendar."""
    text = inputs.text(name)
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise wrong(name, text, "a day such as 2026-11-25") from None
