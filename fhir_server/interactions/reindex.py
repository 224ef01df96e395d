"""$reindex: make the index entries of stored resources again, in the background.

POST [base]/$reindex                        all types, or those that the parameter `type` names
POST [base]/SearchParameter/[id]/$reindex   the types that a search parameter of your own is for

Both answer 202 with the job. The same address with GET tells of the newest jobs, with `?job=[id]` of one. When its
process goes down, another one goes on with a job, or the same once it is started again.
"""

from __future__ import annotations

from fhir_server.interactions.context import Context
from fhir_server.interactions.job_status import parameters_of
from fhir_server.interactions.parameters import Inputs
from fhir_server.jobs.job import Job
from fhir_server.jobs.run import Run
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError, NotFoundError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.reindex import reindexed

KIND = "reindex"
SYSTEM = "system"


async def reindex(context: Context, request: Request) -> Answer:
    """Start a job, or tell of those that there are."""
    subject = SYSTEM if len(request.path) == 1 else request.path[1]
    inputs = Inputs.of(request)
    if request.method != "POST":
        job_id = inputs.text("job")
        jobs = await context.jobs.of(KIND, subject) if job_id is None else [await _job(context, job_id)]
        return Answer(200, codec.encode(parameters_of(jobs)))
    types = await _types(context, request, [str(name) for name in inputs.all("type")])
    job = await context.jobs.start(KIND, subject, {"types": types})
    address = f"{request.base_url}/{'/'.join(request.path)}?job={job.id}"
    return Answer(202, codec.encode(parameters_of([job])), headers={"Content-Location": address})


async def carry_on(context: Context, run: Run) -> None:
    """The work of a job: begin it, or go on with it."""
    if not run.kept:
        await run.tell(0, 0, "waiting until every process knows the search parameters")
        await context.definitions.settle()
    await context.definitions.refresh(at_once=True)
    await reindexed(context.repository, context.definitions, tuple(run.wanted["types"]), run.kept, run.tell)


async def _types(context: Context, request: Request, named: list[str]) -> tuple[str, ...]:
    """What is to be indexed; nothing named is everything."""
    if len(request.path) == 1:
        for name in named:
            if not context.registry.is_resource_type(name):
                raise InvalidError(
                    f"{name[:60]!r} is no resource type.",
                    code="value",
                    expression="Parameters.parameter.where(name='type')",
                    key="HS-OP-PARAMETER",
                )
        return tuple(dict.fromkeys(named))
    version = await context.repository.read(request.path[0], request.path[1])
    assert version.body is not None
    url = codec.decode(version.body).get("url")
    await context.definitions.refresh(at_once=True)
    for parameter in context.definitions.in_force():
        if parameter.url == url:
            return context.registry.concrete(parameter.base)
    raise UnprocessableError(
        f"SearchParameter/{request.path[1]} is not in force: it is not active, or one of the specification's own.",
        key="HS-REINDEX-PARAMETER",
    )


async def _job(context: Context, job_id: str) -> Job:
    job = await context.jobs.get(job_id)
    if job is None or job.kind != KIND:
        raise NotFoundError(f"There is no job {job_id[:60]!r}.", key="HS-JOB")
    return job
