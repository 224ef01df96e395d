"""Accounts of doctors and the verification of doctors, joined: one process, which both sides tell the same.

Fills the port `Applications` of `smart_auth`, by which administrators decide on the pages of accounts, and the port
`Standing` of the interactions, by which accounts follow whatever was decided wherever.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

from fhir_server.interactions.context import Context
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.model import codec
from fhir_server.model.errors import ConflictError, NotFoundError
from fhir_server.storage.unit import Unit
from resources.verification.calling import decided, prepare, tell_accounts
from resources.verification.deciding import Decision
from resources.verification.process import Application, Person, apply_within, read_application
from resources.verification.words import APPROVE, EXPIRE, REFUSE, REVALIDATE, is_application
from smart_auth.ports import Decided, DoctorStanding
from smart_auth.verification import Verification

#: Follows applications for accounts; a process without accounts does not know it, and leaves it to those that do.
FOLLOWER: Final = "doctor-accounts"

#: What the pages of accounts call what is decided, and what the process does.
WORDS: Final = {"approve": APPROVE, "reject": REFUSE, "reopen": REVALIDATE}
_SHOWN: Final = {APPROVE: "approve", REFUSE: "reject", REVALIDATE: "reopen", EXPIRE: "reopen"}


class DoctorApplications:
    """The process, as accounts see it."""

    def __init__(self, server: Context) -> None:
        self._server = server

    async def open(self, practitioner: str, account_id: str) -> None:
        await prepare(self._server)
        with suppress(ConflictError):  # it is there already

            async def work(unit: Unit) -> Application:
                return await apply_within(self._server, unit, practitioner, Person(account_id, practitioner))

            await self._server.repository.store.transact(work)

    async def decide(self, practitioner: str, decision: str, by: str, user: str | None, note: str) -> DoctorStanding:
        made = Decision(WORDS[decision], Person(by, user), note)
        application = await decided(self._server, practitioner, made)
        rows = [(d.who, d.what, d.at, d.note) for d in application.decisions]
        return standing_of(application.state, rows, application.version)


def join(server: Context, verification: Verification) -> None:
    """Have accounts follow what is decided: at once where it is decided here, and surely wherever it was."""
    server.standings.append(DoctorAccounts(verification))

    async def followed(changes: Sequence[Changed]) -> None:
        for changed in changes:
            task = codec.decode(changed.body) if changed.body is not None else {}
            if is_application(task):
                await _follow(server, str(task["focus"]["reference"]))

    server.feed.register(Follower(FOLLOWER, frozenset({"Task"}), followed, from_start=True))


async def _follow(server: Context, practitioner: str) -> None:
    async def work(unit: Unit) -> Application:
        return await read_application(unit, practitioner)

    with suppress(NotFoundError):  # the Practitioner is gone, and so is what there was to follow
        await tell_accounts(server, await server.repository.store.transact(work))


class DoctorAccounts:
    """Accounts, as the process sees them."""

    def __init__(self, verification: Verification) -> None:
        self._verification = verification

    async def follow(
        self, practitioner: str, state: str, decisions: Sequence[tuple[str, str, str, str]], version: int
    ) -> None:
        await self._verification.follow(practitioner, standing_of(state, decisions, version))


def standing_of(state: str, decisions: Sequence[tuple[str, str, str, str]], version: int) -> DoctorStanding:
    rows = [
        Decided(who, _SHOWN[what], datetime.fromisoformat(at), note)
        for who, what, at, note in decisions
        if what in _SHOWN
    ]
    return DoctorStanding(state, tuple(rows), version)
