"""Apps and authorizations for programs of administrators: JSON under `/auth/admin/clients` and `/auth/admin/grants`.

Who may call, and how errors look, is as for accounts (see `admin_api`). A secret is shown once, when it is made.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fhir_server.model.errors import ConflictError, InvalidError, NotFoundError
from smart_auth.client_administration import MEMBERS, NULLABLE, ClientAdministration
from smart_auth.clients import ClientError
from smart_auth.model import Authorization, Client
from smart_auth.pages.admin_api import AdminApi, Administrator, instant, object_of
from smart_auth.pages.page import Pages

CLIENTS = "/auth/admin/clients"
GRANTS = "/auth/admin/grants"

KINDS = {name: kind for name, (_, kind) in MEMBERS.items()}


class ClientsApi:
    """`/auth/admin/clients…`, `/auth/admin/grants…`, JSON."""

    def __init__(self, pages: Pages, admin: AdminApi, administration: ClientAdministration) -> None:
        self._pages = pages
        self._admin = admin
        self._administration = administration

    def routes(self) -> list[Route]:
        route = self._admin.route
        one = f"{CLIENTS}/{{id}}"
        return [
            route(CLIENTS, self.all, "GET"),
            route(CLIENTS, self.add, "POST"),
            route(one, self.read, "GET"),
            route(one, self.change, "PATCH"),
            route(f"{one}/disable", self.disable, "POST"),
            route(f"{one}/enable", self.enable, "POST"),
            route(f"{one}/rotate-secret", self.rotate_secret, "POST"),
            route(GRANTS, self.grants, "GET"),
            route(f"{GRANTS}/{{id}}", self.revoke, "DELETE"),
        ]

    async def all(self, request: Request, _: Administrator) -> Response:
        return _answer({"clients": [shown(client) for client in await self._administration.all()]})

    async def add(self, request: Request, caller: Administrator) -> Response:
        members = await object_of(request, {**KINDS, "client_id": str}, nullable=tuple(NULLABLE))
        client_id = members.pop("client_id", "")
        try:
            client, secret = await self._administration.add(
                members, client_id, by=caller.id, visit=self._pages.visit(request)
            )
        except ClientError as error:
            raise _of(error) from error
        body = {**shown(client), **({"client_secret": secret} if secret else {})}
        return _answer(body, 201, {"Location": f"{CLIENTS}/{client.client_id}"})

    async def read(self, request: Request, _: Administrator) -> Response:
        return _answer(shown(await self._client(request)))

    async def change(self, request: Request, caller: Administrator) -> Response:
        """A JSON merge patch (RFC 7396)."""
        client = await self._client(request)
        members = await object_of(request, KINDS, nullable=tuple(NULLABLE))
        try:
            changed = await self._administration.change(
                client.client_id, members, by=caller.id, visit=self._pages.visit(request)
            )
        except ClientError as error:
            raise _of(error) from error
        return _answer(shown(changed))

    async def disable(self, request: Request, caller: Administrator) -> Response:
        client = await self._client(request)
        visit = self._pages.visit(request)
        return _answer(shown(await self._administration.disable(client.client_id, by=caller.id, visit=visit)))

    async def enable(self, request: Request, caller: Administrator) -> Response:
        client = await self._client(request)
        visit = self._pages.visit(request)
        return _answer(shown(await self._administration.enable(client.client_id, by=caller.id, visit=visit)))

    async def rotate_secret(self, request: Request, caller: Administrator) -> Response:
        client = await self._client(request)
        try:
            secret = await self._administration.rotate_secret(
                client.client_id, by=caller.id, visit=self._pages.visit(request)
            )
        except ClientError as error:
            raise ConflictError(str(error), key="HS-CLIENT-SECRET") from error
        return _answer({"client_id": client.client_id, "client_secret": secret})

    async def grants(self, request: Request, _: Administrator) -> Response:
        query = request.query_params
        found = await self._administration.grants(
            account_id=query.get("account") or None, client_id=query.get("client") or None
        )
        return _answer({"grants": [shown_grant(grant) for grant in found]})

    async def revoke(self, request: Request, caller: Administrator) -> Response:
        try:
            await self._administration.revoke(request.path_params["id"], by=caller.id, visit=self._pages.visit(request))
        except LookupError:
            raise NotFoundError("There is no such authorization in force.", key="HS-GRANT-UNKNOWN") from None
        return Response(status_code=204, headers={"Cache-Control": "no-store"})

    async def _client(self, request: Request) -> Client:
        try:
            return await self._administration.get(request.path_params["id"])
        except LookupError:
            raise NotFoundError("There is no such client.", key="HS-CLIENT-UNKNOWN") from None


def shown(client: Client) -> dict[str, Any]:
    """An app as administrators see it: all but the hash of its secret."""
    members = {name: getattr(client, field) for name, (field, _) in MEMBERS.items()}
    return {
        "client_id": client.client_id,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in members.items()},
        "active": client.active,
        "has_secret": bool(client.secret_hash),
        "created_at": instant(client.created_at),
    }


def shown_grant(grant: Authorization) -> dict[str, Any]:
    """An authorization as administrators see it: who allowed what to whom; not about which patient, which is the
    user's own affair."""
    return {
        "id": grant.id,
        "client_id": grant.client_id,
        "account": grant.account_id,
        "scope": grant.scope,
        "purpose": grant.purpose,
        "created_at": instant(grant.created_at),
        "expires_at": instant(grant.expires_at),
        "last_used_at": instant(grant.last_used_at),
    }


def _of(error: ClientError) -> InvalidError:
    return InvalidError(str(error), key="HS-CLIENT-FIELD")


def _answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(content, status, {"Cache-Control": "no-store", **(headers or {})})
