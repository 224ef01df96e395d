"""A role says of its doctor what is true from the moment of its commit, whichever way it is written.

The change feed, which would mend it a moment later, does nothing about it in these tests.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fhir_server.repository.changes import Change
from fhir_server.storage.unit import Unit
from resources.verification import expiry
from tests.conftest import BASE_URL, InProcessServer
from tests.resources.verification.conftest import Board, licence

Json = dict[str, Any]

MARK = {"system": "urn:healthsphere:directory", "code": "hidden"}


@pytest.fixture(autouse=True)
def _the_feed_leaves_roles_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any) -> None: ...

    monkeypatch.setattr(expiry, "settle", nothing)


def role(doctor: str, **more: Any) -> Json:
    return {"resourceType": "PractitionerRole", "practitioner": {"reference": doctor}, **more}


def hidden(board: Board, reference: str) -> bool:
    """Whether a role carries the mark, and whether patients do not see it, which is the same."""
    marked = MARK in board.get(reference).get("meta", {}).get("tag", [])
    status = board.call("patient", "GET", reference).status_code
    assert status == (404 if marked else 200)
    return marked


def of(answer: httpx.Response) -> str:
    """The resource that an answer is about, at its first version."""
    assert answer.status_code in (200, 201), answer.text
    kind, key, _, number = answer.headers["Location"].removeprefix(f"{BASE_URL}/").split("/")
    assert number == "1"
    return f"{kind}/{key}"


def bundle(kind: str, *entries: tuple[str, str, Json]) -> Json:
    rows = [{"request": {"method": method, "url": url}, "resource": body} for method, url, body in entries]
    for row in rows:
        if row["resource"]["resourceType"] == "Practitioner":
            row["fullUrl"] = "urn:uuid:5a2cf2a3-7b3c-4d18-8c1c-000000000001"
    return {"resourceType": "Bundle", "type": kind, "entry": rows}


def written(board: Board, way: str, doctor: str) -> str:
    """A new role of a doctor, written in one of the ways; in its first version."""
    key = f"x{uuid.uuid4().hex[:12]}"
    mine = role(doctor)
    match way:
        case "post":
            return of(board.call("system", "POST", "PractitionerRole", mine))
        case "put":
            return of(board.call("system", "PUT", f"PractitionerRole/{key}", {**mine, "id": key}))
        case "absolute":
            return of(board.call("system", "POST", "PractitionerRole", role(f"{BASE_URL}/{doctor}")))
        case "conditional create":
            client = board.roles.as_("system")
            condition = {"If-None-Exist": f"identifier=urn:x|{key}"}
            return of(client.post("PractitionerRole", json=mine, headers=condition))
        case "conditional update":
            content = {**mine, "identifier": [{"system": "urn:x", "value": key}]}
            return of(board.call("system", "PUT", f"PractitionerRole?identifier=urn:x|{key}", content))
        case _:
            answer = board.call("system", "POST", "", bundle(way, ("POST", "PractitionerRole", mine)))
            location = answer.json()["entry"][0]["response"]["location"]
            assert location.endswith("/_history/1")
            return "/".join(location.split("/")[-4:-2])


WAYS = ["post", "put", "absolute", "conditional create", "conditional update", "transaction", "batch"]


@pytest.mark.parametrize("way", WAYS)
def test_a_role_made_for_who_is_hidden_is_hidden_in_its_first_version(board: Board, way: str) -> None:
    made = written(board, way, board.doctor(licence("A-1")))
    assert hidden(board, made)
    assert board.get(made)["meta"]["versionId"] == "1"
    assert board.found(f"PractitionerRole?_id={made.partition('/')[2]}", "patient") == []


@pytest.mark.parametrize("way", WAYS)
def test_a_role_made_for_who_is_found_is_seen_whatever_the_client_says_of_it(board: Board, way: str) -> None:
    assert not hidden(board, written(board, way, board.verified(licence("A-2"))))
    claimed = role(board.verified(), meta={"tag": [MARK]})
    assert not hidden(board, of(board.call("system", "POST", "PractitionerRole", claimed)))


def moved(board: Board, way: str, made: str, doctor: str) -> None:
    content = role(doctor, id=made.partition("/")[2])
    match way:
        case "put":
            answer = board.call("system", "PUT", made, content)
        case "patch":
            step = {"op": "replace", "path": "/practitioner/reference", "value": doctor}
            patch = {"Content-Type": "application/json-patch+json"}
            answer = board.roles.as_("system").patch(made, json=[step], headers=patch)
        case _:
            answer = board.call("system", "POST", "", bundle(way, ("PUT", made, content)))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("way", ["put", "patch", "transaction", "batch"])
def test_a_role_that_moves_has_the_mark_of_whom_it_moves_to(board: Board, way: str) -> None:
    out, found = board.doctor(licence("B-1")), board.verified(licence("B-2"))
    made = board.role_of(out)
    moved(board, way, made, found)
    assert not hidden(board, made)
    moved(board, way, made, out)
    assert hidden(board, made)
    assert board.get(made)["meta"]["versionId"] == "3"


def test_a_role_that_names_nobody_any_more_is_not_hidden(board: Board) -> None:
    made = board.role_of(board.doctor())
    content = {"resourceType": "PractitionerRole", "id": made.partition("/")[2], "code": [{"text": "Locum"}]}
    assert board.call("system", "PUT", made, content).status_code == 200
    assert not hidden(board, made)


def test_nobody_takes_the_mark_away_by_writing_the_role_again(board: Board) -> None:
    made = board.role_of(board.doctor())
    kept = board.get(made)
    bare = {name: value for name, value in kept.items() if name != "meta"}
    assert board.call("system", "PUT", made, bare).status_code == 200
    assert hidden(board, made)
    step = [{"op": "remove", "path": "/meta/tag"}]
    patch = {"Content-Type": "application/json-patch+json"}
    assert board.roles.as_("system").patch(made, json=step, headers=patch).status_code == 200
    assert hidden(board, made)
    tag = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [MARK]}}]}
    board.call("system", "POST", f"{made}/$meta-delete", tag)
    assert hidden(board, made)


@pytest.mark.parametrize("order", ["first", "last"])
def test_a_bundle_that_brings_both_hides_both(board: Board, order: str) -> None:
    full = "urn:uuid:5a2cf2a3-7b3c-4d18-8c1c-000000000001"
    person = ("POST", "Practitioner", {"resourceType": "Practitioner", "active": False})
    mine = ("POST", "PractitionerRole", role(full))
    rows = [person, mine] if order == "first" else [mine, person]
    answer = board.call("system", "POST", "", bundle("transaction", *rows))
    assert answer.status_code == 200, answer.text
    places = ["/".join(row["response"]["location"].split("/")[-4:-2]) for row in answer.json()["entry"]]
    made = next(one for one in places if one.startswith("PractitionerRole/"))
    assert hidden(board, made)
    assert board.get(made)["meta"]["versionId"] == "1"


def test_a_bundle_that_shows_a_doctor_shows_the_role_that_it_writes(board: Board) -> None:
    doctor = board.put("Practitioner", active=False)
    made = board.role_of(doctor)
    person = {"resourceType": "Practitioner", "id": doctor.partition("/")[2], "active": True}
    entries = (("PUT", made, role(doctor, id=made.partition("/")[2])), ("PUT", doctor, person))
    assert board.call("system", "POST", "", bundle("transaction", *entries)).status_code == 200
    assert not hidden(board, made)


def test_a_role_of_who_was_deleted_is_hidden_and_of_who_is_not_there_yet_it_is_not(board: Board) -> None:
    doctor = board.put("Practitioner", active=True)
    assert board.call("system", "DELETE", doctor).status_code in (200, 204)
    assert hidden(board, board.role_of(doctor))
    later = f"Practitioner/x{uuid.uuid4().hex[:12]}"
    made = board.role_of(later)
    assert not hidden(board, made)
    board.put("Practitioner", id=later.partition("/")[2], active=False)
    assert hidden(board, made)


def test_a_doctor_who_is_hidden_while_roles_are_written_has_none_in_sight(
    board: Board, make_server: Callable[..., InProcessServer]
) -> None:
    twin = board.roles.twin()
    other = make_server({"gate": twin, "now": board.clock}, auth="on")
    twin.server = other
    for _ in range(3):
        doctor = board.put("Practitioner", active=True)
        kept = board.role_of(doctor)
        out = {"resourceType": "Practitioner", "id": doctor.partition("/")[2], "active": False}
        here, there = board.roles.as_("system"), twin.as_("system", other)
        hiding = [here.build_request("PUT", doctor, json=out)]
        making = [there.build_request("POST", "PractitionerRole", json=role(doctor)) for _ in range(3)]
        making.append(there.build_request("PUT", kept, json=role(doctor, id=kept.partition("/")[2])))
        first, second = at_once((board.server, hiding), (other, making))
        assert {answer.status_code for answer in (*first, *second)} <= {200, 201}
        for found in board.found(f"PractitionerRole?practitioner={doctor}"):
            assert MARK in found["meta"]["tag"], found
        assert board.found(f"PractitionerRole?practitioner={doctor}", "patient") == []


@pytest.mark.parametrize("first", ["role", "hiding"])
def test_of_two_transactions_that_do_not_see_each_other_one_begins_again(board: Board, first: str) -> None:
    """The one that comes second has begun before the other commits: by what it sees at first, the role is in sight."""
    repository = board.server.context.repository
    doctor, key = board.put("Practitioner", active=True), f"x{uuid.uuid4().hex[:12]}"
    person = {"resourceType": "Practitioner", "id": doctor.partition("/")[2], "active": False}
    hiding = Change("PUT", "Practitioner", person["id"], person)
    making = Change("PUT", "PractitionerRole", key, role(doctor, id=key))
    inner, outer = (making, hiding) if first == "role" else (hiding, making)
    tries: list[int] = []

    async def work(unit: Unit) -> None:
        await unit.get("Practitioner", person["id"])  # from here on it sees what was there now
        tries.append(len(tries))
        if len(tries) == 1:
            await repository.commit(inner)
        await repository.commit_within(unit, [repository.check(outer)])

    async def both() -> None:
        await repository.store.ensure("PractitionerRole")
        await repository.store.transact(work)

    board.server.run(both())
    assert len(tries) > 1
    assert hidden(board, f"PractitionerRole/{key}")


def at_once(*each: tuple[InProcessServer, list[httpx.Request]]) -> list[list[httpx.Response]]:
    """Send requests to several servers, all at the same time."""

    async def all_of_them() -> list[list[httpx.Response]]:
        return list(await asyncio.gather(*(asyncio.to_thread(server.gather, *rows) for server, rows in each)))

    return asyncio.run(all_of_them())
