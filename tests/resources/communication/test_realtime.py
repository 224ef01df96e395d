"""Real time: what was missed comes first, each once, and a token that no longer stands ends the stream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fhir_server.model.access import Identity, Scope
from integrations.realtime.hub import FullError, Hub
from integrations.realtime.routes import Realtime, as_event
from integrations.realtime.stream import Signal, covers, signals
from resources.notification.outbox import ping
from tests.conftest import InProcessServer

pytestmark = pytest.mark.xdist_group("communication")

WHO = Identity("x", "app", "patient", scopes=(Scope("user", "*", "cruds"),), fhir_user="Patient/x")


class Door:
    """One token, until it is revoked."""

    def __init__(self) -> None:
        self.good = True

    def identify(self, authorization: str | None) -> Identity:
        from fhir_server.model.errors import UnauthorizedError  # noqa: PLC0415

        if authorization != "Bearer good" or not self.good:
            raise UnauthorizedError("no")
        return WHO

    def stands(self, who: Identity) -> bool:
        return self.good


async def happen(server: InProcessServer, person: str, *keys: str) -> None:
    for key in keys:
        await ping(server.context, person, "message", f"Communication/{key}", key=key)


async def some(stream: Any, number: int) -> list[Signal]:
    async with asyncio.timeout(60):
        return [await anext(stream) for _ in range(number)]


def test_what_was_missed_comes_first_and_then_what_happens(server: InProcessServer) -> None:
    store, hub = server.context.repository.store, Hub(server.context.repository.store, every_s=0.02)

    async def story() -> None:
        await happen(server, "Patient/rt1", "a", "b", "c", "c", "a")
        stream = signals(hub, store, "Patient/rt1", WHO, 1, lambda _: True)
        first = await some(stream, 3)
        assert [(s.name, s.number) for s in first] == [("hello", 1), ("event", 2), ("event", 3)]
        assert [s.event.focus for s in first[1:] if s.event] == ["Communication/b", "Communication/c"]
        waiting = asyncio.ensure_future(anext(stream))
        await happen(server, "Patient/other", "z")
        await happen(server, "Patient/rt1", "d")
        came = await asyncio.wait_for(waiting, 60)
        assert (came.number, came.event.focus) == (4, "Communication/d")
        await stream.aclose()
        assert hub._waiting == {}

    server.run(story())


def test_who_begins_gets_what_happens_from_now_on(server: InProcessServer) -> None:
    store, hub = server.context.repository.store, Hub(server.context.repository.store, every_s=0.02)

    async def story() -> None:
        await happen(server, "Patient/rt2", "a", "b")
        stream = signals(hub, store, "Patient/rt2", WHO, None, lambda _: True)
        assert (await anext(stream)) == Signal("hello", 2)
        await happen(server, "Patient/rt2", "c")
        assert [s.number for s in await some(stream, 1)] == [3]
        await stream.aclose()
        ahead = signals(hub, store, "Patient/rt2", WHO, 99, lambda _: True)
        assert (await anext(ahead)) == Signal("reset", 3)
        await ahead.aclose()

    server.run(story())


def test_events_at_once_are_numbered_without_gaps(server: InProcessServer) -> None:
    from resources.notification.events import after  # noqa: PLC0415

    async def story() -> None:
        await asyncio.gather(*(happen(server, "Patient/rt3", f"k{n % 20}") for n in range(40)))
        found = await after(server.context.repository.store, "Patient/rt3", 0)
        assert [event.number for event in found] == list(range(1, 21))
        assert len({event.focus for event in found}) == 20

    server.run(story())


def test_a_token_that_is_revoked_ends_the_stream(server: InProcessServer) -> None:
    store, hub, door = server.context.repository.store, Hub(server.context.repository.store, every_s=0.02), Door()

    async def story() -> None:
        stream = signals(hub, store, "Patient/rt4", WHO, None, door.stands)
        await anext(stream)
        door.good = False
        assert [s.name for s in await some(stream, 1)] == ["end"]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    server.run(story())


def test_an_app_hears_of_what_its_scopes_let_it_read() -> None:
    narrow = Identity("x", "app", "patient", scopes=(Scope("patient", "Observation", "rs"),), fhir_user="Patient/x")
    assert covers(WHO, "Communication/1")
    assert covers(narrow, "Observation/1")
    assert not covers(narrow, "Communication/1")


def test_connections_of_a_person_are_limited(server: InProcessServer) -> None:
    hub = Hub(server.context.repository.store)

    async def story() -> None:
        async with asyncio.timeout(60):
            from contextlib import AsyncExitStack  # noqa: PLC0415

            async with AsyncExitStack() as stack:
                for _ in range(10):
                    await stack.enter_async_context(hub.connected("Patient/rt5"))
                with pytest.raises(FullError):
                    await stack.enter_async_context(hub.connected("Patient/rt5"))
                await stack.enter_async_context(hub.connected("Patient/rt6"))

    server.run(story())


def edge_of(server: InProcessServer, door: Door) -> Any:
    from starlette.applications import Starlette  # noqa: PLC0415

    store = server.context.repository.store
    return Starlette(routes=Realtime(store, door, hub=Hub(store, every_s=0.02)).routes())


async def asked(app: Any, method: str, path: str, query: str = "", **headers: str) -> tuple[int, list[bytes]]:
    """The status and the first pieces of an answer, until one is an event; then the client goes away."""
    sent: asyncio.Queue[Any] = asyncio.Queue()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        "scheme": "http",
        "root_path": "",
    }
    given = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if given:
            return given.pop()
        await asyncio.Event().wait()
        raise AssertionError("nothing ends this")

    task = asyncio.ensure_future(app(scope, receive, sent.put))
    status, pieces = 0, []
    async with asyncio.timeout(60):
        while True:
            message = await sent.get()
            if message["type"] == "http.response.start":
                status = message["status"]
                continue
            pieces.append(message["body"])
            if b"event: event" in message["body"] or not message.get("more_body"):
                break
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return status, pieces


def test_server_sent_events_go_on_behind_the_last_event_id(server: InProcessServer) -> None:
    app = edge_of(server, Door())

    async def story() -> None:
        await happen(server, "Patient/x", "a", "b")
        status, pieces = await asked(app, "GET", "/realtime/events", authorization="Bearer good", last_event_id="1")
        assert status == 200
        assert pieces[0].startswith(b"id: 1\nevent: hello\n")
        assert pieces[1].startswith(b"id: 2\nevent: event\ndata: ")
        told = json.loads(pieces[1].split(b"data: ")[1])
        assert set(told) == {"signal", "id", "kind", "focus", "at"}
        assert (await asked(app, "GET", "/realtime/events"))[0] == 401
        assert (await asked(app, "GET", "/realtime/events", "person=Patient/y", authorization="Bearer good"))[0] == 403

    server.run(story())


def test_a_ticket_opens_one_stream(server: InProcessServer) -> None:
    door = Door()
    app = edge_of(server, door)

    async def story() -> None:
        await happen(server, "Patient/x", "a", "b")
        status, pieces = await asked(app, "POST", "/realtime/tickets", authorization="Bearer good")
        assert status == 201
        query = f"ticket={json.loads(pieces[0])['ticket']}&last-event-id=1"
        assert (await asked(app, "GET", "/realtime/events", query))[0] == 200
        assert (await asked(app, "GET", "/realtime/events", query))[0] == 401
        _, pieces = await asked(app, "POST", "/realtime/tickets", authorization="Bearer good")
        door.good = False
        assert (await asked(app, "GET", "/realtime/events", f"ticket={json.loads(pieces[0])['ticket']}"))[0] == 401

    server.run(story())


def test_a_web_socket_tells_the_same(server: InProcessServer) -> None:
    app = edge_of(server, Door())

    async def story(authorization: str) -> list[Any]:
        await happen(server, "Patient/x", "a", "b")
        sent: asyncio.Queue[Any] = asyncio.Queue()
        gone = asyncio.Event()
        given = [{"type": "websocket.connect"}]
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "path": "/realtime/ws",
            "raw_path": b"/realtime/ws",
            "query_string": b"last-event-id=1",
            "headers": [(b"authorization", authorization.encode())],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
            "scheme": "ws",
            "root_path": "",
            "subprotocols": [],
        }

        async def receive() -> Any:
            if given:
                return given.pop()
            await gone.wait()
            return {"type": "websocket.disconnect", "code": 1001}

        task = asyncio.ensure_future(app(scope, receive, sent.put))
        messages = []
        async with asyncio.timeout(60):
            while len(messages) < 3:
                messages.append(await sent.get())
                if messages[-1]["type"] == "websocket.close":
                    break
            gone.set()
            await task
        return messages

    accepted, hello, event = server.run(story("Bearer good"))
    assert accepted["type"] == "websocket.accept"
    assert json.loads(hello["text"]) == {"signal": "hello", "id": 1}
    assert json.loads(event["text"])["focus"] == "Communication/b"
    (closed,) = server.run(story("Bearer bad"))
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)


def test_a_sign_of_life_is_a_comment() -> None:
    assert as_event(Signal("beat", 3)) == b": beat\n\n"
