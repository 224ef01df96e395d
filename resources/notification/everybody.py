"""Telling everybody behind some references: people, and those behind roles and teams; each once.

What a label hides from its patient, or from who acts for the patient, is no news to them (`docs/access.md`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.storage.unit import Unit
from resources.communication.members import people_of, resource
from resources.notification.outbox import notify_within

#: The labels that hide something from a kind of person, whatever their relation to the patient is.
HIDING = {"Patient": frozenset({"NOPAT"}), "RelatedPerson": frozenset({"NOPAT", "R", "V"})}


async def tell_all(context: Context, whom: Iterable[str | None], kind: str, focus: str, *, key: str) -> None:
    """Tell all of them that there is something to look at; as with `notify`, what is told again is told once."""

    async def work(unit: Unit) -> None:
        await tell_all_within(context, unit, whom, kind, focus, key=key)

    await context.repository.store.unguarded.transact(work)


async def tell_all_within(
    context: Context,
    unit: Unit,
    whom: Iterable[str | None],
    kind: str,
    focus: str,
    *,
    key: str,
    calendar: bytes = b"",
) -> None:
    """The same if a transaction is committed."""
    reads = unit.unguarded
    labels = labels_of(await resource(reads, focus))
    for person in await people_of(reads, (one for one in whom if one)):
        if not labels & HIDING.get(person.partition("/")[0], frozenset()):
            await notify_within(context, unit, person, kind, focus, key=key, calendar=calendar)


def labels_of(found: dict[str, Any] | None) -> set[str]:
    return {str(label.get("code")) for label in (found or {}).get("meta", {}).get("security", ())}
