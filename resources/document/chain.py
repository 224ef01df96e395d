"""Replacement: a document that says that it replaces another one makes that one superseded, in the same moment.

A row for each replaced document names what replaced it, so that a document is replaced once, by whichever process and
in whatever way: the second one hears 409 and which document to replace instead.

Spec: https://hl7.org/fhir/R4/documentreference-definitions.html#DocumentReference.relatesTo
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from fhir_server.access.attachments import BINARY, target_of
from fhir_server.model import codec
from fhir_server.model.errors import ConflictError, ForbiddenError, UnprocessableError
from fhir_server.repository.changes import Change
from fhir_server.repository.repository import Repository
from fhir_server.repository.rules import Write
from fhir_server.storage.unit import Unit
from resources.document.content import binaries_of
from resources.document.states import LAY, MARKING
from resources.document.words import TYPE, mark_in

Json = dict[str, Any]

CHAINS: Final = "_document_chains"
BY: Final = "supersede"
PLACE: Final = f"{TYPE}.relatesTo"


async def supersede(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """Have each document that is replaced by one of these writes be superseded.

    Raises:
        ConflictError: 409; it was replaced by another one before.
        ForbiddenError: 403; it is not the caller's to replace.
        UnprocessableError: 422; it cannot be replaced, or not by this document.
    """
    base = repository.indexer.base_url
    for write in writes:
        if write.new is None or write.new.get("status") == "entered-in-error":
            continue
        await _require_harmless(unit, repository, write, base)
        for target in sorted(replaced_by(write.new, base) - replaced_by(write.old, base)):
            await _superseded(unit, repository, write, target)


def replaced_by(resource: Json | None, base_url: str) -> set[str]:
    """The ids of the documents of this server that a document says that it replaces."""
    rows: Iterable[Json] = (resource or {}).get("relatesTo", [])
    named = [target_of(row["target"].get("reference"), base_url) for row in rows if row["code"] == "replaces"]
    return {found[1] for found in named if found is not None and found[0] == TYPE}


async def _superseded(unit: Unit, repository: Repository, write: Write, target: str) -> None:
    if target == write.id:
        raise UnprocessableError(f"{write.reference} cannot replace itself.", key="HS-DOCUMENT-CHAIN", expression=PLACE)
    version = await unit.get(TYPE, target)
    if version is None or version.body is None:
        return  # what is not here yet, or no more: records of elsewhere come in any order
    old = codec.decode(version.body)
    _require_replaceable(write, target, old)
    rows = unit.rows(CHAINS)
    row = await rows.get(target)
    if row is not None and row["by"] != write.id:
        other = await unit.get(TYPE, row["by"])
        if other is not None and other.body is not None and codec.decode(other.body)["status"] != "entered-in-error":
            raise ConflictError(
                f"{TYPE}/{target} was replaced by {TYPE}/{row['by']} before; replace that one.",
                key="HS-DOCUMENT-REPLACED",
                expression=PLACE,
            )
    await rows.put(target, {"by": write.id})
    if old["status"] == "current":
        change = Change("PUT", TYPE, target, {**old, "status": "superseded"}, blob=version.blob, by=BY)
        await repository.commit_one_within(unit, repository.check(change))


async def _require_harmless(unit: Unit, repository: Repository, write: Write, base_url: str) -> None:
    """A document points to no content in which a virus was found, unless it did so before. What was found in others it
    is to say.

    Raises:
        UnprocessableError: 422; it does.
    """
    assert write.new is not None
    before = set(binaries_of(write.old, base_url))
    for number, binary_id in enumerate(binaries_of(write.new, base_url)):
        if binary_id is None or binary_id in before:
            continue
        version = await unit.get(BINARY, binary_id)
        if version is None or version.blob is None:
            continue
        mark = await repository.store.blobs.quarantine.mark_of(version.blob)
        if mark is not None and mark != "infected" and mark_in(write.new) != mark and write.by not in MARKING:
            await unit.retell([version.blob])
        if mark == "infected":
            raise UnprocessableError(
                f"A virus was found in {BINARY}/{binary_id}: no document can have it.",
                key="HS-DOCUMENT-INFECTED",
                expression=f"{TYPE}.content[{number}].attachment.url",
            )


def _require_replaceable(write: Write, target: str, old: Json) -> None:
    assert write.new is not None
    if old["status"] == "entered-in-error":
        raise UnprocessableError(
            f"{TYPE}/{target} was entered in error; there is nothing to replace.",
            key="HS-DOCUMENT-CHAIN",
            expression=PLACE,
        )
    ours, theirs = (r.get("subject", {}).get("reference") for r in (write.new, old))
    if ours != theirs:
        raise UnprocessableError(
            f"{TYPE}/{target} is about {theirs or 'nobody'}, and the document that is to replace it about "
            f"{ours or 'nobody'}.",
            key="HS-DOCUMENT-CHAIN",
            expression=PLACE,
        )
    identity = write.caller.identity
    authors = {author.get("reference") for author in old.get("author", [])}
    if identity.role in LAY and identity.fhir_user not in authors:
        raise ForbiddenError(
            f"{TYPE}/{target} was made by somebody else: only documents of your own can be replaced.",
            key="HS-DOCUMENT-FOREIGN",
            expression=PLACE,
        )
