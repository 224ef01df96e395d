"""An app that a user authorizes: from the authorization request to tokens, over HTTP."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from smart_auth.model import LaunchContext
from tests.smart_auth.conftest import REDIRECT, World, header_of, payload_of

SCOPE = "openid fhirUser launch/patient offline_access patient/*.rs"


def test_an_app_gets_tokens_and_the_patient_that_the_user_chose(world: World) -> None:
    client, _ = world.client()
    answer, session = world.signed_in(client, SCOPE, params={"nonce": "n-1"})
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 3600
    assert answer["scope"] == SCOPE
    assert answer["patient"] == "7"
    assert answer["need_patient_banner"] is True
    assert "encounter" not in answer
    assert answer["refresh_token"]
    style = world.http.get(answer["smart_style_url"])
    assert style.headers["content-type"] == "application/json"
    assert style.json()["color_background"]
    assert world.reads(answer["access_token"]) == 200
    who = world.auth.bearer.identify(f"Bearer {answer['access_token']}")
    assert (who.subject, who.client_id, who.role) == (session.account.id, client.client_id, "practitioner")
    assert (who.fhir_user, who.organization, who.patient) == ("Practitioner/5", "Organization/1", "Patient/7")
    assert (who.scopes[0].level, who.scopes[0].type, who.scopes[0].verbs) == ("patient", "*", "rs")


def test_the_access_token_is_a_jwt_as_rfc_9068_says(world: World) -> None:
    client, _ = world.client()
    answer, session = world.signed_in(client, SCOPE)
    header, claims = header_of(answer["access_token"]), payload_of(answer["access_token"])
    assert (header["typ"], header["alg"]) == ("at+jwt", "ES256")
    assert claims["iss"] == claims["aud"] == world.issuer
    assert (claims["sub"], claims["client_id"], claims["scope"]) == (session.account.id, client.client_id, SCOPE)
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["jti"]
    assert claims["sid"]


def test_the_id_token_verifies_with_the_published_keys_and_names_the_user(world: World) -> None:
    client, _ = world.client()
    answer, session = world.signed_in(client, SCOPE, params={"nonce": "n-2"})
    keys = KeySet.import_key_set(world.http.get("/auth/jwks").json())
    token = jwt.decode(answer["id_token"], keys, algorithms=["RS256"])
    claims = token.claims
    assert token.header["kid"] in {key.kid for key in keys}
    assert claims["iss"] == world.issuer
    assert claims["aud"] == client.client_id
    assert claims["sub"] == session.account.id
    assert claims["fhirUser"] == f"{world.issuer}/Practitioner/5"
    assert claims["nonce"] == "n-2"
    assert claims["exp"] > time.time() >= claims["iat"] - 1
    assert claims["auth_time"] == int(session.authenticated_at.timestamp())
    assert (claims["amr"], claims["acr"]) == (["pwd"], "urn:healthsphere:acr:one-factor")
    assert "name" not in claims, "profile was not asked for"


def test_an_app_without_openid_gets_no_id_token_and_without_offline_access_no_refresh_token(world: World) -> None:
    client, _ = world.client()
    answer, _ = world.signed_in(client, "launch/patient patient/Patient.r")
    assert "id_token" not in answer
    assert "refresh_token" not in answer


def test_the_answer_is_not_kept_and_any_origin_may_read_it(world: World) -> None:
    client, _ = world.client()
    verifier, params = world.asking(client, SCOPE)
    session = world.accounts.sign_in(world.accounts.person())
    code = world.browse(params, session).params["code"]
    form = {"grant_type": "authorization_code", "client_id": client.client_id, "redirect_uri": REDIRECT}
    answer = world.token(code=code, code_verifier=verifier, headers={"Origin": "https://app.example.org"}, **form)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.headers["access-control-allow-origin"] == "*"
    asked = world.http.options("/auth/token", headers={"Origin": "https://app.example.org"})
    assert asked.headers["access-control-allow-origin"] == "*"
    assert "POST" in asked.headers["access-control-allow-methods"]


@pytest.mark.parametrize("state", ["the state", 'a&b=c d+e%20/?#"<é>', "x" * 2000, "0"])
@pytest.mark.parametrize("post", [False, True])
def test_the_browser_comes_back_with_the_state_as_it_was_and_with_the_issuer(
    world: World, state: str, post: bool
) -> None:
    client, _ = world.client()
    _, params = world.asking(client, SCOPE, state=state)
    back = world.browse(params, world.accounts.sign_in(world.accounts.person()), post=post)
    assert back.location.startswith(REDIRECT + "&")
    assert back.params["state"] == state
    assert back.params["iss"] == world.issuer
    assert back.params["keep"] == "this"
    assert back.params["code"]
    assert "error" not in back.params


def test_an_app_that_sends_no_state_gets_none(world: World) -> None:
    client, _ = world.client()
    _, params = world.asking(client, SCOPE)
    del params["state"]
    back = world.browse(params, world.accounts.sign_in(world.accounts.person()))
    assert "state" not in back.params


def test_who_is_not_signed_in_signs_in_first_and_goes_on_where_they_were(world: World) -> None:
    client, _ = world.client()
    verifier, params = world.asking(client, SCOPE, login_hint="ida@example.org")
    back = world.browse(params, None)
    assert back.visited == ["/auth/sign-in"]
    assert back.params["login_hint"] == "ida@example.org"
    target = back.params["next"]
    assert target.startswith("/auth/authorize/continue?request=")
    session = world.accounts.sign_in(world.accounts.person())
    answer = world.http.get(target, headers={"Cookie": f"who={session.id}"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/auth/choose-patient?request=")
    assert verifier


@pytest.mark.parametrize("slash", ["", "/"])
def test_aud_is_the_fhir_base_with_or_without_a_slash_at_the_end(world: World, slash: str) -> None:
    client, _ = world.client()
    _, params = world.asking(client, SCOPE, aud=world.issuer + slash)
    assert "code" in world.browse(params, world.accounts.sign_in(world.accounts.person())).params


def test_the_user_drops_scopes_and_the_app_is_told_what_is_left(world: World) -> None:
    client, _ = world.client()
    asked = "openid launch/patient patient/Patient.read patient/Observation.read patient/Condition.read"
    left = "launch/patient patient/Patient.read patient/Condition.rs?category=problem-list-item"
    answer, _ = world.signed_in(client, asked, allow=left)
    assert answer["scope"] == left
    who = world.auth.bearer.identify(f"Bearer {answer['access_token']}")
    assert [scope.type for scope in who.scopes] == ["Patient", "Condition"]
    assert who.scopes[1].criteria == (("category", "problem-list-item"),)


def test_an_app_gets_no_more_than_it_is_registered_for_and_unknown_scopes_are_left_out(world: World) -> None:
    client, _ = world.client(scope="openid launch/patient patient/Observation.rs patient/Patient.r")
    answer, _ = world.signed_in(client, "openid email launch/patient patient/*.read user/*.read nonsense")
    assert answer["scope"] == "openid launch/patient patient/Observation.read patient/Patient.r"


def test_a_patient_works_with_their_own_records_without_choosing(world: World) -> None:
    client, _ = world.client()
    session = world.accounts.sign_in(world.accounts.person("patient", fhir_user="Patient/33"))
    _, params = world.asking(client, SCOPE)
    back = world.browse(params, session)
    assert back.visited == ["/auth/consent"]
    answer, _ = world.signed_in(client, SCOPE, session=session)
    assert answer["patient"] == "33"


def test_a_proxy_chooses_among_those_for_whom_they_act_and_nobody_else(world: World) -> None:
    client, _ = world.client()
    person = world.accounts.person("proxy", fhir_user="RelatedPerson/1", patients=("Patient/1", "Patient/2"))
    session = world.accounts.sign_in(person)
    answer, _ = world.signed_in(client, SCOPE, session=session, patient="Patient/2")
    assert answer["patient"] == "2"
    _, params = world.asking(client, SCOPE)
    with pytest.raises(Exception, match="cannot be chosen"):
        world.browse(params, session, patient="Patient/3")


def test_an_encounter_is_chosen_when_the_app_asks_for_one_and_may_be_left_out(world: World) -> None:
    client, _ = world.client()
    asked = "launch/patient launch/encounter patient/*.rs"
    answer, _ = world.signed_in(client, asked)
    assert answer["encounter"] == "8"
    answer, _ = world.signed_in(client, asked, encounter=None)
    assert "encounter" not in answer
    assert answer["scope"] == "launch/patient patient/*.rs"


def test_an_ehr_launch_hands_its_context_to_the_app(world: World) -> None:
    client, _ = world.client()
    person = world.accounts.person(fhir_user="Practitioner/9")
    context = LaunchContext(
        patient="Patient/12",
        encounter="Encounter/13",
        fhir_context=({"reference": "ImagingStudy/14", "role": "https://example.org/role"},),
        intent="reconcile",
        need_patient_banner=False,
    )
    launch = world.launches.make(client.client_id, person, context)
    answer, _ = world.signed_in(
        client, "launch openid fhirUser patient/*.rs", session=world.accounts.sign_in(person), params={"launch": launch}
    )
    assert (answer["patient"], answer["encounter"], answer["intent"]) == ("12", "13", "reconcile")
    assert answer["need_patient_banner"] is False
    assert answer["fhirContext"] == [{"reference": "ImagingStudy/14", "role": "https://example.org/role"}]
    assert answer["scope"].startswith("launch ")


def test_without_a_launch_the_scope_launch_is_left_out(world: World) -> None:
    client, _ = world.client()
    answer, _ = world.signed_in(client, "launch launch/patient patient/*.rs")
    assert answer["scope"] == "launch/patient patient/*.rs"


def test_consent_is_asked_each_time_unless_the_user_wanted_it_to_be_remembered(world: World) -> None:
    client, _ = world.client()
    session = world.accounts.sign_in(world.accounts.person("patient", fhir_user="Patient/1"))
    for _ in range(2):
        _, params = world.asking(client, SCOPE)
        assert world.browse(params, session).visited == ["/auth/consent"]
    world.signed_in(client, SCOPE, session=session, remember=True)
    _, params = world.asking(client, "openid patient/Observation.rs")
    assert world.browse(params, session).visited == []
    _, params = world.asking(client, "openid patient/Observation.cruds")
    assert world.browse(params, session).visited == ["/auth/consent"], "it wants more than was allowed"
    _, params = world.asking(client, "openid patient/Observation.rs", prompt="consent")
    assert world.browse(params, session).visited == ["/auth/consent"]


def test_a_native_app_without_a_secret_is_never_remembered(world: World) -> None:
    client, _ = world.client(redirect_uris=("org.example.app:/callback",))
    session = world.accounts.sign_in(world.accounts.person("patient", fhir_user="Patient/1"))
    world.signed_in(client, SCOPE, session=session, remember=True)
    _, params = world.asking(client, SCOPE)
    assert world.browse(params, session).visited == ["/auth/consent"]


def test_our_own_app_needs_no_consent(world: World) -> None:
    client, _ = world.client(trusted=True)
    session = world.accounts.sign_in(world.accounts.person("patient", fhir_user="Patient/1"))
    _, params = world.asking(client, SCOPE)
    assert world.browse(params, session).visited == []


def test_a_confidential_client_redeems_its_code_with_its_secret(world: World) -> None:
    for method in ("client_secret_basic", "client_secret_post"):
        client, secret = world.client(auth_method=method)
        verifier, params = world.asking(client, SCOPE)
        code = world.browse(params, world.accounts.sign_in(world.accounts.person())).params["code"]
        form = {"grant_type": "authorization_code", "redirect_uri": REDIRECT, "code": code, "code_verifier": verifier}
        if method == "client_secret_basic":
            answer = world.http.post("/auth/token", data=form, auth=(client.client_id, secret))
        else:
            answer = world.token(client_id=client.client_id, client_secret=secret, **form)
        assert answer.status_code == 200, answer.text
        assert answer.json()["access_token"]


def test_a_client_that_signs_redeems_its_code_with_an_assertion(world: World, ec_key: object) -> None:
    client = world.backend(
        ec_key, grant_types=("authorization_code", "refresh_token"), redirect_uris=(REDIRECT,), scope="patient/*.rs"
    )
    verifier, params = world.asking(client, "patient/*.rs")
    code = world.browse(params, world.accounts.sign_in(world.accounts.person())).params["code"]
    answer = world.backend_token(
        world.assertion(client, ec_key),
        grant_type="authorization_code",
        scope="",
        code=code,
        code_verifier=verifier,
        redirect_uri=REDIRECT,
    )
    assert answer.status_code == 200, answer.text


def test_a_pushed_request_is_good_once_and_for_its_client(world: World) -> None:
    client, secret = world.client(auth_method="client_secret_basic")
    verifier, params = world.asking(client, SCOPE)
    pushed = world.http.post("/auth/par", data=params, auth=(client.client_id, secret))
    assert pushed.status_code == 201
    name = pushed.json()["request_uri"]
    assert name.startswith("urn:ietf:params:oauth:request_uri:")
    assert pushed.json()["expires_in"] == 90
    session = world.accounts.sign_in(world.accounts.person())
    other, _ = world.client()
    assert world.browse({"client_id": other.client_id, "request_uri": name}, session).answer.status_code == 400
    back = world.browse({"client_id": client.client_id, "request_uri": name}, session)
    assert back.params["state"] == "the state"
    form = {"grant_type": "authorization_code", "redirect_uri": REDIRECT, "code_verifier": verifier}
    redeemed = world.http.post(
        "/auth/token", data={**form, "code": back.params["code"]}, auth=(client.client_id, secret)
    )
    assert redeemed.status_code == 200
    assert world.browse({"client_id": client.client_id, "request_uri": name}, session).answer.status_code == 400


def test_a_pushed_request_is_checked_when_it_is_pushed(world: World) -> None:
    client, secret = world.client(auth_method="client_secret_basic")
    _, params = world.asking(client, SCOPE, aud="https://elsewhere.example.org/fhir")
    pushed = world.http.post("/auth/par", data=params, auth=(client.client_id, secret))
    assert (pushed.status_code, pushed.json()["error"]) == (400, "invalid_request")
    pushed = world.http.post("/auth/par", data=params, auth=(client.client_id, "wrong"))
    assert (pushed.status_code, pushed.json()["error"]) == (401, "invalid_client")


def test_the_user_info_is_what_the_scopes_let_the_app_know(world: World) -> None:
    client, _ = world.client()
    answer, session = world.signed_in(client, "openid fhirUser user/*.rs")
    told = world.http.get("/auth/userinfo", headers={"Authorization": f"Bearer {answer['access_token']}"})
    assert told.json() == {
        "sub": session.account.id,
        "fhirUser": f"{world.issuer}/Practitioner/5",
        "profile": f"{world.issuer}/Practitioner/5",
    }
    answer, _ = world.signed_in(client, "user/*.rs")
    told = world.http.get("/auth/userinfo", headers={"Authorization": f"Bearer {answer['access_token']}"})
    assert told.status_code == 403
    assert world.http.get("/auth/userinfo").status_code == 401


def test_the_audit_trail_hears_of_consents_and_tokens_without_their_secrets(world: World) -> None:
    client, _ = world.client()
    answer, session = world.signed_in(client, SCOPE)
    heard = [happening for happening in world.heard.happenings if happening.client_id == client.client_id]
    assert [(happening.kind, happening.outcome) for happening in heard] == [("consent", 0), ("token", 0)]
    assert heard[1].account_id == session.account.id
    assert heard[1].patient == "Patient/7"
    assert answer["access_token"] not in str(heard)
    assert answer["refresh_token"] not in str(heard)


def test_no_secret_is_stored_as_it_is(world: World) -> None:
    client, secret = world.client(auth_method="client_secret_post")
    answer, _ = world.signed_in(world.client()[0], SCOPE)
    everything = str([list(world.store.rows(name).find()) for name in ("clients", "grants", "refresh_tokens", "codes")])
    for text in (secret, answer["refresh_token"], answer["access_token"]):
        assert text not in everything
    private = [row["sealed"] for row in world.store.rows("keys").find()]
    assert private
    assert all(b'"d"' not in sealed for sealed in private)
    assert client.secret_hash.startswith("$argon2id$")


def test_times_that_the_user_chose_bound_the_refresh_token(world: World) -> None:
    client, _ = world.client()
    answer, session = world.signed_in(client, SCOPE, lasts_s=3600)
    grant = world.auth.authorizations.of(account_id=session.account.id)[0]
    assert grant.expires_at is not None
    assert 3595 <= (grant.expires_at - grant.created_at).total_seconds() <= 3660
    assert answer["refresh_token"]
    answer, _ = world.signed_in(client, SCOPE, lasts_s=300)
    assert 290 <= answer["expires_in"] <= 300, "an access token does not outlast what the user allowed"


def test_the_redirect_keeps_every_parameter_exactly_once(world: World) -> None:
    client, _ = world.client()
    _, params = world.asking(client, SCOPE)
    back = world.browse(params, world.accounts.sign_in(world.accounts.person()))
    names = [name for name, _ in parse_qsl(urlsplit(back.location).query)]
    assert sorted(names) == ["code", "iss", "keep", "state"]
