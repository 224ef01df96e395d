"""The EHR launch: from our pages and from programs, by one-time tokens that are bound to a client and a person."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from smart_auth.launches import LaunchTokens
from smart_auth.model import LaunchContext
from smart_auth.rows import now

LAUNCH_URL = "https://app.example.org/launch?skin=blue"
OPERATOR = "operator-token-of-the-tests-000"
SCOPE = "launch openid fhirUser patient/Patient.rs"


@pytest.fixture
def app(launch_site: Any) -> Any:
    return launch_site.client(launch_url=LAUNCH_URL)


def by_json(launch_site: Any, browser: Any, **members: Any) -> Any:
    csrf = browser.csrf
    return browser.http.post(
        f"{launch_site.root}/auth/launch", json=members, headers={"X-CSRF-Token": csrf, "Sec-Fetch-Site": "same-origin"}
    )


@pytest.fixture
def doctor(launch_site: Any) -> Any:
    """A clinician's account, and their browser, signed in."""
    account, browser = launch_site.account(), launch_site.browser()
    browser.sign_in(account)
    return account, browser


def authorized(launch_site: Any, browser: Any, app: Any, launch: str, scope: str = SCOPE) -> str:
    """Go on as the app does with its launch; the verifier of its request."""
    verifier, params = launch_site.asking(app, scope, launch=launch)
    browser.go("/auth/authorize", params=params)
    return str(verifier)


def test_a_clinician_opens_an_app_with_a_patient_an_encounter_and_an_intent(
    launch_site: Any, app: Any, doctor: Any
) -> None:
    account, browser = doctor
    browser.go("/auth/launch", params={"app": app.client_id, "text": "berg"})
    assert "Ida Berg" in browser.text
    browser.go("/auth/launch", params={"app": app.client_id, "patient": "Patient/3"})
    assert browser.fields["client_id"] == app.client_id
    browser.send("/auth/launch", encounter="Encounter/31", intent="reconcile-medications")
    assert browser.at.startswith("https://app.example.org/launch?skin=blue&iss=")
    assert browser.params["iss"] == launch_site.issuer

    verifier = authorized(launch_site, browser, app, browser.params["launch"])
    assert browser.path == "/auth/consent"
    assert "Ida Berg" in browser.text
    browser.send("/auth/consent", action="allow")
    answer = launch_site.redeem(app, browser, verifier)
    assert (answer["patient"], answer["encounter"], answer["intent"]) == ("3", "31", "reconcile-medications")
    assert answer["need_patient_banner"] is True
    launched = [told for told in launch_site.trail.happenings if told.kind == "launch"][-1]
    assert (launched.account_id, launched.client_id, launched.patient) == (account.id, app.client_id, "Patient/3")


def test_what_is_launched_through_json_reaches_the_app_whole(launch_site: Any, app: Any, doctor: Any) -> None:
    context = [
        {"reference": "ImagingStudy/123"},
        {"canonical": "https://example.org/Questionnaire/phq9|2.3.1", "type": "Questionnaire"},
        {"identifier": {"system": "urn:x", "value": "7"}, "type": "Task", "role": "https://example.org/role"},
        {"reference": "Patient/4", "role": "https://example.org/sibling"},
    ]
    made = by_json(
        launch_site,
        doctor[1],
        client_id=app.client_id,
        patient="3",
        fhirContext=context,
        need_patient_banner=False,
    )
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    assert made.json()["expires_in"] == 300
    assert made.json()["launch_url"].endswith(f"launch={made.json()['launch']}")
    verifier = authorized(launch_site, doctor[1], app, made.json()["launch"])
    doctor[1].send("/auth/consent", action="allow")
    answer = launch_site.redeem(app, doctor[1], verifier)
    assert answer["fhirContext"] == context
    assert answer["need_patient_banner"] is False


