"""What stands before every answer that is not FHIR's: limits of requests, and headers that keep browsers strict.

Spec: https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html, https://www.w3.org/TR/CSP3/,
RFC 6797
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fhir_server.http.rates import Rate, place_of

#: Answers of FHIR are data: a browser that shows one runs nothing of it, frames it nowhere, and gives it to no page
#: that loads it as a script or an image.
DATA_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

#: Of contents that somebody has sent (HTML, SVG), too: they never become a page of this server.
CONTENT_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

#: What pages have that say nothing else.
PAGE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), "
    "publickey-credentials-get=(self), publickey-credentials-create=(self)",
    "Cross-Origin-Opener-Policy": "same-origin",
}

#: What these paths send is the same for everybody, and cheap.
UNCOUNTED = ("/auth/static/", "/auth/jwks", "/auth/smart-style.json")

#: Whom apps call, not people; they read errors as RFC 6749 shapes them.
CALLED = ("/auth/token", "/auth/clients", "/auth/introspect", "/auth/revoke", "/auth/par", "/auth/userinfo")


class PageDoor:
    """Stands before all that is not FHIR: counts requests for the sign-in side, and completes headers."""

    def __init__(self, app: ASGIApp, rate: Rate) -> None:
        self.app = app
        self._rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"] if type(message["headers"]) is list else [])
                if type(message["headers"]) is not list:
                    headers.raw.extend(message["headers"])
                for name, value in PAGE_HEADERS.items():
                    headers.setdefault(name, value)
                message["headers"] = headers.raw
            await send(message)

        path: str = scope["path"]
        if path.startswith("/auth/") and not path.startswith(UNCOUNTED) and scope["method"] != "OPTIONS":
            client = scope.get("client")
            if wait_s := self._rate.wait_s(place_of(client[0]) if client else ""):
                await _refuse(path.startswith(CALLED), wait_s, send_safe)
                return
        await self.app(scope, receive, send_safe)


async def _refuse(is_called: bool, wait_s: int, send: Send) -> None:
    text = f"Too many requests from this address; wait {wait_s} s."
    if is_called:
        body = json.dumps({"error": "temporarily_unavailable", "error_description": text}).encode()
        kind = b"application/json"
    else:
        body, kind = text.encode(), b"text/plain; charset=utf-8"
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"retry-after", str(wait_s).encode()),
    ]
    if is_called:
        headers += [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"Retry-After")]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class StrictTransport:
    """Tells browsers to come by https alone from now on (HSTS)."""

    def __init__(self, app: ASGIApp, seconds: int) -> None:
        self.app = app
        self._header = (b"strict-transport-security", b"max-age=%d" % seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], self._header]
            await send(message)

        await self.app(scope, receive, send_strict if scope["type"] == "http" else send)


class OtherOrigins(CORSMiddleware):
    """Which pages of other origins may call (CORS); never with cookies.

    What answers such questions by itself is left to do so: discovery and the OAuth endpoints, which are for apps of any
    origin by their standards, and give what they give to whoever has the code or the token.
    """

    def __init__(
        self, app: ASGIApp, by_themselves: Callable[[str], bool], origins: Iterable[str], **rules: object
    ) -> None:
        super().__init__(app, allow_origins=tuple(origins), allow_credentials=False, **rules)  # type: ignore[arg-type]
        self._by_themselves = by_themselves

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._by_themselves(scope["path"]):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
