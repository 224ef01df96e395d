"""What all pages share: templates, headers that keep browsers strict, forms that cannot be forged, ways out.

A form carries the CSRF token of its session; where nobody is signed in, the token of a cookie that only this host could
have set ("double submit"). Requests that the browser itself calls cross-site are refused besides.

Spec: https://www.w3.org/TR/CSP3/, https://www.w3.org/TR/fetch-metadata/,
https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from fhir_server.model.errors import FhirError
from smart_auth.model import Session
from smart_auth.parts import Parts, Visit
from smart_auth.registration import LinkError
from smart_auth.scope_words import words_of
from smart_auth.scopes import words_in
from smart_auth.sessions import cookie_name, set_cookie
from smart_auth.signing_in import recently
from smart_auth.throttle import ThrottledError

FOLDER = Path(__file__).parents[1]
HOME = "/auth/account"
LARGEST_FORM_BYTES = 64 * 1024
CSRF_HEADER = "x-csrf-token"
_REQUEST_ID = re.compile(r"[A-Za-z0-9\-]{8,64}")

Handler = Callable[[Request], Awaitable[Response]]


class Elsewhere(Exception):
    """The browser must go to another page first."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)


class PageError(Exception):
    """A page cannot be shown; the text is for the person."""

    def __init__(self, status: int, title: str, text: str) -> None:
        self.status, self.title, self.text = status, title, text
        super().__init__(text)


def safe_next(text: str | None, otherwise: str = HOME) -> str:
    """Where to go on to: a path of this server, never another place.

    Browsers take `\\` for `/` and drop control characters, so `/\\evil.example` and `/<tab>/evil.example` lead away.
    """
    path = text or ""
    if not path.startswith("/") or path[1:2] in ("/", "\\") or any(ord(c) <= 32 or c in "\\\x7f" for c in path):
        return otherwise
    return path


