"""`$edit` and `$retract`: what was said is said otherwise, or taken back; the history keeps what it was."""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import ForbiddenError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from resources.communication.speaking import MACHINES, altered, message_seen, shown
from resources.communication.threads import attachments_of
from resources.communication.words import EDITED, RETRACTED_TEXT, has_tag, reference_of

Json = dict[str, Any]


async def edit(context: Context, request: Request) -> Answer:
    """Communication/[message]/$edit: another `message`, other `attachment`s; who takes part can read what it was.

    Raises:
        ForbiddenError: 403; somebody else said it.
        UnprocessableError: 422; it was taken back or hidden, or nothing is left of it.
    """
    inputs = Inputs.of(request)
    inputs.only("message", "attachment")
    _, message = await message_seen(context, request.path[1])
    _require_own(context, message)
    text, attachments = inputs.text("message"), await attachments_of(context, inputs)
    payload: list[Json] = [{"contentString": text}] if text and text.strip() else []
    payload += [{"contentReference": {"reference": name}} for name in attachments]
    if not payload:
        raise UnprocessableError(
            "Nothing would be left of the message; $retract takes it back.", key="HS-CHAT-EMPTY", code="required"
        )

    def alter(now: Json) -> Json:
        _require_standing(now)
        others = [row for row in now.get("extension", []) if row.get("url") != EDITED]
        return {
            **now,
            "extension": [*others, {"url": EDITED, "valueInstant": instant_of(now_us())}],
            "payload": payload,
        }

    return shown([await altered(context, "Communication", request.path[1], "edit", alter)])


async def retract(context: Context, request: Request) -> Answer:
    """Communication/[message]/$retract: a notice stands in its place from now on.

    Raises:
        ForbiddenError: 403; somebody else said it.
        UnprocessableError: 422; it is taken back already.
    """
    Inputs.of(request).only()
    _, message = await message_seen(context, request.path[1])
    _require_own(context, message)

    def alter(now: Json) -> Json:
        _require_standing(now)
        return {**now, "status": "entered-in-error", "payload": [{"contentString": RETRACTED_TEXT}]}

    return shown([await altered(context, "Communication", request.path[1], "retract", alter)])


def _require_own(context: Context, message: Json) -> None:
    identity = context.caller.identity
    if identity.role not in MACHINES and reference_of(message.get("sender")) != identity.fhir_user:
        raise ForbiddenError("A message is changed by who wrote it alone.", key="HS-CHAT-SENDER")


def _require_standing(message: Json) -> None:
    if message.get("status") != "completed" or has_tag(message, "hidden"):
        raise UnprocessableError(
            f"Communication/{message.get('id')} was taken back or hidden; it stays as it is.", key="HS-CHAT-GONE"
        )
