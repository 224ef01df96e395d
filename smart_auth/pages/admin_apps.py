"""The pages of administrators for apps: which are registered, what they may ask for, who has let them in."""

from __future__ import annotations

from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smart_auth.client_administration import ROLES, ClientAdministration
from smart_auth.clients import AUTH_METHODS, ClientError
from smart_auth.model import Client, Session
from smart_auth.pages.administrators import ON_A_PAGE, AdministratorPages, page_of
from smart_auth.pages.page import PageError, Pages
from smart_auth.scope_words import words_of
from smart_auth.scopes import words_in

PAGE: Final = "/auth/admin/apps"
ONE: Final = "/auth/admin/app"

#: What a new app may ask for when the form says nothing else.
USUAL_SCOPE: Final = (
    "openid fhirUser profile launch launch/patient launch/encounter offline_access online_access patient/*.rs user/*.rs"
)

TEXTS: Final = ("launch_url", "logo_uri", "client_uri", "policy_uri", "description", "publisher", "scope")

#: What the page says after a change, by the word in its address.
DONE: Final = {
    "changed": "The app is changed.",
    "disabled": "The app is disabled, and all that it was allowed has ended.",
    "enabled": "The app is enabled.",
    "revoked": "The authorization has ended.",
}


class AdminAppsPages(AdministratorPages):
    """`/auth/admin/apps`, `/auth/admin/app/…`."""

    def __init__(self, pages: Pages, administration: ClientAdministration) -> None:
        super().__init__(pages, "client", "administration of apps refused")
        self._administration = administration

    def routes(self) -> list[Route]:
        route = self._pages.route
        return [
            route(PAGE, self.show),
            route(PAGE, self.add, "POST"),
            route(f"{ONE}/{{id}}", self.show_app),
            route(f"{ONE}/{{id}}", self.act, "POST"),
        ]

    async def show(self, request: Request) -> Response:
        return await self._list(request, await self._administrator(request))

    async def _list(
        self, request: Request, session: Session, *, error: str = "", values: dict[str, str] | None = None
    ) -> Response:
        found = await self._administration.page(request.query_params.get("after", ""), ON_A_PAGE + 1)
        clients, more = page_of(found, PAGE, {}, lambda client: client.client_id)
        return self._pages.show(
            request,
            "admin_apps.html",
            session=session,
            status=400 if error else 200,
            error=error,
            clients=clients,
            more=more,
            values=values or {"scope": USUAL_SCOPE},
            adding=values is not None,
            methods=[method for method in AUTH_METHODS if method != "private_key_jwt"],
        )

    async def add(self, request: Request) -> Response:
        session = await self._administrator(request)
        fields = await self._pages.form(request, session)
        members: dict[str, Any] = {name: fields.get(name, "").strip() for name in TEXTS}
        members |= {
            "client_name": " ".join(fields.get("client_name", "").split()),
            "redirect_uris": fields.get("redirect_uris", "").split(),
            "token_endpoint_auth_method": fields.get("method", "none"),
        }
        try:
            client, secret = await self._administration.add(
                members, "", by=session.account.id, visit=self._pages.visit(request)
            )
        except ClientError as error:
            return await self._list(request, session, error=str(error), values=fields)
        return await self._app(request, session, client, secret=secret, done="The app is registered.")

    async def _client(self, request: Request) -> Client:
        try:
            return await self._administration.get(request.path_params["id"])
        except LookupError:
            raise PageError(404, "Nothing here", "There is no such app.") from None

    async def show_app(self, request: Request) -> Response:
        session = await self._administrator(request)
        done = DONE.get(request.query_params.get("done", ""), "")
        return await self._app(request, session, await self._client(request), done=done)

    async def _app(
        self,
        request: Request,
        session: Session,
        client: Client,
        *,
        error: str = "",
        done: str = "",
        secret: str = "",
        values: dict[str, str] | None = None,
    ) -> Response:
        grants = await self._administration.grants(account_id=None, client_id=client.client_id)
        accounts = self._pages.parts.accounts
        rows = {grant.account_id: await run_in_threadpool(accounts.row, grant.account_id or "") for grant in grants}
        return self._pages.show(
            request,
            "admin_app.html",
            session=session,
            status=400 if error else 200,
            error=error,
            done=done,
            secret=secret,
            client=client,
            values=values or {name: getattr(client, name) for name in TEXTS},
            scope_words=[words_of(word)[0] for word in words_in(client.scope)],
            grants=[(grant, (rows[grant.account_id] or {}).get("email", "The app itself")) for grant in grants],
            roles=ROLES,
        )

    async def act(self, request: Request) -> Response:
        """One of the buttons of an app's page."""
        session = await self._administrator(request)
        fields = await self._pages.form(request, session)
        client = await self._client(request)
        how: dict[str, Any] = {"by": session.account.id, "visit": self._pages.visit(request)}
        action = fields.get("action", "")
        try:
            if action == "rotate-secret":
                secret = await self._administration.rotate_secret(client.client_id, **how)
                return await self._app(request, session, client, secret=secret)
            done = await self._done(client, action, fields, how)
        except ClientError as error:
            values = fields if action == "change" else None
            return await self._app(request, session, client, error=str(error), values=values)
        return self._pages.go(f"{ONE}/{client.client_id}?done={done}")

    async def _done(self, client: Client, action: str, fields: dict[str, str], how: dict[str, Any]) -> str:
        """Do what a button says; the word for it."""
        if action == "disable":
            await self._administration.disable(client.client_id, **how)
            return "disabled"
        if action == "enable":
            await self._administration.enable(client.client_id, **how)
            return "enabled"
        if action == "revoke":
            try:
                await self._administration.revoke(fields.get("grant", ""), **how)
            except LookupError:
                raise PageError(404, "Nothing here", "That authorization has ended already.") from None
            return "revoked"
        if action == "change":
            members: dict[str, Any] = {name: fields.get(name, "").strip() for name in TEXTS}
            members |= {
                "client_name": " ".join(fields.get("client_name", "").split()),
                "redirect_uris": fields.get("redirect_uris", "").split(),
                "state_systems": fields.get("state_systems", "").split(),
                "listed": fields.get("listed") == "yes",
                "trusted": fields.get("trusted") == "yes",
            }
            await self._administration.change(client.client_id, members, **how)
            return "changed"
        raise PageError(400, "Nothing done", "There is no such action.")
