"""Refresh tokens: rotated, narrowed, and dead with their family when an old one comes back."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from smart_auth.model import Client
from tests.smart_auth.conftest import World, payload_of

SCOPE = "openid fhirUser launch/patient offline_access patient/*.rs"


@pytest.fixture
def client(world: World) -> Client:
    return world.client()[0]


def late(world: World, client: Client) -> None:
    """Let the seconds pass in which a lost answer may be asked for again."""
    before = datetime.now(UTC) - timedelta(seconds=60)
    rows = world.store.rows("refresh_tokens")
    rows.update_many({"client_id": client.client_id, "used_at": {"$ne": None}}, {"$set": {"used_at": before}})


def test_a_refresh_gives_all_that_the_first_answer_gave(world: World, client: Client) -> None:
    first, session = world.signed_in(client, SCOPE, params={"nonce": "n"})
    answer = world.refresh(client, first["refresh_token"])
    assert answer.status_code == 200
    second = answer.json()
    assert (second["token_type"], second["expires_in"], second["scope"]) == ("Bearer", 3600, SCOPE)
    assert (second["patient"], second["need_patient_banner"]) == ("7", True)
    assert second["refresh_token"] not in ("", first["refresh_token"])
    assert second["access_token"] != first["access_token"]
    assert world.reads(second["access_token"]) == 200
    claims = payload_of(second["id_token"])
    assert claims["sub"] == session.account.id
    assert claims["auth_time"] == payload_of(first["id_token"])["auth_time"]
    assert "nonce" not in claims
    assert answer.headers["cache-control"] == "no-store"


def test_a_refresh_may_narrow_the_scope_and_the_next_one_may_have_it_all_again(world: World, client: Client) -> None:
    first, _ = world.signed_in(client, SCOPE)
    narrow = world.refresh(client, first["refresh_token"], scope="patient/Observation.read")
    assert narrow.json()["scope"] == "patient/Observation.read"
    assert narrow.json()["patient"] == "7"
    who = world.auth.bearer.identify(f"Bearer {narrow.json()['access_token']}")
    assert [(scope.type, scope.verbs) for scope in who.scopes] == [("Observation", "rs")]
    again = world.refresh(client, narrow.json()["refresh_token"], scope=SCOPE)
    assert again.json()["scope"] == SCOPE


@pytest.mark.parametrize("scope", ["patient/*.cruds", "user/*.rs", "patient/*.rs system/*.rs", "online_access", "x"])
def test_a_refresh_cannot_widen_the_scope(world: World, client: Client, scope: str) -> None:
    first, _ = world.signed_in(client, SCOPE)
    answer = world.refresh(client, first["refresh_token"], scope=scope)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
    assert world.refresh(client, first["refresh_token"]).status_code == 200, "the refused request used nothing up"


def test_an_old_refresh_token_that_comes_back_ends_the_family(world: World, client: Client) -> None:
    first, _ = world.signed_in(client, SCOPE)
    second = world.refresh(client, first["refresh_token"]).json()
    late(world, client)
    answer = world.refresh(client, first["refresh_token"])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert world.refresh(client, second["refresh_token"]).json()["error"] == "invalid_grant"
    assert world.reads(second["access_token"]) == 401
    assert world.reads(first["access_token"]) == 401


def test_an_answer_that_was_lost_can_be_asked_for_again_and_the_lost_token_is_taken_back(
    world: World, client: Client
) -> None:
    first, _ = world.signed_in(client, SCOPE)
    lost = world.refresh(client, first["refresh_token"]).json()
    again = world.refresh(client, first["refresh_token"])
    assert again.status_code == 200
    assert world.refresh(client, again.json()["refresh_token"]).status_code == 200
    answer = world.refresh(client, lost["refresh_token"])
    assert answer.json()["error"] == "invalid_grant", "somebody had the lost answer after all"
    assert world.reads(again.json()["access_token"]) == 401


def test_a_token_whose_successor_was_used_is_not_given_again(world: World, client: Client) -> None:
    first, _ = world.signed_in(client, SCOPE)
    second = world.refresh(client, first["refresh_token"]).json()
    assert world.refresh(client, second["refresh_token"]).status_code == 200
    assert world.refresh(client, first["refresh_token"]).json()["error"] == "invalid_grant"


def test_a_refresh_token_is_its_clients(world: World, client: Client) -> None:
    first, _ = world.signed_in(client, SCOPE)
    other, _ = world.client()
    answer = world.refresh(other, first["refresh_token"])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert world.refresh(client, first["refresh_token"]).status_code == 200


@pytest.mark.parametrize("token", ["bogus", "é", "x" * 5000])
def test_a_bogus_refresh_token_is_refused(world: World, client: Client, token: str) -> None:
    answer = world.refresh(client, token)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert world.refresh(client, "").json()["error"] == "invalid_request"


def test_an_access_token_is_no_refresh_token(world: World, client: Client) -> None:
    first, _ = world.signed_in(client, SCOPE)
    assert world.refresh(client, first["access_token"]).json()["error"] == "invalid_grant"
    assert world.reads(first["refresh_token"]) == 401
    assert world.reads(first["id_token"]) == 401


@pytest.mark.parametrize(
    "change", [{"state": "disabled"}, {"credentials_changed_at": datetime.now(UTC) + timedelta(days=1)}]
)
def test_a_user_who_was_disabled_or_changed_their_password_is_not_refreshed(
    world: World, client: Client, change: dict[str, Any]
) -> None:
    first, session = world.signed_in(client, SCOPE)
    world.accounts.change(session.account, **change)
    answer = world.refresh(client, first["refresh_token"])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert world.reads(first["access_token"]) == 401


def test_online_access_ends_with_the_session_and_offline_access_does_not(world: World, client: Client) -> None:
    online, session = world.signed_in(client, SCOPE.replace("offline", "online"))
    offline, _ = world.signed_in(client, SCOPE, session=session)
    answer = world.refresh(client, online["refresh_token"])
    assert answer.status_code == 200
    del world.accounts.sessions[session.id]
    assert world.refresh(client, answer.json()["refresh_token"]).json()["error"] == "invalid_grant"
    assert world.refresh(client, offline["refresh_token"]).status_code == 200


def test_signing_out_ends_what_was_to_last_while_signed_in(world: World, client: Client) -> None:
    online, session = world.signed_in(client, SCOPE.replace("offline", "online"))
    offline, _ = world.signed_in(client, SCOPE, session=session)
    assert world.auth.authorizations.end_session(session.id) == 1
    assert world.reads(online["access_token"]) == 401
    assert world.reads(offline["access_token"]) == 200


def test_what_the_user_allowed_for_a_time_ends_with_it(world: World, client: Client) -> None:
    first, _ = world.signed_in(client, SCOPE, lasts_s=3600)
    past = datetime.now(UTC) - timedelta(seconds=1)
    world.store.rows("refresh_tokens").update_many({"client_id": client.client_id}, {"$set": {"expires_at": past}})
    assert world.refresh(client, first["refresh_token"]).json()["error"] == "invalid_grant"


def test_refreshing_does_not_prolong_what_the_user_allowed(world: World, client: Client) -> None:
    first, _ = world.signed_in(client, SCOPE, lasts_s=3600)
    world.refresh(client, first["refresh_token"])
    ends = {row["expires_at"] for row in world.store.rows("refresh_tokens").find({"client_id": client.client_id})}
    assert len(ends) == 1


def test_a_client_without_the_grant_type_gets_no_refresh_token(world: World) -> None:
    client, _ = world.client(grant_types=("authorization_code",))
    first, _ = world.signed_in(client, SCOPE)
    assert "refresh_token" not in first
    assert world.refresh(client, "x").json()["error"] == "unauthorized_client"


def test_a_proxy_who_no_longer_acts_for_a_patient_is_not_refreshed(world: World, client: Client) -> None:
    person = world.accounts.person("proxy", fhir_user="RelatedPerson/1", patients=("Patient/1", "Patient/2"))
    first, _ = world.signed_in(client, SCOPE, session=world.accounts.sign_in(person), patient="Patient/2")
    second = world.refresh(client, first["refresh_token"])
    assert second.status_code == 200
    world.accounts.change(person, patients=("Patient/1",))
    assert world.refresh(client, second.json()["refresh_token"]).json()["error"] == "invalid_grant"
    assert world.reads(second.json()["access_token"]) == 401


def test_many_refreshes_at_once_do_not_wait_for_each_others_threads(world: World, client: Client) -> None:
    session = world.accounts.sign_in(world.accounts.person())
    first, _ = world.signed_in(client, SCOPE, session=session)
    grant = world.auth.authorizations.of(account_id=session.account.id)[0]
    assert grant.expires_at is not None
    tokens = [world.auth._refresh_tokens.make(grant, grant.expires_at) for _ in range(80)]

    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(
            base_url=world.root, timeout=60, limits=httpx.Limits(max_connections=80)
        ) as caller:
            form = {"grant_type": "refresh_token", "client_id": client.client_id}
            calls = [caller.post("/auth/token", data={**form, "refresh_token": token}) for token in tokens]
            return [answer.status_code for answer in await asyncio.gather(*calls)]

    assert world.run(all_at_once()) == [200] * 80
    assert first["refresh_token"]


def test_a_public_app_need_not_say_who_it_is_and_one_with_a_secret_must(world: Any) -> None:
    public, _ = world.client()
    token = world.signed_in(public, "openid offline_access patient/Patient.rs")[0]["refresh_token"]
    answer = world.token(grant_type="refresh_token", refresh_token=token)
    assert answer.status_code == 200, answer.text
    assert world.reads(answer.json()["access_token"]) == 200
    refused = world.token(grant_type="refresh_token", refresh_token="of nobody")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_client")
    following = answer.json()["refresh_token"]
    disabled = world.token(grant_type="refresh_token", refresh_token=following, client_secret="guessed")
    assert disabled.json()["error"] == "invalid_client"
    world.auth.clients.deactivate(public.client_id)
    assert world.token(grant_type="refresh_token", refresh_token=following).json()["error"] == "invalid_client"


def test_a_refresh_token_of_an_app_with_a_secret_is_of_no_use_without_it(world: Any) -> None:
    client, secret = world.client(auth_method="client_secret_basic")
    verifier, params = world.asking(client, "openid offline_access patient/Patient.rs")
    session = world.accounts.sign_in(world.accounts.person(fhir_user="Practitioner/5"))
    code = world.browse(params, session).params["code"]
    basic = {"Authorization": f"Basic {base64.b64encode(f'{client.client_id}:{secret}'.encode()).decode()}"}
    form = {"grant_type": "authorization_code", "redirect_uri": client.redirect_uris[0], "code": code}
    token = world.token(basic, **form, code_verifier=verifier).json()["refresh_token"]
    assert world.token(grant_type="refresh_token", refresh_token=token).json()["error"] == "invalid_client"
    assert world.token(basic, grant_type="refresh_token", refresh_token=token).status_code == 200
