"""Where this server may connect to when somebody else chose the address: never into its own network.

A client's key set, a subscription's endpoint: whoever names such an address could name a machine that only this server
reaches (its database, a cloud's metadata service), and learn from the answer or from the time it takes. So the name is
resolved here, each of its addresses is judged, and the connection goes to an address that was judged: a name that leads
elsewhere a moment later (DNS rebinding) changes nothing. How an address was spelled (`0177.1`, `2130706433`,
`::ffff:127.0.0.1`) does not matter, since the judged address is what the system makes of the spelling. TLS still proves
the name.

Spec: https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html,
RFC 6890, RFC 6052, RFC 3056
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from httpcore import SOCKET_OPTION as SocketOption
from httpcore import AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream, NetworkBackend, NetworkStream, SyncBackend

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Gives the addresses of a name. Blocking. Raises OSError when there are none.
Resolve = Callable[[str, int], list[str]]

#: IPv6 addresses that carry an IPv4 address in their last 32 bits (RFC 6052).
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

#: Not yet, or no longer, what `ipaddress` calls private, and none of the Internet's.
REFUSED: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # IETF protocol assignments (RFC 6890); Oracle's cloud has its metadata there
        "168.63.129.16/32",  # Azure's metadata and DNS, at an address that looks public
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "::/96",  # IPv4-compatible (RFC 4291), which nobody uses but attackers
        "64:ff9b:1::/48",  # NAT64 of a local network (RFC 8215)
        "fec0::/10",  # site-local (RFC 3879)
        "3fff::/20",  # documentation (RFC 9637)
        "5f00::/16",  # segment routing inside a network (RFC 9602)
    )
)


#: How long a name may take to be resolved, waiting for others included.
RESOLVE_S: Final = 3.0

#: Names that are resolved at the same time.
MOST_RESOLVED: Final = 32


class OutboundError(Exception):
    """There may be no connection there; the text is a few words that tell nothing of the network."""


def resolved(host: str, port: int) -> list[str]:
    """The addresses that the system gives for a name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


class TimelyResolve:
    """Resolves names, each within a time.

    The system's resolver cannot be told to hurry or to stop: it asks name servers that whoever chose the name may run,
    and waits for half a minute. So each name has a thread of its own, which nobody waits for longer than the time; when
    many such threads are stuck, no more are begun, and the names of others fail as if they took too long.
    """

    def __init__(self, resolve: Resolve, seconds: float = RESOLVE_S, most: int = MOST_RESOLVED) -> None:
        self._resolve = resolve
        self._seconds = seconds
        self._free = threading.BoundedSemaphore(most)

    def __call__(self, host: str, port: int) -> list[str]:
        """The addresses of a name.

        Raises:
            OSError, UnicodeError: it has none; it took too long (`TimeoutError`).
        """
        deadline = time.monotonic() + self._seconds
        if not self._free.acquire(timeout=self._seconds):
            raise TimeoutError
        found: list[list[str]] = []
        failed: list[Exception] = []

        def work() -> None:
            try:
                found.append(self._resolve(host, port))
            except Exception as error:
                failed.append(error)
            finally:
                self._free.release()

        thread = threading.Thread(target=work, name="resolve", daemon=True)
        thread.start()
        thread.join(max(0.0, deadline - time.monotonic()))
        if failed:
            raise failed[0]
        if not found:
            raise TimeoutError
        return found[0]


def is_public(text: str) -> bool:
    """Whether an address is one of the Internet's, with what it carries inside, too."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False  # with a zone (`fe80::1%eth0`), or no address at all
    return all(map(_is_public, _with_carried(address)))


def _with_carried(address: Address) -> list[Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]  # it is that very IPv4 address
    found: list[Address] = [address]
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address in NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return found


def _is_public(address: Address) -> bool:
    if address in NAT64:
        return True  # what it carries is judged besides
    known = any(address.version == network.version and address in network for network in REFUSED)
    return address.is_global and not (known or address.is_multicast or address.is_reserved or address.is_unspecified)


class Outbound:
    """Judges where connections may go.

    `allowed` are hosts, spelled as in the addresses, that the operator lets be anywhere (a key server in the own
    network).
    """

    def __init__(
        self, allowed: Iterable[str] = (), resolve: Resolve = resolved, *, resolve_s: float = RESOLVE_S
    ) -> None:
        self._allowed = frozenset(name.lower().strip("[]") for name in allowed)
        self._resolve = TimelyResolve(resolve, resolve_s)

    def allows(self, host: str) -> bool:
        """Whether the operator has named this host."""
        return host.lower().strip("[]") in self._allowed

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses to connect to. Blocking.

        Raises:
            OutboundError: there are none, or one of them is not the Internet's: a name that leads inside and outside at
                once is no honest one.
        """
        try:
            found = self._resolve(host, port)
        except TimeoutError:
            raise OutboundError("its name is not resolved in time") from None
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise OutboundError("its name has no address")
        if not self.allows(host) and not all(map(is_public, found)):
            raise OutboundError("its address is not a public one")
        return found


class GuardedBackend(NetworkBackend):
    """Connections of a blocking `httpcore.ConnectionPool`, to judged addresses only."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._plain = SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> NetworkStream:
        # One address: with several that do not answer, the time limit would count for each.
        address = self._outbound.addresses(host, port)[0]
        return self._plain.connect_tcp(address, port, timeout, local_address, socket_options)


class AsyncGuardedBackend(AsyncNetworkBackend):
    """The same for an `httpcore.AsyncConnectionPool`."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._plain = AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> AsyncNetworkStream:
        address = (await asyncio.to_thread(self._outbound.addresses, host, port))[0]
        return await self._plain.connect_tcp(address, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
