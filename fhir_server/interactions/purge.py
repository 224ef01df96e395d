"""`Patient/$purge` and `$expunge`: a patient with everything that belongs to it, or any resource, removed for good.

Nothing can bring it back: not history, not `_history`, not a version by number. The ids answer 404 afterwards.

Spec: http://hl7.org/fhir/6.0.0-snapshot1/patient-operation-purge.html; `$expunge` is our own operation
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions import job_status
from fhir_server.interactions.answers import preferences
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.interactions.purging.erase import Erasure
from fhir_server.interactions.purging.hold import require_free
from fhir_server.interactions.purging.report import digest_of
from fhir_server.interactions.purging.victims import Victims, of_patient, rows_of
from fhir_server.jobs.job import Job
from fhir_server.jobs.run import Run
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError, Issue, NotFoundError, UnprocessableError, outcome_of
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.records import is_of_trail, require_not_of_trail
from fhir_server.repository.repository import not_found

Json = dict[str, Any]

#: More than this is removed by a job alone.
MOST_AT_ONCE = 1000

#: Ids that one page of a job holds.
PAGE = 20_000

KIND = "purge"


async def purge(context: Context, request: Request) -> Answer:
    """Patient/[id]/$purge: the patient and its whole compartment."""
    return await carried_out(context, request, {"scope": "patient", "id": request.path[1]})


async def expunge(context: Context, request: Request) -> Answer:
    """[type]/[id]/$expunge: one resource. [type]/$expunge: what is deleted of a type; with `everything`, all of it."""
    if len(request.path) == 3:
        return await carried_out(
            context, request, {"scope": "instance", "type": request.path[0], "id": request.path[1]}
        )
    everything = Inputs.of(request).flag("everything")
    return await carried_out(context, request, {"scope": "all" if everything else "deleted", "type": request.path[0]})


async def carried_out(context: Context, request: Request, wanted: Json) -> Answer:
    """Remove at once, or begin a job where `Prefer: respond-async` asks for it.

    Raises:
        NotFoundError: 404; there is no such resource.
        ConflictError: 409; a legal hold is on the record.
        UnprocessableError: 422; it is not confirmed, or too much for an answer at once; the issues tell how much it is.
    """
    confirmed = Inputs.of(request).flag("confirm")
    if "id" in wanted:
        name = wanted.get("type", "Patient")
        if await context.repository.current(name, wanted["id"]) is None:
            raise not_found(name, wanted["id"])
        if name == "Patient":
            await require_free(context.repository.store, f"Patient/{wanted['id']}")
    later = "respond-async" in preferences(request)
    if not (confirmed and later):
        victims = await victims_of(context, wanted)
        if not confirmed:
            raise UnprocessableError([confirm_issue(victims), *count_issues(victims)])
        if victims.total > MOST_AT_ONCE:
            raise UnprocessableError(
                f"{victims.total:,} resources are more than the {MOST_AT_ONCE:,} that are removed at once; send "
                "`Prefer: respond-async`.",
                code="too-costly",
                key="HS-PURGE-SIZE",
            )
    if later:
        job = await context.jobs.start(KIND, subject_of(wanted), wanted)
        told = outcome_of([Issue("informational", "The removal has begun.", severity="information")])
        answer = answered(told, 202)
        answer.headers["Content-Location"] = address_of(request, job)
        return answer
    return told_of(request, await context.jobs.carry_out(KIND, subject_of(wanted), wanted))


async def purge_status(context: Context, request: Request) -> Answer:
    """$purge-status?job=…: 202 while a removal is under way, then 200 with its report; without `job`, the newest."""
    job_id = Inputs.of(request).text("job")
    if job_id is None:
        return answered(job_status.parameters_of(await context.jobs.of(KIND)))
    job = await context.jobs.get(job_id)
    if job is None or job.kind != KIND:
        raise NotFoundError(f"There is no job {job_id[:80]!r}.", key="HS-PURGE-JOB")
    return told_of(request, job)


def told_of(request: Request, job: Job) -> Answer:
    """A job as it stands: its report once it is completed, the outcome where it failed."""
    row = job_status.row_of(job)
    if job.state == "failed":
        return Answer(job.status, job.result)
    if job.result is not None:
        report = codec.decode(job.result)
        return Answer(200, codec.encode({**report, "parameter": [*report["parameter"], row]}))
    answer = answered(parameters_of(row), 202)
    progress = f"{job.message} ({job.done:,} of {job.total:,})" if job.total else job.message or job.state
    answer.headers |= {"X-Progress": progress, "Retry-After": "1", "Content-Location": address_of(request, job)}
    return answer


def address_of(request: Request, job: Job) -> str:
    return f"{request.base_url}/$purge-status?job={job.id}"


def subject_of(wanted: Json) -> str:
    """What a removal is about, without naming anybody: the SHA-256 of the address, or a type."""
    if wanted["scope"] in ("all", "deleted"):
        return f"{wanted['type']} ({wanted['scope']})"
    address = f"{wanted.get('type', 'Patient')}/{wanted['id']}"
    return f"sha256:{digest_of(address)}"


async def carry_on(context: Context, run: Run) -> bytes:
    """The work of a job: begin it, or go on with it."""
    if "pages" in run.kept:
        # Found by a process that died, perhaps: what led to some of them may be gone already.
        victims = Victims()
        for page in (await run.pages())[: run.kept["pages"]]:
            victims.add(page["type"], page["ids"])
    else:
        await run.tell(0, 0, "search")
        victims = await victims_of(context, run.wanted)
        pages = 0
        for name, ids in victims.portions(PAGE):
            await run.keep_page(pages, {"type": name, "ids": ids})
            pages += 1
        await run.keep({"pages": pages})
    report = await Erasure(context, victims, run).carry_out()
    return codec.encode(report.parameters(victims))


async def victims_of(context: Context, wanted: Json) -> Victims:
    """What a call is about."""
    store = context.repository.store
    match wanted:
        case {"scope": "patient", "id": patient_id}:
            return await of_patient(store, context.registry, patient_id)
        case {"scope": "instance", "type": name, "id": resource_id}:
            require_not_of_trail(name, resource_id)
            return Victims({name: {resource_id}})
        case {"scope": scope, "type": name}:
            filter = {"d": True} if scope == "deleted" else None
            found = {row["_id"] async for row in rows_of(store, name, filter)}
            return Victims({name: {i for i in found if not is_of_trail(name, i)}})
    raise InvalidError("The job says nothing of what is to be removed.", key="HS-PURGE-JOB")


def confirm_issue(victims: Victims) -> Issue:
    return Issue(
        "business-rule",
        f"This would remove {victims.total:,} resources for good, with their history. Say `confirm` true to do it.",
        "Parameters.parameter.where(name='confirm')",
        "HS-PURGE-CONFIRM",
    )


def count_issues(victims: Victims) -> list[Issue]:
    return [
        Issue("informational", f"{name}: {len(ids):,}", key="HS-PURGE-CONFIRM", severity="information")
        for name, ids in sorted(victims.ids.items())
    ]
