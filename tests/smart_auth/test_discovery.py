"""What apps read before they begin: complete, and true."""

from __future__ import annotations

from typing import Any

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oidc.discovery import OpenIDProviderMetadata

from smart_auth.discovery import security_of, smart_configuration
from smart_auth.terms import Terms
from tests.smart_auth.conftest import World

ORIGIN = {"Origin": "https://app.example.org"}


@pytest.fixture(scope="module")
def smart(world: World) -> dict[str, Any]:
    answer = world.http.get("/fhir/.well-known/smart-configuration", headers=ORIGIN)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    return answer.json()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def openid(world: World) -> dict[str, Any]:
    answer = world.http.get("/fhir/.well-known/openid-configuration", headers=ORIGIN)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    return answer.json()  # type: ignore[no-any-return]


def test_smart_discovery_holds_what_the_standard_asks_for(world: World, smart: dict[str, Any]) -> None:
    assert smart["issuer"] == world.issuer
    assert smart["authorization_endpoint"] == f"{world.root}/auth/authorize"
    assert smart["code_challenge_methods_supported"] == ["S256"]
    assert {"authorization_code", "client_credentials", "refresh_token"} <= set(smart["grant_types_supported"])
    assert {"RS384", "ES384"} <= set(smart["token_endpoint_auth_signing_alg_values_supported"])
    assert {"private_key_jwt", "client_secret_basic"} <= set(smart["token_endpoint_auth_methods_supported"])
    assert all(isinstance(capability, str) for capability in smart["capabilities"])
    for capability in (
        *("launch-ehr", "launch-standalone", "authorize-post", "sso-openid-connect"),
        *("client-public", "client-confidential-symmetric", "client-confidential-asymmetric"),
        *("context-banner", "context-style", "context-ehr-patient", "context-ehr-encounter"),
        *("context-standalone-patient", "permission-offline", "permission-online"),
        *("permission-patient", "permission-user", "permission-v1", "permission-v2"),
    ):
        assert capability in smart["capabilities"]


def test_every_endpoint_that_is_named_is_there(world: World, smart: dict[str, Any], openid: dict[str, Any]) -> None:
    known = {**smart, **openid}
    for name, url in known.items():
        if not name.endswith(("_endpoint", "_uri")) or name == "management_endpoint":
            continue
        assert world.http.get(url).status_code != 404, name
        assert world.http.post(url).status_code != 404, name


def test_openid_discovery_is_valid_and_names_the_same_places(
    world: World, smart: dict[str, Any], openid: dict[str, Any]
) -> None:
    assert openid["issuer"] == world.issuer
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "issuer"):
        assert openid[name] == smart[name]
    assert openid["response_types_supported"] == ["code"]
    assert openid["subject_types_supported"] == ["public"]
    assert "RS256" in openid["id_token_signing_alg_values_supported"]
    assert openid["authorization_response_iss_parameter_supported"] is True
    metadata = OpenIDProviderMetadata({name: _secured(value) for name, value in openid.items()})
    metadata.validate()
    AuthorizationServerMetadata({name: _secured(value) for name, value in openid.items()}).validate()


def _secured(value: Any) -> Any:
    """Authlib's validation asks for https, which the tests' server has not."""
    return value.replace("http://", "https://") if isinstance(value, str) else value


def test_rfc_8414_finds_the_document_at_its_own_place(world: World, openid: dict[str, Any]) -> None:
    assert world.http.get("/.well-known/oauth-authorization-server/fhir").json() == openid


def test_scopes_that_are_named_can_be_granted(world: World, smart: dict[str, Any]) -> None:
    client, _ = world.client()
    asked = [scope for scope in smart["scopes_supported"] if not scope.startswith("system/") and scope != "launch"]
    answer, _ = world.signed_in(client, " ".join(asked))
    assert answer["scope"].split() == asked


def test_other_parts_add_their_members() -> None:
    terms = Terms("https://fhir.example.org/fhir", registration="open")
    told = smart_configuration(terms, {"user_access_brand_bundle": "https://x", "capabilities": ["smart-app-state"]})
    assert told["user_access_brand_bundle"] == "https://x"
    assert told["capabilities"][-1] == "smart-app-state"
    assert told["registration_endpoint"] == "https://fhir.example.org/auth/clients"


def test_the_capability_statement_names_the_endpoints_for_older_apps() -> None:
    security = security_of(Terms("https://fhir.example.org/fhir"))
    uris = {part["url"]: part["valueUri"] for part in security["extension"][0]["extension"]}
    assert uris["authorize"] == "https://fhir.example.org/auth/authorize"
    assert uris["token"] == "https://fhir.example.org/auth/token"
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    assert security["cors"] is True
