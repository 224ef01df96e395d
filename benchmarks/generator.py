"""The load generator: a closed loop over keep-alive connections, in a process of its own.

It shares the processor with the server and the database, so it does as little as can be: requests are bytes made
before, answers are read as far as their end, and one in `sample_every` is kept to be checked afterwards.
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
GRACE_S = 15.0


@dataclass(frozen=True)
class Plan:
    """What to send. With `cycle`, the requests are sent again and again; else each at most once."""

    port: int
    requests: list[bytes]
    statuses: frozenset[int]
    seconds: float
    concurrency: int
    cycle: bool = True
    warm_up_s: float = 0.5
    sample_every: int = 50


@dataclass
class Measured:
    """What came of it: operations in `seconds`, their latencies in seconds, and what was wrong with how many."""

    operations: int = 0
    seconds: float = 0.0
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        return self.operations / self.seconds if self.seconds else 0.0

    def add(self, other: Measured) -> None:
        """What came of a further turn of the same plan."""
        self.operations += other.operations
        self.seconds += other.seconds
        self.latencies_s.extend(other.latencies_s)
        self.errors.update(other.errors)
        self.samples += other.samples

    def latency_ms(self, share: float) -> float:
        """The latency in milliseconds that this share of the operations does not exceed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


def measure(plan: Plan) -> Measured:
    """Run a plan to its end; call it in a process of its own."""
    return uvloop.run(_Run(plan).run())


class _Run:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.measured = Measured()
        self.finished = asyncio.Event()
        self._next = 0
        self._at_work = 0
        self._begin = self._end = 0.0

    async def run(self) -> Measured:
        loop = asyncio.get_running_loop()
        now = time.perf_counter()
        self._begin = now + (self.plan.warm_up_s if self.plan.cycle else 0.0)
        self._end = self._begin + self.plan.seconds
        self._at_work = self.plan.concurrency
        for _ in range(self.plan.concurrency):
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self.plan.port)
        try:
            await asyncio.wait_for(self.finished.wait(), self._end - now + GRACE_S)
        except TimeoutError:
            self.measured.errors["no answer"] += self._at_work
        self.measured.seconds = min(time.perf_counter(), self._end) - self._begin
        return self.measured

    def take(self) -> int | None:
        """The index of the next request; None when time or requests are at their end."""
        index, self._next = self._next, self._next + 1
        exhausted = not self.plan.cycle and index >= len(self.plan.requests)
        return None if exhausted or time.perf_counter() >= self._end else index % len(self.plan.requests)

    def leave(self) -> None:
        """A connection has nothing left to do."""
        self._at_work -= 1
        if self._at_work == 0:
            self.finished.set()

    def note(self, index: int, sent_at: float, status: int, answer: bytes) -> None:
        """An answer is whole."""
        now = time.perf_counter()
        if status not in self.plan.statuses:
            self.measured.errors[f"status {status}"] += 1
            if len(self.measured.errors) < 5:
                self.measured.samples.append((index, answer))
        elif sent_at >= self._begin and now <= self._end:
            self.measured.operations += 1
            self.measured.latencies_s.append(now - sent_at)
            if self.measured.operations % self.plan.sample_every == 1:
                self.measured.samples.append((index, answer))


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = bytearray()
        self._index: int | None = None
        self._sent_at = 0.0
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one in all but its ancestry
        self._send()

    def _send(self) -> None:
        self._index = self._run.take()
        if self._index is None:
            self._transport.close()
            self._run.leave()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(self._run.plan.requests[self._index])

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        body = body_of(self._buffer)
        if body is None or self._index is None:
            return
        status = int(self._buffer[9:12])
        answer = bytes(body)
        self._buffer.clear()
        self._run.note(self._index, self._sent_at, status, answer)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._index is not None:
            self._run.measured.errors["connection lost"] += 1
            self._run.leave()


def body_of(message: bytearray) -> bytearray | None:
    """The body of an HTTP/1.1 answer; None while it is not whole."""
    head_end = message.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    start = head_end + 4
    if bytes(message[9:12]) in (b"204", b"304"):
        return message[start:]
    if length := _LENGTH.search(message, 0, head_end):
        end = start + int(length[1])
        return message[start:end] if len(message) >= end else None
    if _CHUNKED.search(message, 0, head_end):
        return _unchunked(message, start)
    return message[start:]


def _unchunked(message: bytearray, position: int) -> bytearray | None:
    body = bytearray()
    while True:
        line_end = message.find(b"\r\n", position)
        if line_end < 0:
            return None
        size = int(message[position:line_end].split(b";")[0], 16)
        position = line_end + 2 + size + 2
        if len(message) < position:
            return None
        if size == 0:
            return body
        body += message[line_end + 2 : line_end + 2 + size]
