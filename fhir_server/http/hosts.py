"""Answers only requests that name a host which is this machine's own, where nothing else keeps strangers out.

Without access control only programs on this machine may call. A web page of another site is one, too, once its name is
made to lead to 127.0.0.1 (DNS rebinding): the browser then takes this server for a part of that site, and shows the
page every record. The page cannot choose the name that the browser sends in `Host`, so that is what is judged.

Spec: https://www.rfc-editor.org/rfc/rfc9110#section-7.2, https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from fhir_server.model import codec
from fhir_server.model.clock import http_date_of, now_us
from fhir_server.model.errors import MisdirectedError
from fhir_server.settings import is_loopback

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@/\s]+)(?::\d{1,5})?", re.IGNORECASE)

POLICY_VIOLATION = 1008  # how a WebSocket is refused


class LocalHosts:
    """Lets requests through to `app` whose `Host` is a loopback address, `localhost`, or one of `others`."""

    def __init__(self, app: ASGIApp, others: Iterable[str]) -> None:
        self.app = app
        self._others = frozenset(name.lower() for name in others)
        self._accepts = lru_cache(maxsize=256)(self.accepts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_ours(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        else:
            await self._refuse(scope, send)

    def _is_ours(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if not hosts:
            return scope.get("http_version") == "1.0"  # which no browser speaks
        return len(hosts) == 1 and self._accepts(hosts[0])

    def accepts(self, host: bytes) -> bool:
        """Whether a `Host` names this machine; its port does not matter."""
        found = _HOST.fullmatch(host.decode("latin-1"))
        if found is None:
            return False
        name = found[1].lower()
        return name in self._others or is_loopback(name.strip("[]"))

    async def _refuse(self, scope: Scope, send: Send) -> None:
        error = MisdirectedError(
            "Access control is off, so only requests to this machine by its own names are answered: localhost, "
            "127.0.0.1, [::1], or the host of the base URL (HEALTHSPHERE_BASE_URL). `Host` names another.",
            key="HS-HTTP-HOST",
        )
        body = codec.encode(error.outcome())
        headers = [
            (b"content-type", b"application/fhir+json;charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"date", http_date_of(now_us()).encode()),
        ]
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
