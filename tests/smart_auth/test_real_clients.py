"""Flows of clients that nobody here wrote: Authlib's OAuth client and the SMART client of PyPI, `fhirclient`."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from fhirclient.client import FHIRClient
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from smart_auth.model import LaunchContext
from tests.smart_auth.conftest import REDIRECT, World


@pytest.mark.parametrize("method", ["none", "client_secret_basic", "client_secret_post"])
def test_authlibs_client_runs_the_code_flow_and_refreshes(world: World, method: str) -> None:
    client, secret = world.client(auth_method=method)
    found = httpx.get(f"{world.issuer}/.well-known/openid-configuration").json()
    with OAuth2Session(
        client.client_id,
        secret or None,
        token_endpoint_auth_method=method,
        redirect_uri=REDIRECT,
        scope="openid fhirUser launch/patient offline_access patient/*.rs",
        code_challenge_method="S256",
        token_endpoint=found["token_endpoint"],
    ) as app:
        verifier = "v" * 50
        url, state = app.create_authorization_url(
            found["authorization_endpoint"], code_verifier=verifier, aud=world.issuer, nonce="n-7"
        )
        session = world.accounts.sign_in(world.accounts.person(fhir_user="Practitioner/5"))
        back = world.browse(dict(parse_qsl(urlsplit(url).query)), session)
        token = app.fetch_token(
            found["token_endpoint"], authorization_response=back.location, state=state, code_verifier=verifier
        )
        assert token["patient"] == "7"
        keys = KeySet.import_key_set(httpx.get(found["jwks_uri"]).json())
        claims = jwt.decode(token["id_token"], keys, algorithms=["RS256"]).claims
        assert (claims["nonce"], claims["aud"]) == ("n-7", client.client_id)
        assert app.get(f"{world.issuer}/Patient/7").json()["id"] == "7"
        assert app.get(found["userinfo_endpoint"]).json()["sub"] == session.account.id
        fresh = app.refresh_token(found["token_endpoint"])
        assert fresh["access_token"] != token["access_token"]
        assert app.get(f"{world.issuer}/Patient/7").status_code == 200
        assert app.revoke_token(found["revocation_endpoint"], token=fresh["refresh_token"]).status_code == 200
        assert httpx.get(
            f"{world.issuer}/Patient/7", headers={"Authorization": f"Bearer {fresh['access_token']}"}
        ).status_code == 401  # fmt: skip


@pytest.mark.parametrize("alg", ["ES384", "RS384"])
def test_authlibs_client_signs_as_a_backend_service(world: World, alg: str, ec_key: ECKey, rsa_key: Any) -> None:
    key = ec_key if alg == "ES384" else rsa_key
    client = world.backend(key)
    url = f"{world.root}/auth/token"
    with OAuth2Session(
        client.client_id, key, token_endpoint_auth_method="private_key_jwt", scope="system/Patient.rs"
    ) as app:
        app.register_client_auth_method(PrivateKeyJWT(url, headers={"kid": key.kid}, alg=alg))
        # Authlib's assertions last an hour by default, which SMART does not allow.
        with pytest.raises(Exception, match="five minutes"):
            app.fetch_token(url, grant_type="client_credentials")

    class FiveMinutes(PrivateKeyJWT):  # type: ignore[misc]
        def sign(self, auth: Any, token_endpoint: str) -> str:
            from authlib.oauth2.rfc7523.assertion import private_key_jwt_sign  # noqa: PLC0415

            return private_key_jwt_sign(  # type: ignore[no-any-return]
                auth.client_secret, auth.client_id, token_endpoint, alg=self.alg, header=self.headers, expires_in=240
            )

    with OAuth2Session(
        client.client_id, key, token_endpoint_auth_method="private_key_jwt", scope="system/Patient.rs"
    ) as app:
        app.register_client_auth_method(FiveMinutes(url, headers={"kid": key.kid}, alg=alg))
        token = app.fetch_token(url, grant_type="client_credentials")
        assert token["scope"] == "system/Patient.rs"
        assert app.get(f"{world.issuer}/Patient/7").json()["language"] == "system"


@pytest.mark.parametrize("confidential", [False, True])
@pytest.mark.parametrize("launched", [False, True])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_fhirclient_finds_the_endpoints_is_authorized_and_reads_its_patient(
    world: World, confidential: bool, launched: bool
) -> None:
    client, secret = world.client(auth_method="client_secret_basic" if confidential else "none")
    person = world.accounts.person(fhir_user="Practitioner/5")
    settings = {"app_id": client.client_id, "api_base": world.issuer, "redirect_uri": REDIRECT}
    if confidential:
        settings["app_secret"] = secret
    if launched:
        settings["launch_token"] = world.launches.make(client.client_id, person, LaunchContext(patient="Patient/7"))
    saved: dict[str, Any] = {}
    app = FHIRClient(settings=settings, save_func=lambda state: saved.update(state=json.dumps(state)))
    app.prepare()
    url = app.authorize_url
    back = world.browse(dict(parse_qsl(urlsplit(url).query)), world.accounts.sign_in(person))
    app.handle_callback(back.location)
    assert app.ready
    assert app.patient_id == "7"
    assert app.patient.id == "7"
    assert app.launch_context["need_patient_banner"] is True
    assert saved["state"]
    app.server.session.close()
