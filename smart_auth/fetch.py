"""Fetching a client's key set: a small document from an address that somebody else chose.

Https only, no redirects, no proxy of the environment, an end to size and time; and where the name leads is judged
before anything is sent there (`outbound`).

Spec: RFC 7517 section 5, RFC 9111 section 5.2.2
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable
from typing import Final

import httpcore
import httpx

from smart_auth.clients import LOOPBACK
from smart_auth.outbound import GuardedBackend, Outbound, OutboundError

#: Gives the bytes at an address, and for how many seconds they may be kept (None: it does not say).
#: Raises `FetchError` when they cannot be had. Called from worker threads.
Fetch = Callable[[str], tuple[bytes, int | None]]

LARGEST_BYTES: Final = 65_536
TIMEOUT_S: Final = 5.0


class FetchError(Exception):
    """The document cannot be had; the text is a few words."""


def fetcher(
    outbound: Outbound | None = None, *, loopback: bool = False, trusted: ssl.SSLContext | None = None
) -> Fetch:
    """What fetches.

    Args:
        outbound: judges where connections may go
        loopback: this machine may be reached, by http too: for a server that is itself for this machine alone
        trusted: certificates to believe, in place of the system's
    """
    outbound = outbound or Outbound(LOOPBACK if loopback else ())
    context = trusted or httpx.create_ssl_context(trust_env=False)

    def fetch(url: str) -> tuple[bytes, int | None]:
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL:
            raise FetchError("it is no address") from None
        # Without TLS only this machine, and only where the operator or the kind of server allows it.
        plain = parts.scheme == "http" and parts.host in LOOPBACK and outbound.allows(parts.host)
        if not parts.host or (parts.scheme != "https" and not plain):
            raise FetchError("the address is not https")
        deadline, body = time.monotonic() + TIMEOUT_S, b""
        each = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_S)}
        headers: dict[bytes | str, bytes | str] = {
            "Host": parts.netloc.decode("ascii"),
            "Accept": "application/json",
            "User-Agent": "HealthSphere",
        }
        try:
            with (
                httpcore.ConnectionPool(ssl_context=context, network_backend=GuardedBackend(outbound)) as pool,
                pool.stream(
                    "GET",
                    httpcore.URL(scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path),
                    headers=headers,
                    extensions=each,
                ) as answer,
            ):
                if answer.status != httpx.codes.OK:
                    raise FetchError(f"the answer's status is {answer.status}")
                for chunk in answer.iter_stream():
                    body += chunk
                    if len(body) > LARGEST_BYTES:
                        raise FetchError("the document is too large")
                    if time.monotonic() > deadline:
                        raise FetchError("it takes too long")
                kept = {name.lower(): value for name, value in answer.headers}.get(b"cache-control")
        except OutboundError as error:
            raise FetchError(str(error)) from None
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, ValueError) as error:
            raise FetchError(f"it cannot be reached ({type(error).__name__})") from None
        return body, kept_s(None if kept is None else kept.decode("latin-1"))

    return fetch


def kept_s(cache_control: str | None) -> int | None:
    """For how long an answer may be kept, as its Cache-Control says; None when it does not say."""
    if cache_control is None:
        return None
    text = cache_control.lower()
    if "no-store" in text or "no-cache" in text:
        return 0
    found = re.search(r"\bmax-age\s*=\s*\"?(\d{1,9})", text)
    return int(found[1]) if found else None
