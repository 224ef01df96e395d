"""The delta feed of a pharmacy: nothing is missed, whoever writes meanwhile."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from resources.dispensing.changes import cursor_of
from tests.resources.prescription.conftest import Clinic, key_of, values

Json = dict[str, Any]


def page(
    clinic: Clinic, cursor: str = "", who: str = "pharmacy", count: int = 1000, server: int = 0
) -> tuple[list[Json], str]:
    """The entries behind a cursor, and the next one."""
    query = f"_count={count}" + (f"&_since={cursor}" if cursor else "")
    answer = clinic.call(who, "GET", f"MedicationRequest/$changes?{query}", server=server)
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    assert bundle["type"] == "history"
    (link,) = [row["url"] for row in bundle["link"] if row["relation"] == "next"]
    return bundle.get("entry", []), parse_qs(urlsplit(link).query)["_since"][0]


def rest(clinic: Clinic, cursor: str = "", who: str = "pharmacy", count: int = 1000) -> tuple[list[Json], str]:
    """All entries behind a cursor."""
    entries: list[Json] = []
    while True:
        more, cursor = page(clinic, cursor, who, count)
        if not more:
            return entries, cursor
        entries += more


def told(entries: list[Json], address: str) -> list[str]:
    """The versions of a resource that a feed has told of, in its order."""
    return [entry["response"]["etag"] for entry in entries if entry["request"]["url"] == address]


def test_a_pharmacy_pulls_each_version_that_concerns_it(clinic: Clinic) -> None:
    _, cursor = rest(clinic)
    draft = clinic.drafted(dispenseRequest=clinic.addressed())
    entries, _ = page(clinic, cursor)
    assert entries == [], "a draft is the doctor's own matter"
    task = values(clinic.do("doctor", draft, "sign"))["task"]
    entries, later = page(clinic, cursor)
    assert told(entries, draft) == ['W/"2"']
    assert [entry["resource"]["status"] for entry in entries] == ["active", "requested"]
    assert told(entries, f"Task/{task['id']}") == ['W/"1"']
    assert page(clinic, later)[0] == []
    assert page(clinic, later)[1] == later
    again, _ = page(clinic, cursor)
    assert again == entries, "a cursor can be used again"
    clinic.do("doctor", draft, "withdraw", reason="x")
    entries, _ = page(clinic, later)
    assert [(e["request"]["url"].partition("/")[0], e["resource"]["status"]) for e in entries] == [
        ("Task", "cancelled"),
        ("MedicationRequest", "cancelled"),
    ]
    first, one_by_one = [], cursor
    while (more := page(clinic, one_by_one, count=1))[0]:
        first += more[0]
        one_by_one = more[1]
    assert [told(first, draft), len(first)] == [['W/"2"', 'W/"3"'], 4]


def test_what_was_claimed_by_token_is_told_as_well(clinic: Clinic) -> None:
    address, token = clinic.signed()
    _, cursor = rest(clinic)
    secret = values(clinic.do("pharmacy", address, "accept", token=token))["secret"]
    order = clinic.get(address)
    clinic.call("doctor", "PUT", address, {**order, "status": "on-hold"})
    clinic.do("doctor", address, "withdraw", 202, reason="x")
    entries, cursor = page(clinic, cursor)
    assert told(entries, address) == ['W/"3"']
    codes = [e["resource"]["code"]["coding"][0]["code"] for e in entries if e["resource"]["resourceType"] == "Task"]
    assert codes == ["fulfill", "abort"]
    clinic.do("pharmacy", address, "answer-withdrawal", secret=secret, answer="reject", reason="gone")
    assert [e["resource"]["status"] for e in page(clinic, cursor)[0]] == ["rejected"]


def test_what_goes_to_another_pharmacy_is_told_to_both_and_shown_to_one(clinic: Clinic) -> None:
    address, token = clinic.signed()
    secret = values(clinic.do("pharmacy", address, "accept", token=token))["secret"]
    (_, mine), (_, theirs) = rest(clinic), rest(clinic, who="other-pharmacy")
    clinic.do("pharmacy", address, "transfer", secret=secret, to={"reference": clinic.names["other-pharmacy"]})
    (gone,), _ = page(clinic, mine)
    (come,), _ = page(clinic, theirs, "other-pharmacy")
    assert gone["request"] == come["request"]
    assert (gone["response"]["status"], "resource" in gone) == ("404", False)
    assert come["resource"]["owner"] == {"reference": clinic.names["other-pharmacy"]}


def test_prescriptions_of_elsewhere_are_told_and_deletions_too(clinic: Clinic) -> None:
    _, cursor = rest(clinic)
    content = {**clinic.order(dispenseRequest=clinic.addressed()), "status": "active"}
    address = clinic.put("MedicationRequest", **content)
    clinic.call("system", "PUT", address, {**content, "id": address.partition("/")[2], "status": "stopped"})
    clinic.call("system", "DELETE", address)
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": content, "request": {"method": "POST", "url": "MedicationRequest"}} for _ in range(3)],
    }
    assert clinic.call("system", "POST", "", bundle).status_code == 200
    entries, _ = page(clinic, cursor)
    assert told(entries, address) == ['W/"1"', 'W/"2"', 'W/"3"']
    assert [entry["request"]["method"] for entry in entries] == ["PUT", "PUT", "DELETE", "PUT", "PUT", "PUT"]
    moved = clinic.put("MedicationRequest", **content)
    _, cursor = rest(clinic)
    there = clinic.order(dispenseRequest=clinic.addressed("other-pharmacy"))
    clinic.call("system", "PUT", moved, {**there, "id": moved.partition("/")[2], "status": "active"})
    (entry,), _ = page(clinic, cursor)
    assert (entry["request"]["url"], entry["response"]["status"]) == (moved, "404")


def test_a_cursor_is_the_pharmacys_own(clinic: Clinic) -> None:
    other = cursor_of(clinic.names["other-pharmacy"], 1)
    for wrong in (other, "x", "%E2%82%AC", other[:-3], cursor_of(clinic.names["pharmacy"], -1)):
        answer = clinic.call("pharmacy", "GET", f"MedicationRequest/$changes?_since={wrong}")
        assert (answer.status_code, key_of(answer)) == (400, "HS-RX-CURSOR")
    for who in ("doctor", "patient", "system"):
        answer = clinic.call(who, "GET", "MedicationRequest/$changes")
        assert (answer.status_code, key_of(answer)) == (403, "HS-ACCESS-OPERATION")
    answer = clinic.call("operator", "GET", f"MedicationRequest/$changes?pharmacy={clinic.names['pharmacy']}&_count=1")
    assert [row["relation"] for row in answer.json()["link"]] == ["self", "next"]
    again = clinic.call("operator", "GET", answer.json()["link"][1]["url"])
    assert again.status_code == 200


@pytest.mark.parametrize("prescriptions", [600, pytest.param(5000, marks=pytest.mark.slow)])
def test_nothing_is_missed_while_eight_write_over_two_servers(two_servers: Clinic, prescriptions: int) -> None:
    """8 writers create prescriptions and change each once; a pharmacy polls all the time, from both servers in turn."""
    clinic, writers = two_servers, 8
    _, cursor = rest(clinic)
    written: list[set[tuple[str, str]]] = [set() for _ in range(writers)]
    done = threading.Event()
    seen: list[tuple[str, str]] = []
    order = {**clinic.order(dispenseRequest=clinic.addressed()), "status": "active"}

    def write(number: int) -> None:
        for n in range(number, prescriptions, writers):
            made = clinic.call("system", "POST", "MedicationRequest", order, server=n % 2)
            assert made.status_code == 201, made.text
            address = f"MedicationRequest/{made.json()['id']}"
            written[number].add((address, made.headers["etag"]))
            body = {**made.json(), "note": [{"text": str(n)}]}
            changed = clinic.call("system", "PUT", address, body, server=(n + 1) % 2)
            assert changed.status_code == 200, changed.text
            written[number].add((address, changed.headers["etag"]))

    def poll() -> None:
        at, turn, last = cursor, 0, False
        while True:
            last = done.is_set()
            entries, at = page(clinic, at, server=turn % 2, count=200)
            seen.extend((entry["request"]["url"], entry["response"]["etag"]) for entry in entries)
            turn += 1
            if last and not entries:
                return

    with ThreadPoolExecutor(writers + 1) as pool:
        polling = pool.submit(poll)
        try:
            for one in [pool.submit(write, number) for number in range(writers)]:
                one.result()
        finally:
            done.set()
        polling.result()
    wanted = set().union(*written)
    assert len(wanted) == 2 * prescriptions
    assert wanted - set(seen) == set()
    assert set(seen) - wanted == set()
    assert Counter(seen).most_common(1)[0][1] == 1
    order_seen = {row: place for place, row in enumerate(seen)}
    assert all(order_seen[address, 'W/"1"'] < order_seen[address, 'W/"2"'] for address, _ in wanted)
