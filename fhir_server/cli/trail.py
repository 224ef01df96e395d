"""Where commands record what they change: the one place in which the command line is joined to the audit trail.

A command writes to the same chain as the servers that run beside it: each of its records is a batch behind the last
one, whoever wrote that (`audit.trail`), and it ends only when the batch is durable. Who did it is the user of the
operating system, who has no account and no FHIR resource here.
"""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import structlog

from fhir_server.model.errors import UnavailableError
from fhir_server.model.happening import Happening, Trail
from fhir_server.settings import Settings
from fhir_server.storage.setup import SetupError

if TYPE_CHECKING:
    from fhir_server.audit.event import Event
    from fhir_server.audit.trail import Trail as Chain

#: The program that acts, where an app has its client id.
PROGRAM: Final = "command-line"


class LoggedTrail:
    """Happenings as log lines, where the audit trail is switched off."""

    async def happened(self, happening: Happening) -> None:
        structlog.get_logger("accounts").info(
            "happened",
            kind=happening.kind,
            outcome=happening.outcome,
            account=happening.account_id,
            client=happening.client_id,
            detail=happening.detail,
        )


class CommandTrail:
    """Happenings of a command on the audit trail; fills the port `model.happening.Trail`."""

    def __init__(self, chain: Chain, name: str) -> None:
        """
        Args:
            name: of the user of the operating system
        """
        self._chain = chain
        self._name = name

    async def happened(self, happening: Happening) -> None:
        """Record a happening; return when it is durable.

        Raises:
            SetupError: the database has not confirmed it in time.
        """
        try:
            await self._chain.record(event_of(happening, self._name))
        except UnavailableError:
            raise SetupError(
                "It was done, but its record on the audit trail is not confirmed: look whether MongoDB answers."
            ) from None


def event_of(happening: Happening, name: str) -> Event:
    """What the trail keeps of a happening: done by a person at the command line, to the account and app it names."""
    from fhir_server.audit.event import Who, happened  # noqa: PLC0415  (heavy: only when it is used)

    concerned = [("account", happening.account_id), ("client", happening.client_id)]
    about = ", ".join(f"{what} {which}" for what, which in concerned if which)
    patient = happening.patient.removeprefix("Patient/")
    return happened(
        happening.kind,
        outcome=happening.outcome,
        who=Who(client_id=PROGRAM, name=name),
        patients=(patient,) if patient else (),
        targets=(happening.fhir_user,) if happening.fhir_user else (),
        detail=f"{about}: {happening.detail}" if about else happening.detail,
    )


def operating_user() -> str:
    """Who runs this process, as the operating system knows them; variables of the environment are anybody's."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container that has no such user
        return f"uid {os.getuid()}"


@asynccontextmanager
async def trail_of(settings: Settings) -> AsyncIterator[Trail]:
    """The trail of a command, on the database that the settings name; all is stored when the block has ended."""
    if settings.audit == "off":
        yield LoggedTrail()
        return
    from fhir_server.app import WITNESS, audit_keys_of, definitions_of, store_of  # noqa: PLC0415  (heavy)
    from fhir_server.audit.trail import Trail as Chain  # noqa: PLC0415

    store, close = store_of(settings, definitions_of(settings))
    key, witness = audit_keys_of(settings)[0], settings.data_dir / WITNESS
    chain = Chain(store.batches, settings.base_url, key=key, witness=witness)
    try:
        await chain.start()
        try:
            yield CommandTrail(chain, operating_user())
        finally:
            await chain.close()
    finally:
        await close()


def tell(settings: Settings, happening: Happening) -> None:
    """Record one happening, from a command that is not asynchronous."""

    async def run() -> None:
        async with trail_of(settings) as trail:
            await trail.happened(happening)

    asyncio.run(run())
