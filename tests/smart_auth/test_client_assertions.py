"""Clients that sign who they are: good assertions, and every way in which one is bad."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from smart_auth import client_keys
from smart_auth.clients import ClientError
from tests.smart_auth.conftest import World, payload_of


@pytest.mark.parametrize("kind", ["ec_key", "rsa_key"])
def test_a_backend_service_gets_a_token_for_five_minutes(
    world: World, kind: str, request: pytest.FixtureRequest
) -> None:
    key = request.getfixturevalue(kind)
    client = world.backend(key)
    answer = world.backend_token(world.assertion(client, key))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["token_type"].lower() == "bearer"
    assert body["expires_in"] == 300
    assert body["scope"] == "system/*.rs"
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert answer.headers["cache-control"] == "no-store"
    who = world.auth.bearer.identify(f"Bearer {body['access_token']}")
    assert (who.subject, who.client_id, who.role, who.fhir_user) == (client.client_id, client.client_id, "system", None)
    assert world.reads(body["access_token"]) == 200


def test_the_issuer_is_accepted_as_audience_too(world: World, ec_key: ECKey) -> None:
    client = world.backend(ec_key)
    for aud in (world.issuer, [world.issuer, "https://elsewhere.example.org"], [f"{world.root}/auth/token"]):
        assert world.backend_token(world.assertion(client, ec_key, aud=aud)).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere.example.org/token"},
        {"aud": None},
        {"aud": []},
        {"aud": 7},
        {"exp": int(time.time()) - 100},
        {"exp": None},
        {"exp": "soon"},
        {"exp": int(time.time()) + 3600},
        {"exp": 1e308},
        {"iat": int(time.time()) - 3600},
        {"iat": int(time.time()) + 3600},
        {"nbf": int(time.time()) + 3600},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"iss": "somebody else"},
        {"iss": None},
        {"sub": None},
        {"sub": "somebody else"},
        {"sub": ["a"]},
        {"header": {"kid": "unknown"}},
        {"header": {"jku": "https://evil.example/keys"}},
    ],
)
def test_an_assertion_that_says_something_wrong_is_refused(
    world: World, ec_key: ECKey, changes: dict[str, Any]
) -> None:
    client = world.backend(ec_key)
    answer = world.backend_token(world.assertion(client, ec_key, **changes))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client"), answer.text
    assert "access_token" not in answer.json()


def test_an_assertion_is_good_once(world: World, ec_key: ECKey) -> None:
    client = world.backend(ec_key)
    assertion = world.assertion(client, ec_key)
    assert world.backend_token(assertion).status_code == 200
    assert world.backend_token(assertion).json()["error"] == "invalid_client"
    jti = payload_of(assertion)["jti"]
    assert world.backend_token(world.assertion(client, ec_key, jti=jti)).status_code == 400
    other = world.backend(ec_key)
    assert world.backend_token(world.assertion(other, ec_key, jti=jti)).status_code == 200, "ids are each client's own"


def forged(assertion: str, header: dict[str, Any], signature: str = "") -> str:
    """The claims of an assertion under another header."""
    text = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{text}.{assertion.split('.')[1]}.{signature}"


def raw(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def part(value: Any) -> str:
    return raw(json.dumps(value))


def test_a_signature_that_is_none_is_refused(world: World, ec_key: ECKey, rsa_key: RSAKey) -> None:
    client = world.backend(rsa_key)
    good = world.assertion(client, rsa_key)
    stranger = RSAKey.generate_key(2048, {"kid": "rsa-1"}, private=True)
    unsigned = forged(good, {"alg": "HS256", "kid": "rsa-1"}).rstrip(".")
    mac = hmac.digest(rsa_key.as_pem(private=False), unsigned.encode(), "sha256")
    tampered = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(tampered[1] + "=="))
    claims["jti"] = "another"
    tampered[1] = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    bad = {
        "none": forged(good, {"alg": "none", "kid": "rsa-1"}),
        "None": forged(good, {"alg": "None", "kid": "rsa-1"}),
        "no algorithm": forged(good, {"kid": "rsa-1"}, good.split(".")[2]),
        "public key as secret": f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}",
        "key of a stranger": world.assertion(client, stranger),
        "key of another client": world.assertion(client, ec_key),
        "tampered": ".".join(tampered),
        "cut": good[:-8],
        "no signature": good.rpartition(".")[0] + ".",
        "key in the header": world.assertion(client, stranger, header={"jwk": stranger.as_dict(private=False)}),
        "no JWT": "nonsense",
        "two parts": "a.b",
        "not ASCII": "é.é.é",
        "a header that is a list": f"{part([1])}.{part({})}.AAAA",
        "claims that are a list": f"{part({'alg': 'RS384'})}.{part([1])}.AAAA",
        "a deep header": f"{raw('[' * 20_000)}.{part({})}.AAAA",
        "deep claims": f"{part({'alg': 'RS384'})}.{raw('[' * 20_000)}.AAAA",
    }
    for what, assertion in bad.items():
        answer = world.backend_token(assertion)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client"), what
    assert world.backend_token(good).status_code == 200


def test_the_kind_of_assertion_and_the_grant_type_are_checked(world: World, ec_key: ECKey) -> None:
    client = world.backend(ec_key)
    for kind in ("not-an-assertion-type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer", ""):
        answer = world.backend_token(world.assertion(client, ec_key), client_assertion_type=kind)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")
    answer = world.backend_token(world.assertion(client, ec_key), grant_type="not_a_grant_type")
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    answer = world.backend_token(world.assertion(client, ec_key), grant_type="authorization_code", scope="")
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize("scope", ["", "openid", "user/*.rs", "patient/*.rs", "system/Nothing", "system/Patient.cud"])
def test_a_backend_service_gets_nothing_beyond_its_registration(world: World, ec_key: ECKey, scope: str) -> None:
    client = world.backend(ec_key)
    answer = world.backend_token(world.assertion(client, ec_key), scope=scope)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


def test_a_backend_service_is_told_what_it_got_of_what_it_asked_for(world: World, ec_key: ECKey) -> None:
    client = world.backend(ec_key, scope="system/Patient.rs system/Observation.read")
    answer = world.backend_token(world.assertion(client, ec_key), scope="system/*.cruds openid")
    assert answer.json()["scope"] == "system/Patient.rs system/Observation.rs"


def test_a_client_of_another_method_cannot_sign_itself_in(world: World, ec_key: ECKey) -> None:
    public, _ = world.client()
    assert world.backend_token(world.assertion(public, ec_key)).json()["error"] == "invalid_client"
    client, secret = world.client(auth_method="client_secret_post", grant_types=("client_credentials",),
                                  redirect_uris=(), scope="system/*.rs")  # fmt: skip
    key = OctKey.import_key(secret, {"kid": "x"})
    assert world.backend_token(world.assertion(client, key, header={"alg": "HS256"})).status_code == 400


def test_a_client_that_was_deactivated_gets_nothing_and_its_tokens_end(world: World, ec_key: ECKey) -> None:
    client = world.backend(ec_key)
    token = world.backend_token(world.assertion(client, ec_key)).json()["access_token"]
    assert world.reads(token) == 200
    world.auth.clients.deactivate(client.client_id)
    assert world.reads(token) == 401
    assert world.backend_token(world.assertion(client, ec_key)).json()["error"] == "invalid_client"


# Key sets that clients publish.


def published(world: World, *keys: Any, status: int = 200, **headers: str) -> tuple[str, str]:
    """A key set at an address of its own."""
    name = f"set-{len(world.keysets.answers)}"
    serve(world, name, *keys, status=status, **headers)
    return name, f"{world.root}/keys/{name}"


def serve(world: World, name: str, *keys: Any, status: int = 200, **headers: str) -> None:
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    world.keysets.answers[name] = (status, {"keys": [key.as_dict(private=False) for key in keys]}, said)


def test_a_published_key_set_is_fetched_and_kept_as_long_as_it_says(world: World, ec_key: ECKey) -> None:
    for header, fetches in (({"cache_control": "max-age=60"}, 1), ({"cache_control": "no-store"}, 3), ({}, 1)):
        name, uri = published(world, ec_key, **header)
        client = world.backend(ec_key, jwks=None, jwks_uri=uri)
        for _ in range(3):
            assert world.backend_token(world.assertion(client, ec_key)).status_code == 200
        assert world.keysets.served[name] == fetches, header


def test_a_new_key_is_looked_up_at_most_once_a_minute(
    world: World, ec_key: ECKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, uri = published(world, ec_key, cache_control="max-age=3600")
    client = world.backend(ec_key, jwks=None, jwks_uri=uri)
    assert world.backend_token(world.assertion(client, ec_key)).status_code == 200
    new = ECKey.generate_key("P-384", {"kid": "ec-2"}, private=True)
    serve(world, name, ec_key, new)
    for _ in range(3):
        assert world.backend_token(world.assertion(client, new)).json()["error"] == "invalid_client"
    assert world.keysets.served[name] == 1
    monkeypatch.setattr(client_keys, "REFETCH_S", 0)
    assert world.backend_token(world.assertion(client, new)).status_code == 200
    assert world.keysets.served[name] == 2


def test_a_key_that_was_taken_back_is_no_longer_good_when_its_time_is_over(world: World, ec_key: ECKey) -> None:
    name, uri = published(world, ec_key, cache_control="max-age=0")
    client = world.backend(ec_key, jwks=None, jwks_uri=uri)
    assert world.backend_token(world.assertion(client, ec_key)).status_code == 200
    serve(world, name, ECKey.generate_key("P-384", {"kid": "ec-9"}, private=True), cache_control="max-age=0")
    assert world.backend_token(world.assertion(client, ec_key)).json()["error"] == "invalid_client"


@pytest.mark.parametrize("fault", ["redirect", "missing", "large", "no JSON", "no keys", "slow"])
def test_a_key_set_that_cannot_be_had_refuses_the_client(
    world: World, ec_key: ECKey, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, uri = published(world, ec_key)
    client = world.backend(ec_key, jwks=None, jwks_uri=uri)
    good = world.keysets.answers[name][1]
    match fault:
        case "redirect":
            world.keysets.answers["elsewhere"] = (200, good, {})
            world.keysets.answers[name] = (302, {}, {"location": f"{world.root}/keys/elsewhere"})
        case "missing":
            world.keysets.answers[name] = (404, good, {})
        case "large":
            world.keysets.answers[name] = (200, {**good, "more": "x" * 70_000}, {})
        case "no JSON":
            world.keysets.answers[name] = (200, "a text", {})
        case "no keys":
            world.keysets.answers[name] = (200, {"keys": [{"kty": "oct", "k": "AAAA", "kid": "ec-1"}]}, {})
        case "slow":
            monkeypatch.setattr("smart_auth.fetch.TIMEOUT_S", 0.2)
            monkeypatch.setattr(world.keysets, "delay_s", 1.0)
    answer = world.backend_token(world.assertion(client, ec_key))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")
    assert uri not in answer.text
    assert "elsewhere" not in world.keysets.served


def test_a_key_set_on_this_machine_is_fetched_only_where_that_is_allowed() -> None:
    from smart_auth.fetch import FetchError, fetcher  # noqa: PLC0415

    for url in ("http://127.0.0.1:1/keys", "http://example.org/keys", "file:///etc/passwd", "ftp://example.org/x"):
        with pytest.raises(FetchError, match="not https"):
            fetcher()(url)
    with pytest.raises(FetchError, match="not https"):
        fetcher(loopback=True)("http://example.org/keys")


def test_private_keys_and_secrets_are_refused_as_registration(world: World, ec_key: ECKey) -> None:
    with pytest.raises(ClientError, match="private one"):
        world.backend(ec_key, jwks={"keys": [ec_key.as_dict(private=True)]})
    with pytest.raises(ClientError, match="no usable public key"):
        world.backend(ec_key, jwks={"keys": [{"kty": "oct", "k": "AAAA"}]})
    with pytest.raises(ClientError, match="either jwks or jwks_uri"):
        world.backend(ec_key, jwks=None)


@pytest.mark.parametrize("said", [["sign"], ["verify"], ["verify", "encrypt"]])
def test_a_public_key_that_says_it_signs_is_one_for_signatures(world: World, ec_key: ECKey, said: list[str]) -> None:
    client = world.backend(ec_key, jwks={"keys": [{**ec_key.as_dict(private=False), "key_ops": said}]})
    assert world.backend_token(world.assertion(client, ec_key)).status_code == 200


@pytest.mark.parametrize("said", [{"key_ops": ["encrypt"]}, {"key_ops": []}])
def test_a_key_for_something_else_is_none(world: World, ec_key: ECKey, said: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="no usable public key"):
        world.backend(ec_key, jwks={"keys": [{**ec_key.as_dict(private=False), **said}]})
