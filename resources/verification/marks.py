"""Roles say of their Practitioner what is true: who is hidden has roles that are hidden, in the same transaction.

What is written of a Practitioner carries the mark by a rule; the roles follow. What is written of a role is marked by
what the transaction sees of its Practitioner. Both hold one row until they end, so that of a doctor who is hidden while
a role of theirs is written no role stays in sight. Who is found again is found a moment later, unless an operation of
this part did it; who is hidden is hidden at once, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.access import NOBODY, Caller
from fhir_server.model.clock import now_us
from fhir_server.repository.changes import Change, Checked
from fhir_server.repository.repository import Repository
from fhir_server.repository.rules import Sometimes, Write
from fhir_server.storage.document import FIELDS, Version
from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit
from resources.verification.licence import DIRECTORY, HIDDEN, is_hidden, is_marked, marked
from resources.verification.words import MARK

Json = dict[str, Any]

#: The mark as the index has it.
MARK_ENTRY = f"{DIRECTORY}|{HIDDEN}"

#: Roles of one Practitioner.
MOST_ROLES = 1000


async def mark_roles(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """Companion of Practitioners: their roles are hidden with them."""
    for write in writes:
        hidden = write.new is None or is_marked(write.new)
        if hidden != (write.old is not None and is_marked(write.old)) or write.new is None:
            await marked_within(unit, repository, write.reference, hidden)


def _concerns(change: Change, _: Caller) -> bool:
    """Whether a write may hide somebody; to show them again can wait a moment."""
    resource = change.resource
    return not change.fresh and (resource is None or is_hidden(resource, now_us()) or is_marked(resource))


COMPANION = Sometimes(mark_roles, _concerns)


async def roles_marked(unit: Unit, changes: Sequence[Checked]) -> dict[int, Json]:
    """Completes roles: they have the mark of their Practitioner, whatever the client says, and only then.

    A role that is moved to another Practitioner is marked as that one. Of a Practitioner who is not there (yet), nobody
    can say that they are hidden.
    """
    people = {position: _practitioner_of(one) for position, one in enumerate(changes) if _is_role(one)}
    out = {
        f"Practitioner/{one.change.id}": _is_out(one.change.resource)
        for one in changes
        if one.change.type == "Practitioner"
    }
    others = sorted({who for who in people.values() if who} - out.keys())
    if others:
        await unit.lock([lock_of(who) for who in others])
        found = await unit.unguarded.get_many("Practitioner", [who.partition("/")[2] for who in others])
        out |= {f"Practitioner/{key}": _is_out(_content(person)) for key, person in found.items()}
    completed: dict[int, Json] = {}
    for position, who in people.items():
        role = changes[position].change.resource
        assert role is not None
        wanted = marked(role, out.get(who, False))
        if wanted is not role:
            completed[position] = wanted
    return completed


def _is_role(checked: Checked) -> bool:
    """Whether a change writes a role; what this part writes to mark it is marked already."""
    change = checked.change
    return change.type == "PractitionerRole" and change.resource is not None and change.by != MARK


def _practitioner_of(checked: Checked) -> str:
    """Whose role it is, as the index has it; empty where it says nobody of this server."""
    found = checked.indexed.entries.get("practitioner", "")
    named = [found] if isinstance(found, str) else found
    return next((one for one in named if isinstance(one, str) and one.startswith("Practitioner/")), "")


def lock_of(practitioner: str) -> str:
    """The row that is held while somebody is hidden, and while their roles are written."""
    return f"directory:{practitioner}"


async def marked_within(unit: Unit, repository: Repository, practitioner: str, hidden: bool) -> None:
    """Hide the roles of a Practitioner, or show them again."""
    await unit.lock([lock_of(practitioner)])
    rows = await unit.unguarded.find(
        "PractitionerRole",
        {"x.practitioner": practitioner, "d": None},
        sort=[("_id", 1)],
        limit=MOST_ROLES,
        fields=FIELDS,
    )
    inner = repository.speaking_for(NOBODY)
    changes: list[Checked] = []
    for row in rows:
        role = codec.decode(row["r"])
        wanted = marked(role, hidden)
        if wanted is not role:
            change = Change("PUT", "PractitionerRole", row["_id"], wanted, if_match=row["v"], by=MARK)
            changes.append(inner.check(change))
    if changes:
        await inner.commit_within(unit.unguarded, changes)


async def _differ(store: Store, practitioner: str) -> bool:
    """Whether a role of a Practitioner says something else of them than they do."""
    rows = await store.find(
        "PractitionerRole",
        {"x.practitioner": practitioner, "d": None},
        sort=[("_id", 1)],
        limit=MOST_ROLES,
        fields={"_id": 1, "x._tag": 1},
    )
    marks = {MARK_ENTRY in row.get("x", {}).get("_tag", ()) for row in rows}
    if not marks:
        return False
    person = await store.get("Practitioner", practitioner.partition("/")[2])
    return person is not None and marks != {_is_out(_content(person))}


def _content(person: Version) -> Json | None:
    return None if person.body is None else codec.decode(person.body)


def _is_out(person: Json | None) -> bool:
    """Whether somebody is not to be found; who was deleted is not."""
    return person is None or is_marked(person) or person.get("active") is False


async def settle(context: Context, practitioner: str) -> None:
    """Have the roles of a Practitioner say what is true of them; mostly they do."""
    if not await _differ(context.repository.store.unguarded, practitioner):
        return

    async def work(unit: Unit) -> None:
        person = await unit.get("Practitioner", practitioner.partition("/")[2])
        if person is not None:
            await marked_within(unit, context.repository, practitioner, _is_out(_content(person)))

    await context.repository.store.transact(work)
