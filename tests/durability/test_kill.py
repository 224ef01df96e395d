"""`kill -9` of server and mongod in the midst of writes: nothing acknowledged is lost, nothing is half there."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.server import Server
from tests.durability.writers import SYSTEM, TRANSACTION_TYPES, Records, Sequence, Writers, resource_of

ROUNDS = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server on a data folder of its own, in its own process group."""
    with Server(tmp_path / "data") as running:
        yield running


@pytest.mark.server
def test_every_acknowledged_write_survives_a_kill_and_no_transaction_is_half_there(server: Server) -> None:
    records = Records()
    _make_collections(server)
    for number in range(ROUNDS):
        asyncio.run(_write_until_killed(server, number, records))
        assert not records.unexpected
        server.start()
        _Proof(server.base_url, records).check()
    assert len(records.created) > 30
    assert len(records.transactions_acknowledged) > 10


def _make_collections(server: Server) -> None:
    """Write each type once: the first write makes its indexes, and the time until a kill is short."""
    for resource_type in TRANSACTION_TYPES:
        answer = httpx.post(f"{server.base_url}/{resource_type}", json=resource_of(resource_type, "first"), timeout=60)
        assert answer.status_code == 201, answer.text


async def _write_until_killed(server: Server, number: int, records: Records) -> None:
    writing = asyncio.create_task(Writers(server.base_url, number, records).run())
    await asyncio.sleep(random.uniform(1.0, 2.0))
    await asyncio.to_thread(server.kill)
    await asyncio.wait_for(writing, 30)


class _Proof:
    """Compares what the server holds with what it has acknowledged."""

    def __init__(self, base_url: str, records: Records) -> None:
        self._client = httpx.Client(base_url=base_url, timeout=60.0)
        self._records = records

    def check(self) -> None:
        with self._client:
            observations = self._all("Observation")
            self._check_creates(observations)
            self._check_transactions(observations)
            for sequence in self._records.sequences.values():
                self._check_sequence(sequence)

    def _all(self, resource_type: str) -> list[dict[str, Any]]:
        """Every current resource of a type, page by page."""
        found: list[dict[str, Any]] = []
        url: str | None = f"/{resource_type}?_count=1000"
        while url:
            answer = self._client.get(url)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += [entry["resource"] for entry in page.get("entry", [])]
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
        ids = [resource["id"] for resource in found]
        assert len(ids) == len(set(ids)), "a page holds what another holds too"
        return found

    def _check_creates(self, observations: list[dict[str, Any]]) -> None:
        by_id = {resource["id"]: resource for resource in observations}
        lost = [name for name in self._records.created if name not in by_id]
        assert not lost
        for name, marker in self._records.created.items():
            assert by_id[name]["valueString"] == marker
            assert by_id[name]["meta"]["versionId"] == "1"
        markers = Counter(_marker(r) for r in observations if _marker(r).startswith("create-"))
        assert not [marker for marker, times in markers.items() if times > 1]
        for name in random.choices(sorted(self._records.created), k=20):
            history = self._history(name)
            assert [entry["resource"]["valueString"] for entry in history] == [self._records.created[name]]

    def _check_transactions(self, observations: list[dict[str, Any]]) -> None:
        counters = {resource["id"]: resource for resource in observations if resource["id"].startswith("tx-")}
        present: dict[str, Counter[str]] = {}
        for resource_type in TRANSACTION_TYPES:
            resources = observations if resource_type == "Observation" else self._all(resource_type)
            for resource in resources:
                if _marker(resource).startswith("tx-") and resource["id"] not in counters:
                    present.setdefault(_marker(resource), Counter())[resource_type] += 1
        lost = self._records.transactions_acknowledged - set(present)
        assert not lost
        assert set(present) <= self._records.transactions_sent
        whole = Counter(dict.fromkeys(TRANSACTION_TYPES, 1))
        assert not {marker: types for marker, types in present.items() if types != whole}
        for name, counter in counters.items():
            numbers = sorted(int(m.rsplit("-", 1)[1]) for m in present if m.rsplit("-", 1)[0] == name)
            assert numbers == list(range(len(numbers)))
            assert counter["meta"]["versionId"] == str(len(numbers))
            assert _marker(counter) == f"{name}-{numbers[-1]}"
            history = [_marker(entry["resource"]) for entry in self._history(name)]
            assert history == [f"{name}-{number}" for number in reversed(numbers)]

    def _check_sequence(self, sequence: Sequence) -> None:
        """The history is complete, without gaps and doubles, each version with what was sent as that version."""
        answer = self._client.get(f"/Observation/{sequence.id}")
        if sequence.acknowledged == 0 and answer.status_code == 404:
            return
        history = self._history(sequence.id)
        newest = len(history)
        assert sequence.acknowledged <= newest <= sequence.sent
        for version, entry in zip(range(newest, 0, -1), history, strict=True):
            assert entry["response"]["etag"] == f'W/"{version}"'
            past = self._client.get(f"/Observation/{sequence.id}/_history/{version}")
            if sequence.deleting and version % 2 == 0:
                assert entry["request"]["method"] == "DELETE"
                assert "resource" not in entry
                assert past.status_code == 410
            else:
                assert entry["resource"]["valueString"] == f"{sequence.id}-{version}"
                assert past.json() == entry["resource"]
        assert answer.status_code == (410 if sequence.deleting and newest % 2 == 0 else 200)

    def _history(self, name: str) -> list[dict[str, Any]]:
        """All entries of an instance's history, the newest first."""
        entries: list[dict[str, Any]] = []
        url: str | None = f"/Observation/{name}/_history?_count=1000"
        while url:
            page = self._client.get(url).json()
            entries += page.get("entry", [])
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
        return entries


def _marker(resource: dict[str, Any]) -> str:
    return next((i["value"] for i in resource.get("identifier", []) if i["system"] == SYSTEM), "")
