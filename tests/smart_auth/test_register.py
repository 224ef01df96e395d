"""Registering apps: by themselves as far as the policy goes, and by administrators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from smart_auth.clients import ClientError, fault_of_redirect_uri
from tests.smart_auth.conftest import REDIRECT, World
from tests.smart_auth.serving import OPERATOR

APP = {
    "client_name": "My app",
    "redirect_uris": [REDIRECT],
    "token_endpoint_auth_method": "none",
    "grant_types": ["authorization_code", "refresh_token"],
    "scope": "openid fhirUser launch/patient patient/*.rs email",
    "initiate_login_uri": "https://app.example.org/launch",
    "logo_uri": "https://app.example.org/logo.png",
    "contacts": ["dev@example.org"],
}


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    return make_world(registration="open")  # type: ignore[no-any-return]


def register(world: World, token: str = "", **changes: Any) -> httpx.Response:
    body = {name: value for name, value in {**APP, **changes}.items() if value is not None}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return world.http.post("/auth/clients", json=body, headers=headers)


def test_an_app_registers_itself_and_can_be_used_at_once(world: World) -> None:
    answer = register(world)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["scope"] == "openid fhirUser launch/patient patient/*.rs"
    assert body["registration_client_uri"] == f"{world.root}/auth/clients/{body['client_id']}"
    assert body["launch_url"] == "https://app.example.org/launch"
    assert "client_secret" not in body
    client = world.auth.clients.get(body["client_id"])
    assert client is not None
    assert not client.trusted
    tokens, _ = world.signed_in(client, "openid patient/*.rs")
    assert world.reads(tokens["access_token"]) == 200


def test_a_confidential_app_is_told_its_secret_once(world: World) -> None:
    body = register(world, token_endpoint_auth_method=None).json()
    assert body["token_endpoint_auth_method"] == "client_secret_basic"
    assert (len(body["client_secret"]) >= 43, body["client_secret_expires_at"]) == (True, 0)
    read = world.http.get(
        f"/auth/clients/{body['client_id']}",
        headers={"Authorization": f"Bearer {body['registration_access_token']}"},
    )
    assert "client_secret" not in read.json()
    assert "secret_hash" not in read.text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": None}, "invalid_redirect_uri"),
        ({"redirect_uris": ["http://app.example.org/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://app.example.org/#x"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://*.example.org/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["/relative"]}, "invalid_redirect_uri"),
        ({"redirect_uris": "https://app.example.org"}, "invalid_client_metadata"),
        ({"redirect_uris": [7]}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "client_secret_jwt"}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": []}}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://10.0.0.1/k"}, "invalid_client_metadata"),
        ({"grant_types": ["implicit"]}, "invalid_client_metadata"),
        ({"response_types": ["token"]}, "invalid_client_metadata"),
        ({"jwks": "x"}, "invalid_client_metadata"),
        ({"logo_uri": "javascript:alert(1)"}, "invalid_client_metadata"),
        ({"client_name": "x" * 300}, "invalid_client_metadata"),
        ({"software_statement": "x"}, "unapproved_software_statement"),
        ({"scope": "system/*.rs"}, "invalid_client_metadata"),
        (
            {"grant_types": ["client_credentials"], "redirect_uris": [], "token_endpoint_auth_method": None},
            "invalid_client_metadata",
        ),
    ],
)
def test_a_registration_that_is_no_good_is_refused(world: World, changes: dict[str, Any], error: str) -> None:
    answer = register(world, **changes)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.json()["error_description"]


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"[" * 60_000, b'{"a": "' + b"x" * 70_000 + b'"}'])
def test_what_is_no_registration_is_refused(world: World, body: bytes) -> None:
    assert world.http.post("/auth/clients", content=body).status_code == 400


def test_an_app_that_acts_for_itself_is_registered_only_by_who_may(world: World) -> None:
    answer = register(
        world,
        OPERATOR,
        scope="system/*.rs",
        grant_types=["client_credentials"],
        redirect_uris=[],
        token_endpoint_auth_method="client_secret_basic",
    )
    assert answer.status_code == 201, answer.text
    body = answer.json()
    token = world.http.post(
        "/auth/token",
        data={"grant_type": "client_credentials", "scope": "system/*.rs"},
        auth=(body["client_id"], body["client_secret"]),
    )
    assert token.json()["scope"] == "system/*.rs"


def test_an_app_that_manages_accounts_is_registered_only_by_who_may(world: World) -> None:
    refused = register(world, "", scope="openid accounts")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_client_metadata")
    assert register(world, OPERATOR, scope="openid accounts").json()["scope"] == "openid accounts"
    own = register(world, "", scope="openid").json()
    changed = world.http.put(
        f"/auth/clients/{own['client_id']}",
        json={"client_id": own["client_id"], "redirect_uris": own["redirect_uris"], "scope": "openid accounts"},
        headers={"Authorization": f"Bearer {own['registration_access_token']}"},
    )
    assert (changed.status_code, changed.json()["error"]) == (400, "invalid_client_metadata")


def test_the_policy_decides_who_may_register(make_world: Any) -> None:
    off = make_world()
    assert register(off).status_code == 403
    assert "registration_endpoint" not in off.http.get("/fhir/.well-known/smart-configuration").json()
    by_token = make_world(registration="token", registration_token="initial-token-of-the-tests")
    assert register(by_token).status_code == 401
    assert register(by_token, "wrong").status_code == 401
    assert register(by_token, "initial-token-of-the-tests").status_code == 201
    assert register(by_token, OPERATOR).status_code == 201


def configuration(world: World, body: dict[str, Any]) -> tuple[str, dict[str, str]]:
    return f"/auth/clients/{body['client_id']}", {"Authorization": f"Bearer {body['registration_access_token']}"}


def test_an_app_reads_changes_and_removes_its_registration(world: World) -> None:
    body = register(world).json()
    url, headers = configuration(world, body)
    assert world.http.get(url, headers=headers).json()["client_name"] == "My app"
    changed = {**APP, "client_id": body["client_id"], "client_name": "My better app", "scope": "openid patient/*.r"}
    answer = world.http.put(url, headers=headers, json=changed)
    assert (answer.status_code, answer.json()["client_name"]) == (200, "My better app")
    assert answer.json()["scope"] == "openid patient/*.r"
    client = world.auth.clients.get(body["client_id"])
    assert client is not None
    tokens, _ = world.signed_in(client, "openid patient/*.r")
    assert world.http.delete(url, headers=headers).status_code == 204
    assert world.http.get(url, headers=headers).status_code == 401
    assert world.reads(tokens["access_token"]) == 401


def test_a_registration_is_its_apps_alone(world: World) -> None:
    one, other = register(world).json(), register(world).json()
    url, headers = configuration(world, one)
    for bad in ({}, configuration(world, other)[1], {"Authorization": f"Bearer {OPERATOR}"}):
        for method in ("GET", "DELETE"):
            assert world.http.request(method, url, headers=bad).status_code == 401
    assert world.http.get("/auth/clients/unknown", headers=headers).status_code == 401
    for change in (
        {"client_id": other["client_id"]},
        {"client_id": one["client_id"], "registration_access_token": "x"},
        {"client_id": one["client_id"], "token_endpoint_auth_method": "client_secret_basic"},
        {"client_id": one["client_id"], "scope": "system/*.cruds"},
        {"client_id": one["client_id"], "trusted": True, "redirect_uris": ["http://evil.example"]},
    ):
        assert world.http.put(url, headers=headers, json={**APP, **change}).status_code == 400, change
    answer = world.http.put(url, headers=headers, json={**APP, "client_id": one["client_id"], "trusted": True})
    assert answer.status_code == 200
    client = world.auth.clients.get(one["client_id"])
    assert client is not None
    assert not client.trusted


def test_a_client_that_gets_a_narrower_scope_loses_the_tokens_of_the_wider_one(world: World) -> None:
    client, _ = world.client()
    tokens, _ = world.signed_in(client, "openid patient/*.cruds")
    world.auth.clients.update(replace(client, name="Another name"))
    assert world.reads(tokens["access_token"]) == 200
    world.auth.clients.update(replace(client, scope="openid patient/*.rs"))
    assert world.reads(tokens["access_token"]) == 401


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example.org/cb",
        "https://app.example.org:8443/cb?x=y",
        "http://localhost:3000/cb",
        "http://127.0.0.1/cb",
        "http://[::1]:9/cb",
        "com.example.app:/cb",
        "org.example.app://cb",
    ],
)
def test_these_redirect_uris_are_good(uri: str) -> None:
    assert fault_of_redirect_uri(uri) == ""


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://",
        "https:///cb",
        "http://app.example.org/cb",
        "http://localhost.evil.example/cb",
        "http://127.0.0.1@evil.example/",
        "https://user@app.example.org/cb",
        "https://app.example.org/cb#x",
        "https://app.example.org/cb#",
        "https://*.example.org/cb",
        "https://app.example.org/cb\r\nX: y",
        "https://app.example.org/é",
        "https://app.example.org/\\evil",
        "https://app.example.org:99999/cb",
        "https://[::1/cb",
        "javascript:alert(1)",
        "data:text/html,x",
        "myapp:/cb",
        "file:///etc/passwd",
        "urn:ietf:wg:oauth:2.0:oob",
        "https://app.example.org/" + "x" * 3000,
    ],
)
def test_these_redirect_uris_are_not(uri: str) -> None:
    assert fault_of_redirect_uri(uri)


@pytest.mark.parametrize(
    "given",
    [
        {"client_id": "with space"},
        {"name": ""},
        {"auth_method": "client_secret_jwt"},
        {"grant_types": ()},
        {"grant_types": ("client_credentials",), "redirect_uris": ()},
        {"grant_types": ("client_credentials",), "auth_method": "client_secret_basic"},
        {"scope": "nonsense"},
        {"launch_url": "http://app.example.org/launch"},
    ],
)
def test_an_administrator_cannot_register_what_is_no_good_either(world: World, given: dict[str, Any]) -> None:
    with pytest.raises(ClientError):
        world.client(**given)


def test_an_id_is_registered_once(world: World) -> None:
    world.client(client_id="my-app")
    with pytest.raises(ClientError, match="already"):
        world.client(client_id="my-app")
    assert "my-app" in [client.client_id for client in world.auth.clients.all()]
    with pytest.raises(ClientError, match="no client"):
        world.auth.clients.update(replace(world.client()[0], client_id="unknown"))
    with pytest.raises(ClientError, match="with a secret"):
        world.auth.clients.rotate_secret("my-app")
