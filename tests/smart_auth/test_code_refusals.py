"""Everything about the code flow that must be refused, with the standard's error."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pymongo.errors import AutoReconnect

from smart_auth.flow import FlowError
from smart_auth.model import Client, LaunchContext, Session
from tests.smart_auth.conftest import REDIRECT, World
from tests.smart_auth.serving import challenge_of

SCOPE = "openid launch/patient offline_access patient/*.rs"


@pytest.fixture
def client(world: World) -> Client:
    return world.client()[0]


@pytest.fixture
def session(world: World) -> Session:
    return world.accounts.sign_in(world.accounts.person(fhir_user="Practitioner/5"))


def code_of(world: World, client: Client, session: Session, scope: str = SCOPE) -> tuple[str, str]:
    verifier, params = world.asking(client, scope)
    return world.browse(params, session).params["code"], verifier


def refusal_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json()["error"]


# The authorization request.


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"aud": "https://elsewhere.example.org/fhir"}, "invalid_request"),
        ({"aud": None}, "invalid_request"),
        ({"aud": ""}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "s256"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "x" * 44}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": "nonsense"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "system/*.rs"}, "invalid_scope"),
        ({"scope": "patient/*.rs " * 2000}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "create"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"request": "eyJ.eyJ."}, "request_not_supported"),
        ({"nonce": "x" * 5000}, "invalid_request"),
        ({"launch": "forged"}, "invalid_request"),
    ],
)
def test_a_bad_request_is_sent_back_to_the_app_with_an_error_and_never_with_a_code(
    world: World, client: Client, session: Session, change: dict[str, Any], error: str
) -> None:
    _, params = world.asking(client, **{"scope": SCOPE, **change})
    back = world.browse(params, session, post=True)
    assert back.location.startswith(REDIRECT)
    assert back.params["error"] == error
    assert back.params["state"] == "the state"
    assert back.params["iss"] == world.issuer
    assert "code" not in back.params


@pytest.mark.parametrize(
    "uri",
    [
        REDIRECT + "x",
        REDIRECT[:-1],
        REDIRECT.upper(),
        REDIRECT.replace("keep", "%6beep"),
        REDIRECT.replace("callback", "callback/../callback"),
        REDIRECT + "#fragment",
        REDIRECT + "/",
        "https://app.example.org.evil.example/callback?keep=this",
        "https://app.example.org@evil.example/callback?keep=this",
        "https://evil.example/?" + REDIRECT,
        "//evil.example",
        "javascript:alert(1)",
        "https://evil.example/\u00e9",
        'https://evil.example/"><script>',
        "",
        None,
    ],
)
def test_nobody_is_sent_to_an_address_that_is_not_registered(
    world: World, client: Client, session: Session, uri: str | None
) -> None:
    _, params = world.asking(client, SCOPE, redirect_uri=uri)  # type: ignore[arg-type]
    for more in ({}, {"response_type": "token"}, {"scope": "nonsense"}, {"aud": "x"}):
        back = world.browse({**params, **more}, session)
        assert back.answer.status_code == 400
        assert back.answer.headers["content-type"].startswith("text/html")
        assert "location" not in back.answer.headers
        assert "<script>" not in back.answer.text


@pytest.mark.parametrize("client_id", ["unknown", "", None, "x" * 500, "a\x00b", "é", "' || '1"])
def test_an_unknown_client_gets_a_page_and_no_redirect(
    world: World, client: Client, session: Session, client_id: str | None
) -> None:
    _, params = world.asking(client, SCOPE, client_id=client_id)  # type: ignore[arg-type]
    back = world.browse(params, session)
    assert back.answer.status_code == 400
    assert "default-src 'none'" in back.answer.headers["content-security-policy"]


def test_a_client_that_was_deactivated_gets_a_page(world: World, client: Client, session: Session) -> None:
    world.auth.clients.deactivate(client.client_id)
    _, params = world.asking(client, SCOPE)
    assert world.browse(params, session).answer.status_code == 400


@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "state", "scope", "response_type", "code_challenge"])
def test_a_parameter_that_comes_twice_is_refused_with_a_page(
    world: World, client: Client, session: Session, name: str
) -> None:
    _, params = world.asking(client, SCOPE)
    pairs = [*params.items(), (name, "again")]
    answer = world.http.get("/auth/authorize", params=pairs, headers={"Cookie": f"who={session.id}"})
    assert answer.status_code == 400
    assert "location" not in answer.headers


def test_a_posted_authorization_request_must_be_a_form(world: World) -> None:
    assert world.http.post("/auth/authorize", json={"client_id": "x"}).status_code == 400
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert world.http.post("/auth/authorize", content=b"state=" + b"x" * 70_000, headers=form).status_code == 400
    assert world.http.post("/auth/authorize", content=b"client_id=%ff%fe", headers=form).status_code == 400


# What the user does or does not do.


def test_a_user_who_refuses_sends_the_app_access_denied(world: World, client: Client, session: Session) -> None:
    id = waiting_at_consent(world, client, session)
    location = world.run(world.auth.flow.deny(id, session))
    assert location.startswith(REDIRECT)
    assert "error=access_denied" in location
    assert "state=the+state" in location
    with pytest.raises(FlowError, match="over"):
        world.run(world.auth.flow.next(id, session))


def waiting_at_consent(world: World, client: Client, session: Session, **more: str) -> str:
    _, params = world.asking(client, "openid user/*.rs", **more)
    answer = world.http.get("/auth/authorize", params=params, headers={"Cookie": f"who={session.id}"})
    location: str = answer.headers["location"]
    assert location.startswith("/auth/consent?request="), location
    return location.partition("=")[2]


def test_another_session_cannot_go_on_with_an_authorization(world: World, client: Client, session: Session) -> None:
    id = waiting_at_consent(world, client, session)
    other = world.accounts.sign_in(world.accounts.person())
    for work in (
        world.auth.flow.request(id, other),
        world.auth.flow.next(id, other),
        world.auth.flow.allow(id, other, "openid"),
        world.auth.flow.deny(id, other),
        world.auth.flow.choose(id, other, LaunchContext(patient="Patient/1")),
    ):
        with pytest.raises(FlowError, match="another browser session"):
            world.run(work)
    answer = world.http.get(f"/auth/authorize/continue?request={id}", headers={"Cookie": f"who={other.id}"})
    assert answer.status_code == 400


@pytest.mark.parametrize("granted", ["openid user/*.cruds", "system/*.rs", "openid patient/*.rs", "", "nonsense"])
def test_the_consent_page_cannot_grant_more_than_was_asked_for(
    world: World, client: Client, session: Session, granted: str
) -> None:
    id = waiting_at_consent(world, client, session)
    with pytest.raises(FlowError, match="must be some of"):
        world.run(world.auth.flow.allow(id, session, granted))


def test_an_authorization_gives_one_code(world: World, client: Client, session: Session) -> None:
    id = waiting_at_consent(world, client, session)
    world.run(world.auth.flow.allow(id, session, "openid"))
    assert "code=" in world.run(world.auth.flow.next(id, session))
    with pytest.raises(FlowError, match="over"):
        world.run(world.auth.flow.next(id, session))


def test_an_authorization_that_takes_too_long_is_over(world: World, client: Client, session: Session) -> None:
    id = waiting_at_consent(world, client, session)
    late = datetime.now(UTC) - timedelta(seconds=world.terms.request_s)
    world.store.rows("requests").update_one({"_id": id}, {"$set": {"created_at": late}})
    with pytest.raises(FlowError, match="over"):
        world.run(world.auth.flow.next(id, session))


@pytest.mark.parametrize("id", ["", "forged", "x" * 5000])
def test_a_forged_request_is_over(world: World, session: Session, id: str) -> None:
    answer = world.http.get("/auth/authorize/continue", params={"request": id}, headers={"Cookie": f"who={session.id}"})
    assert answer.status_code == 400


def test_prompt_none_shows_no_page_but_tells_the_app_why(world: World, client: Client, session: Session) -> None:
    def error_of(scope: str, who: Session | None, **more: str) -> str:
        _, params = world.asking(client, scope, prompt="none", **more)
        back = world.browse(params, who)
        assert back.visited == []
        assert back.params["state"] == "the state"
        return back.params.get("error", "")

    assert error_of("openid user/*.rs", None) == "login_required"
    assert error_of("openid user/*.rs", session) == "consent_required"
    assert error_of("openid patient/*.rs", session) == "interaction_required"
    assert error_of("openid user/*.rs", session, max_age="0") == "login_required"
    world.signed_in(client, "openid user/*.rs", session=session, remember=True)
    assert error_of("openid user/*.rs", session) == ""


def test_prompt_login_and_max_age_ask_the_user_to_sign_in_again(world: World, client: Client, session: Session) -> None:
    for more in ({"prompt": "login"}, {"max_age": "0"}):
        _, params = world.asking(client, "openid user/*.rs", **more)
        back = world.browse(params, session)
        assert back.visited == ["/auth/sign-in"]
        assert back.params["prompt"] == "login"
        time.sleep(0.002)
        again = world.accounts.sign_in(session.account)
        answer = world.http.get(back.params["next"], headers={"Cookie": f"who={again.id}"})
        assert answer.headers["location"].startswith("/auth/consent")
    _, params = world.asking(client, "openid user/*.rs", max_age="3600")
    assert world.browse(params, session).visited == ["/auth/consent"]


# Launches.


def test_a_launch_token_is_good_once_for_its_client_and_its_user(world: World, client: Client) -> None:
    person = world.accounts.person()
    session = world.accounts.sign_in(person)
    context = LaunchContext(patient="Patient/1")

    def back_of(token: str, app: Client, who: Session) -> dict[str, str]:
        _, params = world.asking(app, "launch patient/*.rs", launch=token)
        return world.browse(params, who).params

    token = world.launches.make(client.client_id, person, context)
    assert "code" in back_of(token, client, session)
    assert back_of(token, client, session)["error"] == "invalid_request"

    token = world.launches.make(client.client_id, person, context)
    other, _ = world.client()
    assert back_of(token, other, session)["error"] == "invalid_request"

    token = world.launches.make(client.client_id, person, context)
    stranger = world.accounts.sign_in(world.accounts.person())
    assert back_of(token, client, stranger)["error"] == "access_denied"


# The code.


def test_a_code_used_twice_is_refused_and_kills_what_came_from_its_first_use(
    world: World, client: Client, session: Session
) -> None:
    code, verifier = code_of(world, client, session)
    first = world.redeem(client, code, verifier).json()
    assert world.reads(first["access_token"]) == 200
    assert refusal_of(world.redeem(client, code, verifier)) == (400, "invalid_grant")
    assert world.reads(first["access_token"]) == 401
    assert refusal_of(world.refresh(client, first["refresh_token"])) == (400, "invalid_grant")
    assert world.heard.happenings[-2].detail == "a code was used twice"


def test_a_code_that_is_redeemed_many_times_at_once_gives_nothing_that_lasts(
    world: World, client: Client, session: Session
) -> None:
    code, verifier = code_of(world, client, session)
    form = {
        "grant_type": "authorization_code",
        "client_id": client.client_id,
        "redirect_uri": REDIRECT,
        "code": code,
        "code_verifier": verifier,
    }

    async def all_at_once() -> list[httpx.Response]:
        import asyncio  # noqa: PLC0415

        async with httpx.AsyncClient(base_url=world.root) as caller:
            return list(await asyncio.gather(*(caller.post("/auth/token", data=form) for _ in range(8))))

    answers = world.run(all_at_once())
    good = [answer for answer in answers if answer.status_code == 200]
    assert len(good) <= 1
    for answer in good:
        assert world.reads(answer.json()["access_token"]) == 401
        assert world.refresh(client, answer.json()["refresh_token"]).status_code == 400


def test_a_code_that_is_used_twice_without_the_verifier_ends_nothing(
    world: World, client: Client, session: Session
) -> None:
    code, verifier = code_of(world, client, session)
    first = world.redeem(client, code, verifier).json()
    assert world.redeem(client, code, "w" * 64).status_code == 400
    assert world.reads(first["access_token"]) == 200


def test_a_code_is_over_after_its_time(world: World, client: Client, session: Session) -> None:
    code, verifier = code_of(world, client, session)
    late = datetime.now(UTC) - timedelta(seconds=1)
    world.store.rows("codes").update_many({"client_id": client.client_id}, {"$set": {"expires_at": late}})
    assert refusal_of(world.redeem(client, code, verifier)) == (400, "invalid_grant")


def test_a_code_of_another_client_is_refused(world: World, client: Client, session: Session) -> None:
    code, verifier = code_of(world, client, session)
    other, _ = world.client()
    assert refusal_of(world.redeem(other, code, verifier)) == (400, "invalid_grant")
    assert refusal_of(world.redeem(client, code, verifier, client_id="unknown")) == (400, "invalid_client")
    assert world.redeem(client, code, verifier).status_code == 200


@pytest.mark.parametrize("uri", ["https://app.example.org/other", REDIRECT + "/", None, ""])
def test_a_code_with_another_redirect_uri_is_refused(
    world: World, client: Client, session: Session, uri: str | None
) -> None:
    code, verifier = code_of(world, client, session)
    assert refusal_of(world.redeem(client, code, verifier, redirect_uri=uri)) == (400, "invalid_grant")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verifier", "error"),
    [
        (None, "invalid_request"),
        ("", "invalid_request"),
        ("w" * 64, "invalid_grant"),
        ("the challenge", "invalid_grant"),
        ("short", "invalid_request"),
        ("x" * 129, "invalid_request"),
        ("ü" * 64, "invalid_request"),
    ],
)
def test_a_code_without_its_verifier_is_refused(
    world: World, client: Client, session: Session, verifier: str | None, error: str
) -> None:
    code, good = code_of(world, client, session)
    if verifier == "the challenge":
        verifier = challenge_of(good)
    assert refusal_of(world.redeem(client, code, verifier)) == (400, error)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["bogus", "", None, "é", "x" * 5000])
def test_a_bogus_code_is_refused(world: World, client: Client, code: str | None) -> None:
    answer = world.redeem(client, code, "v" * 64)  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert answer.json()["error"] == ("invalid_grant" if code else "invalid_request")


def test_a_code_of_a_user_who_was_disabled_or_changed_their_password_is_refused(world: World, client: Client) -> None:
    for change in ({"state": "disabled"}, {"credentials_changed_at": datetime.now(UTC) + timedelta(seconds=5)}):
        person = world.accounts.person()
        code, verifier = code_of(world, client, world.accounts.sign_in(person))
        world.accounts.change(person, **change)
        assert refusal_of(world.redeem(client, code, verifier)) == (400, "invalid_grant")


# The token endpoint.


@pytest.mark.parametrize("grant_type", ["password", "implicit", "nonsense", 'é"', "", None])
def test_other_grant_types_are_refused_with_400(world: World, client: Client, grant_type: str | None) -> None:
    answer = world.redeem(client, "x", "v" * 64, grant_type=grant_type)  # type: ignore[arg-type]
    assert refusal_of(answer) == (400, "unsupported_grant_type")


def test_the_token_endpoint_takes_forms_by_post_alone(world: World) -> None:
    assert world.http.get("/auth/token").status_code == 405
    assert refusal_of(world.http.post("/auth/token", json={"grant_type": "x"})) == (400, "invalid_request")
    assert refusal_of(world.http.post("/auth/token?grant_type=x", data={"a": "b"})) == (400, "invalid_request")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"a=b&a=c", b"a=%ff", b"x" * 70_000, "é=ü".encode(), b"&".join(b"p%d=1" % n for n in range(200))):
        answer = world.http.post("/auth/token", content=body, headers=form)
        assert refusal_of(answer) == (400, "invalid_request")


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !!!",
        "Basic /////w==",
        "Basic Og==",
        "Basic dW5rbm93bjp4",
        "Basic " + "A" * 8000,
        "Basic w7w6w7w=",
    ],
)
def test_a_header_that_authenticates_nobody_answers_401_and_says_how(world: World, header: str) -> None:
    answer = world.token({"Authorization": header}, grant_type="client_credentials", scope="system/*.rs")
    if header == "Basic":
        assert refusal_of(answer) == (400, "invalid_client")
        return
    assert refusal_of(answer) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_a_confidential_client_that_sends_its_name_alone_is_refused(world: World, session: Session) -> None:
    client, secret = world.client(auth_method="client_secret_basic")
    code, verifier = code_of(world, client, session)
    assert refusal_of(world.redeem(client, code, verifier)) == (400, "invalid_client")
    assert refusal_of(world.redeem(client, code, verifier, client_secret=secret)) == (400, "invalid_client")
    form = {"grant_type": "authorization_code", "redirect_uri": REDIRECT, "code": code, "code_verifier": verifier}
    wrong = world.http.post("/auth/token", data=form, auth=(client.client_id, secret + "x"))
    assert refusal_of(wrong) == (401, "invalid_client")
    twice = world.http.post("/auth/token", data={**form, "client_secret": secret}, auth=(client.client_id, secret))
    assert refusal_of(twice) == (400, "invalid_request")
    other, _ = world.client()
    named = world.http.post("/auth/token", data={**form, "client_id": other.client_id}, auth=(client.client_id, secret))
    assert refusal_of(named) == (401, "invalid_client")
    assert world.http.post("/auth/token", data=form, auth=(client.client_id, secret)).status_code == 200


def test_a_secret_that_was_rotated_is_no_longer_good(world: World) -> None:
    client, old = world.client(
        auth_method="client_secret_basic", grant_types=("client_credentials",), redirect_uris=(), scope="system/*.rs"
    )
    form = {"grant_type": "client_credentials", "scope": "system/*.rs"}
    assert world.http.post("/auth/token", data=form, auth=(client.client_id, old)).status_code == 200
    new = world.auth.clients.rotate_secret(client.client_id)
    assert world.http.post("/auth/token", data=form, auth=(client.client_id, old)).status_code == 401
    assert world.http.post("/auth/token", data=form, auth=(client.client_id, new)).status_code == 200


def test_while_the_database_is_away_apps_are_told_to_come_again_and_people_see_a_page(
    world: World, client: Client, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise AutoReconnect("away")

    _, params = world.asking(client, SCOPE)
    monkeypatch.setattr(world.auth.clients, "active", away)
    answer = world.redeem(client, "x", "v" * 64)
    assert refusal_of(answer) == (503, "temporarily_unavailable")
    assert answer.headers["retry-after"] == "2"
    shown = world.browse(params, session).answer
    assert (shown.status_code, "again" in shown.text) == (503, True)
