"""What holds between a message and its thread, looked at in the transaction that writes the message.

The thread is locked meanwhile: of a message and the closing of its thread, sent at once, one comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.model import codec
from fhir_server.model.clock import now_us
from fhir_server.model.errors import ForbiddenError, NotFoundError, TooManyRequestsError, UnprocessableError
from fhir_server.repository.repository import Change, Repository
from fhir_server.repository.rules import Write
from fhir_server.storage.unit import Unit
from resources.communication.members import selves_of
from resources.communication.words import (
    PERSONS,
    has_tag,
    is_header,
    participants_of,
    pointing,
    reference_of,
    references,
    thread_of,
)

Json = dict[str, Any]

MINUTE_US = 60_000_000

#: Messages that get new readers, or lose some, with one change of a thread.
MOST_READDRESSED = 2_000


async def hold_together(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """Raises:
    NotFoundError: 404; there is no such thread for who writes.
    UnprocessableError: 422; the thread is closed, or the message is not for those who take part.
    TooManyRequestsError: 429; somebody writes more messages than they may.
    """
    threads: set[str] = set()
    for write in writes:
        for resource in (write.old, write.new):
            if resource is not None and (thread := thread_of(resource)):
                threads.add(thread)
            elif resource is not None and is_header(resource):
                threads.add(write.reference)
    if not threads:
        return
    await unit.lock([f"thread:{name}" for name in sorted(threads)])
    for write in writes:
        if write.new is None:
            continue
        thread = thread_of(write.new)
        if thread is not None:
            await _look_at_message(unit, repository, write, write.new, thread)
        elif is_header(write.new) and write.old is not None:
            await _readdress(unit, repository, write, write.new)


async def _look_at_message(unit: Unit, repository: Repository, write: Write, message: Json, thread: str) -> None:
    found = await unit.get("Communication", thread.partition("/")[2])
    header = None if found is None or found.body is None else codec.decode(found.body)
    role = write.caller.identity.role
    if header is None or not is_header(header):
        if role not in PERSONS and write.by == "":
            return  # imported history may come in any order, and from threads of another kind
        raise _no_thread(thread)
    if role not in PERSONS and not has_tag(header, "header"):
        return
    people = participants_of(header)
    sender = reference_of(message.get("sender"))
    if role in PERSONS and write.by not in ("hide", "unhide", "notice", "participants", "report"):
        mine = await selves_of(unit, write.caller.identity.fhir_user or "")
        if not mine & people:
            raise _no_thread(thread)
    says_something = write.old is None or write.by == "edit"
    if says_something and header.get("status") != "in-progress" and write.by != "notice":
        raise UnprocessableError(
            f"{thread} is closed ({header.get('status')!r}); it takes no messages. $reopen-thread opens it again.",
            key="HS-CHAT-CLOSED",
            expression="Communication.partOf",
        )
    if write.old is None and role in PERSONS:
        _require_addressed(message, people, sender)
        await _require_slow(unit, repository, sender)
        await _require_same_thread(unit, message, thread)
    if role in PERSONS and (write.old is None or write.by == "edit"):
        await _require_attachments(repository, message)


async def _require_same_thread(unit: Unit, message: Json, thread: str) -> None:
    """Raises UnprocessableError: 422; a message answers one of another thread."""
    for reference in references(message.get("inResponseTo")):
        found = await unit.get("Communication", reference.partition("/")[2])
        if found is None or found.body is None or thread_of(codec.decode(found.body)) != thread:
            raise UnprocessableError(
                f"{reference} is no message of {thread}.",
                key="HS-CHAT-ANSWER",
                expression="Communication.inResponseTo",
            )


async def _require_attachments(repository: Repository, message: Json) -> None:
    """Raises UnprocessableError: 422; the same for a document that is not there and one that the sender cannot see.

    The repository of a plain write reads as its caller; operations have looked before.
    """
    for row in message.get("payload", []):
        if "contentReference" not in row:
            continue
        kind, _, resource_id = reference_of(row["contentReference"]).partition("/")
        found = await repository.store.get(kind, resource_id) if kind == "DocumentReference" else None
        if found is None or found.deleted:
            raise UnprocessableError(
                "What is attached to a message is a DocumentReference that you can see.",
                key="HS-CHAT-ATTACHMENT",
                expression="Communication.payload.content",
            )


def _require_addressed(message: Json, people: frozenset[str], sender: str) -> None:
    """Raises UnprocessableError: 422; a message that not all who take part would see."""
    wanted = people - {sender}
    if set(references(message.get("recipient"))) | {sender} != people | {sender}:
        raise UnprocessableError(
            f"A message is for all who take part in its thread: {', '.join(sorted(wanted))}. Leave it to $send to "
            "address it, or name them as recipients.",
            key="HS-CHAT-RECIPIENTS",
            expression="Communication.recipient",
        )


async def _require_slow(unit: Unit, repository: Repository, sender: str) -> None:
    """Raises TooManyRequestsError: 429; the sender has written as much as they may within the last minute."""
    most = repository.most_messages
    if most <= 0:
        return
    mine = {"x.sender": sender, "d": {"$exists": False}}
    latest = await unit.find("Communication", mine, sort=[("_id", -1)], limit=most + 1, fields={"t": 1})
    if len(latest) > most and (since := now_us() - latest[-1]["t"]) < MINUTE_US:
        wait_s = max(1, (MINUTE_US - since) // 1_000_000)
        raise TooManyRequestsError(
            f"You have written {most} messages within a minute; wait {wait_s} s.",
            key="HS-CHAT-RATE",
            headers={"Retry-After": str(wait_s)},
        )


async def _readdress(unit: Unit, repository: Repository, write: Write, header: Json) -> None:
    """Those who take part now see the whole thread, and nobody else does: its messages are addressed anew.

    Raises:
        ForbiddenError: 403; the caller may not say who takes part.
    """
    assert write.old is not None
    before, after = participants_of(write.old), participants_of(header)
    if before == after:
        return
    identity = write.caller.identity
    if (
        identity.role in PERSONS
        and write.by != "participants"
        and reference_of(write.old.get("sender")) not in (await selves_of(unit, identity.fhir_user or ""))
    ):
        raise ForbiddenError("Who takes part is said by who began the thread.", key="HS-CHAT-OWNER")
    inside = {"x.part-of": write.reference, "d": {"$exists": False}}
    rows = await unit.find("Communication", inside, sort=[("_id", 1)], limit=MOST_READDRESSED + 1, fields={"r": 1})
    if len(rows) > MOST_READDRESSED:
        raise UnprocessableError(
            f"{write.reference} has more than {MOST_READDRESSED} messages; begin a new thread with the others.",
            key="HS-CHAT-LONG",
        )
    changes = []
    for row in rows:
        message = codec.decode(row["r"])
        sender = reference_of(message.get("sender"))
        resource = {**message, "recipient": pointing(sorted(after - {sender}))}
        changes.append(Change("PUT", "Communication", row["_id"], resource, by="participants"))
    if changes:
        await repository.commit_within(unit, [repository.check(change) for change in changes])


def _no_thread(thread: str) -> NotFoundError:
    return NotFoundError(f"There is no thread {thread} in which you take part.", key="HS-CHAT-NO-THREAD")
