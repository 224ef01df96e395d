"""Fetching a client's key set: a small document from an address that somebody else chose.

This is the plain way. A server that is reachable from outside puts a guarded one in its place, which also looks where
the name leads (`Fetch` is the port).

Spec: RFC 7517 section 5, RFC 9111 section 5.2.2
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

import httpx

from smart_auth.clients import LOOPBACK

#: Gives the bytes at an address, and for how many seconds they may be kept (None: it does not say).
#: Raises `FetchError` when they cannot be had. Called from worker threads.
Fetch = Callable[[str], tuple[bytes, int | None]]

LARGEST_BYTES: Final = 65_536
TIMEOUT_S: Final = 5.0


class FetchError(Exception):
    """The document cannot be had; the text is a few words."""


def fetcher(*, loopback: bool = False) -> Fetch:
    """A plain fetcher: https, or also http on this machine where `loopback` allows it; no redirects."""

    def fetch(url: str) -> tuple[bytes, int | None]:
        parts = httpx.URL(url)
        if parts.scheme != "https" and not (loopback and parts.scheme == "http" and parts.host in LOOPBACK):
            raise FetchError("the address is not https")
        deadline, body = time.monotonic() + TIMEOUT_S, b""
        try:
            with (
                httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
                client.stream("GET", url, headers={"Accept": "application/json"}) as answer,
            ):
                if answer.status_code != httpx.codes.OK:
                    raise FetchError(f"the answer's status is {answer.status_code}")
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > LARGEST_BYTES:
                        raise FetchError("the document is too large")
                    if time.monotonic() > deadline:
                        raise FetchError("it takes too long")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FetchError(f"it cannot be reached ({type(error).__name__})") from None
        return body, kept_s(answer.headers.get("cache-control"))

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
