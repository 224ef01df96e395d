"""`$report`, `$hide` and `$unhide`: messages that should not stand.

A hidden message, with its history, exists for moderators alone; a notice stands in the thread in its place. Moderators
see no message that nobody has reported.
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, new_id, now_us
from fhir_server.model.errors import ForbiddenError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.unit import Unit
from resources.communication.speaking import by_server, committed, header_seen, message_seen, shown, speaker_of, written
from resources.communication.words import HIDDEN_TEXT, TAGS, has_tag, tags_of, thread_of

Json = dict[str, Any]

MODERATORS = frozenset({"administrator", "operator"})

ROLES = "urn:healthsphere:role"
TASKS = "urn:healthsphere:task"


async def report(context: Context, request: Request) -> Answer:
    """Communication/[message]/$report: a moderator may read it from now on; the answer is the Task of the review."""
    inputs = Inputs.of(request)
    inputs.only("reason", "sender")
    reason = str(inputs.required("reason", inputs.text("reason")))
    reporter = speaker_of(context, inputs)
    _, message = await message_seen(context, request.path[1])
    await header_seen(context, str(thread_of(message)).partition("/")[2])
    review: Json = {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "priority": "urgent",
        "code": {"coding": [{"system": TASKS, "code": "review-message"}]},
        "focus": {"reference": f"Communication/{request.path[1]}"},
        "authoredOn": instant_of(now_us()),
        "requester": {"reference": reporter},
        "performerType": [{"coding": [{"system": ROLES, "code": "moderator"}]}],
        "reasonCode": {"text": reason[:500]},
    }

    async def work(unit: Unit) -> list[Committed]:
        tagged = await _retagged(context, unit, request.path[1], "report", add="reported")
        made = await committed(context, unit, [Change("POST", "Task", new_id(), review, fresh=True, by="report")])
        return made + tagged

    return shown(await written(context, work, "Task"), 201, request.base_url)


async def hide(context: Context, request: Request) -> Answer:
    """Communication/[message]/$hide, with a `reason`: a notice stands in its place; its reviews are done.

    Raises:
        ForbiddenError: 403; the caller is no moderator.
        UnprocessableError: 422; it is hidden already.
    """
    inputs = Inputs.of(request)
    inputs.only("reason")
    reason = str(inputs.required("reason", inputs.text("reason")))
    _require_moderator(context)
    _, message = await message_seen(context, request.path[1])
    if has_tag(message, "hidden"):
        raise UnprocessableError(f"Communication/{request.path[1]} is hidden already.", key="HS-CHAT-GONE")

    async def work(unit: Unit) -> list[Committed]:
        hidden = await _retagged(context, unit, request.path[1], "hide", add="hidden")
        now = codec.decode(hidden[0].version.body or b"")
        notice = {
            name: now[name] for name in ("resourceType", "partOf", "subject", "sent", "recipient") if name in now
        } | {
            "id": notice_id(request.path[1]),
            "status": "completed",
            "meta": {"tag": [{"system": TAGS, "code": "notice"}]},
            "inResponseTo": [{"reference": f"Communication/{request.path[1]}"}],
            "recipient": [*now.get("recipient", []), now["sender"]],
            "payload": [{"contentString": HIDDEN_TEXT}],
        }
        put = Change("PUT", "Communication", notice["id"], notice, by="notice")
        return (
            hidden
            + await committed(by_server(context), unit, [put])
            + await _done(context, unit, request.path[1], reason)
        )

    return shown(await written(context, work, "Task"))


async def unhide(context: Context, request: Request) -> Answer:
    """Communication/[message]/$unhide: it stands again where it stood."""
    Inputs.of(request).only()
    _require_moderator(context)
    _, message = await message_seen(context, request.path[1])
    if not has_tag(message, "hidden"):
        raise UnprocessableError(f"Communication/{request.path[1]} is not hidden.", key="HS-CHAT-GONE")

    async def work(unit: Unit) -> list[Committed]:
        back = await _retagged(context, unit, request.path[1], "unhide", drop="hidden")
        gone = Change("DELETE", "Communication", notice_id(request.path[1]), by="notice")
        return back + await committed(by_server(context), unit, [gone])

    return shown(await written(context, work))


def notice_id(message_id: str) -> str:
    return f"hidden-{message_id}"[:64]


def _require_moderator(context: Context) -> None:
    if context.caller.identity.role not in MODERATORS:
        raise ForbiddenError("To hide messages is for moderators: the administrators.", key="HS-CHAT-MODERATOR")


async def _retagged(
    context: Context, unit: Unit, name: str, by: str, *, add: str = "", drop: str = ""
) -> list[Committed]:
    version = await context.within(unit).repository.read("Communication", name)
    message = codec.decode(version.body or b"")
    tags = [tag for tag in tags_of(message) if not (tag.get("system") == TAGS and tag.get("code") in (add, drop))]
    tags += [{"system": TAGS, "code": add}] if add else []
    changed = {**message, "meta": {**message.get("meta", {}), "tag": tags}}
    return await committed(
        context, unit, [Change("PUT", "Communication", name, changed, if_match=version.version, by=by)]
    )


async def _done(context: Context, unit: Unit, message_id: str, reason: str) -> list[Committed]:
    """The reviews that wait for a decision on a message."""
    about = {"x.focus": f"Communication/{message_id}", "d": {"$exists": False}}
    changes = []
    for row in await unit.find("Task", about, sort=[], limit=100, fields={"r": 1}):
        task = codec.decode(row["r"])
        if task.get("status") == "requested" and task["code"]["coding"][0]["code"] == "review-message":
            note = [*task.get("note", []), {"text": reason[:500]}]
            changes.append(Change("PUT", "Task", row["_id"], {**task, "status": "completed", "note": note}, by="hide"))
    return await committed(context, unit, changes) if changes else []
