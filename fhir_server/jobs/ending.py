"""How work in the background ends when the server stops."""

from __future__ import annotations

import asyncio
from typing import Any

from fhir_server.model.ending import ended


async def ended_soon(tasks: set[asyncio.Task[Any]], within_s: float) -> None:
    """Wait for tasks that were told to end, and cancel those that do not: their database may be gone."""
    if tasks:
        await asyncio.wait(tasks, timeout=within_s)
    await ended(tasks)
