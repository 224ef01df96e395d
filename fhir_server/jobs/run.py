"""A job as its work sees it: what is wanted, what was kept when it last stopped, and where to keep and tell more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fhir_server.jobs.lease import Lease
from fhir_server.model.clock import now_us
from fhir_server.storage.rows import Row, Rows

Json = dict[str, Any]

#: The collection of what is too large for the row of its job.
PAGES = "_job_pages"

TELL_EVERY_S = 0.25


def pages_of(job_id: str) -> Json:
    """Selects the pages of a job."""
    return {"_id": {"$gt": f"{job_id}/", "$lt": f"{job_id}0"}}  # 0 comes right after the slash


class Run:
    """A job while this process carries it out.

    What is kept must let another process go on from there, so it is kept before it is relied on, and what was done
    since the last time may be done once more.

    Attributes:
        wanted: what the job is about, as it was started with
        kept: what was kept last; empty at first
        paged: whether there are pages beside the row
    """

    def __init__(self, lease: Lease, row: Row, pages: Rows) -> None:
        self.wanted: Json = row["wanted"]
        self.kept: Json = row["kept"]
        self.paged: bool = row.get("paged", False)
        self._lease = lease
        self._pages = pages
        self._term: int = row["lease"]["term"]
        self._began_with: Json = row["kept"]
        self._unwritten: Json = {}
        self._written_at = 0.0

    @property
    def job_id(self) -> str:
        return self._lease.name

    async def tell(self, done: int, total: int, message: str, kept: Json | None = None) -> None:
        """Tell how far the job is, and what to keep with it; written a few times a second at most.

        Raises:
            LeaseLostError: another process has the job now.
        """
        if kept is not None:
            self.kept = kept
        self._unwritten = {"done": done, "total": total, "message": message, "told": now_us(), "kept": self.kept}
        if time.monotonic() - self._written_at >= TELL_EVERY_S:
            await self.flush()

    async def keep(self, kept: Json) -> None:
        """Keep something now, and with it what was told last.

        Raises:
            LeaseLostError: another process has the job now; nothing was kept.
        """
        self.kept = self._unwritten["kept"] = kept
        await self.flush()

    async def flush(self) -> None:
        """Write what was told and kept and not yet written."""
        if self._unwritten:
            fields, self._unwritten = self._unwritten, {}
            if self.kept != self._began_with:
                fields["proved"] = self._term  # a job that gets on is not given up, however often its process dies
            await self._lease.put(fields)
            self._written_at = time.monotonic()

    async def keep_page(self, number: int, content: Mapping[str, Any]) -> None:
        """Keep something that is large beside the row, until the job ends; what had that number is replaced."""
        if not self.paged:
            self.paged = True
            await self._lease.put({"paged": True})
        await self._pages.put(f"{self.job_id}/{number:06}", content)

    async def pages(self) -> list[Row]:
        """The pages that were kept, in the order of their numbers."""
        return [row async for row in self._pages.each(pages_of(self.job_id))]
