"""Storing a document: the Binary with its content, the DocumentReference, and what goes with them, at once.

The content lies in a blob already, in quarantine, before anything names it.
"""

from __future__ import annotations

import dataclasses
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.model.clock import instant_of, new_id, now_us
from fhir_server.model.errors import InvalidError, UnprocessableError
from fhir_server.repository.changes import FailedChangeError, numbered
from fhir_server.repository.contents import kept
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.document import Blob
from fhir_server.storage.quarantine import Mark
from fhir_server.storage.unit import Unit
from resources.document.kinds import HEAD_BYTES, require_taken, settled
from resources.document.words import TYPE, review_of, with_mark
from resources.notification import tell_all_within

Json = dict[str, Any]

#: The operation by which documents come to be; rules ask for it.
BY = "upload"


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A content that lies in quarantine, and is named by nothing yet."""

    binary_id: str
    blob: Blob
    content_type: str


async def stored(context: Context, pieces: AsyncIterator[bytes], said: str) -> Stored:
    """Take a content in, under the type that it has.

    Args:
        said: its type, as who sends it says

    Raises:
        UnprocessableError: 422; it is empty, or not what it is said to be.
        UnsupportedMediaTypeError: 415; documents of that type are not taken.
    """
    intake = Intake(pieces, said, context.limits.document_types)
    binary_id = new_id()
    blob = await context.repository.store.blobs.put(intake.pieces(), owner=binary_id, examined=True)
    return Stored(binary_id, blob, intake.content_type)


class Intake:
    """A content that passes by, and its type, told by the first bytes before anything is stored for good."""

    def __init__(self, pieces: AsyncIterator[bytes], said: str, allowed: tuple[str, ...]) -> None:
        self._pieces = pieces
        self._allowed = allowed
        self.said = said
        self.content_type = ""

    async def pieces(self) -> AsyncIterator[bytes]:
        head = bytearray()
        async for piece in self._pieces:
            if self.content_type:
                yield piece
                continue
            head += piece
            if len(head) >= HEAD_BYTES:
                self._settle(bytes(head))
                yield bytes(head)
        if not self.content_type:
            if not head:
                raise UnprocessableError("The document is empty.", key="HS-DOCUMENT-EMPTY", expression=TYPE)
            self._settle(bytes(head))
            yield bytes(head)

    def _settle(self, head: bytes) -> None:
        self.content_type = settled(self.said, head)
        require_taken(self.content_type, self._allowed)


async def kept_as_issued(context: Context, pdf: bytes) -> Stored:
    """Keep a content that this server has made, which nobody needs to examine."""

    async def pieces() -> AsyncIterator[bytes]:
        yield pdf

    binary_id = new_id()
    blobs = context.repository.store.blobs
    blob = await blobs.put(pieces(), owner=binary_id, examined=True)
    await blobs.quarantine.judge(blob, "issued")
    return Stored(binary_id, blob, "application/pdf")


async def documented(
    context: Context,
    document: Json,
    contents: list[tuple[int, Stored]],
    *,
    review: str | None,
    reviewed: bool,
    mark: Mark = "waiting",
) -> list[Committed]:
    """Store a document whose contents lie in quarantine; the outcome of the DocumentReference comes first.

    Args:
        contents: each with the number of the `content` that it belongs to
        review: who is to look at it, as a reference
        reviewed: whether anybody is
        mark: what is known of the contents

    Raises:
        ForbiddenError: 403; the caller may not create this document.
    """
    document_id = new_id()
    whole = with_mark(completed(context, document, contents, reviewed=reviewed), mark)
    await require_creatable(context, whole, document_id)
    changes = [Change("POST", TYPE, document_id, whole, fresh=True, by=BY)]
    for _, content in contents:
        binary = {
            "resourceType": "Binary",
            "contentType": content.content_type,
            "securityContext": {"reference": f"{TYPE}/{document_id}"},
        }
        changes.append(Change("POST", "Binary", content.binary_id, binary, fresh=True, blob=content.blob, by=BY))
    if reviewed:
        task = review_of(whole, document_id, review, context.caller.identity.fhir_user)
        changes.append(Change("POST", "Task", new_id(), task, fresh=True, by=BY))
    checked = [context.repository.check(change) for change in changes]
    for name in (TYPE, "Binary", "Task"):
        await context.repository.store.ensure(name)

    async def work(unit: Unit) -> list[Committed]:
        outcomes = await context.repository.commit_within(unit, checked)
        await unit.settle([content.blob for _, content in contents])
        if reviewed:
            focus = f"{TYPE}/{document_id}"
            await tell_all_within(context, unit, [review], "document-review", focus, key=focus)
        return outcomes

    try:
        return await context.repository.store.transact(work)
    except FailedChangeError as failed:
        raise failed.cause from failed


def completed(context: Context, document: Json, contents: list[tuple[int, Stored]], *, reviewed: bool) -> Json:
    """The DocumentReference with what the server knows: where the contents are, their size and hash, who sent it."""
    identity = context.caller.identity
    whole: Json = {"status": "current", "docStatus": "preliminary" if reviewed else "final", **document}
    whole["resourceType"] = TYPE
    whole.setdefault("date", instant_of(now_us()))
    if identity.fhir_user and "author" not in whole:
        whole["author"] = [{"reference": identity.fhir_user}]
    rows = [dict(row) for row in whole.get("content", [])]
    for number, content in contents:
        while len(rows) <= number:
            rows.append({})
        attachment = {k: v for k, v in rows[number].get("attachment", {}).items() if k not in ("data", "_data")}
        rows[number]["attachment"] = attachment | {
            "contentType": content.content_type,
            "url": f"Binary/{content.binary_id}",
            "size": content.blob.size,
            "hash": b64encode(bytes.fromhex(content.blob.sha1)).decode(),
        }
    whole["content"] = rows
    return whole


def require_same(given: str | None, blob: Blob) -> None:
    """The SHA-1 that a client has told of its content is that of what came.

    Raises:
        UnprocessableError: 422; it is not: something was lost or changed on the way.
    """
    found = b64encode(bytes.fromhex(blob.sha1)).decode()
    if given is not None and given != found:
        raise UnprocessableError(
            f"The content has the SHA-1 {found} and not the {given[:40]!r} that was told: send it again.",
            key="HS-DOCUMENT-HASH",
            expression=f"{TYPE}.content.attachment.hash",
        )


async def require_creatable(context: Context, document: Json, document_id: str) -> None:
    """The caller may create this document, as by a plain create.

    Raises:
        ForbiddenError: 403; they may not.
    """
    store = context.seen.repository.store
    bare = {**document, "content": [{"attachment": {"title": "x"}}]}  # who may point to the contents is settled here
    change = Change("POST", TYPE, document_id, bare, fresh=True, by=BY)
    await store.require(numbered(context.seen.repository.check(change), None), None, store)


async def keep_or_discard(context: Context, contents: list[tuple[int, Stored]], work: Any) -> Any:
    """Do what names the contents; when it fails they go."""
    if not contents:
        return await work
    (_, first), *rest = contents
    async with kept(context.repository.store.blobs, first.blob):
        return await keep_or_discard(context, rest, work)


def subject_of(text: str | None) -> str:
    """The patient, as a reference.

    Raises:
        InvalidError: 400; none is named.
    """
    if not text or text.count("/") != 1 or not text.startswith("Patient/"):
        raise InvalidError(
            f"'patient' is {str(text)[:80]!r}; whose document it is was expected, such as Patient/1.",
            code="required",
            key="HS-DOCUMENT-PATIENT",
            expression=f"{TYPE}.subject",
        )
    return text
