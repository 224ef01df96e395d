"""One-time tickets: a browser's EventSource and WebSocket cannot send an `Authorization` header.

A ticket opens one stream within half a minute. It stands for the token with which it was made, not for the person: the
stream ends when that token does.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from fhir_server.model.access import Identity, Scope
from fhir_server.storage.rows import plain
from fhir_server.storage.store import Store

TICKETS = "_stream_tickets"
LASTS = timedelta(seconds=30)


async def issue(store: Store, identity: Identity) -> str:
    """A new ticket; what is stored is its digest."""
    rows = store.rows(TICKETS)
    await rows.forget_after("until")
    ticket = secrets.token_urlsafe(32)
    row: dict[str, Any] = {"identity": asdict(identity), "until": datetime.now(UTC) + LASTS, "used": False}
    await rows.put(_digest(ticket), row)
    return ticket


async def take(store: Store, ticket: str) -> Identity | None:
    """Use a ticket up; None when it was used before, is too old, or never was."""
    unused = {"used": False, "until": {"$gt": datetime.now(UTC)}}
    row = await store.rows(TICKETS).change(_digest(ticket), unused, plain({"used": True}))
    return None if row is None else identity_of(row["identity"])


def identity_of(row: dict[str, Any]) -> Identity:
    scopes = [Scope(s["level"], s["type"], s["verbs"], tuple(map(tuple, s["criteria"]))) for s in row["scopes"]]
    return Identity(**{**row, "scopes": tuple(scopes)})


def _digest(ticket: str) -> str:
    return sha256(ticket.encode("utf-8", "surrogateescape")).hexdigest()
