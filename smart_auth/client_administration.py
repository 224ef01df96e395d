"""What administrators do with apps and with what people have allowed them; each change is told to the trail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from fhir_server.model.access import Role
from fhir_server.model.happening import Happening, Trail
from smart_auth.authorizations import Authorizations
from smart_auth.clients import ClientError, Clients
from smart_auth.model import Authorization, Client
from smart_auth.parts import Visit

#: Members of the JSON of an app, the fields that they are, and their kinds. The names are RFC 7591's where it has one.
MEMBERS: Final[dict[str, tuple[str, type]]] = {
    "client_name": ("name", str),
    "token_endpoint_auth_method": ("auth_method", str),
    "redirect_uris": ("redirect_uris", list),
    "scope": ("scope", str),
    "grant_types": ("grant_types", list),
    "launch_url": ("launch_url", str),
    "logo_uri": ("logo_uri", str),
    "client_uri": ("client_uri", str),
    "policy_uri": ("policy_uri", str),
    "contacts": ("contacts", list),
    "jwks": ("jwks", dict),
    "jwks_uri": ("jwks_uri", str),
    "description": ("description", str),
    "publisher": ("publisher", str),
    "role": ("role", str),
    "organization": ("organization", str),
    "trusted": ("trusted", bool),
    "listed": ("listed", bool),
    "state_systems": ("state_systems", list),
}

#: Members that can be taken away by null.
NULLABLE: Final = frozenset({"jwks", "organization"})

#: Which roles a client that acts for itself can have.
ROLES: Final[tuple[Role, ...]] = (
    "system",
    "pharmacy",
    "practitioner",
    "front-desk",
    "auditor",
    "administrator",
)


class ClientAdministration:
    """Apps and grants, changed by administrators."""

    def __init__(self, clients: Clients, authorizations: Authorizations, trail: Trail) -> None:
        self._clients = clients
        self._authorizations = authorizations
        self._trail = trail

    async def all(self) -> list[Client]:
        return await run_in_threadpool(self._clients.all)

    async def page(self, after: str, limit: int) -> list[Client]:
        """Some of them, behind the one that is named."""
        return await run_in_threadpool(self._clients.page, after, limit)

    async def get(self, client_id: str) -> Client:
        """
        Raises:
            LookupError: there is no such client.
        """
        client = await run_in_threadpool(self._clients.get, client_id)
        if client is None:
            raise LookupError(client_id)
        return client

    async def add(self, members: dict[str, Any], client_id: str, *, by: str, visit: Visit) -> tuple[Client, str]:
        """Register an app; its secret, when it has one, is given this once.

        Raises:
            ClientError
        """
        bare = Client(client_id=client_id, name="", auth_method="none", created_at=None)
        client, secret = await run_in_threadpool(self._clients.add, self._changed(bare, members))
        await self._tell(client.client_id, f"added by {by}", visit)
        return await self.get(client.client_id), secret

    async def change(self, client_id: str, members: dict[str, Any], *, by: str, visit: Visit) -> Client:
        """Change some of an app; what was allowed to it ends when it may ask for less, or acts in another role.

        Raises:
            LookupError, ClientError
        """
        client = self._changed(await self.get(client_id), members)
        changed = await run_in_threadpool(self._clients.update, client)
        await self._tell(client_id, f"changed by {by}: {', '.join(sorted(members))}", visit)
        return changed

    def _changed(self, client: Client, members: dict[str, Any]) -> Client:
        fields: dict[str, Any] = {
            MEMBERS[name][0]: tuple(value) if isinstance(value, list) else value for name, value in members.items()
        }
        changed = replace(client, **fields)
        if changed.role not in ROLES:
            raise ClientError(f"The role is one of {', '.join(ROLES)}.")
        for system in changed.state_systems:
            if ":" not in system or len(system) > 500:
                raise ClientError("A system of app state is an absolute URI.")
        return changed

    async def rotate_secret(self, client_id: str, *, by: str, visit: Visit) -> str:
        """
        Raises:
            LookupError, ClientError
        """
        await self.get(client_id)
        secret = await run_in_threadpool(self._clients.rotate_secret, client_id)
        await self._tell(client_id, f"new secret made by {by}", visit)
        return secret

    async def disable(self, client_id: str, *, by: str, visit: Visit) -> Client:
        """Let an app do nothing any more; all that it was allowed ends.

        Raises:
            LookupError
        """
        await self.get(client_id)
        await run_in_threadpool(self._clients.deactivate, client_id)
        await self._tell(client_id, f"disabled by {by}", visit)
        return await self.get(client_id)

    async def enable(self, client_id: str, *, by: str, visit: Visit) -> Client:
        """Let it ask again; what it was allowed before stays ended.

        Raises:
            LookupError
        """
        client = await self.get(client_id)
        changed = await run_in_threadpool(self._clients.update, replace(client, active=True))
        await self._tell(client_id, f"enabled by {by}", visit)
        return changed

    async def grants(self, *, account_id: str | None, client_id: str | None) -> list[Authorization]:
        """What is allowed now, by an account, to a client, or at all; the latest first."""
        return await run_in_threadpool(lambda: self._authorizations.of(account_id=account_id, client_id=client_id))

    async def revoke(self, grant_id: str, *, by: str, visit: Visit) -> None:
        """
        Raises:
            LookupError: there is no such authorization in force.
        """
        grant = await run_in_threadpool(self._authorizations.get, grant_id)
        if grant is None or grant.revoked_at is not None:
            raise LookupError(grant_id)
        await run_in_threadpool(self._authorizations.revoke, grant_id)
        await self._trail.happened(
            Happening(
                "token-revoked",
                account_id=grant.account_id or "",
                client_id=grant.client_id,
                patient=grant.context.patient or "",
                address=visit.address,
                request_id=visit.request_id,
                detail=f"authorization revoked by {by}",
            )
        )

    async def _tell(self, client_id: str, what: str, visit: Visit) -> None:
        await self._trail.happened(
            Happening("client", client_id=client_id, address=visit.address, request_id=visit.request_id, detail=what)
        )
