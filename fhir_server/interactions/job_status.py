"""How a job is told of, in the answers of the operations that start jobs and those that ask for them.

Spec: https://hl7.org/fhir/R4/parameters.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.jobs.job import Job
from fhir_server.model.clock import instant_of

Json = dict[str, Any]


def row_of(job: Job) -> Json:
    """The job as one row of Parameters."""
    moments = {"started": job.started_us, "updated": job.told_us, "finished": job.ended_us}
    return {
        "name": "job",
        "part": [
            {"name": "id", "valueString": job.id},
            {"name": "subject", "valueString": job.subject},
            {"name": "status", "valueCode": job.state},
            *({"name": name, "valueInstant": instant_of(us)} for name, us in moments.items() if us is not None),
            {"name": "done", "valueInteger": job.done},
            {"name": "total", "valueInteger": job.total},
            *([{"name": "message", "valueString": job.message}] if job.message else []),
        ],
    }


def parameters_of(jobs: list[Job]) -> Json:
    """Some jobs as Parameters."""
    return {"resourceType": "Parameters", "parameter": [row_of(job) for job in jobs]}
