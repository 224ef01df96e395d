"""What of the feed of a pharmacy goes with time, and that nobody misses anything by it without being told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.jobs.timers import Timer
from resources.dispensing import feed
from resources.dispensing.later import DAY_US
from resources.dispensing.pruning import NAME, PRUNE, prune
from tests.conftest import InProcessServer
from tests.resources.prescription.conftest import Clinic, key_of, made
from tests.resources.prescription.test_changes import page, rest, told
from tests.resources.prescription.test_later import Clock

Json = dict[str, Any]


@pytest.fixture
def aging(make_server: Callable[..., InProcessServer]) -> tuple[Clinic, Clock]:
    clock = Clock()
    return made(make_server, now=clock), clock


def pruned(clinic: Clinic, clock: Clock, days: float) -> None:
    """What the timer does some days from now."""
    clock.ahead_us = round(days * DAY_US)
    server = clinic.servers[0]
    again = server.run(prune(server.context, Timer(PRUNE, NAME, 0, {}, 0)))
    assert again > server.context.timers.now()


def refused(clinic: Clinic, cursor: str) -> tuple[int, str]:
    answer = clinic.call("pharmacy", "GET", f"MedicationRequest/$changes?_since={cursor}")
    return answer.status_code, key_of(answer)


def changed(clinic: Clinic, address: str, times: int) -> None:
    """Versions of a prescription from elsewhere that is addressed to the pharmacy."""
    content = clinic.order(dispenseRequest=clinic.addressed())
    for number in range(times):
        note = [{"text": str(number)}]
        answer = clinic.call(
            "system", "PUT", address, {**content, "id": address.partition("/")[2], "status": "active", "note": note}
        )
        assert answer.status_code in (200, 201), answer.text


def test_what_is_open_stays_and_what_has_later_versions_or_is_at_its_end_goes(aging: tuple[Clinic, Clock]) -> None:
    clinic, clock = aging
    changed(clinic, "MedicationRequest/open", 3)
    changed(clinic, "MedicationRequest/ended", 2)
    ended = clinic.get("MedicationRequest/ended")
    clinic.call("system", "PUT", "MedicationRequest/ended", {**ended, "status": "completed"})
    changed(clinic, "MedicationRequest/deleted", 1)
    clinic.call("system", "DELETE", "MedicationRequest/deleted")
    before, _ = rest(clinic)
    assert len(before) == 8
    pruned(clinic, clock, 179)
    assert len(rest(clinic)[0]) == 8, "nothing is old enough"
    pruned(clinic, clock, 181)
    entries, cursor = rest(clinic)
    assert [(e["request"]["url"], e["response"]["etag"]) for e in entries] == [("MedicationRequest/open", 'W/"3"')]
    changed(clinic, "MedicationRequest/open", 1)
    assert told(page(clinic, cursor)[0], "MedicationRequest/open") == ['W/"4"']


def test_a_cursor_that_would_miss_something_is_refused_and_those_that_would_not_are_good(
    aging: tuple[Clinic, Clock],
) -> None:
    clinic, clock = aging
    changed(clinic, "MedicationRequest/a", 2)
    first, old = page(clinic, count=1)
    assert len(first) == 1
    changed(clinic, "MedicationRequest/b", 2)
    _, newest = rest(clinic)
    pruned(clinic, clock, 200)
    assert refused(clinic, old) == (410, "HS-RX-CURSOR-OLD")
    assert page(clinic, newest)[0] == []
    anew, _ = rest(clinic, count=1)  # page by page, with numbers that are smaller than what has gone
    assert [e["request"]["url"] for e in anew] == ["MedicationRequest/a", "MedicationRequest/b"]


def test_a_pull_that_began_anew_begins_again_when_more_goes_meanwhile(aging: tuple[Clinic, Clock]) -> None:
    clinic, clock = aging
    for name in ("a", "b"):
        changed(clinic, f"MedicationRequest/{name}", 2)
    rest(clinic)
    pruned(clinic, clock, 200)
    (one,), cursor = page(clinic, count=1)
    assert one["request"]["url"] == "MedicationRequest/a"
    clock.ahead_us = 0
    changed(clinic, "MedicationRequest/b", 2)
    rest(clinic)
    pruned(clinic, clock, 200)
    assert refused(clinic, cursor) == (410, "HS-RX-CURSOR-OLD")
    assert told(rest(clinic)[0], "MedicationRequest/b") == ['W/"4"']


def test_what_nobody_ever_asks_for_does_not_lie_in_the_inbox_for_good(aging: tuple[Clinic, Clock]) -> None:
    clinic, clock = aging
    changed(clinic, "MedicationRequest/a", 3)
    store = clinic.servers[0].context.repository.store

    async def waiting() -> list[str]:
        return await store.rows(feed.INBOX).ids()

    assert len(clinic.servers[0].run(waiting())) == 3
    pruned(clinic, clock, 1)
    assert clinic.servers[0].run(waiting()) == []
    assert told(rest(clinic)[0], "MedicationRequest/a") == ['W/"1"', 'W/"2"', 'W/"3"']


@pytest.mark.parametrize("cursor", ["MTozOk9yZ2FuaXphdGlvbi83", "MjotMTowOk9yZ2FuaXphdGlvbi83", "x"])
def test_a_cursor_that_is_none_is_refused_as_such(clinic: Clinic, cursor: str) -> None:
    answer = clinic.call("pharmacy", "GET", f"MedicationRequest/$changes?_since={cursor}")
    assert (answer.status_code, key_of(answer)) == (400, "HS-RX-CURSOR")


def test_the_server_sets_the_timer_by_which_it_happens(aging: tuple[Clinic, Clock]) -> None:
    clinic, _ = aging
    server = clinic.servers[0]
    timer = server.run(server.context.timers.get(PRUNE, NAME))
    assert timer is not None
