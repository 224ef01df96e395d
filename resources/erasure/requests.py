"""`$request-erasure`, `$legal-hold` of a Patient; `$approve-erasure`, `$refuse-erasure` of the Task that asks.

The patient asks, and is told what would go, what would stay and why, and where the archive is to be had before. Two
people approve, neither of whom asked; the second approval carries it out.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.interactions.answers import about, touched_by
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.interactions.purging.hold import CODE as HOLD_CODE
from fhir_server.interactions.purging.hold import SYSTEM as HOLD_SYSTEM
from fhir_server.interactions.purging.hold import holds_on, require_free
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, new_id, now_us
from fhir_server.model.errors import ConflictError, ForbiddenError, NotFoundError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.changes import numbered
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.document import Version, version_of
from fhir_server.storage.unit import Unit
from resources.erasure.carry import KIND
from resources.erasure.plan import plan_for
from resources.erasure.words import APPROVE, HOLD, REFUSE, is_request, output, outputs, request_of
from resources.notification import tell_all_within
from resources.reasons import weighed_reason

Json = dict[str, Any]

#: A request in one of these states is not at its end.
OPEN: Final = frozenset({"requested", "accepted", "in-progress", "failed"})


async def request_erasure(context: Context, request: Request) -> Answer:
    """Ask for the erasure of a record: 201 with the task, and what would come of it.

    Raises:
        NotFoundError: 404; there is no such patient for the caller.
        ConflictError: 409; it was asked for already.
    """
    inputs = Inputs.of(request)
    inputs.only("reason")
    version = await context.seen.repository.read("Patient", request.path[1])
    patient = f"Patient/{version.id}"
    await context.repository.store.ensure("Task")
    task = request_of(patient, context.caller.identity.fhir_user, inputs.text("reason"))
    checked = context.repository.check(Change("POST", "Task", new_id(), task, fresh=True))
    # Asking is creating the task, which the scopes of the app must allow.
    await context.seen.repository.store.require(numbered(checked, None), None, context.seen.repository.store)

    async def work(unit: Unit) -> Committed:
        await unit.lock([f"erasure:{version.id}"])
        for known in await requests_about(context, unit, patient):
            if codec.decode(known.body or b"{}")["status"] in OPEN:
                raise ConflictError(
                    f"The erasure of this record was asked for before: Task/{known.id}.", key="HS-ERASURE-ASKED"
                )
        return await context.repository.commit_one_within(unit, checked)

    made = await context.repository.store.transact(work)
    plan = await plan_for(context, version.id, {made.version.id})
    answer = answered(
        parameters_of(
            {"name": "task", "valueReference": {"reference": f"Task/{made.version.id}"}},
            {"name": "export", "valueUri": f"{request.base_url}/{patient}/$export-my-data"},
            {"name": "removed", "valueInteger": plan.victims.total},
            *plan.rows(),
        ),
        201,
    )
    answer.headers["Location"] = f"{request.base_url}/Task/{made.version.id}/_history/1"
    answer.touched = touched_by([made])
    return answer


async def requests_about(context: Context, unit: Unit, patient: str) -> list[Version]:
    """The requests for the erasure of a record."""
    rows = await unit.unguarded.find("Task", {"x.focus": patient, "d": None}, sort=[("_id", 1)], limit=1000)
    found = [version_of("Task", row) for row in rows]
    return [version for version in found if is_request(codec.decode(version.body or b"{}"))]


async def approve_erasure(context: Context, request: Request) -> Answer:
    """Approve a request: the second approval begins the erasure.

    Raises:
        NotFoundError: 404; there is no such request.
        ForbiddenError: 403; the caller asked for it, or has approved it before.
        ConflictError: 409; it is at its end, or a legal hold is on the record.
    """
    Inputs.of(request).only()
    who = context.caller.identity.subject or "operator"

    async def work(unit: Unit) -> tuple[Committed, str | None]:
        task, version = await request_in(context, unit, request)
        patient = str(task["focus"]["reference"])
        await unit.lock([f"erasure:{patient.partition('/')[2]}"])
        require_apart(context, task, who)
        await require_free(context.repository.store, patient)
        if task["status"] not in ("requested", "accepted", "failed"):
            raise ConflictError(
                f"Task/{version.id} is {task['status']!r}: there is nothing to approve.", key="HS-ERASURE-STATE"
            )
        state = "accepted" if task["status"] == "requested" else "in-progress"
        changed = {**task, "status": state}
        if task["status"] != "failed":  # then it has its approvals, and is only tried again
            approval = output("approval", {"valueString": f"{who} {instant_of(now_us())}"})
            changed["output"] = [*task.get("output", []), approval]
        change = Change("PUT", "Task", version.id, changed, if_match=version.version, by=APPROVE)
        inner = context.within(unit)
        outcome = await inner.repository.commit_one_within(unit, context.repository.check(change))
        if state != "in-progress":
            return outcome, None
        # With the approval or not at all: a process that dies leaves no approved request that nobody carries out.
        wanted = {"task": version.id, "patient": patient.partition("/")[2]}
        return outcome, await context.jobs.start_within(unit, KIND, "an erasure", wanted)

    outcome, job_id = await context.repository.store.transact(work)
    answer = about(200, outcome.version.body, outcome.version)
    answer.touched = touched_by([outcome])
    if job_id is not None:
        answer.headers["X-Job"] = job_id
    return answer


async def refuse_erasure(context: Context, request: Request) -> Answer:
    """Refuse a request, with a `reason` that the patient reads.

    Raises:
        NotFoundError: 404; there is no such request.
        ConflictError: 409; it is at its end.
    """
    inputs = Inputs.of(request)
    inputs.only("reason")
    reason = weighed_reason(inputs, "HS-ERASURE-REASON")

    async def work(unit: Unit) -> Committed:
        task, version = await request_in(context, unit, request)
        if task["status"] not in ("requested", "accepted"):
            raise ConflictError(
                f"Task/{version.id} is {task['status']!r}: there is nothing to refuse.", key="HS-ERASURE-STATE"
            )
        changed = {**task, "status": "rejected", "statusReason": {"text": reason}}
        change = Change("PUT", "Task", version.id, changed, if_match=version.version, by=REFUSE)
        who = task.get("requester", {}).get("reference")
        await tell_all_within(context, unit, [who], "erasure-refused", f"Task/{version.id}", key=version.id)
        return await context.within(unit).repository.commit_one_within(unit, context.repository.check(change))

    outcome = await context.repository.store.transact(work)
    answer = about(200, outcome.version.body, outcome.version)
    answer.touched = touched_by([outcome])
    return answer


async def request_in(context: Context, unit: Unit, request: Request) -> tuple[Json, Version]:
    """The request for erasure that an address names.

    Raises:
        NotFoundError: 404; it names none. Whether it names another Task is nothing that the answer tells.
    """
    version = await context.within(unit).repository.current("Task", request.path[1])
    task = codec.decode(version.body) if version is not None and version.body is not None else {}
    if version is None or not is_request(task):
        raise NotFoundError(f"There is no request for erasure Task/{request.path[1]}.", key="HS-ERASURE-NONE")
    return task, version


def require_apart(context: Context, task: Json, who: str) -> None:
    """Who approves is neither who asks nor who has approved before.

    Raises:
        ForbiddenError: 403; the same person cannot be both.
    """
    before = [row["valueString"].partition(" ")[0] for row in outputs(task, "approval")]
    user = context.caller.identity.fhir_user
    if task["status"] != "failed" and (who in before or (user and user == task.get("requester", {}).get("reference"))):
        raise ForbiddenError(
            "Two people approve an erasure, and neither of them has asked for it: you are one of them already.",
            key="HS-ERASURE-APART",
        )


async def legal_hold(context: Context, request: Request) -> Answer:
    """Set a legal hold on a record with a `reason`, or end it with `end` true.

    Raises:
        NotFoundError: 404; there is no such patient.
        ConflictError: 409; there is one already, or none to end.
    """
    inputs = Inputs.of(request)
    inputs.only("reason", "end")
    reason, end = weighed_reason(inputs, "HS-ERASURE-REASON"), inputs.flag("end")
    version = await context.repository.read("Patient", request.path[1])
    patient = f"Patient/{version.id}"
    await context.repository.store.ensure("Flag")
    holds = await holds_on(context.repository.store, patient)
    if bool(holds) != end:
        told = "There is no legal hold on this record." if end else f"Flag/{holds[0]['id']} is on this record."
        raise ConflictError(told, key="HS-ERASURE-HOLD")
    period = {"start": instant_of(now_us())}
    outcomes: list[Committed] = []
    if not end:
        made: Json = {
            "resourceType": "Flag",
            "status": "active",
            "code": {"coding": [{"system": HOLD_SYSTEM, "code": HOLD_CODE}], "text": reason},
            "subject": {"reference": patient},
            "period": period,
        }
        outcomes.append(await context.repository.commit(Change("POST", "Flag", new_id(), made, fresh=True, by=HOLD)))
    for flag in holds:
        ended = {**flag, "status": "inactive", "period": {**flag.get("period", {}), "end": period["start"]}}
        outcomes.append(await context.repository.commit(Change("PUT", "Flag", flag["id"], ended, by=HOLD)))
    answer = about(200 if end else 201, outcomes[0].version.body, outcomes[0].version)
    answer.touched = touched_by(outcomes)
    return answer
