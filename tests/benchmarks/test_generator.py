"""The load generator's reading of answers, and its loop against a real server."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator

import pytest

from benchmarks.generator import Measured, Plan, body_of, measure


def test_an_answer_with_a_length_is_whole_when_its_last_byte_is_there() -> None:
    message = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    assert body_of(bytearray(message)) == bytearray(b"hello")
    assert all(body_of(bytearray(message[:end])) is None for end in range(len(message)))


def test_a_chunked_answer_is_put_together() -> None:
    message = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"
    assert body_of(bytearray(message)) == bytearray(b"hello")
    assert all(body_of(bytearray(message[:end])) is None for end in range(len(message)))


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_a_body_ends_with_its_head(status: str) -> None:
    assert body_of(bytearray(f"HTTP/1.1 {status}\r\ncontent-length: 9\r\n\r\n".encode())) == bytearray()


class _Answering(socketserver.BaseRequestHandler):
    """Answers `GET /ok` with 200 and all else with 500."""

    def handle(self) -> None:
        while data := self.request.recv(4096):
            status = "200 OK" if data.startswith(b"GET /ok") else "500 No"
            self.request.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a running server."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Answering) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def _run(port: int, *paths: str, cycle: bool) -> Measured:
    requests = [f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths]
    return measure(Plan(port, requests, frozenset({200}), 0.2, 2, cycle=cycle, warm_up_s=0.05, sample_every=10))


def test_the_loop_counts_operations_and_keeps_samples(port: int) -> None:
    measured = _run(port, "/ok", cycle=True)
    assert measured.operations == len(measured.latencies_s) > 10
    assert not measured.errors
    assert {body for _, body in measured.samples} == {b"{}"}
    assert 0 < measured.latency_ms(0.5) <= measured.latency_ms(0.99)


def test_an_unexpected_status_is_an_error_and_no_operation(port: int) -> None:
    measured = _run(port, *["/ok", "/no"] * 10, cycle=False)
    assert (measured.operations, measured.errors["status 500"]) == (10, 10)