@pytest.mark.parametrize(
    "entry",
    [
        "ImagingStudy/1",
        {},
        {"type": "Task"},
        {"reference": "https://example.org/fhir/ImagingStudy/1"},
        {"reference": "ImagingStudy"},
        {"reference": ""},
        {"reference": "Patient/3"},
        {"reference": "Encounter/3", "role": "launch"},
        {"reference": "ImagingStudy/1", "type": "Task"},
        {"reference": "ImagingStudy/1", "role": "mine"},
        {"reference": "ImagingStudy/1", "role": ""},
        {"canonical": "Questionnaire/1"},
        {"identifier": {}},
        {"identifier": {"value": "1"}, "type": "Encounter"},
        {"reference": "ImagingStudy/1", "colour": "red"},
    ],
)
def test_a_context_that_smart_does_not_know_is_refused(launch_site: Any, app: Any, doctor: Any, entry: Any) -> None:
    answer = by_json(launch_site, doctor[1], client_id=app.client_id, fhirContext=[entry])
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-LAUNCH-CONTEXT"
    assert answer.json()["issue"][0]["expression"] == ["fhirContext[0]"]


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"patient": "Patient/9"}, 404),
        ({"patient": "Patient/77"}, 404),
        ({"patient": "Patient/3", "encounter": "Encounter/41"}, 404),
        ({"encounter": "Encounter/41"}, 400),
        ({"patient": "Practitioner/1"}, 400),
        ({"intent": "x" * 201}, 400),
        ({"patient": 3}, 400),
        ({"need_patient_banner": "yes"}, 400),
        ({"colour": "red"}, 400),
        ({"user": "somebody@example.org"}, 403),
    ],
)
def test_a_launch_with_whom_the_user_may_not_see_or_with_nonsense_is_refused(
    launch_site: Any, app: Any, doctor: Any, members: Any, status: int
) -> None:
    assert by_json(launch_site, doctor[1], client_id=app.client_id, **members).status_code == status


def test_who_may_not_be_seen_and_who_does_not_exist_are_answered_alike(launch_site: Any, app: Any, doctor: Any) -> None:
    hidden = by_json(launch_site, doctor[1], client_id=app.client_id, patient="Patient/9")
    nobody = by_json(launch_site, doctor[1], client_id=app.client_id, patient="Patient/77")
    assert (hidden.status_code, hidden.json()) == (nobody.status_code, nobody.json())


def test_an_app_that_is_unknown_disabled_or_cannot_be_launched_is_not(launch_site: Any, app: Any, doctor: Any) -> None:
    launch_site.auth.clients.deactivate(app.client_id)
    for client_id in ("nobody", app.client_id, launch_site.client().client_id):
        assert by_json(launch_site, doctor[1], client_id=client_id).status_code == 404


def test_a_launch_is_good_once(launch_site: Any, app: Any, doctor: Any) -> None:
    launch = by_json(launch_site, doctor[1], client_id=app.client_id, patient="3").json()["launch"]
    authorized(launch_site, doctor[1], app, launch)
    assert doctor[1].path == "/auth/consent"
    authorized(launch_site, doctor[1], app, launch)
    assert doctor[1].params["error"] == "invalid_request"


def test_a_launch_is_of_no_use_to_another_app(launch_site: Any, app: Any, doctor: Any) -> None:
    launch = by_json(launch_site, doctor[1], client_id=app.client_id, patient="3").json()["launch"]
    authorized(launch_site, doctor[1], launch_site.client(launch_url=LAUNCH_URL), launch)
    assert doctor[1].params["error"] == "invalid_request"
    authorized(launch_site, doctor[1], app, launch)
    assert doctor[1].path == "/auth/consent"


def test_a_launch_is_of_no_use_to_another_person(launch_site: Any, app: Any, doctor: Any) -> None:
    launch = by_json(launch_site, doctor[1], client_id=app.client_id, patient="3").json()["launch"]
    other = launch_site.browser()
    other.sign_in(launch_site.account())
    authorized(launch_site, other, app, launch)
    assert other.params["error"] == "access_denied"


def test_a_launch_ends_after_five_minutes(launch_site: Any, app: Any, doctor: Any) -> None:
    launch = by_json(launch_site, doctor[1], client_id=app.client_id, patient="3").json()["launch"]
    launch_site.store.rows("launches").update_many({}, {"$set": {"expires_at": now()}})
    authorized(launch_site, doctor[1], app, launch)
    assert doctor[1].params["error"] == "invalid_request"


@pytest.mark.parametrize("launch", ["forged", "x" * 5000, "ünïcode"])
def test_a_forged_launch_is_refused(launch_site: Any, app: Any, doctor: Any, launch: str) -> None:
    authorized(launch_site, doctor[1], app, launch)
    assert doctor[1].params["error"] == "invalid_request"


def test_the_database_holds_no_token_that_could_be_used(launch_site: Any, app: Any, doctor: Any) -> None:
    launch = by_json(launch_site, doctor[1], client_id=app.client_id).json()["launch"]
    assert launch not in str(list(launch_site.store.rows("launches").find()))


def test_of_many_who_redeem_a_token_at_once_one_gets_it(launch_site: Any, app: Any) -> None:
    tokens = LaunchTokens(launch_site.store)
    token = tokens.make(app.client_id, "somebody", LaunchContext())

    async def at_once() -> list[Any]:
        return await asyncio.gather(*(tokens.redeem(token, app.client_id) for _ in range(20)))

    assert sum(found is not None for found in launch_site.run(at_once())) == 1


