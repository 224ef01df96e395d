"""Accounts for programs of administrators: JSON under `/auth/admin/accounts`.

For an administrator's browser session (with its CSRF token in `X-CSRF-Token`), for an access token of an administrator
with the scope `accounts`, and for the operator. Errors are OperationOutcomes, as at the FHIR base. What it shows are
accounts; there is no way from here to clinical data.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fhir_server.model.access import Identity
from fhir_server.model.errors import (
    ConflictError,
    FhirError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
)
from smart_auth.accounts import EmailTakenError, account_of
from smart_auth.administration import Administration, FieldError, StateError
from smart_auth.pages.page import CSRF_HEADER, PageError, Pages
from smart_auth.parts import REFUSED
from smart_auth.scopes import ACCOUNTS
from smart_auth.store import Row
from smart_auth.verification import DecisionError, Verification, decision_of

#: What a token of an administrator must carry: an app that was let in for records gets no accounts.
SCOPE = ACCOUNTS
MOST = 200
LARGEST_BODY_BYTES = 64 * 1024

#: Who a bearer token belongs to; None when it is not good. Filled by the token side.
Bearer = Callable[[Request], Awaitable[Identity | None]]


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who does it: the id for the trail, the name for mails."""

    id: str
    name: str


class AdminApi:
    """`/auth/admin/accounts…`, JSON."""

    def __init__(
        self, pages: Pages, administration: Administration, verification: Verification, bearer: Bearer
    ) -> None:
        self._pages = pages
        self._administration = administration
        self._verification = verification
        self._bearer = bearer

    def routes(self) -> list[Route]:
        base = "/auth/admin/accounts"
        actions = {
            "disable": self.disable,
            "enable": self.enable,
            "reset-second-factor": self.reset_second_factor,
            "sign-out": self.sign_out,
            "send-link": self.send_link,
            "verification": self.decide,
        }
        return [
            self.route(base, self.search, "GET"),
            self.route(base, self.invite, "POST"),
            self.route(f"{base}/{{id}}", self.read, "GET"),
            self.route(f"{base}/{{id}}", self.change, "PATCH"),
            *(self.route(f"{base}/{{id}}/{name}", action, "POST") for name, action in actions.items()),
        ]

    def route(self, path: str, handler: Callable[[Request, Administrator], Awaitable[Response]], method: str) -> Route:
        """A route for administrators alone."""

        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request, await self.administrator(request))
            except FhirError as error:
                headers = {"Cache-Control": "no-store", **error.headers}
                return JSONResponse(error.outcome(), error.status, headers, "application/fhir+json")

        return Route(path, endpoint, methods=[method])

    async def administrator(self, request: Request) -> Administrator:
        """Who asks.

        Raises:
            UnauthorizedError, ForbiddenError
        """
        if "authorization" in request.headers:
            identity = await self._bearer(request)
            if identity is None:
                raise UnauthorizedError(
                    "The access token is not good.", key="HS-ADMIN-TOKEN", headers={"WWW-Authenticate": "Bearer"}
                )
            allowed = identity.role == "operator" or (
                identity.role == "administrator" and SCOPE in identity.scope.split()
            )
            caller = Administrator(identity.subject or "operator", "The operator")
        else:
            session = await self._pages.session(request)
            if session is None:
                raise UnauthorizedError(
                    "Sign in, or send an access token.",
                    key="HS-ADMIN-TOKEN",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            allowed = session.account.role == "administrator"
            caller = Administrator(session.account.id, session.account.name)
            if allowed and request.method not in ("GET", "HEAD"):
                try:
                    self._pages.check_csrf(request, session, request.headers.get(CSRF_HEADER, ""))
                except PageError:
                    raise ForbiddenError("X-CSRF-Token is not that of the session.", key="HS-ADMIN-CSRF") from None
        if not allowed:
            await self._pages.parts.note(
                "account",
                "account administration refused",
                self._pages.visit(request),
                outcome=REFUSED,
                account_id=caller.id,
            )
            raise ForbiddenError(
                "Only administrators may do this; a token needs the scope `accounts`.", key="HS-ADMIN-ONLY"
            )
        return caller

    # --- reading ------------------------------------------------------------------------------------------------

    async def search(self, request: Request, _: Administrator) -> Response:
        query = request.query_params
        try:
            limit = min(MOST, max(1, int(query.get("count", "50"))))
        except ValueError:
            raise InvalidError("`count` is no number.", key="HS-ACCOUNT-FIELD") from None
        rows = await self._administration.search(
            text=query.get("text", ""),
            role=query.get("role", ""),
            state=query.get("state", ""),
            after=query.get("after", ""),
            limit=limit + 1,
        )
        page = rows[:limit]
        return self._answer(
            {"accounts": [shown(row) for row in page], "after": page[-1]["_id"] if len(rows) > limit else None}
        )

    async def read(self, request: Request, _: Administrator) -> Response:
        return self._answer(shown(await self._row(request)))

    # --- changing -----------------------------------------------------------------------------------------------

    async def invite(self, request: Request, caller: Administrator) -> Response:
        fields = await object_of(
            request, {"email": str, "name": str, "role": str, "fhirUser": str, "organization": str, "patients": list}
        )
        try:
            account, _ = await self._administration.invite(
                email=fields.get("email", ""),
                name=fields.get("name", ""),
                role=fields.get("role", ""),
                fhir_user=fields.get("fhirUser", ""),
                organization=fields.get("organization", ""),
                patients=fields.get("patients", []),
                by=caller.id,
                inviter=caller.name,
                visit=self._pages.visit(request),
            )
        except FieldError as error:
            raise _of_field(error) from error
        except EmailTakenError:
            raise ConflictError("Another account has this address.", key="HS-ACCOUNT-EMAIL") from None
        row = await self._administration.row(account.id)
        return self._answer(shown(row), 201, {"Location": f"/auth/admin/accounts/{account.id}"})

    async def change(self, request: Request, caller: Administrator) -> Response:
        """A JSON merge patch (RFC 7396) of name, role, organization, fhirUser and patients."""
        kinds: dict[str, type] = {"name": str, "role": str, "fhirUser": str, "organization": str, "patients": list}
        fields = await object_of(request, kinds, nullable=("fhirUser", "organization"))
        if "fhirUser" in fields:
            fields["fhir_user"] = fields.pop("fhirUser")
        try:
            row = await self._administration.change(
                (await self._row(request))["_id"], fields, by=caller.id, visit=self._pages.visit(request)
            )
        except FieldError as error:
            raise _of_field(error) from error
        except StateError as error:
            raise ConflictError(str(error), key="HS-ACCOUNT-STATE") from error
        return self._answer(shown(row))

    async def disable(self, request: Request, caller: Administrator) -> Response:
        return await self._done(request, caller, self._administration.disable)

    async def enable(self, request: Request, caller: Administrator) -> Response:
        return await self._done(request, caller, self._administration.enable)

    async def reset_second_factor(self, request: Request, caller: Administrator) -> Response:
        return await self._done(request, caller, self._administration.reset_second_factor)

    async def sign_out(self, request: Request, caller: Administrator) -> Response:
        return await self._done(request, caller, self._administration.sign_out)

    async def send_link(self, request: Request, caller: Administrator) -> Response:
        return await self._done(request, caller, self._administration.send_link)

    async def decide(self, request: Request, caller: Administrator) -> Response:
        """`{"decision": "approve" | "reject" | "reopen", "note": "…"}` on a doctor's application."""
        fields = await object_of(request, {"decision": str, "note": str})
        decision = decision_of(fields.get("decision", ""))
        row = await self._row(request)
        if decision is None:
            raise InvalidError("`decision` is approve, reject or reopen.", key="HS-ACCOUNT-FIELD")
        try:
            await self._verification.decide(
                row["_id"], decision, by=caller.id, visit=self._pages.visit(request), note=fields.get("note", "")
            )
        except LookupError:
            raise NotFoundError("This account has no application.", key="HS-ACCOUNT-UNKNOWN") from None
        except DecisionError as error:
            raise ConflictError(str(error), key="HS-ACCOUNT-STATE") from error
        return self._answer(shown(await self._row(request)))

    async def _done(self, request: Request, caller: Administrator, action: Callable[..., Awaitable[Any]]) -> Response:
        """Carry an action out; the account as it is afterwards."""
        row = await self._row(request)
        try:
            await action(row["_id"], by=caller.id, visit=self._pages.visit(request))
        except StateError as error:
            raise ConflictError(str(error), key="HS-ACCOUNT-STATE") from error
        return self._answer(shown(await self._row(request)))

    async def _row(self, request: Request) -> Row:
        try:
            return await self._administration.row(request.path_params["id"])
        except LookupError:
            raise NotFoundError("There is no such account.", key="HS-ACCOUNT-UNKNOWN") from None

    @staticmethod
    def _answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        return JSONResponse(content, status, {"Cache-Control": "no-store", **(headers or {})})


def shown(row: Row) -> dict[str, Any]:
    """An account as administrators see it: never a secret, or what it could be guessed from."""
    account = account_of(row)
    verification = row.get("verification")
    return {
        "id": account.id,
        "email": account.email,
        "name": account.name,
        "role": account.role,
        "state": account.state,
        "fhirUser": account.fhir_user,
        "organization": account.organization,
        "patients": list(account.patients),
        "createdAt": instant(account.created_at),
        "secondFactors": {
            "totp": bool(row.get("totp")),
            "passkeys": row.get("passkeys", 0),
            "recoveryCodes": len(row.get("recovery_codes", ())),
        },
        "application": row.get("application"),
        "verification": verification
        and {
            "state": verification["state"],
            "since": instant(verification["since"]),
            "decisions": [{**decision, "at": instant(decision["at"])} for decision in verification["decisions"]],
        },
    }


def instant(moment: Any) -> str | None:
    """A moment as JSON has it."""
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _of_field(error: FieldError) -> InvalidError:
    return InvalidError(str(error), expression=error.field, key="HS-ACCOUNT-FIELD")


async def object_of(request: Request, kinds: dict[str, type], *, nullable: tuple[str, ...] = ()) -> dict[str, Any]:
    """The object in the body, its members of the right kinds; an empty body is an empty object.

    Raises:
        InvalidError, TooLargeError
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY_BYTES:
            raise TooLargeError("The body is too large.", key="HS-ACCOUNT-FIELD")
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise InvalidError("The body is no JSON.", key="HS-ACCOUNT-FIELD") from None
    if not isinstance(found, dict):
        raise InvalidError("The body is no JSON object.", key="HS-ACCOUNT-FIELD")
    for name, value in found.items():
        fits = name in kinds and (isinstance(value, kinds[name]) or (value is None and name in nullable))
        if fits and isinstance(value, list):
            fits = all(isinstance(item, str) for item in value)
        if not fits:
            raise InvalidError(f"`{name[:40]}` is not a member of this, or of another kind.", key="HS-ACCOUNT-FIELD")
    return found
