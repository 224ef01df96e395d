"""A small FHIR-like server on loopback: real HTTP, a dictionary for a store, faults on order."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def outcome(text: str, expression: str | None = None) -> dict[str, Any]:
    issue = {"severity": "error", "code": "invalid", "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue | ({"expression": [expression]} if expression else {})]}


@dataclass
class FhirServer:
    """`faults` are given as answers, one each, before the server does its work; `store` is by `Type/id`."""

    store: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    faults: list[Response] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    token: str | None = None
    delay_s: float = 0.0
    port: int = 0
    under_way: int = 0
    most_under_way: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/fhir"

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/fhir{path:path}", self.answer, methods=["GET", "POST", "PUT", "DELETE"])])

    async def answer(self, request: Request) -> Response:
        path = request.path_params["path"].strip("/")
        if request.method in ("GET", "HEAD"):
            return JSONResponse({"resourceType": "CapabilityStatement"})
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse(outcome("who are you?"), 401)
        body = await request.json()
        self.headers.append(dict(request.headers))
        self.requests.append((request.method, path, body))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        end = time.monotonic() + self.delay_s
        while self.delay_s and time.monotonic() < end:  # a test may end the delay
            await asyncio.sleep(0.005)
        self.under_way -= 1
        if self.faults:
            return self.faults.pop(0)
        if not path:
            return self.bundle(body)
        status, answer = self.single(request.method, path, body, None)
        return JSONResponse(answer, status)

    def bundle(self, body: dict[str, Any]) -> Response:
        rows: list[dict[str, Any]] = []
        for index, entry in enumerate(body["entry"]):
            request = entry["request"]
            wanted = json.dumps(entry.get("resource", {})).split('"reference": "')[1:]
            for reference in (text.split('"')[0] for text in wanted):
                if "?" in reference and not self.matches(reference):
                    return JSONResponse(outcome(f"{reference} matches nothing", f"Bundle.entry[{index}].resource"), 412)
            status, answer = self.single(
                request["method"], request["url"], entry.get("resource", {}), request.get("ifNoneExist")
            )
            rows.append({"response": {"status": f"{status} Text", "etag": 'W/"1"'}})
            if status >= 400:
                if body["type"] == "transaction":
                    return JSONResponse(outcome("bad entry", f"Bundle.entry[{index}].resource"), status)
                rows[-1]["response"]["outcome"] = answer
        return JSONResponse({"resourceType": "Bundle", "type": f"{body['type']}-response", "entry": rows})

    def matches(self, criteria: str) -> bool:
        name, value = criteria.partition("?")[0], criteria.rpartition("|")[2]
        return any(
            key.startswith(f"{name}/") and any(i.get("value") == value for i in resource.get("identifier", []))
            for key, resource in self.store.items()
        )

    def single(self, method: str, path: str, body: dict[str, Any], condition: str | None) -> tuple[int, dict[str, Any]]:
        if body.get("refuse"):
            return 422, outcome("refused on order", f"{body['resourceType']}.refuse")
        if method == "POST":
            if condition and self.matches(f"{path}?{condition}"):
                return 200, {}
            self.store[f"{path}/new-{len(self.store)}"] = body
            return 201, {}
        status = 200 if path in self.store else 201
        self.store[path] = body
        return status, {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def fhir() -> Iterator[FhirServer]:
    """A running server."""
    server = FhirServer(port=free_port())
    with Serving(server):
        yield server


class Serving:
    """Run a server in a thread for the length of a `with` block."""

    def __init__(self, server: FhirServer) -> None:
        config = uvicorn.Config(server.app(), port=server.port, log_level="error", lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
