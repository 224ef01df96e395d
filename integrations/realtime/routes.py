"""`/realtime`: what happens for somebody, told at once. Server-sent events, a WebSocket, and tickets for both.

An event says that something happened, of what kind, and where to look. What it is about the client fetches by FHIR,
under its own rights.

Spec: https://html.spec.whatwg.org/multipage/server-sent-events.html, RFC 6455
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fhir_server.model.access import NOBODY, Identity
from fhir_server.model.ending import ended
from fhir_server.model.errors import FhirError, ForbiddenError, UnauthorizedError
from fhir_server.storage.store import Store
from integrations.realtime.hub import FullError, Hub
from integrations.realtime.stream import Signal, signals
from integrations.realtime.tickets import issue, take

#: A client that takes nothing for so long is let go; it comes again and gets what it missed.
SEND_S = 30.0

#: WebSocket close codes: who it is does not (or no longer) stand; too many connections.
POLICY, LATER = 1008, 1013

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Door(Protocol):
    """Tells who holds a token, and whether it is still good."""

    def identify(self, authorization: str | None) -> Identity: ...

    def stands(self, who: Identity) -> bool: ...


class OpenDoor:
    """Where access control is off: everybody is who runs the server, and says for whom they listen."""

    def identify(self, authorization: str | None) -> Identity:
        return NOBODY.identity

    def stands(self, who: Identity) -> bool:
        return True


def routes(store: Store, door: Door | None) -> list[BaseRoute]:
    """The routes of real time.

    Args:
        door: None where access control is off
    """
    return Realtime(store, door or OpenDoor()).routes()


class Realtime:
    """The edge of real time of one process."""

    def __init__(self, store: Store, door: Door, *, hub: Hub | None = None) -> None:
        self._store = store
        self._door = door
        self._hub = hub or Hub(store)

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/realtime/events", self.events, methods=["GET"]),
            Route("/realtime/tickets", self.tickets, methods=["POST"]),
            WebSocketRoute("/realtime/ws", self.socket),
        ]

    async def tickets(self, request: Request) -> Response:
        """A ticket for who sends a token."""
        try:
            identity = self._door.identify(request.headers.get("authorization"))
        except FhirError as error:
            return refused(error)
        ticket = await issue(self._store, identity)
        return JSONResponse({"ticket": ticket, "expires_in": 30}, 201, headers={"Cache-Control": "no-store"})

    async def events(self, request: Request) -> Response:
        """Server-sent events; `Last-Event-ID`, or `last-event-id` in the query, says what the client has."""
        try:
            identity = await self._who(request)
            person = self._person(request, identity)
        except FhirError as error:
            return refused(error)
        stream = signals(self._hub, self._store, person, identity, last_of(request), self._door.stands)
        try:
            first = await anext(stream)
        except FullError:
            return JSONResponse({"error": "too many connections"}, 503, headers={"Retry-After": "5"})
        return StreamingResponse(as_events(first, stream), media_type="text/event-stream", headers=HEADERS)

    async def socket(self, socket: WebSocket) -> None:
        """The same over a WebSocket, each signal as JSON; what the client sends is not listened to."""
        try:
            identity = await self._who(socket)
            person = self._person(socket, identity)
        except FhirError:
            await socket.close(POLICY)
            return
        await socket.accept()
        # A client that went away is noticed by reading, also when there is nothing to send.
        reading = asyncio.create_task(_read_to_end(socket), name="a WebSocket read")
        writing = asyncio.create_task(self._told(socket, person, identity), name="a WebSocket written")
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ended([reading, writing])

    async def _told(self, socket: WebSocket, person: str, identity: Identity) -> None:
        stream = signals(self._hub, self._store, person, identity, last_of(socket), self._door.stands)
        try:
            async for signal in stream:
                async with asyncio.timeout(SEND_S):
                    await socket.send_text(json.dumps(as_json(signal)))
                if signal.name == "end":
                    await socket.close(POLICY)
        except FullError:
            await socket.close(LATER)
        except (TimeoutError, WebSocketDisconnect):
            return
        finally:
            await stream.aclose()  # type: ignore[attr-defined]  # it is a generator

    async def _who(self, connection: HTTPConnection) -> Identity:
        """Who calls, by their token or by a ticket.

        Raises:
            UnauthorizedError: 401; neither is good.
        """
        ticket = connection.query_params.get("ticket")
        if ticket is None:
            return self._door.identify(connection.headers.get("authorization"))
        identity = await take(self._store, ticket)
        if identity is None or not self._door.stands(identity):
            raise UnauthorizedError("The ticket is no good one, or was used before.", key="HS-REALTIME-TICKET")
        return identity

    def _person(self, connection: HTTPConnection, identity: Identity) -> str:
        """Whose events.

        Raises:
            ForbiddenError: 403; the token is no person's, and nobody is named.
        """
        named = connection.query_params.get("person")
        if identity.role == "operator" and named:
            return named
        if identity.fhir_user is None or named not in (None, identity.fhir_user):
            raise ForbiddenError("Everybody listens to what happens for themselves.", key="HS-REALTIME-PERSON")
        return identity.fhir_user


async def _read_to_end(socket: WebSocket) -> None:
    with suppress(WebSocketDisconnect):
        while True:
            await socket.receive_text()


async def as_events(first: Signal, rest: AsyncIterator[Signal]) -> AsyncIterator[bytes]:
    """Signals as server-sent events."""
    try:
        yield as_event(first)
        async for signal in rest:
            yield as_event(signal)
    finally:
        await rest.aclose()  # type: ignore[attr-defined]  # it is a generator


def as_event(signal: Signal) -> bytes:
    if signal.name == "beat":
        return b": beat\n\n"
    return f"id: {signal.number}\nevent: {signal.name}\ndata: {json.dumps(as_json(signal))}\n\n".encode()


def as_json(signal: Signal) -> dict[str, object]:
    told: dict[str, object] = {"signal": signal.name, "id": signal.number}
    if signal.event is not None:
        told |= {"kind": signal.event.kind, "focus": signal.event.focus, "at": signal.event.at}
    return told


def last_of(connection: HTTPConnection) -> int | None:
    """The number that the client has; what is none counts as nothing."""
    text = connection.headers.get("last-event-id") or connection.query_params.get("last-event-id") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def refused(error: FhirError) -> Response:
    """An error as FHIR says it."""
    headers = {**error.headers, "Cache-Control": "no-store"}
    return JSONResponse(error.outcome(), error.status, headers=headers, media_type="application/fhir+json")
