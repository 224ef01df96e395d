"""Limits of requests: counted by a clock that the test moves, and as clients see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.http import rates
from fhir_server.http.rates import Rate, Rates, place_of
from fhir_server.model.access import NOBODY, Caller, Identity
from fhir_server.model.errors import TooManyRequestsError
from smart_auth.operator_token import load_or_create


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_minutes_worth_comes_at_once_and_then_as_fast_as_the_rate(clock: Clock) -> None:
    rate = Rate(60, clock)
    assert [rate.wait_s("a") for _ in range(60)] == [0] * 60
    assert rate.wait_s("a") == 1
    clock.now += 1.0
    assert (rate.wait_s("a"), rate.wait_s("a")) == (0, 1)
    clock.now += 30.0
    assert sum(rate.wait_s("a") == 0 for _ in range(100)) == 30


def test_refused_requests_do_not_count_so_whoever_waits_as_told_gets_through(clock: Clock) -> None:
    rate = Rate(2, clock)
    assert (rate.wait_s("a"), rate.wait_s("a")) == (0, 0)
    waits = [rate.wait_s("a") for _ in range(5)]
    assert waits == [30] * 5
    clock.now += waits[-1]
    assert rate.wait_s("a") == 0


def test_clients_do_not_use_up_each_others_share(clock: Clock) -> None:
    rate = Rate(1, clock)
    assert (rate.wait_s("a"), rate.wait_s("b"), rate.wait_s("a")) == (0, 0, 60)


def test_no_rate_is_any_number(clock: Clock) -> None:
    rate = Rate(0, clock)
    assert not any(rate.wait_s("a") for _ in range(10_000))


def test_only_so_many_clients_are_remembered_and_the_one_that_was_quiet_longest_is_forgotten(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "REMEMBERED", 2)
    rate = Rate(2, clock)
    for key in ("a", "b", "a", "c"):  # c pushes b out, which was used before a
        assert rate.wait_s(key) == 0
    assert rate.wait_s("a") > 0
    assert (rate.wait_s("b"), rate.wait_s("b")) == (0, 0)


def test_an_app_is_counted_with_each_of_its_users_and_the_operator_is_not(clock: Clock) -> None:
    counted = Rates(0, 1, clock)
    for subject in ("ida", "uwe"):
        counted.require(Caller(Identity(subject, "app", "patient")))
    with pytest.raises(TooManyRequestsError) as refused:
        counted.require(Caller(Identity("ida", "app", "patient")))
    assert refused.value.headers["Retry-After"] == "60"
    for _ in range(5):
        counted.require(NOBODY)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_ipv6_addresses_count_by_their_network(address: str, place: str) -> None:
    assert place_of(address) == place


def test_requests_above_the_rate_of_an_address_are_429_with_an_outcome_and_the_time_to_wait(
    make_server: Callable[..., Any],
) -> None:
    client = make_server(auth="on", address_requests_per_minute=1).client
    assert client.get("/metadata").status_code == 200
    refused = client.get("/Patient")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    issue = refused.json()["issue"][0]
    assert (issue["code"], issue["details"]["coding"][0]["code"]) == ("throttled", "HS-LIMIT-RATE")
    for path in ("/health/live", "/metrics"):
        assert client.get(f"http://test{path}").status_code == 200, "probes and scrapes are not counted"


def test_the_operator_is_not_held_to_the_rate_of_clients(make_server: Callable[..., Any]) -> None:
    server = make_server(auth="on", client_requests_per_minute=1)
    header = {"Authorization": f"Bearer {load_or_create(server.settings.access_token_file)}"}
    assert [server.client.get("/Patient", headers=header).status_code for _ in range(3)] == [200] * 3


def test_without_access_control_nobody_is_counted(make_server: Callable[..., Any]) -> None:
    client = make_server(address_requests_per_minute=1, client_requests_per_minute=1).client
    assert [client.get("/metadata").status_code for _ in range(3)] == [200] * 3


def test_too_many_requests_for_tokens_are_refused_as_oauth_shapes_errors_and_pages_in_words(
    make_server: Callable[..., Any],
) -> None:
    client = make_server(auth="on", auth_requests_per_minute=1).client
    assert client.post("http://test/auth/token", data={"grant_type": "nothing"}).status_code == 400
    for path in ("/auth/token", "/auth/clients", "/auth/introspect", "/auth/par"):
        refused = client.post(f"http://test{path}", data={"grant_type": "nothing"})
        assert (refused.status_code, refused.json()["error"]) == (429, "temporarily_unavailable"), path
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["access-control-allow-origin"] == "*"
    page = client.get("http://test/auth/sign-in")
    assert (page.status_code, page.headers["content-type"]) == (429, "text/plain; charset=utf-8")
    assert client.get("http://test/auth/jwks").status_code == 200
    assert client.get("http://test/auth/static/style.css").status_code == 200
    assert client.options("http://test/auth/token", headers={"Origin": "https://app.example"}).status_code == 204


def test_a_client_that_proves_who_it_is_is_counted_wherever_it_comes_from(make_server: Callable[..., Any]) -> None:
    server = make_server(
        auth="on", auth_requests_per_minute=2, trusted_proxies=("127.0.0.0/8",), client_requests_per_minute=0
    )
    operator = {"Authorization": f"Bearer {load_or_create(server.settings.access_token_file)}"}
    system = {"client_name": "Feed", "grant_types": ["client_credentials"], "scope": "system/*.rs"}

    def ask(address: str, auth: tuple[str, str]) -> Any:
        form = {"grant_type": "client_credentials", "scope": "system/*.rs"}
        headers = {"X-Forwarded-For": address}
        return server.client.post("http://test/auth/token", data=form, auth=auth, headers=headers)

    made = []
    for number in (1, 2):
        headers = {**operator, "X-Forwarded-For": f"198.51.100.{number}"}
        answer = server.client.post("http://test/auth/clients", json=system, headers=headers)
        assert answer.status_code == 201, answer.text
        made.append((answer.json()["client_id"], answer.json()["client_secret"]))
    one, other = made
    # Who does not know the secret uses up nothing of it.
    assert [ask(f"203.0.113.{n}", (one[0], "guessed")).status_code for n in range(3)] == [401] * 3
    assert [ask(f"192.0.2.{n}", one).status_code for n in range(2)] == [200] * 2
    refused = ask("192.0.2.77", one)
    assert (refused.status_code, refused.json()["error"]) == (429, "temporarily_unavailable")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert ask("192.0.2.78", other).status_code == 200
    # Nor is it heard at the neighbours of the token endpoint.
    headers = {"X-Forwarded-For": "192.0.2.79"}
    told = server.client.post("http://test/auth/introspect", data={"token": "x"}, auth=one, headers=headers)
    assert told.status_code == 429
