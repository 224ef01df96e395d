"""The `Authorization` header, judged: good tokens, bad ones, and revocations that travel."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from pymongo import MongoClient, monitoring

from smart_auth import bearer as bearer_module
from smart_auth.access_token import Claims
from smart_auth.authorization_server import AuthorizationServer
from smart_auth.bearer import OPERATOR, Bearer, TokenError
from smart_auth.keys import LONGEST_TOKEN_S
from smart_auth.store import AuthStore
from tests.smart_auth.conftest import World, header_of, payload_of
from tests.smart_auth.serving import OPERATOR as OPERATOR_TOKEN

CLAIMS = Claims("account-1", "client-1", "openid patient/*.rs", "patient", "grant-1", patient="Patient/1")


def issued(world: World, lasts_s: int = 600, claims: Claims = CLAIMS) -> str:
    return world.auth.access_tokens.issue(claims, lasts_s).text


def fault_of(server: AuthorizationServer, token: str) -> str:
    with pytest.raises(TokenError) as raised:
        server.bearer.identify(f"Bearer {token}")
    assert raised.value.status == 401
    return raised.value.fault


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_identifies_its_holder_whatever_the_case_of_the_scheme(world: World, scheme: str) -> None:
    who = world.auth.bearer.identify(f"{scheme} {issued(world)}")
    assert (who.subject, who.client_id, who.role, who.patient) == ("account-1", "client-1", "patient", "Patient/1")
    assert who.grant_id == "grant-1"
    assert who.expires_us > time.time() * 1e6


def test_a_token_that_names_no_purpose_has_that_of_the_role(world: World) -> None:
    """So that Consents, labels and the audit trail speak of the same one."""
    bearer = Bearer(world.auth.keys, world.auth.revocations, world.terms.issuer, None, {"patient": "PATRQT"})
    assert bearer.identify(f"Bearer {issued(world)}").purpose == "PATRQT"
    assert bearer.identify(f"Bearer {issued(world, claims=replace(CLAIMS, purpose='HRESCH'))}").purpose == "HRESCH"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dTpw", "nonsense"])
def test_without_a_token_the_challenge_says_only_that_one_is_needed(world: World, header: str | None) -> None:
    with pytest.raises(TokenError) as raised:
        world.auth.bearer.identify(header)
    assert raised.value.fault == "missing"
    assert raised.value.headers["WWW-Authenticate"] == 'Bearer realm="FHIR"'


def test_the_operators_token_opens_everything(world: World) -> None:
    assert world.auth.bearer.identify(f"Bearer {OPERATOR_TOKEN}") is OPERATOR
    assert fault_of(world.auth, OPERATOR_TOKEN + "x") == "malformed"


def test_a_token_ends_when_its_time_is_over_even_if_it_was_seen_before(world: World) -> None:
    token = issued(world, lasts_s=2)
    assert world.auth.bearer.identify(f"Bearer {token}").subject == "account-1"
    time.sleep(2.1)
    assert fault_of(world.auth, token) == "expired"
    assert fault_of(world.auth, token) == "expired"
    assert fault_of(world.worker(), token) == "expired"


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_that_is_not_ours_is_refused(world: World) -> None:
    good = issued(world)
    header, claims = header_of(good), payload_of(good)
    head, body, signature = good.split(".")
    stranger = ECKey.generate_key("P-256", private=True)
    ours = world.auth.keys.signing("ES256")
    rs256 = world.auth.keys.signing("RS256")

    def signed(key: Any, head: dict[str, Any], said: dict[str, Any]) -> str:
        return jwt.encode(head, said, key, [head["alg"]], default_type=None)

    public = ours.key.as_pem(private=False)
    mac_input = f"{part({**header, 'alg': 'HS256'})}.{body}"
    mac = base64.urlsafe_b64encode(hmac.digest(public, mac_input.encode(), "sha256")).rstrip(b"=").decode()
    bad = {
        "tampered claims": (f"{head}.{part({**claims, 'role': 'operator'})}.{signature}", "malformed"),
        "tampered header": (f"{part({**header, 'x': 1})}.{body}.{signature}", "malformed"),
        "no signature": (f"{head}.{body}.", "malformed"),
        "alg none": (f"{part({'alg': 'none', 'typ': 'at+jwt', 'kid': header['kid']})}.{body}.", "malformed"),
        "public key as secret": (f"{mac_input}.{mac}", "malformed"),
        "a stranger's key under our name": (signed(stranger, header, claims), "malformed"),
        "a stranger's key under its own": (signed(stranger, {**header, "kid": "other"}, claims), "unknown-key"),
        "another issuer": (signed(ours.key, header, {**claims, "iss": "https://elsewhere"}), "malformed"),
        "another audience": (signed(ours.key, header, {**claims, "aud": "https://elsewhere"}), "malformed"),
        "no end": (signed(ours.key, header, {n: v for n, v in claims.items() if n != "exp"}), "malformed"),
        "an end that is none": (signed(ours.key, header, {**claims, "exp": "soon"}), "malformed"),
        "an id that is none": (signed(ours.key, header, {**claims, "jti": "nonsense"}), "malformed"),
        "another type of token": (signed(ours.key, {**header, "typ": "JWT"}, claims), "malformed"),
        "the key of id tokens": (signed(rs256.key, {**header, "alg": "RS256", "kid": rs256.kid}, claims), "malformed"),
        "nonsense": ("a.b.c", "malformed"),
        "not ASCII": ("é.é.é", "malformed"),
        "large": ("x" * 20_000, "malformed"),
        "a deep header": (base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.AAAA", "malformed"),
        "a header that is a list": (f"{part([1])}.{body}.{signature}", "malformed"),
    }
    for what, (token, fault) in bad.items():
        assert fault_of(world.auth, token) == fault, what
        answer = world.http.get("/fhir/Patient/1", headers={"Authorization": f"Bearer {token}".encode()})
        assert answer.status_code == 401, what
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert world.reads(good) == 200


def test_judging_a_token_asks_no_database(world: World, mongodb_uri: str) -> None:
    commands: list[str] = []

    class Listener(monitoring.CommandListener):
        def started(self, event: monitoring.CommandStartedEvent) -> None:
            commands.append(event.command_name)

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

        def failed(self, event: monitoring.CommandFailedEvent) -> None: ...

    client: MongoClient[dict[str, Any]] = MongoClient(mongodb_uri, tz_aware=True, event_listeners=[Listener()])
    with client:
        worker = AuthorizationServer(
            world.terms,
            AuthStore(client, world.store.rows("keys").database.name),
            world.auth.keys._vault,
            world.accounts,
        )
        worker.open()
        assert commands
        commands.clear()
        for _ in range(3):
            token = issued(world)
            worker.bearer.identify(f"Bearer {token}")
            worker.bearer.identify(f"Bearer {token}")
        fault_of(worker, token + "x")
        assert commands == []


@contextmanager
def watching(world: World, worker: AuthorizationServer) -> Iterator[None]:
    """Let a worker watch for as long as the block lasts."""

    async def start() -> asyncio.Task[None]:
        return asyncio.create_task(worker.watch())

    async def stop(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    task = world.run(start())
    yield
    world.run(stop(task))


def refused_within(worker: AuthorizationServer, token: str, seconds: float) -> float:
    """How long it takes until a worker refuses a token."""
    started = time.monotonic()
    while time.monotonic() < started + seconds:
        fault = ""
        try:
            worker.bearer.identify(f"Bearer {token}")
        except TokenError as error:
            fault = error.fault
        if fault:
            assert fault == "revoked"
            return time.monotonic() - started
        time.sleep(0.01)
    raise AssertionError(f"the token is still good after {seconds} s")


def test_a_revocation_acts_on_every_worker_within_a_second(world: World) -> None:
    others = [world.worker(), world.worker()]
    ways: list[Callable[[Claims, str], object]] = [
        lambda claims, _: world.auth.authorizations.revoke(claims.grant_id),
        lambda claims, _: world.auth.authorizations.revoke_account(claims.subject),
        lambda claims, _: world.auth.authorizations.revoke_client(claims.client_id),
        lambda _, token: world.auth.revocations.revoke("token", payload_of(token)["jti"]),
    ]
    with watching(world, others[0]), watching(world, others[1]):
        for number, revoke in enumerate(ways):
            claims = Claims(f"a-{number}", f"c-{number}", "patient/*.rs", "patient", f"g-{number}")
            token = issued(world, claims=claims)
            for other in others:
                assert other.bearer.identify(f"Bearer {token}").subject == claims.subject
            revoke(claims, token)
            assert fault_of(world.auth, token) == "revoked", "the worker that revokes knows at once"
            # Half a second is what it takes; the machine may be busy.
            assert max(refused_within(other, token, 5) for other in others) < 1.0


def test_a_worker_that_starts_later_knows_what_was_revoked_before(world: World) -> None:
    token = issued(world, claims=Claims("a-9", "c-9", "", "patient", "g-9"))
    world.auth.authorizations.revoke("g-9")
    assert fault_of(world.worker(), token) == "revoked"


def test_what_is_issued_after_an_accounts_or_clients_revocation_is_good(world: World) -> None:
    claims = Claims("a-10", "c-10", "patient/*.rs", "patient", "g-10")
    old = issued(world, claims=claims)
    world.auth.authorizations.revoke_account("a-10")
    world.auth.authorizations.revoke_client("c-10")
    time.sleep(0.002)
    new = issued(world, claims=claims)
    assert fault_of(world.auth, old) == "revoked"
    assert world.auth.bearer.identify(f"Bearer {new}").subject == "a-10"


def test_a_revocation_outlives_every_token_that_it_could_meet(world: World) -> None:
    world.auth.authorizations.revoke("g-11")
    row = world.store.rows("revocations").find_one({"_id": "grant:g-11"})
    assert row is not None
    assert row["ends_at"] > datetime.now(UTC) + timedelta(seconds=LONGEST_TOKEN_S)
    assert payload_of(issued(world, lasts_s=10**9))["exp"] <= time.time() + LONGEST_TOKEN_S


def test_old_revocations_are_forgotten(world: World) -> None:
    worker = world.worker()
    worker.authorizations.revoke("g-12")
    token = issued(world, claims=Claims("a-12", "c-12", "", "patient", "g-12"))
    assert fault_of(worker, token) == "revoked"
    worker.revocations._forget_at["grant", "g-12"] = datetime.now(UTC)
    worker.revocations.forget_old()
    assert worker.bearer.identify(f"Bearer {token}").grant_id == "g-12"
    world.store.rows("revocations").delete_one({"_id": "grant:g-12"})


def test_a_database_that_is_away_for_a_while_does_not_end_the_watch(world: World, monkeypatch: Any) -> None:
    from pymongo.errors import AutoReconnect  # noqa: PLC0415

    worker = world.worker()
    token = issued(world, claims=Claims("a-13", "c-13", "", "patient", "g-13"))
    refresh, failures = worker.revocations.refresh, [0]

    def fail_twice() -> None:
        failures[0] += 1
        if failures[0] <= 2:
            raise AutoReconnect("away")
        refresh()

    monkeypatch.setattr(worker.revocations, "refresh", fail_twice)
    with watching(world, worker):
        world.auth.authorizations.revoke("g-13")
        assert refused_within(worker, token, 10)
    assert failures[0] > 2


def test_only_so_many_tokens_are_remembered(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(bearer_module, "REMEMBERED", 3)
    worker = world.worker()
    tokens = [issued(world) for _ in range(6)]
    for token in tokens * 2:
        assert worker.bearer.identify(f"Bearer {token}").subject == "account-1"
    assert len(worker.bearer._remembered) == 3


def test_judging_a_token_that_was_seen_takes_a_few_microseconds(world: World) -> None:
    header = f"Bearer {issued(world)}"
    identify = world.auth.bearer.identify
    identify(header)
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(200):
            identify(header)
        best = min(best, (time.perf_counter() - started) / 200)
    assert best < 50e-6, f"{best * 1e6:.1f} µs"
