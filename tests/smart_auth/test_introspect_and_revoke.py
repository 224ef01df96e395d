"""Introspection and revocation of tokens."""

from __future__ import annotations

from typing import Any

import pytest

from smart_auth.model import Client
from tests.smart_auth.conftest import World, payload_of
from tests.smart_auth.serving import OPERATOR

SCOPE = "openid fhirUser launch/patient launch/encounter offline_access patient/*.rs"
INACTIVE = {"active": False}


@pytest.fixture
def client(world: World) -> Client:
    return world.client()[0]


@pytest.fixture(scope="module")
def asker(world: World) -> tuple[str, str]:
    """A confidential client that receives tokens."""
    client, secret = world.client(
        auth_method="client_secret_basic", grant_types=("client_credentials",), redirect_uris=(), scope="system/*.rs"
    )
    return client.client_id, secret


def introspected(world: World, asker: tuple[str, str], token: str, **more: str) -> Any:
    answer = world.http.post("/auth/introspect", data={"token": token, **more}, auth=asker)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_an_active_token_is_told_with_all_that_was_issued_with_it(
    world: World, client: Client, asker: tuple[str, str]
) -> None:
    answer, session = world.signed_in(client, SCOPE)
    told = introspected(world, asker, answer["access_token"], token_type_hint="access_token")
    identity = payload_of(answer["id_token"])
    assert told["active"] is True
    assert told["client_id"] == client.client_id
    assert told["scope"] == answer["scope"]
    assert told["exp"] == payload_of(answer["access_token"])["exp"]
    assert (told["patient"], told["encounter"]) == (answer["patient"], answer["encounter"]) == ("7", "8")
    assert (told["iss"], told["sub"], told["fhirUser"]) == (identity["iss"], identity["sub"], identity["fhirUser"])
    assert told["sub"] == session.account.id
    refresh = introspected(world, asker, answer["refresh_token"], token_type_hint="refresh_token")
    assert (refresh["active"], refresh["client_id"], refresh["scope"]) == (True, client.client_id, SCOPE)


@pytest.mark.parametrize("token", ["invalid_token_value", "a.b.c", "é", "x" * 20_000])
def test_a_bogus_token_is_inactive_and_nothing_more(world: World, asker: tuple[str, str], token: str) -> None:
    assert introspected(world, asker, token, token_type_hint="nonsense") == INACTIVE


def test_revoked_and_used_tokens_are_inactive(world: World, client: Client, asker: tuple[str, str]) -> None:
    answer, session = world.signed_in(client, SCOPE)
    second = world.refresh(client, answer["refresh_token"]).json()
    assert introspected(world, asker, answer["refresh_token"]) == INACTIVE
    world.auth.authorizations.revoke(world.auth.authorizations.of(account_id=session.account.id)[0].id)
    assert introspected(world, asker, second["access_token"]) == INACTIVE
    assert introspected(world, asker, second["refresh_token"]) == INACTIVE


def test_who_asks_must_prove_who_they_are(world: World, client: Client) -> None:
    answer, _ = world.signed_in(client, SCOPE)
    token = answer["access_token"]
    for data, auth in (
        ({"token": token}, None),
        ({"token": token, "client_id": client.client_id}, None),
        ({"token": token}, ("unknown", "x")),
    ):
        told = world.http.post("/auth/introspect", data=data, auth=auth)
        assert told.json()["error"] == "invalid_client"
        assert "active" not in told.json()
    told = world.http.post("/auth/introspect", data={"token": token}, headers={"Authorization": "Bearer nonsense"})
    assert told.status_code == 401


def test_a_bearer_may_ask_about_tokens_of_its_own_app_and_the_operator_about_any(world: World, client: Client) -> None:
    own, _ = world.signed_in(client, SCOPE)
    other, _ = world.signed_in(world.client()[0], SCOPE)

    def told(bearer: str, token: str) -> Any:
        headers = {"Authorization": f"Bearer {bearer}"}
        return world.http.post("/auth/introspect", data={"token": token}, headers=headers).json()

    assert told(own["access_token"], own["access_token"])["active"] is True
    assert told(own["access_token"], other["access_token"]) == INACTIVE
    assert told(OPERATOR, other["access_token"])["active"] is True


def test_introspection_needs_a_token_to_ask_about(world: World, asker: tuple[str, str]) -> None:
    answer = world.http.post("/auth/introspect", data={"x": "y"}, auth=asker)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert world.http.get("/auth/introspect").status_code == 405


def revoked(world: World, client: Client, token: str) -> int:
    return world.http.post("/auth/revoke", data={"token": token, "client_id": client.client_id}).status_code


def test_revoking_a_refresh_token_ends_all_that_came_from_the_authorization(world: World, client: Client) -> None:
    answer, session = world.signed_in(client, SCOPE)
    assert revoked(world, client, answer["refresh_token"]) == 200
    assert world.reads(answer["access_token"]) == 401
    assert world.refresh(client, answer["refresh_token"]).status_code == 400
    assert world.auth.authorizations.of(account_id=session.account.id) == []
    assert revoked(world, client, answer["refresh_token"]) == 200, "it is done already"


def test_revoking_an_access_token_ends_that_one_alone(world: World, client: Client) -> None:
    answer, _ = world.signed_in(client, SCOPE)
    assert revoked(world, client, answer["access_token"]) == 200
    assert world.reads(answer["access_token"]) == 401
    again = world.refresh(client, answer["refresh_token"]).json()
    assert world.reads(again["access_token"]) == 200


def test_a_token_of_another_client_is_not_revoked(world: World, client: Client) -> None:
    answer, _ = world.signed_in(client, SCOPE)
    other, _ = world.client()
    for token in (answer["access_token"], answer["refresh_token"]):
        refused = world.http.post("/auth/revoke", data={"token": token, "client_id": other.client_id})
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert world.reads(answer["access_token"]) == 200
    assert revoked(world, client, "bogus") == 200, "RFC 7009 section 2.2"
    nobody = world.http.post("/auth/revoke", data={"token": answer["access_token"]})
    assert nobody.json()["error"] == "invalid_client"


def test_a_user_takes_an_app_its_access_back(world: World, client: Client) -> None:
    answer, session = world.signed_in(client, SCOPE)
    there = world.auth.authorizations.of(account_id=session.account.id, client_id=client.client_id)
    assert [grant.scope for grant in there] == [SCOPE]
    assert world.auth.authorizations.revoke(there[0].id)
    assert not world.auth.authorizations.revoke(there[0].id)
    assert world.reads(answer["access_token"]) == 401
    assert world.refresh(client, answer["refresh_token"]).json()["error"] == "invalid_grant"
