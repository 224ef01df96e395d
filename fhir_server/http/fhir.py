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
from collections.abc import Set
from urllib.parse import unquote

import structlog
from starlette.types import Receive, Scope, Send

from fhir_server.access.entrance import Entrance
from fhir_server.access.gate import Gate
from fhir_server.audit.trail import Trail
from fhir_server.formats.convert import Converter
from fhir_server.http.audited import audited, is_recorded_alone
from fhir_server.http.body import ClientGoneError, body_of
from fhir_server.http.content import (
    UPLOAD,
    UPLOADED,
    Peeked,
    carries_content,
    content_headers,
    content_of,
    gives_content,
    parts_of,
    preferred,
    send_content,
)
from fhir_server.http.doors import CONTENT_HEADERS, DATA_HEADERS
from fhir_server.http.limits import RequestLimits
from fhir_server.http.metrics import IN_FLIGHT, seconds_of
from fhir_server.http.negotiate import FHIR_JSON, FORM, XML_TYPES, body_type, lists_resources
from fhir_server.http.presentation import PLAIN, Presentation, accepted, json_body, presentation_of, presented
from fhir_server.http.rates import Rates, place_of
from fhir_server.interactions.context import Context
from fhir_server.interactions.table import shape_of
from fhir_server.interactions.views import Views
from fhir_server.model import codec
from fhir_server.model.clock import http_date_of
from fhir_server.model.errors import FhirError, Issue, NotAcceptableError, UnavailableError, outcome_of
from fhir_server.model.exchange import Answer, Request, decoded

log = structlog.get_logger("fhir")

REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")

#: Compressing more than this would hold the event loop for several milliseconds.
THREAD_BYTES = 512 * 1024

SLOW_S = 2.0

NOTHING: Set[str] = frozenset()

#: What most clients send; nothing needs to be negotiated then.
PLAIN_ACCEPTS = frozenset({"", "*/*", FHIR_JSON})


