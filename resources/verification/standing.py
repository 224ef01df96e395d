"""Who is found: asked by whatever offers people to others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.storage.document import FIELDS
from fhir_server.storage.finding import Finds
from resources.verification.licence import is_hidden, is_marked

Json = dict[str, Any]


async def hidden_people(context: Context, practitioners: Iterable[str]) -> frozenset[str]:
    """Those of some Practitioners who are not to be offered now: not active, deleted, or without a licence in force.

    Asked by the clock, so that nobody is offered between the end of a licence and the timer that hides them.
    """
    people = [one for one in practitioners if one.startswith("Practitioner/")]
    standing = await standings(context.repository.store.unguarded, people, context.timers.now())
    return frozenset(one for one, found in standing.items() if not found)


async def standings(reads: Finds, references: Iterable[str], now_us: int) -> dict[str, bool]:
    """Whether Practitioners and PractitionerRoles are to be found at a moment; those that never were are left out."""
    wanted = frozenset(references)
    found = {one: _is_found(body, now_us) for one, body in (await _read(reads, "Practitioner", wanted)).items()}
    roles = await _read(reads, "PractitionerRole", wanted)
    of = {one: str(role.get("practitioner", {}).get("reference", "")) for one, role in roles.items() if role}
    people = await _read(reads, "Practitioner", frozenset(of.values()))
    for one, role in roles.items():
        person = people.get(of.get(one, ""), {})  # a role that names nobody is somebody's all the same
        found[one] = _is_found(role, now_us) and _is_found(person, now_us)
    return found


def _is_found(body: Json | None, now_us: int) -> bool:
    return body is not None and not is_marked(body) and not is_hidden(body, now_us)


async def _read(reads: Finds, resource_type: str, references: Iterable[str]) -> dict[str, Json | None]:
    """Resources of a type among some references; None for those that were deleted."""
    ids = sorted({one.partition("/")[2] for one in references if one.startswith(f"{resource_type}/")})
    if not ids:
        return {}
    rows = await reads.find(resource_type, {"_id": {"$in": ids}}, sort=[("_id", 1)], limit=len(ids), fields=FIELDS)
    return {f"{resource_type}/{row['_id']}": None if row.get("d") else codec.decode(row["r"]) for row in rows}
