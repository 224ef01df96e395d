"""The FHIR base as an ASGI application: one request in, one answer out, and every error an OperationOutcome.

It is plain ASGI, below the web framework that serves the other pages: an empty answer through routing, validation
models and dependency injection would cost more than a whole read does here.

Spec: https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
import zlib
from collections.abc import Callable
from urllib.parse import unquote

import structlog
from starlette.types import Receive, Scope, Send

from fhir_server.http.body import ClientGoneError, body_of
from fhir_server.http.metrics import IN_FLIGHT, seconds_of
from fhir_server.http.negotiate import FHIR_JSON, answer_type, body_type
from fhir_server.interactions.context import Context
from fhir_server.interactions.table import shape_of
from fhir_server.model import codec
from fhir_server.model.clock import http_date_of
from fhir_server.model.errors import FhirError, Issue, UnauthorizedError, outcome_of
from fhir_server.model.exchange import Answer, Request

Authorize = Callable[[str | None], bool]

log = structlog.get_logger("fhir")

REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")

#: Compressing more than this would hold the event loop for several milliseconds.
THREAD_BYTES = 512 * 1024

SLOW_S = 2.0


class FhirApplication:
    """Answers everything below the FHIR base.

    `authorize` judges the `Authorization` header; None where no token is needed.
    """

    def __init__(
        self,
        context: Context,
        *,
        base_url: str,
        mount: str,
        max_body_bytes: int,
        gzip_min_bytes: int,
        authorize: Authorize | None,
    ) -> None:
        self._context = context
        self._base_url = base_url
        self._mount = len(mount)
        self._max_body_bytes = max_body_bytes
        self._gzip_min_bytes = gzip_min_bytes
        self._authorize = authorize

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        path = tuple(unquote(part) for part in raw_path(scope)[self._mount :].strip("/").split("/"))
        if path == ("",):
            path = ()
        method: str = scope["method"]
        IN_FLIGHT.inc()
        try:
            answer, media_type, pretty = await self._answer(scope, receive, headers, method, path, request_id)
        except ClientGoneError:
            return
        finally:
            IN_FLIGHT.dec()
        await self._send(send, answer, media_type, pretty, headers, method, request_id)
        seconds = time.perf_counter() - started
        route = shape_of(path) if answer.status not in (404, 405) else "unknown"
        seconds_of(method, route, answer.status).observe(seconds)
        if seconds > SLOW_S:
            log.warning(
                "slow request",
                method=method,
                route=route,
                status=answer.status,
                seconds=round(seconds, 3),
                request_id=request_id,
            )

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[str, str],
        method: str,
        path: tuple[str, ...],
        request_id: str,
    ) -> tuple[Answer, str, bool]:
        """The answer, its media type and whether it is indented; errors have become outcomes."""
        media_type, pretty = FHIR_JSON, False
        try:
            query = scope["query_string"].decode("latin-1")
            request = Request(
                method="GET" if method == "HEAD" else method,
                path=path,
                query=query,
                headers=headers,
                base_url=self._base_url,
            )
            wanted = None
            if "_" in query and ("_format" in query or "_pretty" in query):
                wanted, pretty = presentation(request.parameters)
            media_type = answer_type(headers.get("accept", ""), wanted)
            if (
                self._authorize is not None
                and path != ("metadata",)
                and not self._authorize(headers.get("authorization"))
            ):
                raise unauthorized(headers)
            if method in ("POST", "PUT"):
                request.content_type = body_type(headers.get("content-type", ""), form=path[-1:] == ("_search",))
                request.body = await body_of(receive, headers, self._max_body_bytes)
            return await self._context.dispatch(self._context, request), media_type, pretty
        except FhirError as error:
            return Answer(error.status, codec.encode(error.outcome()), dict(error.headers)), media_type, pretty
        except (ClientGoneError, asyncio.CancelledError):
            raise
        except Exception:
            # The client learns that it happened and under which number; what happened stands in the log alone.
            log.exception("internal error", method=method, route=shape_of(path), request_id=request_id)
            issue = Issue(
                "exception",
                f"An internal error occurred. It is logged under the request id {request_id}.",
                key="HS-INTERNAL",
                severity="fatal",
            )
            return Answer(500, codec.encode(outcome_of([issue]))), media_type, pretty

    async def _send(
        self,
        send: Send,
        answer: Answer,
        media_type: str,
        pretty: bool,
        headers: dict[str, str],
        method: str,
        request_id: str,
    ) -> None:
        body = answer.body
        out = [(b"x-request-id", request_id.encode())]
        if answer.version is not None:
            out.append((b"etag", b'W/"%d"' % answer.version))
        if answer.moment_us is not None:
            out.append((b"last-modified", http_date_of(answer.moment_us).encode()))
        for name, value in answer.headers.items():
            out.append((name.lower().encode(), value.encode("latin-1", "replace")))
        if body is not None:
            if pretty:
                body = codec.pretty(body)
            out.append((b"content-type", media_type.encode() + b";charset=utf-8"))
            if len(body) >= self._gzip_min_bytes:
                out.append((b"vary", b"accept, accept-encoding"))
                if "gzip" in headers.get("accept-encoding", ""):
                    body = gzipped(body) if len(body) < THREAD_BYTES else await asyncio.to_thread(gzipped, body)
                    out.append((b"content-encoding", b"gzip"))
            else:
                out.append((b"vary", b"accept"))
            out.append((b"cache-control", b"no-store" if answer.status >= 400 else b"private, no-cache"))
        if body is not None or answer.status not in (204, 304):
            out.append((b"content-length", str(len(body or b"")).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": out})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" or body is None else body})


def raw_path(scope: Scope) -> str:
    """The path as it was sent, so that an encoded slash inside an id stays inside it."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")


def presentation(parameters: list[tuple[str, str]]) -> tuple[str | None, bool]:
    """`_format` and `_pretty`."""
    wanted = next((value for name, value in parameters if name == "_format" and value), None)
    pretty = any(name == "_pretty" and value == "true" for name, value in parameters)
    return wanted, pretty


def gzipped(body: bytes) -> bytes:
    """Level 1: four times smaller already, at a fifth of the time of the default level."""
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packer.compress(body) + packer.flush()


def unauthorized(headers: dict[str, str]) -> UnauthorizedError:
    found = "it was not accepted" if headers.get("authorization") else "there is none"
    return UnauthorizedError(
        f"An access token is needed (`Authorization: Bearer …`); {found}.",
        key="HS-AUTH",
        headers={"WWW-Authenticate": 'Bearer realm="FHIR"'},
    )
