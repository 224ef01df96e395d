"""`kill -9` of server and mongod in the midst of bookings: no half booking is there, and no lock is lost or left."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from benchmarks.server import Server
from tests.resources.scheduling.conftest import CONSULTATION, at, hours, row_of, rules, service

Json = dict[str, Any]
ROUNDS = 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", workers=2) as running:
        yield running


def put(server: Server, resource: Json) -> str:
    place = f"{resource['resourceType']}/{resource['id']}"
    answer = httpx.put(f"{server.base_url}/{place}", json=resource, timeout=60)
    assert answer.status_code in (200, 201), answer.text
    return place


def prepared(server: Server) -> None:
    """A doctor and a room that are open all the time, and a patient."""
    put(server, {"resourceType": "Patient", "id": "p"})
    put(server, {"resourceType": "Practitioner", "id": "d"})
    put(server, {"resourceType": "Location", "id": "r"})
    for name, actor in (("sd", "Practitioner/d"), ("sr", "Location/r")):
        rule = rules(hours("00:00", "24:00"), service(CONSULTATION, 15, 0, 5), grid=5)
        put(server, {"resourceType": "Schedule", "id": name, "extension": [rule], "actor": [{"reference": actor}]})


def call(operation: str, **given: str) -> tuple[str, Json]:
    rows = [row_of(name.replace("_", "-"), value) for name, value in given.items()]
    return operation, {"resourceType": "Parameters", "parameter": rows}


@pytest.mark.server
@pytest.mark.slow
def test_bookings_are_whole_after_a_kill_and_every_time_that_is_taken_is_somebodys(server: Server) -> None:
    prepared(server)
    acknowledged: dict[str, str] = {}
    for number in range(ROUNDS):
        asyncio.run(book_until_killed(server, number, acknowledged))
        server.start()
        proven(server, acknowledged)
    assert len(acknowledged) > 5


async def book_until_killed(server: Server, number: int, acknowledged: dict[str, str]) -> None:
    working = asyncio.create_task(bookers(server, number, acknowledged))
    await asyncio.sleep(random.uniform(2.0, 3.0))
    await asyncio.to_thread(server.kill)
    await asyncio.wait_for(working, 60)


async def bookers(server: Server, number: int, acknowledged: dict[str, str]) -> None:
    """Several clients that book, move and cancel at the same few times, until nobody answers any more."""

    async def one(client: httpx.AsyncClient, seed: int) -> None:
        chance = random.Random(f"{number} {seed}")
        mine = ""
        while True:
            start = (at(20 + number, "09:00") + timedelta(minutes=5 * chance.randrange(40))).isoformat()
            actors = ["Practitioner/d", "Location/r", "Patient/p"]
            draft = {
                "resourceType": "Appointment",
                "status": "pending",
                "serviceType": [CONSULTATION],
                "start": start,
                "participant": [{"actor": {"reference": actor}, "status": "accepted"} for actor in actors],
            }
            try:
                if mine and chance.random() < 0.3:
                    moved = await client.post(f"Appointment/{mine}/$cancel", json={"resourceType": "Parameters"})
                    acknowledged[mine] = "cancelled" if moved.status_code == 200 else acknowledged[mine]
                    mine = ""
                else:
                    answer = await client.post("Appointment/$book", json=draft)
                    if answer.status_code == 201:
                        mine = answer.json()["entry"][0]["resource"]["id"]
                        acknowledged[mine] = "booked"
            except httpx.HTTPError:
                acknowledged.pop(mine, None)  # whether its cancellation happened is not known
                return

    async with httpx.AsyncClient(base_url=f"{server.base_url}/", timeout=20) as client:
        await asyncio.gather(*(one(client, seed) for seed in range(6)))


def proven(server: Server, acknowledged: dict[str, str]) -> None:
    with MongoClient[Json](server.mongodb_uri()) as client:
        database = client["healthsphere"]
        stored = all_of(server, "Appointment")
        for appointment, status in acknowledged.items():
            assert stored[appointment]["status"] == status, appointment
        booked = {name for name, one in stored.items() if one["status"] == "booked"}
        taken: Counter[str] = Counter()
        for row in database["_slot_locks"].find():
            spans = sorted((t["s"], t["e"]) for t in row["taken"])
            assert all(first[1] <= second[0] for first, second in pairwise(spans)), row
            taken.update(t["a"] for t in row["taken"])
            kept = {slot for t in row["taken"] for slot in t["p"]}
            assert kept <= set(all_of(server, "Slot"))
        assert taken == dict.fromkeys(booked, 2), "each has the doctor's time and the room's, and nothing else is taken"
        slots = all_of(server, "Slot")
        assert Counter(slot["status"] for slot in slots.values()) == {
            "busy": 2 * len(booked),
            "busy-unavailable": 2 * len(booked),
        }


def all_of(server: Server, resource_type: str) -> dict[str, Json]:
    body = httpx.get(f"{server.base_url}/{resource_type}?_count=1000", timeout=60).json()
    assert not any(link["relation"] == "next" for link in body["link"])
    return {row["resource"]["id"]: row["resource"] for row in body.get("entry", ())}


@pytest.mark.server
def test_of_fifty_who_book_one_time_of_a_server_with_several_processes_one_gets_it(server: Server) -> None:
    prepared(server)
    find = {"practitioner": "Practitioner/d", "location-reference": "Location/r", "start": at(9, "09:00").isoformat()}
    offer = httpx.get(f"{server.base_url}/Appointment/$find", params=find, timeout=60).json()["entry"][0]["resource"]
    operation, body = call("book", appointment_reference=f"Appointment/{offer['id']}", patient_reference="Patient/p")

    async def all_at_once() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(base_url=f"{server.base_url}/", timeout=60, limits=limits) as client:
            return list(await asyncio.gather(*(client.post(f"Appointment/${operation}", json=body) for _ in range(50))))

    answers = asyncio.run(all_at_once())
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 49}
    assert all(answer.json()["contained"] for answer in answers if answer.status_code == 409)
    with MongoClient[Json](server.mongodb_uri()) as client:
        assert sum(len(row["taken"]) for row in client["healthsphere"]["_slot_locks"].find()) == 2
