"""A terminology server elsewhere, for code systems and value sets that are not held here.

Only codes and the names of definitions are sent there, nothing of any patient. What it says is kept for a while. When
it does not answer several times in a row it is left alone for a while, so that nobody here waits for it; until then,
and whenever it does not know, what is asked is not known: never yes.

Spec: https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpcore
import structlog

from fhir_server.model import codec
from fhir_server.model.errors import FhirError
from fhir_server.settings import Settings
from fhir_server.storage.setup import SetupError
from fhir_server.terminology.kept import Kept
from smart_auth.outbound import AsyncGuardedBackend, Outbound, OutboundError

Json = dict[str, Any]

LARGEST_BYTES = 20_000_000

#: So often in a row it may fail before it is left alone, and for how long.
MOST_FAILURES = 5
ALONE_S = 30.0

#: What it does not know is asked again after this.
UNKNOWN_S = 60.0

MEDIA_TYPE = "application/fhir+json"

log = structlog.get_logger("terminology")


class _NoAnswerError(Exception):
    """It did not answer as a FHIR server does; the text is a few words."""


@dataclass(slots=True)
class Circuit:
    """Open after several failures in a row; then one question at a time tries whether it answers again.

    Args:
        now: seconds on a clock that only goes on
    """

    now: Callable[[], float] = time.monotonic
    failures: int = 0
    until_s: float = 0.0

    def allows(self) -> bool:
        """Whether to ask; where it was left alone for long enough, the one who asks now is the one who tries."""
        if self.failures < MOST_FAILURES:
            return True
        if self.now() < self.until_s:
            return False
        self.until_s = self.now() + ALONE_S
        return True

    def failed(self) -> bool:
        """Note a failure; whether the circuit has opened by it."""
        self.failures += 1
        self.until_s = self.now() + ALONE_S
        return self.failures == MOST_FAILURES

    def succeeded(self) -> None:
        self.failures = 0


@dataclass(slots=True)
class TerminologyServer:
    """Asks one server.

    Args:
        address: its FHIR base
        authorization: the header by which it knows this server; empty: none
        kept: how many answers are kept
        kept_s: for how long
    """

    address: str
    outbound: Outbound
    authorization: str = ""
    timeout_s: float = 5.0
    kept: int = 10_000
    kept_s: float = 3600.0
    trusted: ssl.SSLContext | None = None
    circuit: Circuit = field(default_factory=Circuit)
    _pool: httpcore.AsyncConnectionPool = field(init=False)
    _answers: Kept[bytes, Json] = field(init=False)
    _unknown: Kept[bytes, bool] = field(init=False)
    _asking: dict[bytes, asyncio.Future[Json | None]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=self.trusted,
            network_backend=AsyncGuardedBackend(self.outbound),
            max_connections=10,
            keepalive_expiry=30,
        )
        self._answers = Kept(self.kept, age_s=self.kept_s)
        self._unknown = Kept(self.kept, age_s=min(self.kept_s, UNKNOWN_S))

    async def close(self) -> None:
        await self._pool.aclose()

    async def ask(self, operation: str, parameters: Json) -> Json | None:
        """As `Remote.ask`."""
        body = codec.encode(parameters)
        key = operation.encode() + b"\0" + body
        known = self._answers.get(key)
        if known is not None:
            return known
        if self._unknown.get(key):
            return None
        if (asking := self._asking.get(key)) is None:
            # Its own task: that one of those who wait goes away is nothing to the others.
            asking = self._asking[key] = asyncio.ensure_future(self._answer(operation, body, key))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _answer(self, operation: str, body: bytes, key: bytes) -> Json | None:
        if not self.circuit.allows():
            return None
        try:
            async with asyncio.timeout(self.timeout_s):
                answer = await self._asked(operation, body)
        except (_NoAnswerError, OutboundError, TimeoutError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            self._fail(str(error) or type(error).__name__)
            return None
        except httpcore.TimeoutException as error:
            self._fail(type(error).__name__)
            return None
        self.circuit.succeeded()
        if answer is None:
            self._unknown.put(key, True)
        else:
            self._answers.put(key, answer)
        return answer

    def _fail(self, reason: str) -> None:
        if self.circuit.failed():
            log.warning("terminology server left alone for a while", reason=reason, seconds=ALONE_S)

    async def _asked(self, operation: str, body: bytes) -> Json | None:
        """The resource that it answers; None where it refuses.

        Raises:
            _NoAnswerError: it has a fault of its own, is busy, or answers with what is no resource.
        """
        headers: dict[bytes | str, bytes | str] = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE}
        headers["User-Agent"] = "HealthSphere"
        if self.authorization:
            headers["Authorization"] = self.authorization
        url, received = f"{self.address.rstrip('/')}/{operation}", bytearray()
        each = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self.timeout_s)}
        async with self._pool.stream("POST", url, headers=headers, content=body, extensions=each) as answer:
            if answer.status >= 500 or answer.status in (401, 403, 408, 429) or 300 <= answer.status < 400:
                raise _NoAnswerError(f"its status is {answer.status}")
            async for chunk in answer.aiter_stream():
                received += chunk
                if len(received) > LARGEST_BYTES:
                    raise _NoAnswerError("its answer is too large")
        if answer.status != 200:
            return None
        try:
            found = codec.decode(bytes(received))
        except (FhirError, json.JSONDecodeError, ValueError):
            raise _NoAnswerError("its answer is no JSON") from None
        if type(found) is not dict or found.get("resourceType") in (None, "OperationOutcome"):
            return None
        return found


def terminology_server_of(settings: Settings) -> TerminologyServer | None:
    """The server that the settings name; None where they name none.

    Raises:
        SetupError: it would be asked without TLS at a host that `outbound_allow` does not name.
    """
    if not settings.terminology_server:
        return None
    outbound = Outbound(settings.outbound_allow)
    parts = urlsplit(settings.terminology_server)
    if parts.scheme == "http" and not outbound.allows(parts.hostname or ""):
        raise SetupError(
            "HEALTHSPHERE_TERMINOLOGY_SERVER is not https. One in your own network may be asked without TLS when "
            "HEALTHSPHERE_OUTBOUND_ALLOW names its host."
        )
    secret = settings.terminology_authorization
    return TerminologyServer(
        settings.terminology_server,
        outbound,
        secret.get_secret_value() if secret is not None else "",
        settings.terminology_timeout_s,
        settings.terminology_cache_size,
        settings.terminology_cache_minutes * 60.0,
    )
