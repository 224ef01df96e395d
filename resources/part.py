"""What a package of `resources` adds to the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from fhir_server.interactions.context import AccountEnded, Context, Explaining
from fhir_server.interactions.registration import Creating, Operation
from fhir_server.model.errors import FhirError
from fhir_server.repository.rules import Companion, Completing, Rule


@dataclass(frozen=True, slots=True)
class Part:
    """One behaviour.

    Attributes:
        name: of its package
        operations: those that it adds; each needs an OperationDefinition in `profiles/definitions`
        rules: with the resource types whose writes they look at
        companions: with the resource types that they write along with
        completing: what completes writes by what is there of other resources, with the types of these writes
        join: called once when the server is put together, before it opens: registers what follows the change feed
            (`context.feed`), what happens at a moment (`context.timers`) and what goes on in the background
            (`context.jobs`)
        creating: with the resource types that it creates in a way of its own
        explaining: with the failures of which it can say more than who finds them
        account_ended: ends what somebody had of this part without signing in, when their account ends or is disabled
        during: what goes on while the server runs, from when its database is open until before that is closed
    """

    name: str
    operations: tuple[Operation, ...] = ()
    rules: tuple[tuple[str, Rule], ...] = ()
    companions: tuple[tuple[str, Companion], ...] = ()
    completing: tuple[tuple[str, Completing], ...] = ()
    join: Callable[[Context], None] | None = None
    creating: tuple[tuple[str, Creating], ...] = ()
    account_ended: AccountEnded | None = None
    explaining: tuple[tuple[type[FhirError], Explaining], ...] = ()
    during: Callable[[Context], AbstractAsyncContextManager[None]] | None = None
