"""`Task/$response-times`: how soon the caller's pools claim and answer."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model import codec
from fhir_server.model.exchange import Answer, Request
from resources.communication.members import selves_of
from resources.communication.speaking import MACHINES
from resources.ticket.words import ANSWERED, CLAIMED, TASKS, TICKET, instant_in, pool_of

Json = dict[str, Any]

#: Tickets that are counted, the latest.
MOST = 20_000


async def response_times(context: Context, request: Request) -> Answer:
    """Of each pool: tickets, open and late ones, and minutes until half and nine of ten were answered."""
    inputs = Inputs.of(request)
    inputs.only("start", "end")
    start, end = inputs.text("start") or "", inputs.text("end") or "9"
    identity, store = context.caller.identity, context.repository.store.unguarded
    everything = identity.role in MACHINES or identity.role == "administrator"
    mine = frozenset() if everything else await selves_of(store, identity.fhir_user or "")
    tickets = {"x.code": f"{TASKS}|{TICKET}", "d": {"$exists": False}}
    rows = await store.find("Task", tickets, sort=[("_id", -1)], limit=MOST, fields={"r": 1})
    pools: dict[str, list[Json]] = {}
    for row in rows:
        ticket = codec.decode(row["r"])
        if start <= str(ticket.get("authoredOn", "")) < end and (everything or pool_of(ticket) in mine):
            pools.setdefault(pool_of(ticket), []).append(ticket)
    return answered(parameters_of(*(_figures(pool, found) for pool, found in sorted(pools.items()))))


def _figures(pool: str, tickets: list[Json]) -> Json:
    answered_ = sorted(_minutes(ticket, ANSWERED) for ticket in tickets if instant_in(ticket, ANSWERED))
    claimed = sorted(_minutes(ticket, CLAIMED) for ticket in tickets if instant_in(ticket, CLAIMED))
    late = sum(
        1
        for ticket in tickets
        if ticket.get("businessStatus", {}).get("coding", [{}])[0].get("code") == "late"
        or instant_in(ticket, ANSWERED) > str(ticket.get("restriction", {}).get("period", {}).get("end", "9"))
    )
    part: list[Json] = [
        {"name": "pool", "valueReference": {"reference": pool}},
        {"name": "tickets", "valueInteger": len(tickets)},
        {"name": "open", "valueInteger": sum(t.get("status") in ("requested", "in-progress") for t in tickets)},
        {"name": "late", "valueInteger": late},
    ]
    for name, values, share in (
        ("answered-median", answered_, 0.5),
        ("answered-90", answered_, 0.9),
        ("claimed-median", claimed, 0.5),
    ):
        if values:
            part.append({"name": name, "valueDecimal": at_rank(values, share)})
    return {"name": "pool", "part": part}


def at_rank(values: list[Decimal], share: float) -> Decimal:
    """The value that a share of all, in ascending order, do not exceed (the nearest rank)."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def _minutes(ticket: Json, url: str) -> Decimal:
    took = datetime.fromisoformat(instant_in(ticket, url)) - datetime.fromisoformat(ticket["authoredOn"])
    return round(Decimal(took.total_seconds()) / 60, 1)
