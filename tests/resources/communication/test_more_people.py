"""Proxies, pharmacists and other organizations in conversations; races between processes; the edge of a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect

from fhir_server.model.access import Identity, Scope
from resources.notification.outbox import ping
from tests.conftest import InProcessServer
from tests.resources.communication.conftest import Practice, key_of, practice_of
from tests.resources.communication.test_realtime import asked

Json = dict[str, Any]

pytestmark = pytest.mark.xdist_group("communication")


def test_a_proxy_talks_about_a_child_who_takes_no_part(practice: Practice) -> None:
    doctor = practice.doctor()
    child = practice.patient(generalPractitioner=[{"reference": doctor}])
    mother = practice.put("RelatedPerson", active=True, patient={"reference": child})
    name = mother.partition("/")[2]
    practice.people.known[name] = Identity(
        name,
        "test-app",
        "proxy",
        scopes=(Scope("user", "*", "cruds"),),
        scope="user/*.cruds",
        fhir_user=mother,
        patient=child,
        grant_id=mother,
    )
    thread = practice.thread(mother, doctor, message="Is it contagious?")
    assert practice.read(mother, thread).json()["subject"] == {"reference": child}
    answer = practice.send(doctor, thread, "No")
    assert practice.read(mother, answer).status_code == 200
    assert practice.read(child, answer).status_code == 404
    assert practice.read(child, thread).status_code == 404


def test_people_of_two_organizations_see_each_others_messages(practice: Practice) -> None:
    one, other = practice.put("Organization", name="One"), practice.put("Organization", name="Other")
    doctor = practice.doctor(one)
    pharmacist = practice.somebody("pharmacy", "Practitioner", other)
    receptionist = practice.somebody("front-desk", "Practitioner", one)
    thread = practice.thread(doctor, pharmacist, message="Is it in stock?")
    answer = practice.send(pharmacist, thread, "It is")
    assert practice.read(doctor, answer).status_code == 200
    assert len(practice.found(pharmacist, f"Communication?part-of={thread}")) == 2
    assert practice.read(receptionist, answer).status_code == 404
    assert practice.read(receptionist, thread).status_code == 404
    began = practice.thread(receptionist, doctor, message="Your next patient is here")
    assert practice.read(doctor, began).status_code == 200


def test_whoever_is_in_a_team_takes_part(practice: Practice) -> None:
    first, second = practice.doctor(), practice.doctor()
    team, patient = practice.team(first), practice.patient()
    thread = practice.thread(patient, team, message="Hello, all of you")
    assert practice.read(first, thread).status_code == 200
    assert practice.read(second, thread).status_code == 404
    practice.send(first, thread, "Hello")


def test_preferences_are_changed_by_nobody_else(practice: Practice) -> None:
    doctor = practice.doctor()
    patient = practice.patient(generalPractitioner=[{"reference": doctor}])
    assert practice.call(patient, "$notification-preferences", language="de").status_code == 200
    (basic,) = practice.found(doctor, f"Basic?subject={patient}")
    with practice.as_(doctor) as client:
        refused = client.put(
            f"Basic/{basic['id']}", json={name: value for name, value in basic.items() if name != "extension"}
        )
    assert (refused.status_code, key_of(refused)) == (403, "HS-NOTIFY-PERSON")


def test_what_is_answered_201_stands_and_nothing_comes_after_the_end(practice: Practice) -> None:
    doctor = practice.doctor()
    patient = practice.patient(generalPractitioner=[{"reference": doctor}])
    thread = practice.thread(doctor, patient)

    def request(who: str, operation: str, **rows: str) -> httpx.Request:
        body = {
            "resourceType": "Parameters",
            "parameter": [{"name": name, "valueString": value} for name, value in rows.items()],
        }
        headers = {"Authorization": f"Bearer {who.partition('/')[2]}", "Content-Type": "application/fhir+json"}
        return httpx.Request("POST", f"{practice.server.base_url}/{thread}/{operation}", headers=headers, json=body)

    sends = [request(patient, "$send", message=f"{n}") for n in range(8)]
    answers = practice.server.gather(*sends[:4], request(doctor, "$close-thread"), *sends[4:])
    closed = answers.pop(4)
    assert closed.status_code == 200, closed.text
    end = closed.json()["meta"]["lastUpdated"]
    stored = practice.found(patient, f"Communication?part-of={thread}&_count=100")
    assert {answer.status_code for answer in answers} <= {201, 422}
    assert len(stored) == sum(answer.status_code == 201 for answer in answers)
    assert all(message["meta"]["lastUpdated"] <= end for message in stored)


def test_of_two_processes_one_claims(make_server: Callable[..., InProcessServer]) -> None:
    first = practice_of(make_server)
    second = practice_of(make_server, mongodb_database=first.server.settings.mongodb_database)
    second.people.known = first.people.known
    one, other = first.doctor(), first.doctor()
    patient, pool = first.patient(), first.team(one, other)
    answer = first.call(patient, "Task/$open-ticket", pool=pool, message="A question")
    ticket = answer.json()["parameter"][0]["resource"]["id"]

    async def claims() -> list[int]:
        def claimed(practice: Practice, who: str) -> int:
            return practice.call(who, f"Task/{ticket}/$claim").status_code

        both = ((first, one), (second, other)) * 3
        return sorted(await asyncio.gather(*(asyncio.to_thread(claimed, p, who) for p, who in both)))

    assert asyncio.run(claims()) == [200] * 3 + [409] * 3


def test_the_whole_server_streams_to_browsers_and_sockets(server: InProcessServer) -> None:
    async def story() -> None:
        for key in ("a", "b"):
            await ping(server.context, "Patient/edge", "message", f"Communication/{key}", key=key)
        status, pieces = await asked(
            server.app, "GET", "/realtime/events", "person=Patient/edge&last-event-id=1", host="localhost"
        )
        assert status == 200
        assert b'"focus": "Communication/b"' in pieces[-1]
        assert (await asked(server.app, "GET", "/realtime/events", host="localhost"))[0] == 403
        config = uvicorn.Config(server.app, host="127.0.0.1", port=0, ws="websockets-sansio", lifespan="off")
        listener = config.bind_socket()
        edge = uvicorn.Server(config)
        running = asyncio.create_task(edge.serve([listener]))
        try:
            async with asyncio.timeout(60):
                while not edge.started:
                    await asyncio.sleep(0.01)
                port = listener.getsockname()[1]
                address = f"ws://127.0.0.1:{port}/realtime/ws?person=Patient/edge&last-event-id=1"
                async with connect(address, additional_headers={}) as socket:
                    assert json.loads(await socket.recv())["signal"] == "hello"
                    assert json.loads(await socket.recv())["focus"] == "Communication/b"
                    await ping(server.context, "Patient/edge", "message", "Communication/c", key="c")
                    assert json.loads(await socket.recv())["focus"] == "Communication/c"
        finally:
            edge.should_exit = True
            await running

    server.run(story())