def test_tokens_lie_in_the_database_no_longer_than_they_are_good(launch_site: Any) -> None:
    (index,) = [
        found
        for found in launch_site.store.rows("launches").index_information().values()
        if "expireAfterSeconds" in found
    ]
    assert index["expireAfterSeconds"] == 0


# --- programs ---------------------------------------------------------------------------------------------------------


def bearer(launch_site: Any, token: str, **members: Any) -> Any:
    return launch_site.http.post("/auth/launch", json=members, headers={"Authorization": f"Bearer {token}"})


def test_our_portal_launches_for_its_user_by_the_users_token(launch_site: Any, app: Any) -> None:
    portal, doctor = launch_site.client(trusted=True, name="Portal"), launch_site.account()
    token = launch_site.token(portal, doctor, "openid user/Patient.rs")["access_token"]
    assert bearer(launch_site, token, client_id=app.client_id, patient="Patient/4").status_code == 201
    assert bearer(launch_site, token, client_id=app.client_id, patient="Patient/9").status_code == 404
    assert bearer(launch_site, token, client_id=app.client_id, user=doctor.id).status_code == 403
    assert launch_site.trail.happenings[-1].detail == f"launched through {portal.client_id}"


def test_an_app_that_nobody_trusts_cannot_launch_others(launch_site: Any, app: Any) -> None:
    token = launch_site.token(launch_site.client(), launch_site.account(), "user/Patient.rs")["access_token"]
    answer = bearer(launch_site, token, client_id=app.client_id)
    assert answer.status_code == 403
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-LAUNCH-CLIENT"


def test_an_ehr_back_end_launches_for_the_user_whom_it_names_and_sees_no_more_than_they(
    launch_site: Any, app: Any
) -> None:
    doctor = launch_site.account()
    for user in (doctor.id, doctor.email.upper()):
        assert bearer(launch_site, OPERATOR, client_id=app.client_id, patient="3", user=user).status_code == 201
    assert bearer(launch_site, OPERATOR, client_id=app.client_id, patient="9", user=doctor.id).status_code == 404
    assert bearer(launch_site, OPERATOR, client_id=app.client_id).status_code == 400
    assert bearer(launch_site, OPERATOR, client_id=app.client_id, user="nobody").status_code == 403


def test_without_a_session_or_with_a_bad_token_nothing_is_launched(launch_site: Any, app: Any) -> None:
    assert launch_site.http.post("/auth/launch", json={"client_id": app.client_id}).status_code == 401
    answer = bearer(launch_site, "x.y.z", client_id=app.client_id)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_script_of_another_page_cannot_launch_with_somebodys_cookie(launch_site: Any, app: Any, doctor: Any) -> None:
    answer = doctor[1].http.post(f"{launch_site.root}/auth/launch", json={"client_id": app.client_id})
    assert answer.status_code == 403


# --- the gallery ------------------------------------------------------------------------------------------------------


def test_the_gallery_shows_apps_that_can_be_launched_and_that_somebody_has_listed(
    launch_site: Any, doctor: Any
) -> None:
    launch_site.client(
        name="Seen One", launch_url=LAUNCH_URL, description="Shows charts.", publisher="Makers", scope="patient/*.rs"
    )
    launch_site.client(name="Not launchable")
    launch_site.client(name="Not listed", launch_url=LAUNCH_URL, listed=False)
    page = doctor[1].go("/auth/apps").text
    for words in ("Seen One", "Shows charts.", "Made by Makers", "Read all health information"):
        assert words in page
    assert "Not launchable" not in page
    assert "Not listed" not in page


def test_connected_apps_are_listed_and_can_be_cut_off_by_their_owner_alone(launch_site: Any) -> None:
    app, person = launch_site.client(name="Diary"), launch_site.account("patient")
    answer = launch_site.token(app, person, "openid launch/patient patient/Patient.rs offline_access")
    owner, other = launch_site.browser(), launch_site.browser()
    owner.sign_in(person)
    other.sign_in(launch_site.account("patient"))
    grant = launch_site.auth.authorizations.of(account_id=person.id)[0]
    other.http.post(f"{launch_site.root}/auth/account/apps/revoke", data={"csrf": other.csrf, "id": grant.id})
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    assert launch_site.http.get("/fhir/Patient/3", headers=headers).status_code == 200
    assert "Diary" in owner.go("/auth/apps").text
    owner.send("/auth/account/apps/revoke")
    assert "Diary" not in owner.go("/auth/apps").text
    assert launch_site.http.get("/fhir/Patient/3", headers=headers).status_code == 401
