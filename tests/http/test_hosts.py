"""Without access control only requests that name this machine are answered (DNS rebinding)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fhir_server.http.hosts import LocalHosts

EVIL = {"Host": "rebound.example.com"}


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LocalHost", "127.0.0.1", "127.0.0.1:65535", "127.1.2.3", "[::1]", "[::1]:80"),
        *("test", "TEST:8000"),  # the host of the base URL
    ],
)
def test_this_machine_by_any_of_its_names_is_answered(client: httpx.Client, host: str) -> None:
    assert client.get("metadata", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "rebound.example.com",
            "rebound.example.com:8000",
            "192.168.0.7",
            "10.0.0.1:8000",
            "[2001:db8::1]",
            "0.0.0.0",
        ),
        *("localhost.example.com", "127.0.0.1.example.com", "notlocalhost", "example.com@localhost", "localhost:80:80"),
        *("", ":8000", "[::1", "127.0.0.1/", "local host", "[evil]", "localhost:x", "test.example.com", "2130706433"),
    ],
)
def test_any_other_host_is_answered_with_421_and_nothing_else(client: httpx.Client, host: str) -> None:
    answer = client.get("Patient", headers={"Host": host})
    assert answer.status_code == 421
    (issue,) = answer.json()["issue"]
    assert issue["code"] == "security"
    assert issue["details"]["coding"][0]["code"] == "HS-HTTP-HOST"
    assert "example.com" not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Date" in answer.headers


@pytest.mark.parametrize("path", ["/", "/metrics", "/health/ready", "/fhir/metadata", "/fhir/Patient", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_every_page_is_kept_from_other_hosts(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, f"http://test{path}", headers=EVIL)
    assert answer.status_code == 421
    assert (answer.content == b"") == (method == "HEAD")


def test_a_page_of_another_site_gets_no_leave_by_a_preflight(client: httpx.Client) -> None:
    asked = {**EVIL, "Origin": "http://rebound.example.com", "Access-Control-Request-Method": "PUT"}
    answer = client.options("Patient/1", headers=asked)
    assert answer.status_code == 421
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_server_with_access_control_answers_whatever_its_proxy_calls_it(make_server: Callable[..., Any]) -> None:
    server = make_server(auth="on")
    assert server.client.get("metadata", headers=EVIL).status_code == 200
    assert server.client.get("Patient", headers=EVIL).status_code == 401


async def _passed(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "passed"})


def asked(**scope: Any) -> list[dict[str, Any]]:
    """What is sent in answer to a scope that no HTTP client makes."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    asyncio.run(LocalHosts(_passed, ["test"])({"headers": [], "method": "GET", **scope}, receive, send))
    return sent


def test_a_request_without_a_host_passes_where_the_protocol_has_none() -> None:
    assert asked(type="http", http_version="1.0") == [{"type": "passed"}]
    assert asked(type="http", http_version="1.1")[0]["status"] == 421


def test_two_hosts_are_none() -> None:
    hosts = [(b"host", b"localhost"), (b"host", b"localhost")]
    assert asked(type="http", http_version="1.1", headers=hosts)[0]["status"] == 421


def test_a_websocket_of_another_host_is_refused_and_the_lifespan_passes() -> None:
    evil = [(b"host", b"rebound.example.com")]
    assert asked(type="websocket", headers=evil) == [{"type": "websocket.close", "code": 1008}]
    assert asked(type="websocket", headers=[(b"host", b"localhost:8000")]) == [{"type": "passed"}]
    assert asked(type="lifespan") == [{"type": "passed"}]
