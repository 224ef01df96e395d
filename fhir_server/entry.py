"""The way in, put together: who signs in, who calls, and the server as they see it.

It joins the sign-in side (`smart_auth`), which knows accounts, apps and tokens, with the policies and the guard, which
know resources. One for each worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from fhir_server import doctors
from fhir_server.access.entrance import Entrance
from fhir_server.accounts import account_side_of
from fhir_server.authorization import authorization_server_of, terms_of
from fhir_server.brand import brand_of
from fhir_server.http.rates import Rate
from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.access import Caller, Identity
from fhir_server.model.clock import new_id
from fhir_server.model.ending import ended
from fhir_server.model.happening import Happening, Trail
from fhir_server.policies.glass import BreakGlass, Glass
from fhir_server.policies.policies import Policies
from fhir_server.policies.roles import load_roles
from fhir_server.records import FhirRecords
from fhir_server.repository.repository import Change
from fhir_server.settings import Settings
from fhir_server.storage.store import Store
from profiles.registry import Registry
from profiles.terminology import terminology
from smart_auth.account_side import Neighbours
from smart_auth.app_state_api import BASE as APP_STATE
from smart_auth.bearer import OPERATOR, TokenError
from smart_auth.discovery import security_of
from smart_auth.granted_apps import GrantedApps
from smart_auth.launch_side import LaunchSide, configuration_of
from smart_auth.launches import LaunchTokens
from smart_auth.operator_token import OperatorToken, load_or_create
from smart_auth.register import PATH as REGISTER
from smart_auth.store import AuthStore
from smart_auth.vault import Vault
from smart_auth.vault import load_or_create as load_vault_keys

#: Who runs the server.
OPERATING = Caller(OPERATOR)


class Entry:
    """Accounts, apps, tokens, policies: everything between a request and the resources.

    Attributes:
        break_glass: opens records in emergencies, for the context of the interactions
        security: what the CapabilityStatement says of signing in, as JSON
    """

    def __init__(
        self, settings: Settings, store: Store, known: Registry, server: Context, entrance: Entrance, trail: Trail
    ) -> None:
        """
        Args:
            server: the whole server, from which nothing is hidden
            entrance: gives the store that holds to a policy
            trail: where sign-ins, tokens, refusals and broken glass are recorded
        """
        uri = settings.mongodb_uri.get_secret_value() if settings.mongodb_uri else ""
        self._rows = AuthStore.connect(uri, settings.mongodb_database)
        self._server = server
        self._entrance = entrance

        async def create(resource: dict[str, Any]) -> str:
            change = Change("POST", resource["resourceType"], new_id(), resource, fresh=True)
            return (await server.repository.commit(change)).version.id

        self.break_glass = BreakGlass(store, create, GlassTrail(trail), most_minutes=settings.break_glass_minutes)
        table = load_roles(known, settings.roles_file if settings.roles_file != Path() else None)
        self._policies = Policies(
            store,
            server.searcher,
            known,
            terminology(),
            table,
            self.break_glass,
            base_url=settings.base_url,
            base_permits=settings.consent_default == "permit",
        )
        vault = Vault(load_vault_keys(settings.vault_key_file))
        apps = GrantedApps()
        records = FhirRecords(server, self.entered)
        brand, tokens = brand_of(settings), LaunchTokens(self._rows)
        self.accounts = account_side_of(
            settings,
            self._rows,
            vault,
            Neighbours(
                records=records,
                trail=trail,
                credentials_changed=self._credentials_changed,
                apps=apps,
                bearer=self._identity_of,
                session_ended=self._session_ended,
                account_ended=self._account_ended,
                applications=doctors.DoctorApplications(server),
            ),
        )
        doctors.join(server, self.accounts.verification)
        self._operator = OperatorToken(load_or_create(settings.access_token_file))
        self.authorization = authorization_server_of(
            settings,
            self._rows,
            vault,
            self.accounts.sessions,
            launches=tokens,
            trail=trail,
            operator=self._operator,
            more_configuration=configuration_of(brand, terms_of(settings)),
            client_wait_s=Rate(settings.auth_requests_per_minute).wait_s,
            purposes=table.purposes,
        )
        apps.server = self.authorization
        self.launches = LaunchSide(self._rows, vault, self.authorization, self.accounts, tokens, records, trail, brand)
        self.security = codec.encode(security_of(self.authorization.terms))
        self._open_paths = frozenset(r.path for r in self.authorization.routes if "OPTIONS" in (r.methods or ()))
        self._watching: list[asyncio.Task[None]] = []

    # --- who calls --------------------------------------------------------------------------------------------------

    async def caller_of(self, authorization: str | None) -> Caller:
        """Who sends a request, and what they may do; fills the port `Gate`.

        Raises:
            UnauthorizedError: 401; there is no token, or none that is good.
        """
        identity = self.authorization.bearer.identify(authorization)
        if identity is OPERATOR:
            return OPERATING
        return Caller(identity, await self._policies.of(identity))

    async def entered(self, identity: Identity) -> Context:
        """The server as a user sees it."""
        caller = Caller(identity, await self._policies.of(identity))
        if caller.policy.everything:
            return self._server
        return self._server.under(caller, self._entrance.store_for(caller.policy))

    def noticed(self, types: Iterable[str], subject: str) -> None:
        """Somebody wrote resources of these types: what policies are made of them acts at once in this process."""
        for resource_type in types:
            self._policies.noticed(resource_type, subject)

    async def _identity_of(self, request: Request) -> Identity | None:
        with suppress(TokenError):
            return self.authorization.bearer.identify(request.headers.get("authorization"))
        return None

    async def _credentials_changed(self, account_id: str) -> None:
        await asyncio.to_thread(self.authorization.authorizations.revoke_account, account_id)

    async def _account_ended(self, account_id: str, fhir_user: str | None) -> None:
        if self._server.account_ended is not None:
            await self._server.account_ended(self._server, account_id, fhir_user)

    def _session_ended(self, session_id: str) -> None:
        """Somebody signed out: what they had allowed for as long as they were signed in (`online_access`) ends."""
        self.authorization.authorizations.end_session(session_id)

    def is_operator(self, authorization: str | None) -> bool:
        """Whether the header carries the operator's token."""
        return self._operator.accepts(authorization or "")

    def answers_preflight(self, path: str) -> bool:
        """Whether an endpoint tells browsers by itself which pages may call it."""
        return path in self._open_paths or path.startswith((f"{REGISTER}/", f"{APP_STATE}/"))

    # --- life -------------------------------------------------------------------------------------------------------

    def routes(self) -> list[BaseRoute]:
        """All pages and endpoints of the sign-in side."""
        return [*self.authorization.routes, *self.accounts.routes(), *self.launches.routes()]

    async def open(self) -> None:
        await asyncio.to_thread(self.authorization.open)
        await self.accounts.open()
        await self.launches.open()
        await self._policies.open()
        self._watching = [
            asyncio.create_task(self.authorization.watch(), name="revocations and keys"),
            asyncio.create_task(self.break_glass.watch(), name="broken glass"),
        ]

    async def close(self) -> None:
        await ended(self._watching)
        await self.accounts.close()
        await asyncio.to_thread(self._rows.close)


class GlassTrail:
    """Broken glass on the audit trail; fills the port `Witness` of the policies."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    async def glass_broken(self, glass: Glass) -> None:
        minutes = (glass.ends_us - glass.started_us) // 60_000_000
        await self._trail.happened(self._of("break-glass-start", glass, f"for {minutes} minutes; review {glass.task}"))

    async def glass_mended(self, glass: Glass) -> None:
        await self._trail.happened(self._of("break-glass-stop", glass, f"review {glass.task}"))

    def _of(self, kind: str, glass: Glass, detail: str) -> Happening:
        return Happening(
            kind,
            account_id=glass.subject,
            client_id=glass.client_id,
            fhir_user=glass.user or "",
            patient=glass.patient,
            detail=detail,
        )
