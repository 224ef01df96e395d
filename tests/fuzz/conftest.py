"""What the fuzz tests share: a server of their own, requests sent byte by byte, and what every answer must be."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

#: Types that are mutated; making the indexes of all 146 would take longer than the tests.
TYPES = (
    "Bundle",
    "Claim",
    "Condition",
    "Encounter",
    "Location",
    "MedicationRequest",
    "Observation",
    "Patient",
    "Questionnaire",
    "ValueSet",
)
LARGEST_BYTES = 8_000

settings.register_profile(
    "fuzz",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@dataclass(frozen=True)
class Raw:
    """An answer as it left the application."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Wire:
    """Sends requests straight into the application, with nothing put in order on the way."""

    server: Any

    def __call__(
        self,
        method: str,
        path: bytes,
        query: bytes = b"",
        headers: dict[str, bytes] | None = None,
        body: bytes = b"",
    ) -> Raw:
        """`path` starts below the FHIR base, still percent-encoded."""
        return self.server.run(self._send(method, path, query, headers or {}, body))  # type: ignore[no-any-return]

    async def _send(self, method: str, path: bytes, query: bytes, headers: dict[str, bytes], body: bytes) -> Raw:
        told: dict[str, Any] = {}
        parts: list[bytes] = []
        target = b"/fhir/" + path if path else b"/fhir"

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                told.update(message)
            else:
                parts.append(message.get("body", b""))

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": "/fhir/" + path.decode("latin-1"),
            "raw_path": target,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower().encode(), value) for name, value in {"host": b"test", **headers}.items()],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
            "state": {},
        }
        await self.server.app(scope, receive, send)
        return Raw(told["status"], {n.decode(): v.decode("latin-1") for n, v in told["headers"]}, b"".join(parts))


def sensible(answer: Raw, method: str = "GET") -> None:
    """No fault of the server's own, and every refusal says why."""
    assert answer.status < 500, answer
    if answer.status >= 400 and method != "HEAD":
        if answer.headers["content-type"].startswith(("application/fhir+xml", "application/xml", "text/xml")):
            assert b"<OperationOutcome xmlns=" in answer.body[:200]
            assert b"<diagnostics value=" in answer.body
            return
        # Of lines of JSON, a refusal is one.
        spoken = ("application/fhir+json", "application/json", "text/json", "application/fhir+ndjson")
        assert answer.headers["content-type"].startswith(spoken), answer
        outcome = json.loads(answer.body)
        assert outcome["resourceType"] == "OperationOutcome"
        assert outcome["issue"]
        for issue in outcome["issue"]:
            assert issue["severity"] in ("fatal", "error", "warning", "information")
            assert issue["code"]
            assert issue["diagnostics"].strip()
        assert len(answer.body) < 1_000_000, "a refusal that is longer than most requests"


@pytest.fixture(scope="session")
def fuzzed(make_server: Callable[..., Any]) -> Any:
    return make_server(max_body_bytes=2_000_000)


@pytest.fixture(scope="session")
def wire(fuzzed: Any) -> Wire:
    return Wire(fuzzed)


@pytest.fixture(scope="session")
def check() -> Callable[..., None]:
    return sensible


@pytest.fixture(scope="session")
def resources(test_data: Path) -> list[dict[str, Any]]:
    """Real resources, some of each type, none of them large."""
    found: list[dict[str, Any]] = []
    for kind in TYPES:
        paths = sorted((test_data / "r4-examples").glob(f"{kind}-*.json"))
        small = [path for path in paths if path.stat().st_size < LARGEST_BYTES]
        found += [json.loads(p.read_bytes()) for p in random.Random(4).sample(small, min(6, len(small)))]
    bundle = json.loads(
        min((test_data / "synthea-blaze").glob("[1-9a-f]*.json"), key=lambda p: p.stat().st_size).read_bytes()
    )
    generated = [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] in TYPES]
    return found + random.Random(4).sample(generated, 8)
