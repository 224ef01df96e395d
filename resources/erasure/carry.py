"""Carrying an erasure out: a job that goes on after a crash, and leaves the proof.

Its plan is made once and kept, since what leads to the parts of a record goes with them. Then the record goes, with its
history and contents; the archives that were made of it; the timers and rows that name it. The proof is the digest of
the report: it stands in the task and, chained, on the audit trail.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any, Final

from fhir_server.interactions.context import Context
from fhir_server.interactions.purging.erase import Erasure
from fhir_server.interactions.purging.hold import require_free
from fhir_server.interactions.purging.report import digests_of
from fhir_server.interactions.purging.victims import Victims
from fhir_server.jobs.run import Run
from fhir_server.jobs.timers import TIMERS
from fhir_server.model import codec
from fhir_server.model.errors import FhirError, UnavailableError
from fhir_server.model.happening import Happening
from fhir_server.repository.ownership import with_tag
from fhir_server.repository.repository import Change
from resources import export, notification
from resources.document.chain import CHAINS
from resources.erasure.plan import plan_for
from resources.erasure.words import CARRY_OUT, output, outputs
from resources.scheduling.feeds import feeds_of, forget_feeds

Json = dict[str, Any]

KIND: Final = "erasure"

#: Ids that one page of the job holds.
PAGE: Final = 20_000

#: Marks a patient of whom the law has something kept.
RETAINED: Final = "urn:healthsphere:erasure"


async def carry_on(context: Context, run: Run) -> bytes:
    """The work of a job: begin, or go on from where it was."""
    try:
        return await _carried_out(context, run)
    except UnavailableError:
        raise
    except FhirError as error:
        await ended(context, run.wanted["task"], "failed", [], str(error))
        raise


async def _carried_out(context: Context, run: Run) -> bytes:
    patient_id, task_id = run.wanted["patient"], run.wanted["task"]
    patient = f"Patient/{patient_id}"
    if "pages" not in run.kept:
        await require_free(context.repository.store, patient)
        await run.tell(0, 0, "search")
        plan = await plan_for(context, patient_id, {task_id})
        pages = 0
        for name, ids in plan.victims.portions(PAGE):
            await run.keep_page(pages, {"type": name, "ids": ids})
            pages += 1
        ends = await ends_of(context, patient, plan.victims)
        await run.keep({"pages": pages, "retained": plan.rows(), "ends": ends})
    ends = run.kept["ends"]
    # First of all: who has no account any more writes nothing into what is being removed.
    await end_accounts(context, patient, ends)
    victims = Victims()
    for page in (await run.pages())[: run.kept["pages"]]:
        victims.add(page["type"], page["ids"])
    retained: list[Json] = run.kept["retained"]
    erasure = Erasure(context, victims, run)
    # Counted by the steps, which keep them; the plan goes on beside.
    report = await erasure.carry_out()
    archives = await export.forget(context, patient)
    await forget_rows(context, patient, victims)
    if context.sign_in.accounts is not None:  # once more: an app may have been about to take up what it was allowed
        await context.sign_in.accounts.forget(ends["accounts"], ends["people"])
    if retained:
        await restrict(context, patient_id)
    told = codec.encode(report.parameters(victims))
    counts = codec.encode(ends["counts"])
    proof = hashlib.sha256(b"\n".join([told, counts, *(d.encode() for d in digests_of(victims))])).hexdigest()
    lines = [
        output("proof (sha256)", {"valueString": proof}),
        output("removed", {"valueInteger": sum(report.removed.values())}),
        output("archives removed", {"valueInteger": archives}),
        *(output(name, {"valueInteger": number}) for name, number in ends["counts"].items()),
        *(output("retained", {"valueString": sentence(row)}) for row in retained),
    ]
    await ended(context, task_id, "completed", lines, "")
    if context.witness is not None:
        detail = f"Task/{task_id}: removed {sum(report.removed.values())}, sha256 {proof}"
        await context.witness.happened(Happening("erasure", patient=patient if retained else "", detail=detail))
    return told


async def ends_of(context: Context, patient: str, victims: Victims) -> Json:
    """Which accounts end with a record, and how much ends with them: kept before anything does, for the proof."""
    people = people_of(patient, victims)
    accounts = context.sign_in.accounts
    tied = list(await accounts.tied(people)) if accounts is not None else []
    # Who stood for this patient and stands for others, too, goes on standing for these.
    ending = [one for one in tied if one.fhir_user == patient or not one.others]
    store = context.repository.store.unguarded
    counts = {
        "accounts ended": len(ending),
        "sessions ended": sum(one.sessions for one in ending),
        "apps cut off": sum(one.apps for one in ending),
        "calendar feeds ended": await feeds_of(store, people),
        "push subscriptions ended": await notification.pushes_of(store, people),
    }
    return {"accounts": [one.id for one in ending], "people": people, "counts": counts}


async def end_accounts(context: Context, patient: str, ends: Json) -> None:
    """End what people had of this server by the record that goes; as often as it is called."""
    accounts = context.sign_in.accounts
    if accounts is not None:
        for account_id in ends["accounts"]:
            await accounts.end(account_id)
        await accounts.let_go(patient)
        await accounts.forget(ends["accounts"], ends["people"])
    await forget_feeds(context.repository.store, ends["people"])


def people_of(patient: str, victims: Victims) -> list[str]:
    """The patient, and those who are known here by the record alone."""
    return sorted({patient, *(f"RelatedPerson/{name}" for name in victims.ids.get("RelatedPerson", ()))})


def sentence(row: Json) -> str:
    """What stays, as the patient reads it."""
    parts = {part["name"]: part for part in row["part"]}
    return (
        f"{parts['count']['valueInteger']} {parts['type']['valueCode']} until {parts['until']['valueDate']}: "
        f"{parts['reason']['valueString']}"
    )


async def forget_rows(context: Context, patient: str, victims: Victims) -> None:
    """Remove the server's own rows that name what went."""
    store = context.repository.store
    timers = store.rows(TIMERS)
    async for row in timers.each({}):
        names = codec.encode({"key": row.get("key", ""), "data": row.get("data", {})})
        ids = {str(row.get("key", "")), str(row.get("key", "")).rpartition("/")[2]}
        if any(victims.named_in(names)) or any(ids & found for found in victims.ids.values()):
            await timers.remove(row["_id"])
    await notification.forget(context, people_of(patient, victims))
    documents = sorted(victims.ids.get("DocumentReference", ()))
    if documents:
        named = {"$in": documents}
        await store.rows(CHAINS).remove_all({"$or": [{"_id": named}, {"by": named}]})


async def restrict(context: Context, patient_id: str) -> None:
    """The patient of a record of which something stays: not in use, and marked."""

    def alter(resource: Json) -> Json:
        return with_tag({**resource, "active": False}, RETAINED, "retained")

    await context.repository.amend(partial(context.repository.read, "Patient", patient_id), alter, by=CARRY_OUT)


async def ended(context: Context, task_id: str, state: str, lines: list[Json], why: str) -> None:
    """Say in the task what came of it; once, however often it is said."""
    version = await context.repository.read("Task", task_id)
    task = codec.decode(version.body or b"{}")
    if task["status"] == state and (not lines or outputs(task, "proof (sha256)")):
        return
    changed = {**task, "status": state, "output": [*task.get("output", []), *lines]}
    if why:
        changed["statusReason"] = {"text": why[:500]}
    if not changed["output"]:
        del changed["output"]
    change = Change("PUT", "Task", task_id, changed, if_match=version.version, by=CARRY_OUT)
    await context.repository.commit(change)
