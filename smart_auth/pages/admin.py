"""The pages of administrators: the accounts, one account, and the local mails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smart_auth.accounts import HUMAN_ROLES, STATES, EmailTakenError
from smart_auth.administration import Administration, FieldError, StateError
from smart_auth.mail import SinkMail
from smart_auth.model import Session
from smart_auth.pages.administrators import ON_A_PAGE, AdministratorPages, page_of
from smart_auth.pages.page import PageError, Pages
from smart_auth.store import Row
from smart_auth.verification import ALLOWED, DecisionError, Verification, decision_of

PAGE = "/auth/admin"


class AdminPages(AdministratorPages):
    """`/auth/admin`, `/auth/admin/account/…`, `/auth/admin/mail`."""

    def __init__(
        self,
        pages: Pages,
        administration: Administration,
        verification: Verification,
        sink: SinkMail | None,
    ) -> None:
        super().__init__(pages, "account", "account administration refused")
        self._administration = administration
        self._verification = verification
        self._sink = sink

    def routes(self) -> list[Route]:
        route = self._pages.route
        routes = [
            route(PAGE, self.show),
            route(f"{PAGE}/invite", self.invite, "POST"),
            route(f"{PAGE}/account/{{id}}", self.show_account),
            route(f"{PAGE}/account/{{id}}", self.act, "POST"),
        ]
        if self._sink is not None:
            routes.append(route(f"{PAGE}/mail", self.mail))
        return routes

    async def show(self, request: Request) -> Response:
        return await self._list(request, await self._administrator(request))

    async def _list(
        self,
        request: Request,
        session: Session,
        *,
        status: int = 200,
        error: str = "",
        values: dict[str, str] | None = None,
    ) -> Response:
        query = request.query_params
        filters = {name: query.get(name, "") for name in ("text", "role", "state")}
        rows = await self._administration.search(**filters, after=query.get("after", ""), limit=ON_A_PAGE + 1)
        rows, more = page_of(rows, PAGE, filters, lambda row: str(row["_id"]))
        return self._pages.show(
            request,
            "admin.html",
            session=session,
            status=status,
            error=error,
            rows=rows,
            more=more,
            filters=filters,
            roles=HUMAN_ROLES,
            states=STATES,
            values=values or {},
            sink=self._sink is not None,
            invited=query.get("invited", ""),
        )

    async def invite(self, request: Request) -> Response:
        session = await self._administrator(request)
        fields = await self._pages.form(request, session)
        try:
            account, _ = await self._administration.invite(
                email=fields.get("email", ""),
                name=" ".join(fields.get("name", "").split()),
                role=fields.get("role", ""),
                fhir_user=fields.get("fhir_user", "").strip(),
                organization=fields.get("organization", "").strip(),
                patients=fields.get("patients", "").replace(",", " ").split(),
                by=session.account.id,
                inviter=session.account.name,
                visit=self._pages.visit(request),
            )
        except FieldError as error:
            return await self._list(request, session, status=400, error=str(error), values=fields)
        except EmailTakenError:
            return await self._list(
                request, session, status=409, error="Another account has this address.", values=fields
            )
        return self._pages.go(f"{PAGE}?invited={quote(account.email, safe='')}")

    async def _row(self, request: Request) -> Row:
        try:
            return await self._administration.row(request.path_params["id"])
        except LookupError:
            raise PageError(404, "Nothing here", "There is no such account.") from None

    async def show_account(self, request: Request) -> Response:
        session = await self._administrator(request)
        return await self._account(request, session)

    async def _account(self, request: Request, session: Session, *, status: int = 200, error: str = "") -> Response:
        row = await self._row(request)
        verification = row.get("verification")
        return self._pages.show(
            request,
            "admin_account.html",
            session=session,
            status=status,
            error=error,
            row=row,
            decisions=ALLOWED[verification["state"]] if verification and row["_id"] != session.account.id else (),
            own=row["_id"] == session.account.id,
        )

    async def act(self, request: Request) -> Response:
        """One of the buttons of an account's page."""
        session = await self._administrator(request)
        fields = await self._pages.form(request, session)
        row = await self._row(request)
        action = fields.get("action", "")
        how: dict[str, Any] = {"by": session.account.id, "visit": self._pages.visit(request)}
        administration = self._administration
        actions: dict[str, Callable[..., Awaitable[Any]]] = {
            "disable": administration.disable,
            "enable": administration.enable,
            "reset-second-factor": administration.reset_second_factor,
            "sign-out": administration.sign_out,
            "send-link": administration.send_link,
        }
        try:
            if action in actions:
                await actions[action](row["_id"], **how)
            elif (decision := decision_of(action)) and "verification" in row:
                await self._verification.decide(row["_id"], decision, note=fields.get("note", ""), **how)
            else:
                raise PageError(400, "Nothing done", "There is no such action.")
        except (StateError, DecisionError) as error:
            return await self._account(request, session, status=409, error=str(error))
        if row["_id"] == session.account.id:
            return self._pages.go("/auth/sign-in")  # somebody who signs themselves out everywhere
        return self._pages.go(f"{PAGE}/account/{row['_id']}")

    async def mail(self, request: Request) -> Response:
        """The mails that would have been sent; for anybody only where there is no access control at all."""
        if self._sink is None:
            raise PageError(404, "Nothing here", "Mails leave by SMTP.")
        session = None if self._pages.parts.rules.open_mail else await self._administrator(request)
        return self._pages.show(
            request,
            "mails.html",
            session=session,
            mails=await run_in_threadpool(self._sink.latest),
        )
