"""`DocumentReference/[id]/$review`: somebody has looked at a document, and says what comes of it.

The document becomes `final`, or `entered-in-error` when it is refused (it is another person's, or cannot be read); its
review task is completed with the outcome. Both happen at once.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.interactions.answers import about, touched_by
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import ConflictError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.changes import FailedChangeError
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.document import Version, version_of
from fhir_server.storage.unit import Unit
from resources.document.states import HELD
from resources.document.words import REVIEW, TASK, TYPE, mark_in

Json = dict[str, Any]

BY: Final = "review"

#: What can come of a review.
OUTCOMES: Final = ("accepted", "amended", "refused")

#: Tasks in these states are done already.
ENDED: Final = frozenset({"completed", "cancelled", "rejected", "failed", "entered-in-error"})


async def review(context: Context, request: Request) -> Answer:
    """Say what comes of a document: `outcome` accepted, amended or refused, and `note`.

    Raises:
        NotFoundError: 404; there is no such document for the caller.
        ConflictError: 409; somebody else was faster.
        UnprocessableError: 422; it is in quarantine, or was looked at before.
    """
    inputs = Inputs.of(request)
    inputs.only("outcome", "note")
    outcome = str(inputs.required("outcome", inputs.choice("outcome", OUTCOMES)))
    note = inputs.text("note")
    if outcome == "refused" and not note:
        inputs.required("note", note)
    document_id = request.path[1]
    seen = await context.seen.repository.read(TYPE, document_id)
    await context.seen.repository.store.require(seen, seen, context.seen.repository.store)
    for name in (TYPE, "Task"):
        await context.repository.store.ensure(name)

    async def work(unit: Unit) -> list[Committed]:
        inner = context.within(unit)
        version = await inner.repository.read(TYPE, document_id)
        document = codec.decode(version.body or b"{}")
        require_open(document_id, document, outcome)
        changes = [Change("PUT", TYPE, document_id, reviewed(document, outcome), if_match=version.version, by=BY)]
        for task in await open_reviews(unit, document_id):
            changes.append(ended(context, task, outcome, note))
        return await inner.repository.commit_within(unit, [context.repository.check(change) for change in changes])

    try:
        outcomes = await context.repository.store.transact(work)
    except FailedChangeError as failed:
        raise failed.cause from failed
    answer = about(200, outcomes[0].version.body, outcomes[0].version)
    answer.touched = touched_by(outcomes)
    return answer


def require_open(document_id: str, document: Json, outcome: str) -> None:
    """A document can be reviewed now."""
    if mark_in(document) in HELD and outcome != "refused":
        raise UnprocessableError(
            f"The content of {TYPE}/{document_id} is in quarantine: nobody can have looked at it.",
            key="HS-DOCUMENT-HELD",
            expression=f"{TYPE}.content",
        )
    if document.get("docStatus") != "preliminary" or document["status"] != "current":
        raise ConflictError(
            f"{TYPE}/{document_id} was looked at before: it is {document['status']!r}, and its docStatus "
            f"{document.get('docStatus', 'not said')!r}.",
            key="HS-DOCUMENT-REVIEWED",
            expression=f"{TYPE}.docStatus",
        )


def reviewed(document: Json, outcome: str) -> Json:
    if outcome == "refused":
        return {**document, "status": "entered-in-error", "docStatus": "entered-in-error"}
    return {**document, "docStatus": "final" if outcome == "accepted" else "amended"}


async def open_reviews(unit: Unit, document_id: str) -> list[Version]:
    """The review tasks of a document that are not done."""
    rows = await unit.unguarded.find(
        "Task", {"x.focus": f"{TYPE}/{document_id}", "d": None}, sort=[("_id", 1)], limit=100
    )
    found = [version_of("Task", row) for row in rows]
    return [version for version in found if is_open_review(codec.decode(version.body or b"{}"))]


def is_open_review(task: Json) -> bool:
    codings = task.get("code", {}).get("coding", [])
    return task["status"] not in ENDED and any(c.get("system") == TASK and c.get("code") == REVIEW for c in codings)


def ended(context: Context, version: Version, outcome: str, note: str | None) -> Change:
    """The change that completes a review task."""
    task = codec.decode(version.body or b"{}")
    output = {"type": {"text": "outcome"}, "valueString": outcome}
    done: Json = {**task, "status": "completed", "lastModified": instant_of(now_us())}
    done["output"] = [*task.get("output", []), output]
    if note:
        user = context.caller.identity.fhir_user
        said = {"text": note, "time": instant_of(now_us())} | ({"authorReference": {"reference": user}} if user else {})
        done["note"] = [*task.get("note", []), said]
    return Change("PUT", "Task", version.id, done, if_match=version.version, by=BY)
