"""Where the server may connect to when somebody else chose the address, with names that lead where the test says."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpcore
import pytest

from smart_auth.fetch import FetchError, fetcher
from smart_auth.outbound import AsyncGuardedBackend, Outbound, OutboundError, TimelyResolve, is_public

INSIDE = """
0.0.0.0 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::a00:1 64:ff9b::7f00:1 64:ff9b:1::1 100::1
2001::1 2001:db8::1 2002:7f00:1:: 2002:a00:1::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1
ff02::1 ff0e::1
""".split()  # noqa: SIM905  (a table)

OUTSIDE = "8.8.8.8 93.184.216.34 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1".split()  # noqa: SIM905


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_a_network_is_not_public(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(OutboundError, match="not a public one"):
        Outbound(resolve=lambda *_: [address]).addresses("keys.example", 443)


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)
    assert Outbound(resolve=lambda *_: [address]).addresses("keys.example", 443) == [address]


@pytest.mark.parametrize(
    "host", ["127.1", "0177.0.0.1", "0x7f000001", "2130706433", "017700000001", "localhost", "[::1]"]
)
def test_the_spelling_of_an_address_does_not_hide_where_it_leads(host: str) -> None:
    with pytest.raises(FetchError, match=r"not a public one|no address"):
        fetcher()(f"https://{host}/keys")


def test_a_name_that_leads_inside_and_outside_at_once_is_refused() -> None:
    with pytest.raises(OutboundError):
        Outbound(resolve=lambda *_: ["8.8.8.8", "10.0.0.1"]).addresses("keys.example", 443)


def test_a_name_without_an_address_says_so() -> None:
    def nothing(*_: object) -> list[str]:
        raise socket.gaierror(-2, "unknown")

    with pytest.raises(FetchError, match="has no address"):
        fetcher(Outbound(resolve=nothing))("https://keys.example/keys")


@pytest.mark.parametrize(
    "url", ["http://keys.example/", "ftp://keys.example/", "file:///etc/passwd", "//x", "https://"]
)
def test_only_https_is_spoken(url: str) -> None:
    with pytest.raises(FetchError):
        fetcher(Outbound(resolve=lambda *_: ["8.8.8.8"]))(url)


class Keys(BaseHTTPRequestHandler):
    """A key server with a certificate for `keys.example`; remembers who was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.headers['Host']}{self.path}")  # type: ignore[attr-defined]
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "https://keys.example/keys")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b"x" * 100_000 if self.path == "/large" else b'{"keys":[]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=60")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class KeyServer:
    def __init__(self, certificate: Path, key: Path) -> None:
        self.trusted = ssl.create_default_context(cafile=str(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.http = HTTPServer(("127.0.0.1", 0), Keys)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.http.asked = []  # type: ignore[attr-defined]
        self.port = self.http.server_port
        self._thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self._thread.start()

    @property
    def asked(self) -> list[str]:
        return self.http.asked  # type: ignore[attr-defined,no-any-return]

    def close(self) -> None:
        self.http.shutdown()
        self._thread.join()
        self.http.server_close()


@pytest.fixture
def keys(make_certificate: Callable[..., tuple[Path, Path]]) -> Iterator[KeyServer]:
    server = KeyServer(*make_certificate("keys.example"))
    yield server
    server.close()


def leading(*addresses: str) -> tuple[list[str], Outbound]:
    """Names that lead to these addresses, one after the other; `keys.example` is allowed to lead inside."""
    asked: list[str] = []

    def resolve(host: str, _: int) -> list[str]:
        asked.append(host)
        return [addresses[min(len(asked), len(addresses)) - 1]]

    return asked, Outbound(["keys.example"], resolve)


def test_a_host_that_the_operator_allows_is_reached_and_its_certificate_is_judged_by_its_name(keys: KeyServer) -> None:
    asked, outbound = leading("127.0.0.1")
    body, seconds = fetcher(outbound, trusted=keys.trusted)(f"https://keys.example:{keys.port}/keys?a=1")
    assert (body, seconds) == (b'{"keys":[]}', 60)
    assert keys.asked == [f"keys.example:{keys.port}/keys?a=1"]
    assert asked == ["keys.example"], "the name is resolved once: the judged address is the one that is connected to"
    with pytest.raises(FetchError, match="cannot be reached"):  # nobody vouches for the certificate
        fetcher(outbound)(f"https://keys.example:{keys.port}/keys")
    other = Outbound(["other.example"], lambda *_: ["127.0.0.1"])
    with pytest.raises(FetchError, match="cannot be reached"):  # a certificate of another name
        fetcher(other, trusted=keys.trusted)(f"https://other.example:{keys.port}/keys")


def test_a_name_that_leads_elsewhere_a_moment_later_changes_nothing(keys: KeyServer) -> None:
    moves = iter([["8.8.8.8"], ["127.0.0.1"]])
    outbound = Outbound(resolve=lambda *_: next(moves))
    assert outbound.addresses("keys.example", keys.port) == ["8.8.8.8"]
    with pytest.raises(FetchError, match="not a public one"):
        fetcher(outbound, trusted=keys.trusted)(f"https://keys.example:{keys.port}/keys")
    assert keys.asked == []


@pytest.mark.parametrize(("path", "says"), [("/elsewhere", "302"), ("/large", "too large")])
def test_redirects_are_not_followed_and_size_has_an_end(keys: KeyServer, path: str, says: str) -> None:
    with pytest.raises(FetchError, match=says):
        fetcher(leading("127.0.0.1")[1], trusted=keys.trusted)(f"https://keys.example:{keys.port}{path}")
    assert len(keys.asked) == 1


def test_the_asynchronous_way_is_guarded_as_well(keys: KeyServer) -> None:
    async def get(outbound: Outbound) -> httpcore.Response:
        async with httpcore.AsyncConnectionPool(
            ssl_context=keys.trusted, network_backend=AsyncGuardedBackend(outbound)
        ) as pool:
            return await pool.request("GET", f"https://keys.example:{keys.port}/keys")

    assert asyncio.run(get(leading("127.0.0.1")[1])).content == b'{"keys":[]}'
    with pytest.raises(OutboundError):
        asyncio.run(get(Outbound(resolve=lambda *_: ["127.0.0.1"])))
    assert len(keys.asked) == 1


# --- names that take their time ---------------------------------------------------------------------------------------


class SlowNames:
    """Name servers of somebody who wants this server to wait: they answer when the test is over."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.over = threading.Event()

    def __call__(self, host: str, _: int) -> list[str]:
        self.asked.append(host)
        if not host.startswith("quick"):
            self.over.wait(60)
        return ["8.8.8.8"]


@pytest.fixture
def slow_names() -> Iterator[SlowNames]:
    names = SlowNames()
    yield names
    names.over.set()


def test_a_name_that_is_not_resolved_in_time_is_given_up(slow_names: SlowNames) -> None:
    outbound = Outbound(resolve=slow_names, resolve_s=0.05)
    began = time.monotonic()
    with pytest.raises(OutboundError, match="not resolved in time"):
        outbound.addresses("slow.example", 443)
    with pytest.raises(FetchError, match="not resolved in time"):
        fetcher(outbound)("https://slow.example/keys")
    assert time.monotonic() - began < 30, "the names would take a minute each"
    assert outbound.addresses("quick.example", 443) == ["8.8.8.8"], "the others do not wait for it"


def test_no_more_threads_wait_than_may(slow_names: SlowNames) -> None:
    resolve = TimelyResolve(slow_names, 0.05, most=2)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            resolve("slow.example", 443)
    assert len(slow_names.asked) == 2
    slow_names.over.set()
    # Those that were stuck come back, and others go on.
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            assert resolve("quick.example", 443) == ["8.8.8.8"]
            return
        except TimeoutError:
            continue
    raise AssertionError("no thread came back")


def test_what_the_resolver_says_of_a_name_is_told() -> None:
    def nothing(_: str, __: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(OutboundError, match="no address"):
        Outbound(resolve=nothing).addresses("none.example", 443)
