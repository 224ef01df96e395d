"""Is the trail as it was written? The chain is walked from its anchor, and the AuditEvents are compared with it.

What can be told apart: a batch that was changed, moved, removed or put in between; a chain made anew by somebody who
lacks the key; a chain that was shortened, by the witness beside the database; AuditEvents changed, removed or added in
the collection that is searched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fhir_server.audit.chain import GENESIS, Link, fault_of, link_of, seal_of
from fhir_server.audit.event import RETENTION, Event, unpack
from fhir_server.audit.resource import PREFIX, TYPE, id_range_of
from fhir_server.audit.trail import ANCHOR, POSITION
from fhir_server.storage.batches import Batches
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store

#: Batches read at a time.
PORTION = 50

#: Faults of AuditEvents that are named; all are counted.
MOST_NAMED = 20

#: More AuditEvents than a batch can have: 2,000 events, each with up to 50,000 entries, end at 8 MiB before.
MOST_OF_BATCH = 1_000_000

#: What is sealed of an anchor.
_ANCHOR_MARK = b"anchor"


class Versions(Protocol):
    """Makes the AuditEvents of a batch: `materialize.Materializer`."""

    def __call__(self, link: Link) -> Sequence[Version]: ...


@dataclass(slots=True)
class Report:
    """What a walk has found.

    Attributes:
        first, last: the numbers of the first and the last batch that are whole
        events: how many events those hold
        resources: AuditEvents that were compared
        broken_at: the first batch that is not as it should be; None when all are
        fault: what is wrong with it, or with the chain as a whole
        differing: what is wrong with AuditEvents
    """

    first: int = 0
    last: int = 0
    digest: bytes = GENESIS
    events: int = 0
    resources: int = 0
    broken_at: int | None = None
    fault: str = ""
    differing: list[str] = field(default_factory=list)
    differences: int = 0

    @property
    def whole(self) -> bool:
        return not self.fault and not self.differences

    def differs(self, what: str) -> None:
        self.differences += 1
        if len(self.differing) < MOST_NAMED:
            self.differing.append(what)


def anchor_seal(key: bytes, number: int, digest: bytes) -> bytes:
    """Proves that it was the server that removed the batches up to this one."""
    return seal_of(key, _ANCHOR_MARK + number.to_bytes(8, "big") + digest)


async def links(batches: Batches, after: int = 0) -> AsyncIterator[Link]:
    """The batches behind a number, in order, as they are stored."""
    while rows := await batches.after(after, PORTION):
        for row in rows:
            yield link_of(row)
        after = rows[-1]["_id"]


async def verify(
    store: Store,
    keys: Sequence[bytes],
    witness: tuple[int, bytes] | None,
    versions_of: Versions | None,
    progress: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Walk the whole chain.

    Args:
        keys: that may have sealed it; none: seals are not looked at
        witness: the number and hash of a batch that was there
        versions_of: makes AuditEvents of batches, to compare; None: they are not compared
    """
    report, batches = Report(), store.batches
    number, previous = 1, GENESIS
    if (anchor := await batches.state(ANCHOR)) is not None:
        number, previous = anchor["n"] + 1, anchor["h"]
        report.last, report.digest = anchor["n"], anchor["h"]
        if keys and not any(anchor_seal(key, anchor["n"], anchor["h"]) == anchor.get("s", b"") for key in keys):
            report.fault = f"the anchor at batch {anchor['n']} does not carry the seal of this server"
            return report
    report.first = number
    position = await batches.state(POSITION)
    made_until = position["n"] if position else 0
    seen_witness = witness is None or witness == (report.last, previous) or witness[0] < number - 1
    removed: tuple[int, str] | None = None
    async for link in links(batches, number - 1):
        fault = fault_of(link, number, previous, keys)
        events: list[Event] = []
        if fault is None:
            try:
                events = unpack(link.packed).events
            except ValueError:
                fault = "its contents cannot be read"
            if fault is None and len(events) != link.count:
                fault = f"it holds {len(events)} events, and says that they are {link.count}"
        if fault is None and witness is not None and witness[0] == link.number:
            seen_witness = witness[1] == link.digest
            fault = None if seen_witness else "it is another than the witness beside the database names"
        if fault is not None:
            report.broken_at, report.fault = number, fault
            return report
        removed = _removal_in(events) or removed
        report.last, report.digest, report.events = link.number, link.digest, report.events + link.count
        if versions_of is not None and link.number <= made_until:
            await _compare(store, link, versions_of(link), report)
        number, previous = link.number + 1, link.digest
        progress(report)
    if not seen_witness and witness is not None:
        report.broken_at = report.last + 1
        report.fault = f"the chain ends at batch {report.last}, and the witness knows batch {witness[0]}"
    elif made_until > report.last:
        report.broken_at = report.last + 1
        report.fault = f"the chain ends at batch {report.last}, and AuditEvents were made up to batch {made_until}"
    elif anchor is not None and removed is not None and removed[0] > anchor["n"]:
        report.fault = f"batches up to {removed[0]} were to be removed, and the anchor names {anchor['n']}"
    if versions_of is not None:
        await _look_for_strangers(store, report, anchor["n"] if anchor else 0)
    return report


def _removal_in(events: Sequence[Event]) -> tuple[int, str] | None:
    """Up to which batch, and with what hash, a batch says that older ones were removed."""
    for event in events:
        if event.what.kind == RETENTION:
            number, _, digest = event.what.detail.partition(" ")
            return int(number), digest
    return None


async def _compare(store: Store, link: Link, versions: Sequence[Version], report: Report) -> None:
    """The AuditEvents of a batch: each as it was made, and no other."""
    low, high = id_range_of(link.number)
    rows = await store.find(
        TYPE, {"_id": {"$gte": low, "$lt": high}}, sort=[("_id", 1)], limit=MOST_OF_BATCH, fields={"v": 1, "r": 1}
    )
    found = {row["_id"]: row for row in rows}
    for version in versions:
        row = found.pop(version.id, None)
        report.resources += 1
        if row is None:
            report.differs(f"{TYPE}/{version.id} is missing")
        elif row["v"] != 1 or row.get("r") != version.body:
            report.differs(f"{TYPE}/{version.id} was changed")
    for extra in found:
        report.differs(f"{TYPE}/{extra} was added: batch {link.number} has no such event")


async def _look_for_strangers(store: Store, report: Report, anchor: int) -> None:
    """AuditEvents that claim to be of batches that do not exist."""
    low, high = id_range_of(anchor + 1)[0], id_range_of(report.last)[1]
    for bounds in ({"$gte": PREFIX, "$lt": low}, {"$gte": high, "$lt": PREFIX + ":"}):
        for row in await store.find(TYPE, {"_id": bounds}, sort=[("_id", 1)], limit=MOST_NAMED, fields={"v": 1}):
            if row["_id"] < low and anchor:
                continue  # removed by retention, or about to be
            report.differs(f"{TYPE}/{row['_id']} was added: there is no such batch")
