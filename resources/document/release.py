"""`DocumentReference/[id]/$release`: an auditor or administrator lets a content out of quarantine, and says why.

Nobody else can, and the decision stands on the audit trail, in the task and in the tag of the document.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.interactions.answers import informational, touched_by
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import ConflictError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.document import Blob
from resources.document.content import contents_of
from resources.document.examine import code_of, tasks_about
from resources.document.review import ENDED
from resources.document.words import QUARANTINED, TYPE, with_mark
from resources.reasons import weighed_reason

Json = dict[str, Any]

BY: Final = "release"


async def release(context: Context, request: Request) -> Answer:
    """Let go what is in quarantine, with a `reason`.

    Raises:
        NotFoundError: 404; there is no such document.
        ConflictError: 409; nothing of it is in quarantine, or it waits for its examination.
    """
    inputs = Inputs.of(request)
    inputs.only("reason")
    reason = weighed_reason(inputs, "HS-DOCUMENT-REASON")
    version = await context.repository.read(TYPE, request.path[1])
    document = codec.decode(version.body or b"{}")
    blobs = context.repository.store.blobs
    held: list[Blob] = []
    for content in await contents_of(context, document):
        if content.blob is None:
            continue
        mark = await blobs.quarantine.mark_of(content.blob)
        if mark == "waiting":
            raise ConflictError(
                "The content waits for its examination; decide when that has ended.", key="HS-DOCUMENT-WAITING"
            )
        if mark in ("infected", "active-content", "unscannable"):
            held.append(content.blob)
    if not held:
        raise ConflictError(f"Nothing of {TYPE}/{version.id} is in quarantine.", key="HS-DOCUMENT-FREE")
    outcomes = [await marked_released(context, version.id)]
    outcomes += await decided(context, version.id, reason)
    for blob in held:
        await blobs.quarantine.judge(blob, "released", reason)
    told = f"{TYPE}/{version.id} is released; who could see it before can download it."
    answer = Answer(200, informational(told))  # who decides may see no data of patients
    answer.touched = touched_by(outcomes)
    return answer


async def marked_released(context: Context, document_id: str) -> Committed:
    async def find() -> Any:
        return await context.repository.read(TYPE, document_id)

    return await context.repository.amend(find, lambda resource: with_mark(resource, "released"), by=BY)


async def decided(context: Context, document_id: str, reason: str) -> list[Committed]:
    """Complete the tasks that ask for the decision."""
    user = context.caller.identity.fhir_user
    note = {"text": reason, "time": instant_of(now_us())} | ({"authorReference": {"reference": user}} if user else {})
    done: list[Committed] = []
    for task in await tasks_about(context, document_id):
        if code_of(task) == QUARANTINED and task["status"] not in ENDED:
            output = {"type": {"text": "outcome"}, "valueString": "released"}
            ended = {**task, "status": "completed", "output": [output], "note": [*task.get("note", []), note]}
            done.append(await context.repository.commit(Change("PUT", "Task", task["id"], ended, by=BY)))
    return done
