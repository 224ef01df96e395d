"""What holds for every write of a Communication: who says it, when, and what may become of it.

Pure; what has to be looked up (who takes part, whether the thread is open) is the companion's.
"""

from __future__ import annotations

from typing import Any

from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import ForbiddenError, UnprocessableError
from fhir_server.repository.rules import Write
from resources.communication.states import MESSAGE, THREAD
from resources.communication.words import (
    MOST_PARTICIPANTS,
    PERSONS,
    TAGS,
    cleaned,
    has_tag,
    is_header,
    looks_like_header,
    participants_of,
    pointing,
    tags_of,
    thread_of,
    with_tags,
)

Json = dict[str, Any]

#: What stays as it was said, whoever writes a message or a header again.
KEPT = ("sender", "sent", "partOf", "inResponseTo")

#: The operations that begin threads.
OPENING = frozenset({"open-thread", "open-ticket"})

#: The operations that change what a message says or how it is marked.
CHANGING = frozenset({"edit", "retract", "report", "hide", "unhide", "participants"})

#: The operations by which people speak. What other operations make tells of a booking or a prescription, and says by
#: itself whom it comes from.
SPEAKING = CHANGING | {"open-thread", "send", "open-ticket"}


def communication_rule(write: Write) -> Json | None:
    """Stamps who says it and when, cleans the text, and holds threads and messages to their states.

    Raises:
        ForbiddenError: 403; a person without a resource of their own writes, or one deletes what was said.
        UnprocessableError: 422; the change is none that can follow.
    """
    person = write.caller.identity.role in PERSONS
    if write.new is None:
        if person and write.old is not None and (thread_of(write.old) or is_header(write.old)):
            raise ForbiddenError(
                "What was said stays; take a message back by $retract, close a thread by $close-thread.",
                key="HS-CHAT-DELETE",
            )
        return None
    new = _spoken(write.new)
    told = bool(write.by) and write.by not in SPEAKING and thread_of(new) is None
    if person and not told:
        new = _stamped(write, new)
    thread, header = thread_of(new), _is_header(write, new, person)
    if write.old is not None:
        _require_same_kind(write, thread, header)
    if thread is None and not header:
        return new
    if write.old is not None:
        (MESSAGE if thread else THREAD).rule(Write(write.type, write.id, write.old, new, write.caller, write.by))
    if thread is not None and person and write.old is not None and write.by not in CHANGING:
        _require_unchanged(write, new)
    if thread is not None and person and any("contentAttachment" in row for row in new.get("payload", [])):
        raise UnprocessableError(
            "A file is stored as a DocumentReference first, and attached as a reference to it.",
            key="HS-CHAT-ATTACHMENT",
            expression="Communication.payload.content",
        )
    if header and len(participants_of(new)) > MOST_PARTICIPANTS:
        raise UnprocessableError(
            f"A thread has at most {MOST_PARTICIPANTS} participants; address a Group or a CareTeam.",
            key="HS-CHAT-PARTICIPANTS",
            expression="Communication.recipient",
        )
    if header and person:  # who begins a thread takes part in it
        new = {**new, "recipient": pointing(sorted(participants_of(new)))}
    return with_tags(new, _tags(write, new, "message" if thread else "header"))


def _is_header(write: Write, new: Json, person: bool) -> bool:
    """Whether it is the header of a thread.

    A person begins one with what looks like it and is not over. What programs write (notices, history) may look like
    it, too, and is one if it says so.
    """
    if not looks_like_header(new):
        return False
    if write.old is not None and is_header(write.old):
        return True
    begun = person and write.old is None and new.get("status") in ("preparation", "in-progress")
    return begun or write.by in OPENING or (not person and has_tag(new, "header"))


def _spoken(resource: Json) -> Json:
    """The resource with its texts cleaned; itself where they are clean."""
    rows = resource.get("payload")
    if type(rows) is not list:
        return resource
    clean = [
        {**row, "contentString": cleaned(row["contentString"])}
        if type(row) is dict and type(row.get("contentString")) is str
        else row
        for row in rows
    ]
    return resource if clean == rows else {**resource, "payload": clean}


def _stamped(write: Write, resource: Json) -> Json:
    """As the token says who they are, and the clock when it is; at later versions, as it was."""
    if write.old is not None:
        kept = {name: write.old[name] for name in KEPT if name in write.old}
        return {**{name: value for name, value in resource.items() if name not in KEPT}, **kept}
    user = write.caller.identity.fhir_user
    if user is None:
        raise ForbiddenError(
            "To write a Communication you need a resource of your own (fhirUser), as which you speak.",
            key="HS-CHAT-NOBODY",
        )
    given = resource.get("sender")
    if type(given) is dict and given.get("reference") == user and _is_now(resource.get("sent")):
        return resource  # stamped already: a second look must change nothing
    return {**resource, "sender": {"reference": user}, "sent": instant_of(now_us())}


def _is_now(text: Any) -> bool:
    """Whether it is an instant of the last seconds in the words of the stamp: the rule has been here before."""
    if type(text) is not str:
        return False
    moment = now_us()
    return instant_of(moment - 20_000_000) <= text <= instant_of(moment) and len(text) == len(instant_of(moment))


def _require_same_kind(write: Write, thread: str | None, header: bool) -> None:
    assert write.old is not None
    if thread_of(write.old) != thread or is_header(write.old) != header:
        raise UnprocessableError(
            f"{write.reference} cannot become part of another thread, nor a message become a thread.",
            key="HS-CHAT-KIND",
            expression="Communication.partOf",
        )


def _require_unchanged(write: Write, new: Json) -> None:
    """Raises UnprocessableError: 422; a plain write changes a message."""
    assert write.old is not None
    names = (set(write.old) | set(new)) - {"meta", "id", "resourceType", "text"}
    if any(write.old.get(name) != new.get(name) for name in names):
        raise UnprocessableError(
            "A message is changed by $edit and taken back by $retract alone, which keep what was said before.",
            key="HS-CHAT-EDIT",
            expression="Communication",
        )


def _tags(write: Write, new: Json, kind: str) -> frozenset[str]:
    """The tags of conversations: those that moderation gave stay, and nobody else gives any."""
    given = new if write.by in ("report", "hide", "unhide", "notice") else (write.old or {})
    known = {str(tag.get("code")) for tag in tags_of(given) if tag.get("system") == TAGS}
    return frozenset({kind} | (known & {"hidden", "reported", "notice"}))
