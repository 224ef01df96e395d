"""`$open-thread`, `$close-thread`, `$reopen-thread`, `$participants` and `$send`: conversations as a whole."""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model.clock import instant_of, new_id, now_us
from fhir_server.model.errors import NotFoundError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.unit import Unit
from resources.communication.members import resource
from resources.communication.speaking import (
    MACHINES,
    altered,
    committed,
    header_seen,
    reference_in,
    references_in,
    shown,
    speaker_of,
    written,
)
from resources.communication.words import is_header, participants_of, pointing, reference_of

Json = dict[str, Any]

#: Who can take part: people, and the pools that stand for several.
KINDS = frozenset({"Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "CareTeam", "Group"})

PATIENT_SIDE = frozenset({"patient", "proxy"})


async def open_thread(context: Context, request: Request) -> Answer:
    """Communication/$open-thread: `participant`s, and if wanted `subject`, `topic`, `priority` and a first `message`.

    Raises:
        NotFoundError: 404; somebody who is to take part is not there for the caller.
    """
    inputs = Inputs.of(request)
    inputs.only("participant", "subject", "topic", "priority", "message", "attachment", "sender")
    speaker = speaker_of(context, inputs)
    people = references_in(inputs, "participant")
    inputs.required("participant", people or None)
    await require_reachable(context, people)
    subject = await subject_of(context, reference_in(inputs, "subject"))
    changes = opened(
        speaker,
        people,
        subject=subject,
        topic=inputs.text("topic"),
        priority=inputs.text("priority"),
        text=inputs.text("message"),
        attachments=await attachments_of(context, inputs),
    )

    async def work(unit: Unit) -> list[Committed]:
        made = await committed(context, unit, changes[:1])
        return made + (await committed(context, unit, changes[1:]) if changes[1:] else [])

    return shown(await written(context, work), 201, request.base_url)


def opened(
    speaker: str,
    people: list[str],
    *,
    subject: str | None = None,
    topic: str | None = None,
    priority: str | None = None,
    text: str | None = None,
    attachments: list[str] | None = None,
) -> list[Change]:
    """The header of a new thread, and its first message where there is one."""
    thread_id, moment = new_id(), instant_of(now_us())
    everybody = sorted({speaker, *people})
    header: Json = {
        "resourceType": "Communication",
        "status": "in-progress",
        **({"priority": priority} if priority else {}),
        **({"subject": {"reference": subject}} if subject else {}),
        **({"topic": {"text": topic}} if topic else {}),
        "sent": moment,
        "recipient": pointing(everybody),
        "sender": {"reference": speaker},
    }
    changes = [Change("POST", "Communication", thread_id, header, fresh=True, by="open-thread")]
    if text or attachments:
        said = message_of(header | {"id": thread_id}, speaker, text, attachments or [])
        changes.append(Change("POST", "Communication", new_id(), said, fresh=True, by="open-thread"))
    return changes


def message_of(
    header: Json, speaker: str, text: str | None, attachments: list[str], answers: str | None = None
) -> Json:
    """A message of a thread, for all who take part in it."""
    payload: list[Json] = [{"contentString": text}] if text else []
    payload += [{"contentReference": {"reference": name}} for name in attachments]
    return {
        "resourceType": "Communication",
        "partOf": [{"reference": f"Communication/{header['id']}"}],
        **({"inResponseTo": [{"reference": answers}]} if answers else {}),
        "status": "completed",
        **({"subject": header["subject"]} if "subject" in header else {}),
        "sent": instant_of(now_us()),
        "recipient": pointing(sorted(participants_of(header) - {speaker})),
        "sender": {"reference": speaker},
        "payload": payload,
    }


async def send(context: Context, request: Request) -> Answer:
    """Communication/[thread]/$send: a `message`, `attachment`s, and `in-response-to` what.

    Raises:
        NotFoundError: 404; the caller takes part in no such thread.
        UnprocessableError: 422; there is nothing to send, or the thread is closed.
    """
    inputs = Inputs.of(request)
    inputs.only("message", "attachment", "in-response-to", "sender")
    speaker = speaker_of(context, inputs)
    _, header = await header_seen(context, request.path[1])
    text, attachments = inputs.text("message"), await attachments_of(context, inputs)
    if not (text and text.strip()) and not attachments:
        raise UnprocessableError(
            "There is nothing to send: neither `message` nor `attachment`.", key="HS-CHAT-EMPTY", code="required"
        )
    said = message_of(header, speaker, text, attachments, reference_in(inputs, "in-response-to"))

    async def work(unit: Unit) -> list[Committed]:
        return await committed(context, unit, [Change("POST", "Communication", new_id(), said, fresh=True, by="send")])

    return shown(await written(context, work), 201, request.base_url)


async def close_thread(context: Context, request: Request) -> Answer:
    """Communication/[thread]/$close-thread: it takes no more messages. Staff of it close it, and who began it."""
    return await _turned(context, request, "completed")


async def reopen_thread(context: Context, request: Request) -> Answer:
    """Communication/[thread]/$reopen-thread."""
    return await _turned(context, request, "in-progress")


async def _turned(context: Context, request: Request, status: str) -> Answer:
    Inputs.of(request).only()
    _, header = await header_seen(context, request.path[1])
    _require_leader(context, header)
    one = await altered(
        context, "Communication", request.path[1], "close-thread", lambda now: {**now, "status": status}
    )
    return shown([one])


async def participants(context: Context, request: Request) -> Answer:
    """Communication/[thread]/$participants: `add` and `remove` who takes part; staff of it may, and who began it.

    Who comes sees the whole thread; who goes sees nothing of it any more but what they said.
    """
    inputs = Inputs.of(request)
    inputs.only("add", "remove")
    _, header = await header_seen(context, request.path[1])
    _require_leader(context, header)
    added, removed = references_in(inputs, "add"), references_in(inputs, "remove")
    await require_reachable(context, added)
    owner = reference_of(header.get("sender"))
    if owner in removed:
        raise UnprocessableError("Who began a thread stays in it; close it instead.", key="HS-CHAT-OWNER")

    def alter(now: Json) -> Json:
        return {**now, "recipient": pointing(sorted((participants_of(now) | set(added)) - set(removed)))}

    return shown([await altered(context, "Communication", request.path[1], "participants", alter)])


def _require_leader(context: Context, header: Json) -> None:
    """Raises UnprocessableError: 422; a patient changes a thread that somebody else began."""
    identity = context.caller.identity
    if identity.role in PATIENT_SIDE and reference_of(header.get("sender")) != identity.fhir_user:
        raise UnprocessableError(
            "That is for who began the thread, and for the staff who take part in it.", key="HS-CHAT-OWNER"
        )


async def require_reachable(context: Context, people: list[str]) -> None:
    """Everybody who is named is there; of patients and their families, those whom the caller may see.

    Raises:
        NotFoundError: 404; somebody is not.
        UnprocessableError: 422; something that cannot take part.
    """
    me = context.caller.identity.fhir_user
    for name in people:
        kind, _, resource_id = name.partition("/")
        if kind not in KINDS:
            raise UnprocessableError(
                f"{name} cannot take part in a thread; {', '.join(sorted(KINDS))} can.", key="HS-CHAT-PARTICIPANTS"
            )
        hidden = kind in ("Patient", "RelatedPerson") and name != me
        reads = context.seen.repository.store if hidden else context.repository.store.unguarded
        if await resource(reads, name) is None:
            raise NotFoundError(f"There is no {name} whom you could write to.", key="HS-CHAT-NO-PARTICIPANT")
        assert resource_id


async def subject_of(context: Context, named: str | None) -> str | None:
    """Whom it is about: a patient whom the caller may see; of patients themselves, their own record."""
    identity = context.caller.identity
    subject = named or (identity.patient if identity.role in PATIENT_SIDE else None)
    if subject is None and identity.role == "patient":
        subject = identity.fhir_user
    if subject is not None:
        await context.seen.repository.read(*_parts(subject))
    return subject


async def attachments_of(context: Context, inputs: Inputs) -> list[str]:
    """The documents that are attached, which the caller must see.

    Raises:
        UnprocessableError: 422; one is no DocumentReference that they see.
    """
    names = references_in(inputs, "attachment")
    for name in names:
        if not name.startswith("DocumentReference/") or await resource(context.seen.repository.store, name) is None:
            raise UnprocessableError(
                "What is attached to a message is a DocumentReference that you can see.",
                key="HS-CHAT-ATTACHMENT",
                expression="Communication.payload.content",
            )
    return names


def _parts(reference: str) -> tuple[str, str]:
    kind, _, resource_id = reference.partition("/")
    return kind, resource_id


__all__ = ["MACHINES", "close_thread", "is_header", "open_thread", "participants", "reopen_thread", "send"]
