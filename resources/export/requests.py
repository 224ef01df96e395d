"""`Patient/[id]/$export-my-data`, `$export-status` and `$export-file`: asking for the archive, waiting, fetching it.

What goes into it is chosen when it is asked for, as the caller sees it then; a job makes it.

Spec of the answers: https://hl7.org/fhir/R4/async.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fhir_server.interactions import job_status
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import ForbiddenError, GoneError, Issue, NotFoundError, UnprocessableError, outcome_of
from fhir_server.model.exchange import Answer, Content, Request
from fhir_server.repository.records import TRAIL
from fhir_server.search.parameters import table_of
from fhir_server.storage.document import Blob
from resources.export.archives import KIND, Archive, found, noted

Json = dict[str, Any]

#: Whose archive it can be.
ROLES: Final = frozenset({"patient", "proxy", "operator"})

#: Resources of one archive; of the audit trail the newest.
MOST: Final = 200_000
MOST_EVENTS: Final = 10_000

PORTION: Final = 1000


async def export_my_data(context: Context, request: Request) -> Answer:
    """Begin to make the archive: 202, and where to ask for it.

    Raises:
        ForbiddenError: 403; the caller is neither the patient nor who acts for the patient.
        NotFoundError: 404; there is no such patient for the caller.
        UnprocessableError: 422; it is more than one archive can hold.
    """
    Inputs.of(request).only()
    identity = context.caller.identity
    if identity.role not in ROLES:
        raise ForbiddenError(
            "The archive of a record is made for its patient, and for who acts for the patient.", key="HS-EXPORT-WHO"
        )
    patient = await context.repository.read("Patient", request.path[1])
    if context.caught_up is not None:
        await context.caught_up()
    ids = await ids_of(context, patient.id)
    wanted = {"patient": patient.id, "ids": ids, "subject": identity.subject, "who": identity.fhir_user}
    job = await context.jobs.start(KIND, "a patient's own data", wanted)
    await noted_unless_made(context, Archive(job.id, f"Patient/{patient.id}", identity.subject))
    told = outcome_of([Issue("informational", "The archive is being made.", severity="information")])
    answer = answered(told, 202)
    answer.headers["Content-Location"] = address_of(request, "export-status", job.id)
    return answer


async def noted_unless_made(context: Context, archive: Archive) -> None:
    """Remember who asked; the job may have been faster."""
    if await found(context, archive.id, context.caller.identity, archive.patient) is None:
        await noted(context, archive)


async def ids_of(context: Context, patient_id: str) -> dict[str, list[str]]:
    """All that belongs to a patient and that the caller sees: the ids by type."""
    store = context.repository.store
    reference = f"Patient/{patient_id}"
    ids: dict[str, list[str]] = {"Patient": [patient_id]}
    total = 1
    for name in await store.collections():
        conditions = belonging(context, name, reference)
        if not conditions:
            continue
        most = MOST_EVENTS if name == TRAIL else MOST
        after = ""
        rows: list[str] = []
        while len(rows) < most:
            beyond: Mapping[str, Any] = {"_id": {"$lt": after}} if after else {}
            page = await store.find(
                name,
                {"$and": [{"$or": conditions}, {"d": None}, beyond]},
                sort=[("_id", -1)],
                limit=min(PORTION, most - len(rows)),
                fields={"_id": 1},
            )
            rows += [row["_id"] for row in page]
            if len(page) < PORTION:
                break
            after = rows[-1]
        if rows:
            ids[name] = sorted(rows)
            total += len(rows)
        if total > MOST:
            raise UnprocessableError(
                f"The record has more than the {MOST:,} resources that one archive holds.",
                code="too-costly",
                key="HS-EXPORT-SIZE",
            )
    return ids


def belonging(context: Context, name: str, reference: str) -> list[Json]:
    """What makes a resource of a type the patient's: the compartment, and `patient` where R4 has no place for it."""
    if name == "Patient" or not context.registry.is_resource_type(name):
        return []
    parameters = table_of(name, context.registry).parameters
    codes = context.registry.compartments["Patient"].types.get(name, ()) or ("patient",)
    return [{parameters[code].field: reference} for code in codes if code in parameters]


async def export_status(context: Context, request: Request) -> Answer:
    """202 while the archive is made, then 200 with where it is and until when.

    Raises:
        NotFoundError: 404; the caller has asked for no such archive.
        GoneError: 410; its time is over.
    """
    archive = await archive_in(context, request)
    job = await context.jobs.get(archive.id)
    if job is not None and job.state == "failed":
        return Answer(job.status, job.result)
    if archive.blob is None:
        row = [] if job is None else [job_status.row_of(job)]
        answer = answered(parameters_of(*row), 202)
        progress = "waiting" if job is None else f"{job.message} ({job.done:,} of {job.total:,})"
        answer.headers |= {
            "X-Progress": progress,
            "Retry-After": "1",
            "Content-Location": address_of(request, "export-status", archive.id),
        }
        return answer
    return answered(
        parameters_of(
            {"name": "file", "valueUri": address_of(request, "export-file", archive.id)},
            {"name": "size", "valueDecimal": archive.blob.size},
            {"name": "sha256", "valueString": archive.blob.sha256},
            {"name": "expires", "valueInstant": instant_of(archive.until_us)},
        )
    )


async def export_file(context: Context, request: Request) -> Answer:
    """The archive itself; raises as `export_status`."""
    archive = await archive_in(context, request)
    if archive.blob is None:
        raise NotFoundError("The archive is not made yet; ask `$export-status`.", key="HS-EXPORT-NONE")
    answer = Answer(200)
    answer.content = sent(context, archive.blob)
    return answer


def sent(context: Context, blob: Blob) -> Content:
    return Content(context.repository.store.blobs.read(blob), blob.size, "application/zip")


async def archive_in(context: Context, request: Request) -> Archive:
    """The archive that a request names."""
    inputs = Inputs.of(request)
    inputs.only("job")
    job_id = str(inputs.required("job", inputs.text("job")))
    patient = await context.repository.read("Patient", request.path[1])
    archive = await found(context, job_id, context.caller.identity, f"Patient/{patient.id}")
    if archive is None:
        raise NotFoundError(
            f"You have asked for no archive {job_id[:80]!r}, or its time is over.", key="HS-EXPORT-NONE"
        )
    if archive.blob is not None and archive.until_us <= now_us():
        raise GoneError("The time of the archive is over; ask for it again.", key="HS-EXPORT-OVER")
    return archive


def address_of(request: Request, operation: str, job_id: str) -> str:
    return f"{request.base_url}/Patient/{request.path[1]}/${operation}?job={job_id}"