class Pages:
    """Shows pages and reads forms; other parts of the sign-in side use it, too."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._csrf_cookie = cookie_name("csrf", parts.secure)
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["moment"] = _moment
        self._templates.filters["scope_words"] = lambda scope: [words_of(word)[0] for word in words_in(scope)]
        self._templates.globals.update(product=parts.rules.product)

    # --- what a request brings ----------------------------------------------------------------------------------

    @staticmethod
    def visit(request: Request) -> Visit:
        given = request.headers.get("x-request-id", "")
        return Visit(
            address=request.client.host if request.client else "",
            agent=request.headers.get("user-agent", ""),
            request_id=given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8),
        )

    async def session(self, request: Request) -> Session | None:
        return await self.parts.sessions.current(request)

    async def signed_in(self, request: Request) -> Session:
        """The session.

        Raises:
            Elsewhere: to the sign-in page, and then back.
        """
        session = await self.session(request)
        if session is None:
            raise Elsewhere(f"/auth/sign-in?next={quote(_here(request), safe='')}")
        return session

    async def just_proven(self, request: Request, back: str | None = None) -> Session:
        """The session of somebody who has proven lately who they are.

        Raises:
            Elsewhere: to the page that asks for it, and then back.
        """
        session = await self.signed_in(request)
        if not recently(session, self.parts):
            raise Elsewhere(f"/auth/confirm?next={quote(back or _here(request), safe='')}")
        return session

    async def form(self, request: Request, session: Session | None = None, *, most: int = 200) -> dict[str, str]:
        """The fields of a form that was made here for this browser, `most` of them at most.

        Raises:
            PageError: it was not, or is too large.
        """
        body = await _body(request)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
            raise PageError(415, "Not a form", "This page takes forms only.")
        try:
            fields = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=most))
        except ValueError:
            raise PageError(413, "Too much", "The form has too many fields.") from None
        self.check_csrf(request, session, fields.get("csrf", ""))
        return fields

    async def json(self, request: Request, session: Session | None = None) -> dict[str, Any]:
        """The object that a script of our pages sends; the CSRF token is in a header.

        Raises:
            PageError
        """
        self.check_csrf(request, session, request.headers.get(CSRF_HEADER, ""))
        try:
            found = json.loads(await _body(request))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise PageError(400, "Not an object", "The body must be a JSON object.")
        return found

    def check_csrf(self, request: Request, session: Session | None, token: str) -> None:
        """
        Raises:
            PageError: 403, the request was not made by a page of ours in this browser.
        """
        expected = session.csrf if session else request.cookies.get(self._csrf_cookie, "")
        foreign = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        if foreign or not expected or not hmac.compare_digest(token.encode(), expected.encode()):
            raise PageError(403, "This form is too old", "Go back, load the page again, and send the form once more.")

    # --- answers ------------------------------------------------------------------------------------------------

    def show(
        self,
        request: Request,
        template: str,
        *,
        session: Session | None = None,
        status: int = 200,
        form_action: str | None = "'self'",
        headers: dict[str, str] | None = None,
        **context: Any,
    ) -> HTMLResponse:
        """A page.

        Args:
            session: who is signed in; forms carry that session's token
            form_action: where forms may lead, redirects after them included; None anywhere, for pages from which an
                app's authorization goes on to the app
        """
        csrf, fresh = (session.csrf, False) if session else self._anonymous_token(request)
        text = self._templates.get_template(template).render(
            {"session": session, "csrf": csrf, "path": request.url.path, "next": "", "error": "", **context}
        )
        answer = HTMLResponse(text, status, headers)
        if fresh:
            set_cookie(answer, self._csrf_cookie, csrf, secure=self.parts.secure)
        return self.protected(answer, form_action)

    @staticmethod
    def protected(answer: HTMLResponse, form_action: str | None = "'self'") -> HTMLResponse:
        """An answer with the headers that all pages have."""
        rules = [
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            *([f"form-action {form_action}"] if form_action else []),
        ]
        answer.headers.update(
            {
                "Content-Security-Policy": "; ".join(rules),
                "Cache-Control": "no-store",
                "Referrer-Policy": "same-origin",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
                "Cross-Origin-Opener-Policy": "same-origin",
            }
        )
        return answer

    @staticmethod
    def go(path: str) -> RedirectResponse:
        """On to another page, by GET."""
        return RedirectResponse(path, 303, {"Cache-Control": "no-store"})

    def _anonymous_token(self, request: Request) -> tuple[str, bool]:
        known = request.cookies.get(self._csrf_cookie)
        return (known, False) if known and len(known) >= 32 else (secrets.token_urlsafe(32), True)

    # --- routes -------------------------------------------------------------------------------------------------

    def route(self, path: str, handler: Handler, *methods: str) -> Route:
        """A route whose handler may raise what stands in its way."""

        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request)
            except Elsewhere as way:
                return self.go(way.path)
            except LinkError:
                return self.problem(
                    request,
                    410,
                    "This link does not work any more",
                    "It was used already, or is too old. Ask for another.",
                )
            except ThrottledError as error:
                return self.problem(
                    request,
                    429,
                    "Too many attempts",
                    f"Wait {_wait(error.wait_s)}, then try again.",
                    {"Retry-After": str(error.wait_s)},
                )
            except PageError as error:
                return self.problem(request, error.status, error.title, error.text)
            except FhirError as error:
                return self.problem(
                    request,
                    error.status,
                    "That did not work",
                    "The record could not be changed. Try again in a moment.",
                )

        return Route(path, endpoint, methods=list(methods) or ["GET"])

    def problem(
        self, request: Request, status: int, title: str, text: str, headers: dict[str, str] | None = None
    ) -> Response:
        """Says what stands in the way, as the caller can read it."""
        if "json" in request.headers.get("content-type", "") or "json" in request.headers.get("accept", ""):
            return JSONResponse({"error": f"{title}. {text}"}, status, {"Cache-Control": "no-store", **(headers or {})})
        return self.show(request, "message.html", status=status, headers=headers, title=title, text=text, link=None)


def _here(request: Request) -> str:
    """The page that was asked for; of a form, where its page is."""
    if request.method != "GET":
        return HOME
    query = f"?{request.url.query}" if request.url.query else ""
    return request.url.path + query


def _wait(seconds: int) -> str:
    if seconds < 90:
        return f"{seconds} seconds"
    return f"{round(seconds / 60)} minutes"


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%d %b %Y, %H:%M UTC").lstrip("0")


async def _body(request: Request) -> bytes:
    """
    Raises:
        PageError: 413
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM_BYTES:
            raise PageError(413, "Too much", "The form is too large.")
    return body
