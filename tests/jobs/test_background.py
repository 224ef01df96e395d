"""The feed and the timers of a whole server: what is written over HTTP is told, what is due is done."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fhir_server.background import Background
from fhir_server.interactions.context import Context
from fhir_server.jobs.follower import Follower
from fhir_server.model.clock import now_us
from tests.conftest import InProcessServer
from tests.jobs.feeding import Heard
from tests.jobs.test_timers import KIND, Clock, Rung


def test_a_server_tells_its_followers_what_is_written_over_http_and_does_what_is_due(
    make_server: Callable[..., InProcessServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, rung, clock = Heard(), Rung(), Clock()
    register = Background.register

    def registered(background: Background, context: Context) -> None:
        register(background, context)
        context.feed.register(Follower("http", frozenset({"Patient", "Basic"}), heard))
        context.timers.register(KIND, rung)

    monkeypatch.setattr(Background, "register", registered)
    server = make_server(parts={"now": clock})
    basic = {"resourceType": "Basic", "code": {"text": "x"}}
    assert server.client.put("Patient/a", json={"resourceType": "Patient", "id": "a"}).status_code == 201
    entries = [{"resource": basic, "request": {"method": "POST", "url": "Basic"}} for _ in range(3)]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    made = server.client.post("", json=bundle).json()["entry"]
    assert server.client.delete("Patient/a").status_code == 204
    server.run(server.context.feed.caught_up())
    locations = [entry["response"]["location"].replace("/_history", "") for entry in made]
    assert heard.firsts == ["Patient/a/1", *locations, "Patient/a/2"]
    assert heard.changes[-1].deleted
    assert b'"Patient"' in (heard.changes[-1].before or b"")

    due_us = clock.us + 3600 * 1_000_000
    server.run(server.context.timers.set(KIND, "later", due_us))
    server.run(server.context.timers.run_due())
    assert rung.keys == []
    assert due_us < now_us()  # by the server's clock, not by this machine's
    clock.us = due_us
    server.run(server.context.timers.run_due())
    assert rung.keys == ["later"]
    server.close()
