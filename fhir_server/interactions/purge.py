"""`Patient/$purge` and `$expunge`: a patient with everything that belongs to it, or any resource, removed for good.

Nothing can bring it back: not history, not `_history`, not a version by number. The ids answer 404 afterwards.

Spec: http://hl7.org/fhir/6.0.0-snapshot1/patient-operation-purge.html; `$expunge` is our own operation
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from fhir_server.interactions.answers import preferences
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.interactions.purging.erase import Report, erase
from fhir_server.interactions.purging.jobs import Step, Work, begin, job_of, run, start
from fhir_server.interactions.purging.victims import Victims, of_patient, rows_of
from fhir_server.model.errors import InvalidError, Issue, NotFoundError, UnprocessableError, outcome_of
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.records import is_of_trail, require_not_of_trail
from fhir_server.repository.repository import not_found

Json = dict[str, Any]

#: More than this is removed by a job alone.
MOST_AT_ONCE = 1000

#: Ids that the row of a job holds while it runs; with more, a server that goes on with it searches again.
MOST_KEPT = 200_000

#: Digests that an answer shows; the row of the job has all.
MOST_HASHES = 1000


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
        UnprocessableError: 422; it is not confirmed, or too much for an answer at once; the issues tell how much it is.
    """
    confirmed = Inputs.of(request).flag("confirm")
    if "id" in wanted:
        name = wanted.get("type", "Patient")
        if await context.repository.current(name, wanted["id"]) is None:
            raise not_found(name, wanted["id"])
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
    store = context.repository.store
    job_id = await begin(store, wanted)
    if later:
        start(store, job_id, worker(context))
        told = outcome_of([Issue("informational", "The removal has begun.", severity="information")])
        answer = answered(told, 202)
        answer.headers["Content-Location"] = f"{request.base_url}/$purge-status?job={job_id}"
        return answer
    await run(store, job_id, worker(context))
    return await told_of(context, request, job_id)


async def purge_status(context: Context, request: Request) -> Answer:
    """$purge-status?job=…: 202 while a removal is under way, then 200 with its report.

    A job whose worker has died is taken up again by whoever asks.
    """
    inputs = Inputs.of(request)
    job_id = inputs.required("job", inputs.text("job"))
    return await told_of(context, request, str(job_id))


async def told_of(context: Context, request: Request, job_id: str) -> Answer:
    row = await job_of(context.repository.store, job_id)
    if row is None:
        raise NotFoundError(f"There is no job {job_id[:80]!r}.", key="HS-PURGE-JOB")
    if row["state"] in ("done", "failed"):
        return Answer(int(row.get("status", 200)), row["result"])
    start(context.repository.store, job_id, worker(context))
    answer = Answer(202)
    answer.headers |= {"X-Progress": str(row["step"]), "Retry-After": "1"}
    answer.headers["Content-Location"] = f"{request.base_url}/$purge-status?job={job_id}"
    return answer


def worker(context: Context) -> Work:
    async def work(wanted: Json, step: Step) -> Json:
        await step("search", None)
        if found := wanted.get("found"):
            # Found by a worker that died: what led to some of them may be gone already.
            victims = Victims({name: set(ids) for name, ids in found.items()})
        else:
            victims = await victims_of(context, wanted)
            if victims.total <= MOST_KEPT:
                await step("search", {name: sorted(ids) for name, ids in victims.ids.items()})
        return reported(await erase(context, victims, step=step))

    return work


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


def reported(report: Report) -> Json:
    """The report as Parameters: the proof that a client keeps."""

    def counted(name: str, counts: Counter[str]) -> list[Json]:
        parts = [{"name": key, "valueInteger": number} for key, number in sorted(counts.items()) if number]
        return [{"name": name, "part": parts}] if parts else []

    if report.left:
        told = Issue(
            "incomplete", "The last look still found places; see `left`.", key="HS-PURGE-LEFT", severity="warning"
        )
    else:
        told = Issue("informational", "A look through all versions found nothing left.", severity="information")
    return parameters_of(
        {"name": "outcome", "resource": outcome_of([told])},
        *counted("removed", report.removed),
        *counted("versions", report.versions),
        *counted("redacted", report.redacted),
        *counted("stripped", report.stripped),
        *counted("left", report.left),
        {"name": "verified", "valueBoolean": not report.left},
        *({"name": "sha256", "valueString": digest} for digest in report.hashes[:MOST_HASHES]),
    )


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
