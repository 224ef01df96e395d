"""Clients that write without pause and remember every answer, for `test_kill`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

SYSTEM = "https://durability.example.org"
TRANSACTION_TYPES = ("Patient", "Observation", "Encounter", "Condition")


@dataclass
class Sequence:
    """One resource that one client writes again and again: version n was sent as the n-th write.

    With `deleting`, every even version is a deletion. `sent` may be one ahead of `acknowledged`.
    """

    id: str
    deleting: bool = False
    sent: int = 0
    acknowledged: int = 0


@dataclass
class Records:
    """What was acknowledged, and what was sent at all."""

    created: dict[str, str] = field(default_factory=dict)  # id -> the marker in it
    sequences: dict[str, Sequence] = field(default_factory=dict)
    transactions_sent: set[str] = field(default_factory=set)
    transactions_acknowledged: set[str] = field(default_factory=set)
    unexpected: list[str] = field(default_factory=list)


def observation(marker: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "identifier": [{"system": SYSTEM, "value": marker}],
        "status": "final",
        "code": {"text": "durability"},
        "valueString": marker,
        **more,
    }


def resource_of(resource_type: str, marker: str) -> dict[str, Any]:
    """A small valid resource that carries the marker as its identifier."""
    if resource_type == "Observation":
        return observation(marker)
    resource: dict[str, Any] = {
        "resourceType": resource_type,
        "identifier": [{"system": SYSTEM, "value": marker}],
    }
    if resource_type == "Encounter":
        coding = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}
        resource |= {"status": "finished", "class": coding}
    if resource_type == "Condition":
        resource |= {"subject": {"display": "somebody"}}
    return resource


class Writers:
    """All clients of one round; `run` returns when the server is gone."""

    def __init__(self, base_url: str, round_number: int, records: Records) -> None:
        self._base_url = base_url
        self._round = round_number
        self._records = records

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self._base_url, timeout=30.0) as client:
            makers: list[Callable[[httpx.AsyncClient, str], Awaitable[None]]] = [
                self._create,
                self._create,
                self._update,
                self._update,
                self._update_and_delete,
                self._transact,
                self._transact,
            ]
            await asyncio.gather(
                *(self._until_gone(make(client, f"{self._round}-{number}")) for number, make in enumerate(makers))
            )

    async def _until_gone(self, work: Awaitable[None]) -> None:
        try:
            await work
        except httpx.TransportError:
            return  # the server was killed

    async def _create(self, client: httpx.AsyncClient, name: str) -> None:
        for number in count():
            marker = f"create-{name}-{number}"
            answer = await client.post("/Observation", json=observation(marker))
            if self._is(answer, 201):
                self._records.created[answer.json()["id"]] = marker

    async def _update(self, client: httpx.AsyncClient, name: str) -> None:
        sequences = [self._sequence(f"update-{name}-{number}") for number in range(5)]
        for turn in count():
            await self._write(client, sequences[turn % len(sequences)])

    async def _update_and_delete(self, client: httpx.AsyncClient, name: str) -> None:
        sequences = [self._sequence(f"delete-{name}-{number}", deleting=True) for number in range(5)]
        for turn in count():
            await self._write(client, sequences[turn % len(sequences)])

    def _sequence(self, name: str, *, deleting: bool = False) -> Sequence:
        self._records.sequences[name] = sequence = Sequence(name, deleting)
        return sequence

    async def _write(self, client: httpx.AsyncClient, sequence: Sequence) -> None:
        sequence.sent += 1
        version, path = sequence.sent, f"/Observation/{sequence.id}"
        if sequence.deleting and version % 2 == 0:
            if not self._is(await client.delete(path), 200, 204):
                return
        else:
            answer = await client.put(path, json=observation(f"{sequence.id}-{version}", id=sequence.id))
            if not self._is(answer, 200, 201):
                return
            if answer.headers.get("ETag") != f'W/"{version}"':
                self._records.unexpected.append(f"{path}: {answer.headers.get('ETag')} for write {version}")
        sequence.acknowledged = version

    async def _transact(self, client: httpx.AsyncClient, name: str) -> None:
        """Four creates and an update, all with one marker."""
        for number in count():
            marker = f"tx-{name}-{number}"
            entries = [
                {"resource": resource_of(kind, marker), "request": {"method": "POST", "url": kind}}
                for kind in TRANSACTION_TYPES
            ]
            counter = observation(marker, id=f"tx-{name}")
            entries.append({"resource": counter, "request": {"method": "PUT", "url": f"Observation/tx-{name}"}})
            self._records.transactions_sent.add(marker)
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
            if self._is(await client.post("", json=bundle), 200):
                self._records.transactions_acknowledged.add(marker)

    def _is(self, answer: httpx.Response, *statuses: int) -> bool:
        """Whether an answer acknowledges; a server that loses its database may say 503, anything else is a fault."""
        if answer.status_code in statuses:
            return True
        if answer.status_code != 503:
            self._records.unexpected.append(f"{answer.request.method} {answer.request.url}: {answer.text[:300]}")
        raise httpx.ReadError("not acknowledged")
