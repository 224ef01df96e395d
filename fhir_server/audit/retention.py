"""The end of what need not be kept longer: old batches and their AuditEvents go, the chain keeps an anchor.

First an event of the trail says up to which batch, and what its hash was; then the anchor takes the place of what goes;
then the AuditEvents go, and the batches last. A crash at any point leaves what the next run finishes.
"""

from __future__ import annotations

import logging

from fhir_server.audit.chain import Link, link_of
from fhir_server.audit.event import RETENTION, happened
from fhir_server.audit.resource import PREFIX, TYPE, id_range_of
from fhir_server.audit.trail import ANCHOR, POSITION, Trail
from fhir_server.audit.verify import anchor_seal
from fhir_server.model.clock import now_us
from fhir_server.storage.store import Store

_log = logging.getLogger("healthsphere.audit")

DAY_US = 86_400_000_000

#: AuditEvents removed at a time.
PORTION = 500


async def expire(store: Store, trail: Trail, days: int, key: bytes = b"") -> int:
    """Remove the batches that are older than some days, and what was made of them; the number of batches.

    Batches of which AuditEvents are not made yet stay.
    """
    batches = store.batches
    row = await batches.before(now_us() - days * DAY_US)
    position = await batches.state(POSITION)
    if row is not None and position is not None and position["n"] >= row["_id"]:
        last = link_of(row)
        detail = f"{last.number} {last.digest.hex()}"
        await trail.record(happened(RETENTION, detail=detail))
        await batches.put_state(ANCHOR, anchor_of(last, key))
    anchor = await batches.state(ANCHOR)
    if anchor is None:
        return 0
    await _remove_resources(store, anchor["n"])
    removed = await batches.remove_until(anchor["n"])
    if removed:
        _log.info("%d batches of the audit trail were older than %d days and are removed", removed, days)
    return removed


def anchor_of(last: Link, key: bytes) -> dict[str, object]:
    """What the chain goes on from when its batches up to this one are gone."""
    seal = anchor_seal(key, last.number, last.digest) if key else b""
    return {"n": last.number, "h": last.digest, "t": last.moment_us, "s": seal}


async def _remove_resources(store: Store, number: int) -> None:
    while rows := await store.find(
        TYPE,
        {"_id": {"$gte": PREFIX, "$lt": id_range_of(number)[1]}},
        sort=[("_id", 1)],
        limit=PORTION,
        fields={"_id": 1},
    ):
        await store.erase(TYPE, [row["_id"] for row in rows])
