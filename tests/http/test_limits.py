"""Every limit of `docs/settings.md` answers with what was found, what is allowed, and a status that fits."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.server import Server
from tests.conftest import InProcessServer

FHIR = {"Accept": "application/fhir+json"}


@pytest.fixture(scope="module")
def small(make_server: Callable[..., InProcessServer]) -> httpx.Client:
    """A server with narrow limits."""
    return make_server(
        max_body_bytes=200_000,
        max_resource_bytes=50_000,
        max_url_bytes=2000,
        max_header_bytes=3000,
        max_bundle_entries=3,
        max_search_parameters=4,
        max_search_values=10,
        default_page_size=5,
        max_page_size=10,
    ).client


def fault(answer: httpx.Response) -> tuple[int, str, str]:
    issue = answer.json()["issue"][0]
    return answer.status_code, issue["details"]["coding"][0]["code"], issue["diagnostics"]


def patient(size: int) -> dict[str, Any]:
    return {"resourceType": "Patient", "name": [{"text": "x" * size}]}


def test_a_resource_above_the_limit_is_refused_before_the_database_refuses_it(small: httpx.Client) -> None:
    assert small.post("Patient", json=patient(49_000)).status_code == 201
    for answer in (
        small.post("Patient", json=patient(50_000)),
        small.put("Patient/big", json={**patient(50_000), "id": "big"}),
        small.post("Patient", json=patient(50_000), headers={"If-None-Exist": "identifier=none"}),
        small.put("Patient?identifier=none", json=patient(50_000)),
    ):
        status, key, text = fault(answer)
        assert (status, key) == (413, "HS-LIMIT-RESOURCE")
        assert "50,000" in text
    entry = {"resource": patient(50_000), "request": {"method": "POST", "url": "Patient"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    answer = small.post("", json=bundle)
    assert fault(answer)[:2] == (413, "HS-LIMIT-RESOURCE")
    assert answer.json()["issue"][0]["diagnostics"].startswith("Entry 0:")
    bundle["type"] = "batch"
    assert small.post("", json=bundle).json()["entry"][0]["response"]["status"] == "413"


def test_a_patch_that_makes_a_resource_too_large_is_refused(small: httpx.Client) -> None:
    small.put("Patient/grows", json={**patient(30_000), "id": "grows"})
    patch = [{"op": "add", "path": "/name/-", "value": {"text": "y" * 30_000}}]
    answer = small.patch("Patient/grows", json=patch, headers={"Content-Type": "application/json-patch+json"})
    assert fault(answer)[:2] == (413, "HS-LIMIT-RESOURCE")


def test_a_body_above_the_limit_is_refused(small: httpx.Client) -> None:
    status, key, text = fault(small.post("Patient", json=patient(200_001)))
    assert (status, key) == (413, "HS-HTTP-BODY-SIZE")
    assert "200,000" in text


def test_a_bundle_with_too_many_entries_is_refused(small: httpx.Client) -> None:
    entry = {"request": {"method": "GET", "url": "Patient"}}
    answer = small.post("", json={"resourceType": "Bundle", "type": "batch", "entry": [entry] * 4})
    assert fault(answer)[:2] == (413, "HS-BUNDLE-SIZE")


def test_a_page_is_no_larger_than_the_limit_and_says_so(small: httpx.Client) -> None:
    answer = small.get("Patient?_count=5000", headers=FHIR).json()
    assert "_count=10" in answer["link"][0]["url"]


def test_an_address_above_the_limit_is_refused_and_told_of_the_form(small: httpx.Client) -> None:
    status, key, text = fault(small.get(f"Patient?name={'x' * 2000}"))
    assert (status, key) == (414, "HS-LIMIT-URL")
    assert "_search" in text
    assert small.post("Patient/_search", data={"name": "x" * 2000}).status_code == 200


def test_headers_above_the_limit_are_refused(small: httpx.Client) -> None:
    status, key, _ = fault(small.get("Patient", headers={"X-Long": "x" * 3000}))
    assert (status, key) == (431, "HS-LIMIT-HEADERS")


def test_a_search_with_too_many_parameters_or_values_is_refused(small: httpx.Client) -> None:
    many = "&".join(f"name=a{n}" for n in range(5))
    assert fault(small.get(f"Patient?{many}"))[:2] == (422, "HS-LIMIT-PARAMETERS")
    status, key, text = fault(small.get("Patient?_id=" + ",".join("abcdefghijk")))
    assert (status, key) == (422, "HS-LIMIT-VALUES")
    assert "11" in text
    assert "10" in text
    assert small.get("Patient?_id=" + ",".join("abcdefghij")).status_code == 200
    escaped = "\\,".join("abcdefghijklmnop")  # one value with commas in it
    assert small.get("Patient", params={"name": escaped}).status_code == 200
    assert small.delete("Patient?_id=" + ",".join("abcdefghijk")).status_code == 422


def test_requests_above_the_number_at_once_are_sent_away_and_others_are_not(
    make_server: Callable[..., InProcessServer],
) -> None:
    server = make_server(max_concurrent_requests=4)
    client = server.client
    client.put("Patient/a", json={"resourceType": "Patient", "id": "a"})
    answers = server.gather(*(client.build_request("GET", "Patient/a") for _ in range(12)))
    statuses = [answer.status_code for answer in answers]
    assert sorted(set(statuses)) == [200, 503]
    assert statuses.count(200) == 4
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert fault(refused)[:2] == (503, "HS-LIMIT-BUSY")
    assert refused.headers["Retry-After"] == "1"
    assert client.get("Patient/a").status_code == 200


def test_a_query_that_takes_too_long_is_stopped(make_server: Callable[..., InProcessServer]) -> None:
    server = make_server(query_time_ms=54_321)
    client = server.client
    rows = [
        {"resource": {"resourceType": "Patient", "name": [{"text": f"aaa{n} " * 200}]},
         "request": {"method": "POST", "url": "Patient"}}
        for n in range(1500)
    ]  # fmt: skip
    assert client.post("", json={"resourceType": "Bundle", "type": "batch", "entry": rows}).status_code == 200
    store = server.context.repository.store
    assert store._max_time_ms == 54_321
    store._max_time_ms = 1  # from here on, so that nothing else is stopped
    slow = "Patient?name:contains=zzzzq&name:contains=aaab&_total=accurate&_sort=name&_count=1000"
    deadline = time.monotonic() + 20
    while (answer := client.get(slow, headers=FHIR)).status_code == 200 and time.monotonic() < deadline:
        pass
    assert fault(answer)[:2] == (503, "HS-STORE-TIME")
    assert int(answer.headers["Retry-After"]) > 0


HOSTILE = [
    "(a+)+$",
    "(.*)*b",
    "a" * 1000 + "!",
    "^",
    ".",
    "[",
    "\\",
    "\\E.*\\Q",
    "(?R)",
    "(?<a>.)\\k<a>",
    "a{1,99999}",
    "$where",
    "|a|",
    "\u0130\u0301" * 200,
]


@pytest.fixture(scope="module")
def texts(server: InProcessServer) -> httpx.Client:
    """A server whose patients are what catastrophic patterns need."""
    for number, text in enumerate(("a" * 5000, "aaaa(.*)*b", "x^y.z[1]\\q|$where", "plain")):
        body = {"resourceType": "Patient", "id": f"hostile-{number}", "name": [{"text": text}]}
        assert server.client.put(f"Patient/hostile-{number}", json=body).status_code in (200, 201)
    return server.client


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("parameter", ["name:contains", "name", "name:exact", "identifier:text", "_source:below"])
def test_a_value_is_text_and_no_pattern(texts: httpx.Client, parameter: str, text: str) -> None:
    started = time.monotonic()
    answer = texts.get("Patient", params={parameter: text, "_id": "hostile-0,hostile-1,hostile-2,hostile-3"})
    assert answer.status_code in (200, 400)
    assert time.monotonic() - started < 2
    if answer.status_code == 200 and parameter == "name:contains":
        known = ("a" * 5000, "aaaa(.*)*b", "x^y.z[1]\\q|$where", "plain")
        plain = text.replace("\\", "")
        found = {e["resource"]["id"] for e in answer.json().get("entry", []) if e["search"]["mode"] == "match"}
        if "\\" not in text and plain.isascii():
            assert found == {f"hostile-{n}" for n, name in enumerate(known) if plain in name}


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="ab.*+?()[]{}^$|\\-,:\u0130\u00df ", min_size=1, max_size=40))
def test_whatever_is_asked_for_is_answered_in_time(texts: httpx.Client, text: str) -> None:
    started = time.monotonic()
    answer = texts.get("Patient", params={"name:contains": text})
    assert answer.status_code in (200, 400), answer.text
    assert time.monotonic() - started < 2


@pytest.mark.server
def test_a_head_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as running:
        answer = httpx.get(f"{running.base_url}/metadata", headers={"X-Long": "x" * 100_000})
        assert fault(answer)[:2] == (431, "HS-LIMIT-HEADERS")
        with socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection:
            connection.sendall(b"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX-Long: ")
            with suppress(OSError):
                for _ in range(200):
                    connection.sendall(b"x" * 100_000)
            with suppress(OSError):  # it may have been reset by then
                assert connection.recv(100).startswith(b"HTTP/1.1 400")
        with httpx.Client(base_url=running.base_url) as client:  # one connection, several requests, large bodies
            for _ in range(3):
                assert (
                    client.post("/Binary", content=bytes(5_000_000), headers={"Content-Type": "a/b"}).status_code == 201
                )
                assert client.get("/metadata").status_code == 200


def test_the_count_of_running_requests_goes_down_whatever_becomes_of_them(server: InProcessServer) -> None:

    async def cancelled() -> None:
        transport = httpx.ASGITransport(app=server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            task = asyncio.ensure_future(client.get("/fhir/Patient"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    for _ in range(600):
        server.run(cancelled())
    assert server.client.get("metadata").status_code == 200


def test_a_page_has_so_many_matches_unless_more_or_fewer_are_asked_for(
    make_server: Callable[..., InProcessServer],
) -> None:
    client = make_server(default_page_size=2).client
    for number in range(3):
        client.put(
            f"Basic/page-{number}", json={"resourceType": "Basic", "id": f"page-{number}", "code": {"text": "x"}}
        )
    for place in ("Basic", "Basic/_history", ""):
        assert len(client.get(place).json()["entry"]) == 2, place
    assert len(client.get("Basic?_count=3").json()["entry"]) == 3
