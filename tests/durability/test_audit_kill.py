"""`kill -9` in the midst of writes: every acknowledged one is on the trail, which is whole and goes on."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest

from benchmarks.server import Server

ROUNDS = 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of two processes, so that both write one chain."""
    with Server(tmp_path / "data", workers=2) as running:
        yield running


async def write_until_killed(server: Server, acknowledged: set[str]) -> None:
    async with httpx.AsyncClient(base_url=server.base_url, timeout=30.0) as client:

        async def writer() -> None:
            try:
                for number in count():
                    if number % 5 == 4:
                        await client.get("/Patient?_count=5")
                    answer = await client.post("/Patient", json={"resourceType": "Patient"})
                    if answer.status_code == 201:
                        acknowledged.add(answer.headers["x-request-id"])
            except httpx.TransportError:
                return  # the server was killed

        writing = asyncio.gather(*(writer() for _ in range(6)))
        await asyncio.sleep(random.uniform(1.0, 2.0))
        await asyncio.to_thread(server.kill)
        await asyncio.wait_for(writing, 30)


def verified(server: Server) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fhir_server.cli", "audit", "verify", "--data-dir", str(server.data_dir)]
    environment = {k: v for k, v in os.environ.items() if k != "MONGODB_URI" and not k.startswith("HEALTHSPHERE_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


@pytest.mark.server
@pytest.mark.slow
def test_every_acknowledged_write_is_on_the_trail_after_a_kill(server: Server) -> None:
    acknowledged: set[str] = set()
    httpx.post(f"{server.base_url}/Patient", json={"resourceType": "Patient"}, timeout=60).raise_for_status()
    for _ in range(ROUNDS):
        before = len(acknowledged)
        asyncio.run(write_until_killed(server, acknowledged))
        assert len(acknowledged) > before + 20
        server.start()
        assert acknowledged - told(server.base_url) == set()
    server.stop()
    done = verified(server)
    assert done.returncode == 0, done.stderr
    assert "The audit trail is whole" in done.stdout


def told(base_url: str) -> set[str]:
    """The request ids of all creates on the trail."""
    found: set[str] = set()
    url: str | None = f"{base_url}/AuditEvent?subtype=create&_count=1000"
    with httpx.Client(timeout=60) as client:
        while url:
            answer = client.get(url)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            for entry in page.get("entry", []):
                found |= {
                    e["what"]["identifier"]["value"] for e in entry["resource"]["entity"] if "identifier" in e["what"]
                }
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return found
