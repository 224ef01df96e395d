"""Asking a server that lives in this process: straight at its ASGI door, several questions at once.

The matrix asks tens of thousands of times; a client for HTTP would take longer than the server.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from fhir_server.model import codec

Json = dict[str, Any]

#: So many questions are under way at once: one is answered while the database works on the others.
AT_ONCE = 6

#: Characters of addresses that stay as they are; as browsers do it.
PLAIN_MARKS = "/?&=:,|$%*.~_-+;@!()'"

#: What differs from one answer to the next, whoever asks for whatever.
VARYING = frozenset({b"date", b"x-request-id"})

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)|\w{3}, \d\d \w{3} \d{4} [\d:]+ GMT")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_CURSOR = re.compile(r"_cursor=[\w\-%]+")


@dataclass(frozen=True, slots=True)
class Question:
    """One request, its address below the base."""

    method: str
    url: str
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What a server answers."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Json:
        found: Json = codec.decode(self.body)
        return found

    def plain(self, names: Mapping[str, str]) -> tuple[object, ...]:
        """All that it tells, in which what was asked for has the name that `names` gives it."""
        headers = tuple((name, renamed(value, names)) for name, value in self.headers)
        return self.status, headers, renamed(self.text, names)


def renamed(text: str, names: Mapping[str, str]) -> str:
    """A text without moments, new ids and cursors, some names exchanged."""
    for name, other in names.items():
        text = re.sub(re.escape(name), other, text, flags=re.IGNORECASE)
    return _CURSOR.sub("cursor", _UUID.sub("uuid", _MOMENT.sub("moment", text)))


@dataclass
class Asker:
    """Asks one server; `asked` counts."""

    server: Any
    asked: int = field(default=0)

    def ask(self, who: str, question: Question) -> Told:
        return self.all_of([(who, question)])[0]

    def all_of(self, questions: Sequence[tuple[str, Question]]) -> list[Told]:
        """The answers, in the order of the questions, which are asked side by side."""
        told: list[Told] = self.server.run(self._all(questions))
        return told

    def in_turn(self, questions: Iterable[tuple[str, Question]]) -> list[Told]:
        """The answers to questions that may change something: one after the other."""
        return [self.ask(*question) for question in questions]

    async def _all(self, questions: Sequence[tuple[str, Question]]) -> list[Told]:
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(who: str, question: Question) -> Told:
            async with turn:
                return await self._one(who, question)

        return list(await asyncio.gather(*(one(who, question) for who, question in questions)))

    async def _one(self, who: str, question: Question) -> Told:
        self.asked += 1
        url = question.url.removeprefix(self.server.base_url).removeprefix("/")
        mount = urlsplit(self.server.base_url).path
        path, _, query = quote(f"{mount}/{url}" if url else mount, safe=PLAIN_MARKS).partition("?")
        body = question.body.encode()
        headers = {"host": "test", "authorization": f"Bearer {who}", "accept": "*/*"}
        if body:
            headers |= {"content-type": "application/fhir+json", "content-length": str(len(body))}
        headers |= {name.lower(): value for name, value in question.headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": question.method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("test", 80),
        }
        sent: list[Json] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Json:
            if not waiting:
                await asyncio.Event().wait()  # whoever asks stays for the answer
            return waiting.pop()

        async def send(message: Json) -> None:
            sent.append(message)

        await self.server.app(scope, receive, send)
        raw = [(name.lower(), value) for name, value in sent[0]["headers"] if name.lower() not in VARYING]
        return Told(
            sent[0]["status"],
            tuple(sorted((name.decode(), value.decode()) for name, value in raw)),
            b"".join(message.get("body", b"") for message in sent[1:]),
        )
