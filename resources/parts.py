"""All that this server does beyond FHIR's own interactions, in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fhir_server.interactions.context import Context, Explaining
from fhir_server.interactions.operations import OPERATIONS as INTERACTIONS
from fhir_server.interactions.registration import Creating, Operation
from fhir_server.model.errors import FhirError
from fhir_server.repository.rules import Rules
from resources import (
    communication,
    directory,
    document,
    erasure,
    export,
    notification,
    profile,
    scheduling,
    ticket,
    verification,
)
from resources.dispensing import part as dispensing
from resources.healthlog import part as healthlog
from resources.monitoring import part as monitoring
from resources.part import Part
from resources.prescription import part as prescription

PARTS: tuple[Part, ...] = (
    document.PART,
    export.PART,
    erasure.PART,
    prescription.PART,
    dispensing.PART,
    scheduling.PART,
    healthlog.PART,
    monitoring.PART,
    communication.PART,
    ticket.PART,
    notification.PART,
    verification.PART,
    directory.PART,
    profile.PART,
)

#: Every operation of this server.
OPERATIONS: tuple[Operation, ...] = (*INTERACTIONS, *(operation for part in PARTS for operation in part.operations))

#: Every rule.
RULES = Rules.of(
    (row for part in PARTS for row in part.rules),
    (row for part in PARTS for row in part.companions),
    (row for part in PARTS for row in part.completing),
)

#: Other ways to create resources of some types.
CREATING: dict[str, Creating] = dict(row for part in PARTS for row in part.creating)

#: Failures that are told more of.
EXPLAINING: dict[type[FhirError], Explaining] = dict(row for part in PARTS for row in part.explaining)


async def account_ended(context: Context, account_id: str, fhir_user: str | None) -> None:
    """What parts end when an account does."""
    for part in PARTS:
        if part.account_ended is not None:
            await part.account_ended(context, account_id, fhir_user)


@asynccontextmanager
async def running(context: Context) -> AsyncIterator[None]:
    """What parts do while the server runs."""
    async with AsyncExitStack() as stack:
        for part in PARTS:
            if part.during is not None:
                await stack.enter_async_context(part.during(context))
        yield
