"""Who is found: asked by whatever offers people to others."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.storage.document import FIELDS
from resources.verification.licence import is_hidden, is_marked


async def hidden_people(context: Context, practitioners: Iterable[str]) -> frozenset[str]:
    """Those of some Practitioners who are not to be offered now: not active, deleted, or without a licence in force.

    Asked by the clock, so that nobody is offered between the end of a licence and the timer that hides them.
    """
    ids = sorted({one.partition("/")[2] for one in practitioners if one.startswith("Practitioner/")})
    if not ids:
        return frozenset()
    rows = await context.repository.store.unguarded.find(
        "Practitioner", {"_id": {"$in": ids}}, sort=[("_id", 1)], limit=len(ids), fields=FIELDS
    )
    now, hidden = context.timers.now(), set()
    for row in rows:
        person = None if row.get("d") else codec.decode(row["r"])
        if person is None or is_marked(person) or is_hidden(person, now):
            hidden.add(f"Practitioner/{row['_id']}")
    return frozenset(hidden)
