"""A lease: a name that one holder has at a time, among all processes, and that falls free when the holder goes silent.

A lease is a row: who holds it (`lease.holder`), until when (`lease.until`), and how often it was taken (`lease.term`).
The holder renews it while it works; one that was killed does not, and after `lasts_s` somebody else takes it. All
moments are the database's, so that clocks need not agree.

A process may be held up (a suspended machine, a busy processor) longer than its lease lasts, and not know it. So what
a holder keeps, it keeps by `put`, in the row of the lease itself, where it fails once another has taken it. The work
between two `put`s must therefore bear to be done twice.

To have one process of all follow something, from where the last one stopped:

    lease = Lease(store.rows(LEASES), "change feed")
    while True:
        if (row := await lease.take()) is not None:
            with suppress(LeaseLostError):
                await lease.during(follow(row.get("token"), keep=lease.put))  # puts {"token": …} as it goes
        await asyncio.sleep(lease.lasts_s / 3)

See https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from fhir_server.model.ending import ended
from fhir_server.model.errors import FhirError
from fhir_server.storage.rows import NOW, WATCH, Row, Rows, plain

#: The collection of leases that belong to nothing else.
LEASES = "_leases"

LASTS_S = 30.0

#: Holds of rows whose lease nobody has.
FREE: Mapping[str, Any] = {"$expr": {"$lt": ["$lease.until", NOW]}}

T = TypeVar("T")

_log = logging.getLogger("healthsphere.lease")


class LeaseLostError(Exception):
    """The lease is another's, or was not renewed in time: stop, and touch nothing more."""


class Lease:
    """One name, as one would-be holder sees it."""

    def __init__(self, rows: Rows, name: str, *, lasts_s: float = LASTS_S) -> None:
        self.name = name
        self.lasts_s = lasts_s
        self._rows = rows
        self._holder = ""
        self._ends = 0.0

    async def take(self, where: Mapping[str, Any] | None = None, fields: Mapping[str, Any] | None = None) -> Row | None:
        """Take the lease if it is free; of several who try at once one gets it.

        Args:
            where: what else must hold of the row; with it, only a row that is there is taken.
            fields: set in the row when it is taken.

        Returns:
            The row as it is now; None when another holds the lease.
        """
        holder, asked = secrets.token_hex(8), time.monotonic()
        term = {"$add": [{"$ifNull": ["$lease.term", 0]}, 1]}
        lease = {"lease": {"holder": holder, "until": self._until(), "term": term}}
        if where is None:
            await self._rows.make(self.name, {})
        changed = {**plain(fields or {}), **lease}
        row = await self._rows.change(self.name, {**FREE, **(where or {})}, changed, comment=WATCH)
        if row is not None:
            self._holder, self._ends = holder, asked + self.lasts_s
        return row

    async def put(self, fields: Mapping[str, Any]) -> None:
        """Set fields of the row, and renew the lease.

        Raises:
            LeaseLostError: another has taken it; nothing was set.
        """
        await self._put({**plain(fields), "lease.until": self._until()}, self.lasts_s)

    async def release(self, fields: Mapping[str, Any] | None = None, *, pause_s: float = 0.0) -> None:
        """Set fields of the row, and let go of the lease; for `pause_s` nobody can take it.

        Raises:
            LeaseLostError: another has taken it; nothing was set.
        """
        until = {"$add": [NOW, round(pause_s * 1000)]}
        await self._put({**plain(fields or {}), "lease.holder": {"$literal": ""}, "lease.until": until}, 0.0)

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work while the lease is held and renewed; what the work returns or raises.

        Raises:
            LeaseLostError: the lease was lost; the work was cancelled, and has ended.
        """
        enough = asyncio.Event()
        working = asyncio.ensure_future(work)
        renewing = asyncio.ensure_future(self._renew(enough))
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise LeaseLostError(self.name)
            return working.result()
        finally:
            working.cancel()
            enough.set()
            # It may end by itself: the driver leaves a half-made connection behind when it is cancelled.
            await asyncio.wait({working, renewing}, timeout=1.0)
            await ended([working, renewing])

    async def _renew(self, enough: asyncio.Event) -> None:
        """Renew the lease until it is enough; return early when it is another's, or may be one's own no longer."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), self.lasts_s / 3)
                return
            try:
                # Late, after the processor was busy, is not too late: `put` fails if another was quicker.
                async with asyncio.timeout(max(self._ends - time.monotonic(), self.lasts_s / 3)):
                    await self.put({})
            except LeaseLostError:
                return
            except (FhirError, TimeoutError) as error:
                _log.warning("the lease of %s could not be renewed: %s", self.name, type(error).__name__)
                if time.monotonic() >= self._ends:
                    return

    def _until(self) -> dict[str, Any]:
        return {"$add": [NOW, round(self.lasts_s * 1000)]}

    async def _put(self, fields: Mapping[str, Any], lasts_s: float) -> None:
        asked = time.monotonic()
        row = await self._rows.change(self.name, {"lease.holder": self._holder}, fields, comment=WATCH, shown=())
        if row is None:
            raise LeaseLostError(self.name)
        self._ends = asked + lasts_s
