"""What an interaction works with, whoever calls it: HTTP, an entry of a Bundle, a job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fhir_server.interactions.outlets import Outlet
from fhir_server.interactions.ports import PdfSigner, Scanner, SignIn, Standing
from fhir_server.interactions.registration import Creating, Handler, Interaction, Operation
from fhir_server.jobs.feed import Feed
from fhir_server.jobs.jobs import Jobs
from fhir_server.jobs.timers import Timers
from fhir_server.model.access import NOBODY, Caller
from fhir_server.model.errors import FhirError
from fhir_server.model.happening import Trail
from fhir_server.policies.glass import BreakGlass
from fhir_server.repository.definitions import Definitions
from fhir_server.repository.repository import Repository
from fhir_server.repository.search import Searcher
from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit
from fhir_server.terminology.engine import Engine
from fhir_server.validation.profile.validator import ProfileValidator
from profiles.registry import Registry

CaughtUp = Callable[[], Awaitable[None]]

#: Ends what an account, whose user was a resource, had without signing in.
AccountEnded = Callable[["Context", str, "str | None"], Awaitable[None]]

#: Says more of a failure than who has found it could.
Explaining = Callable[["Context", Any], Awaitable[FhirError]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for; see `docs/settings.md`."""

    default_page_size: int = 20
    max_page_size: int = 1000
    max_bundle_entries: int = 50_000
    conditional_delete: int = 1
    cascade: int = 1000
    document_types: tuple[str, ...] = ("*/*",)
    retention_file: Path = Path()
    collect_days: int = 14
    pharmacy_feed_days: int = 180
    doctor_approvals: int = 2
    if_match_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """The server as interactions see it.

    `caller` is who asks, and all that is reached from here is held to what they may see and change; `unguarded` is the
    server without that, for operations that say so (`Operation.elevated`), None where nothing is limited. Those have in
    `seen` what their caller sees. `break_glass`
    opens records in emergencies; None where no access control is. `security` is what the CapabilityStatement says of
    signing in, as JSON; empty where nobody does. `scanner` looks for viruses in what is uploaded; None where there is
    none. `creating` are other ways to create resources of some types, each asked first. `signer` signs what is issued.
    `witness` is the audit trail, for what jobs do; None where it is switched off. `outlets` are the ways by which
    people are told of things outside of this server, by name. `explaining` completes what is told of some failures.
    `sign_in` leads to the accounts of people; `account_ended` is called when one has ended.

    `terminology` finds code systems and value sets. `standings` are told how doctors stand.

    `table` and `operations` list what it does; `dispatch` answers any request by them, for Bundles. Errors come out as
    exceptions. `jobs`, `feed` and `timers` go on beside requests. `caught_up` returns when all that was done until now
    can be found as AuditEvents.

    `awaited` is the same server where each write is durable when it returns; None where it is so here.
    """

    registry: Registry
    repository: Repository
    searcher: Searcher
    limits: Limits
    table: tuple[Interaction, ...]
    operations: tuple[Operation, ...]
    dispatch: Handler
    definitions: Definitions
    jobs: Jobs
    feed: Feed
    timers: Timers
    profiles: ProfileValidator
    terminology: Engine
    caught_up: CaughtUp | None = None
    caller: Caller = NOBODY
    unguarded: Context | None = None
    guarded: Context | None = None
    awaited: Context | None = None
    break_glass: BreakGlass | None = None
    security: bytes = b""
    scanner: Scanner | None = None
    creating: Mapping[str, Creating] = field(default_factory=dict)
    signer: PdfSigner | None = None
    witness: Trail | None = None
    data_dir: Path | None = None
    outlets: Mapping[str, Outlet] = field(default_factory=dict)
    explaining: Mapping[type[FhirError], Explaining] = field(default_factory=dict)
    sign_in: SignIn = field(default_factory=SignIn)
    account_ended: AccountEnded | None = None
    standings: list[Standing] = field(default_factory=list)

    def under(self, caller: Caller, store: Store) -> Context:
        """The same server as a caller sees it, through the store that holds to their policy."""
        return replace(
            self,
            repository=self.repository.under(store, caller),
            searcher=self.searcher.under(store),
            caller=caller,
            unguarded=self,
        )

    def beyond(self) -> Context:
        """The same server without the limits of the caller, in whose name it is still changed."""
        if self.unguarded is None:
            return self
        return replace(
            self.unguarded,
            repository=self.unguarded.repository.speaking_for(self.caller),
            caller=self.caller,
            guarded=self,
        )

    @property
    def seen(self) -> Context:
        """The server as the caller sees it, in an operation that reaches beyond that."""
        return self.guarded or self

    def unawaited(self) -> Context:
        """The same server for one change whose audit record is durable before it is answered: see `Store.unawaited`.

        What is done after a write, and would read it again, needs `awaited`.
        """
        return replace(self, repository=self.repository.unawaited(), awaited=self)

    def within(self, unit: Unit) -> Context:
        """The same server, reading what a transaction sees."""
        return replace(self, repository=self.repository.within(unit), searcher=self.searcher.within(unit))