class FhirApplication:
    """Answers everything below the FHIR base.

    `gate` tells who calls, by the `Authorization` header; None where no token is needed. `entrance` gives the server as
    a caller sees it.
    """

    def __init__(
        self,
        context: Context,
        *,
        base_url: str,
        mount: str,
        limits: RequestLimits,
        gzip_min_bytes: int,
        gate: Gate | None,
        entrance: Entrance,
        trail: Trail | None = None,
        rates: Rates | None = None,
    ) -> None:
        self._context = context
        self._store = context.repository.store
        self._base_url = base_url
        self._mount = len(mount)
        self._limits = limits
        self._running = 0
        self._gzip_min_bytes = gzip_min_bytes
        self._gate = gate
        self._views = Views(context, entrance)
        self._trail = trail
        self._rates = rates
        self._converter = Converter(context.registry)

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
        self._running += 1
        try:
            answer, how = await self._answer(scope, receive, headers, method, path, request_id)
            if how is not PLAIN and not how.is_json:
                answer, how = await self._shown(answer, how, method, path, request_id)
            await self._send(receive, send, answer, how, headers, method, request_id)
        except ClientGoneError:
            return
        finally:
            IN_FLIGHT.dec()
            self._running -= 1
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
    ) -> tuple[Answer, Presentation]:
        """The answer, in JSON, and how it is to be shown; errors have become outcomes."""
        how, request, view = PLAIN, None, self._views.open
        context, written = view.context, NOTHING
        # The record of a lone change makes the change durable, too: it stands behind it in the same oplog.
        by_record = self._trail is not None and is_recorded_alone(method, path)
        term = self._store.term if by_record else None
        try:
            query = scope["query_string"].decode("latin-1")
            self._limits.require(len(raw_path(scope)) + len(query), scope["headers"], self._running)
            if self._rates is not None and (client := scope.get("client")):
                self._rates.of_address.require(place_of(client[0]))
            request = Request(
                method="GET" if method == "HEAD" else method,
                head=method == "HEAD",
                path=path,
                query=query,
                headers=headers,
                base_url=self._base_url,
            )
            if self._trail is not None and self._trail.full:
                await self._trail.admit()
            accept = headers.get("accept", "")
            says_how = "_" in query and ("_format" in query or "_pretty" in query)
            if says_how or accept not in PLAIN_ACCEPTS:
                lists = lists_resources(method, path)
                try:
                    how = presentation_of(accept, decoded(query), lists) if says_how else accepted(accept, lists)
                except NotAcceptableError:
                    if "_format" in query or not gives_content(method, path):
                        raise  # a Binary is fetched as whatever it is
            if gives_content(method, path):
                request.preferred = preferred(accept)
            if self._gate is not None and path != ("metadata",):
                caller = await self._gate.caller_of(headers.get("authorization"))
                if self._rates is not None:
                    self._rates.require(caller)
                view = self._views.of(caller)
                context = view.context
            if carries_content(method, path):
                receive = peeked = Peeked(receive, headers)
                if await (peeked.is_content(UPLOADED) if path == UPLOAD else peeked.is_content()):
                    request.content_type = headers.get("content-type", "").strip()
                    request.content = content_of(receive, headers, self._limits.binary_bytes)
            if method in ("POST", "PUT", "PATCH") and request.content is None:
                request.content_type = body_type(
                    headers.get("content-type", ""),
                    form=path[-1:] == ("_search",),
                    patch=method == "PATCH",
                    graphql=path[-1:] == ("$graphql",),
                )
                request.body = await body_of(receive, headers, self._limits.body_bytes)
                if request.content_type in XML_TYPES and request.body:
                    request.body = await json_body(self._converter, request.body)
                    request.content_type = FHIR_JSON
                elif request.content_type == FORM and (b"_format" in request.body or b"_pretty" in request.body):
                    how = presentation_of(accept, request.parameters, lists_resources(method, path))
            answer = await context.dispatch(view.unawaited if by_record else context, request)
            written = types_written(answer)
        except FhirError as error:
            answer = Answer(error.status, codec.encode(error.outcome()), dict(error.headers))
        except (ClientGoneError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("internal error", method=method, route=shape_of(path), request_id=request_id)
            answer = internal_error(request_id)
        if self._trail is not None and request is not None:
            try:
                address = address_of(scope)
                await audited(
                    self._trail,
                    request,
                    answer,
                    context.caller,
                    context.operations,
                    address=address,
                    request_id=request_id,
                )
                if by_record and written and self._store.term != term:
                    raise unsure()
            except FhirError as error:  # it was carried out, and cannot be accounted for yet
                answer = Answer(error.status, codec.encode(error.outcome()), dict(error.headers))
        if written and self._gate is not None:  # now it can be read
            self._gate.noticed(written, context.caller.identity.subject)
        return answer, how

    async def _shown(
        self, answer: Answer, how: Presentation, method: str, path: tuple[str, ...], request_id: str
    ) -> tuple[Answer, Presentation]:
        """The answer in its own format; JSON tells a fault of the server where that cannot be made."""
        try:
            return await presented(self._converter, answer, how), how
        except Exception:
            log.exception("internal error", method=method, route=shape_of(path), request_id=request_id)
            return internal_error(request_id), PLAIN

    async def _send(
        self,
        receive: Receive,
        send: Send,
        answer: Answer,
        how: Presentation,
        headers: dict[str, str],
        method: str,
        request_id: str,
    ) -> None:
        body, content = answer.body, answer.content
        raw = content is not None and body is None
        out = [(b"x-request-id", request_id.encode()), *(CONTENT_HEADERS if raw else DATA_HEADERS)]
        if answer.version is not None:
            # Of a content the bytes are the same each time, so its tag is a strong one, which `If-Range` needs.
            out.append((b"etag", (b'W/"%d"' if content is None or body is not None else b'"%d"') % answer.version))
        if answer.moment_us is not None:
            out.append((b"last-modified", http_date_of(answer.moment_us).encode()))
        for name, value in answer.headers.items():
            out.append((name.lower().encode(), value.encode("latin-1", "replace")))
        if body is not None:
            if how.pretty and how.is_json:
                body = codec.pretty(body)
            out.append((b"content-type", how.media_type.encode() + b";charset=utf-8"))
            if len(body) >= self._gzip_min_bytes and content is None:
                out.append((b"vary", b"accept, accept-encoding"))
                if "gzip" in headers.get("accept-encoding", ""):
                    body = gzipped(body) if len(body) < THREAD_BYTES else await asyncio.to_thread(gzipped, body)
                    out.append((b"content-encoding", b"gzip"))
            else:
                out.append((b"vary", b"accept"))
            out.append((b"cache-control", b"no-store" if answer.status >= 400 else b"private, no-cache"))
        if content is not None:
            before, after = parts_of(content, body)
            if body is None:
                out += content_headers(content)
            out.append((b"content-length", str(len(before) + content.length + len(after)).encode()))
            await send({"type": "http.response.start", "status": answer.status, "headers": out})
            if method == "HEAD":
                await send({"type": "http.response.body", "body": b""})
            else:
                await send_content(receive, send, content, before, after)
            return
        if body is not None or answer.status not in (204, 304):
            out.append((b"content-length", str(len(body or b"")).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": out})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" or body is None else body})


def types_written(answer: Answer) -> Set[str]:
    """The types of the resources that a request has made versions of."""
    if not answer.touched and not answer.entries:
        return NOTHING
    parts = (answer, *(inner for _, inner in answer.entries))
    return {made.reference.partition("/")[0] for part in parts for made in part.touched}


def raw_path(scope: Scope) -> str:
    """The path as it was sent, so that an encoded slash inside an id stays inside it."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")


def address_of(scope: Scope) -> str:
    """Where a request came from, without the port."""
    client = scope.get("client")
    return client[0] if client else ""


def unsure() -> UnavailableError:
    return UnavailableError(
        "Another member of the database became its primary during the request, so that it is not certain that it was "
        "carried out. Read what stands there, and try again.",
        key="HS-STORE-UNAVAILABLE",
        headers={"Retry-After": "2"},
    )


def internal_error(request_id: str) -> Answer:
    """The client learns that it happened and under which number; what happened stands in the log alone."""
    issue = Issue(
        "exception",
        f"An internal error occurred. It is logged under the request id {request_id}.",
        key="HS-INTERNAL",
        severity="fatal",
    )
    return Answer(500, codec.encode(outcome_of([issue])))


def gzipped(body: bytes) -> bytes:
    """Level 1: four times smaller already, at a fifth of the time of the default level."""
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packer.compress(body) + packer.flush()
