"""Sending a parcel until it is answered, without ever doing twice what must be done once.

Spec: https://hl7.org/fhir/R4/http.html, RFC 9110 sections 9.2.2 and 10.2.3
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from time import monotonic
from types import TracebackType

import httpx

from fhir_server.load.options import LoadOptions
from fhir_server.load.parcels import Parcel

#: How often 409 (write conflict) and the like are tried; waits double from 0.1 s.
MAX_TRIES = 7
#: Below the idle time after which servers close a connection, so that no request meets a closing one.
KEEP_ALIVE_S = 2.0
TEMPORARY = frozenset({409, 429, 503})


class LoadStopped(Exception):
    """The load cannot go on; the message, one line, says why and what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. `status` 0: it said nothing, and whether it has done the work is unknown."""

    status: int
    body: bytes = b""


class Transport:
    """A connection pool to one FHIR base URL; use it as an asynchronous context manager."""

    def __init__(self, options: LoadOptions) -> None:
        self.base_url = options.base_url.rstrip("/")
        headers = {
            "Accept": "application/fhir+json",
            "Content-Type": "application/fhir+json",
            "Prefer": "return=minimal",
        }
        if options.token:
            headers["Authorization"] = f"Bearer {options.token}"
        self._patience_s = options.patience_s
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(options.timeout_s, connect=10.0),
            limits=httpx.Limits(max_connections=options.jobs, keepalive_expiry=KEEP_ALIVE_S),
        )

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def check(self) -> None:
        """See that somebody answers at the base URL.

        Raises:
            LoadStopped: nobody does.
        """
        try:
            await self._client.head(f"{self.base_url}/metadata", timeout=30.0)
        except httpx.ConnectError:
            raise self._not_running() from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise LoadStopped(f"{self.base_url} is no HTTP address: {error}") from None
        except httpx.HTTPError:
            return  # somebody is there; what is wrong will show when it matters

    def _not_running(self) -> LoadStopped:
        return LoadStopped(
            f"No FHIR server answers at {self.base_url}: start one (`make run` or `healthsphere serve`), "
            "or name another with --base-url."
        )

    async def send(self, parcel: Parcel) -> Answer:
        """Send, and try again while that is safe and may help.

        Connection faults are waited out for `patience_s`; a request that must not be repeated is given up with status 0
        once it may have reached the server.

        Raises:
            LoadStopped: the server is gone for good, or wants a token.
        """
        url = f"{self.base_url}/{parcel.path}" if parcel.path else self.base_url
        tries, lost_at = 0, 0.0
        while True:
            try:
                response = await self._client.request(parcel.method, url, content=parcel.body)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
                lost_at = lost_at or monotonic()
                if monotonic() - lost_at > self._patience_s:
                    raise self._not_running() from None
            except httpx.TransportError as error:
                if not parcel.repeatable:
                    return Answer(0, _reason(error))
                lost_at = lost_at or monotonic()
                if monotonic() - lost_at > self._patience_s:
                    return Answer(0, _reason(error))
            else:
                if response.status_code == 401:
                    raise LoadStopped(_login_advice(self._client.headers.get("Authorization") is not None))
                if response.status_code not in TEMPORARY or tries + 1 >= MAX_TRIES:
                    return Answer(response.status_code, response.content)
                lost_at = 0.0
                await asyncio.sleep(_asked_wait_s(response))
            await asyncio.sleep(min(5.0, 0.1 * 2**tries) * random.uniform(0.5, 1.0))
            tries += 1


def _asked_wait_s(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 120.0) if text.isdigit() else 0.0


def _reason(error: httpx.TransportError) -> bytes:
    return (str(error) or type(error).__name__).encode()


def _login_advice(has_token: bool) -> str:
    if has_token:
        return "The server answers 401: it does not accept the token (expired, or without scope system/*.*)."
    return "The server answers 401: pass an access token with --token, or in the variable HEALTHSPHERE_TOKEN."
