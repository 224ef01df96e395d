"""The consent page: what it says, and that exactly what was ticked is granted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.smart_auth.launch.conftest import CALLBACK

LAB = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
PROBLEMS = "http://terminology.hl7.org/CodeSystem/condition-category|problem-list-item"


@pytest.fixture
def asked(launch_site: Any) -> Any:
    """A patient in front of the consent page of an app."""

    def ask(scope: str, **client: Any) -> Any:
        app = launch_site.client(**client)
        browser = launch_site.browser()
        verifier, params = launch_site.asking(app, scope)
        browser.go("/auth/authorize", params=params).sign_in(launch_site.account("patient", name="Ida Berg"))
        assert browser.path == "/auth/consent", browser.page.text

        def answered(*, without: tuple[str, ...] = (), **fields: str) -> dict[str, Any]:
            browser.send("/auth/consent", action="allow", without=without, **fields)
            return dict(launch_site.redeem(app, browser, verifier))

        return browser, answered

    return ask


def test_the_page_says_which_app_asks_who_made_it_whom_it_is_about_and_where_one_goes_on(asked: Any) -> None:
    browser, _ = asked(
        "openid fhirUser launch/patient patient/Observation.rs",
        publisher="Chart Makers",
        client_uri="https://charts.example.org/about",
        description="Draws how children grow.",
        policy_uri="https://charts.example.org/privacy",
    )
    for words in ("Growth Chart", "Chart Makers", "charts.example.org", "Draws how children grow.", "Ida Berg", "born"):
        assert words in browser.text
    assert "app.example.org" in browser.text
    assert "Read measurements, test results and other observations" in browser.text
    assert "has checked who makes it" not in browser.text


def test_an_app_that_nobody_here_has_looked_at_is_said_to_be_one(asked: Any) -> None:
    assert "has checked who makes it" in asked("openid", listed=False)[0].text


def test_a_logo_from_elsewhere_is_not_shown(asked: Any, launch_site: Any) -> None:
    elsewhere = asked("openid", logo_uri="https://charts.example.org/logo.png")[0]
    assert "charts.example.org/logo.png" not in elsewhere.page.text
    own = asked("openid", logo_uri=f"{launch_site.root}/auth/static/icon.svg")[0]
    assert f'src="{launch_site.root}/auth/static/icon.svg"' in own.page.text


def test_nothing_changed_grants_all_that_was_asked_for(asked: Any) -> None:
    scope = "openid fhirUser launch/patient patient/Patient.rs patient/Observation.read offline_access"
    answer = asked(scope)[1]()
    assert answer["scope"] == scope
    assert answer["patient"] == "3"
    assert answer["refresh_token"]


def test_each_scope_can_be_dropped_by_itself(asked: Any) -> None:
    answer = asked("openid launch/patient patient/Patient.rs patient/Observation.rs offline_access")[1](
        without=("give patient/Observation.rs", "give offline_access")
    )
    assert answer["scope"] == "openid launch/patient patient/Patient.rs"
    assert "refresh_token" not in answer


def test_observations_and_conditions_narrowed_to_categories_leave_no_wide_scope_behind(asked: Any) -> None:
    answer = asked("launch/patient patient/Patient.rs patient/Observation.rs patient/Condition.read")[1](
        **{
            f"only patient/Observation.rs Observation {LAB}": "yes",
            f"only patient/Condition.read Condition {PROBLEMS}": "yes",
        }
    )
    assert answer["scope"].split() == [
        "launch/patient",
        "patient/Patient.rs",
        f"patient/Observation.rs?category={LAB}",
        f"patient/Condition.rs?category={PROBLEMS}",
    ]


def test_everything_narrowed_to_some_kinds_grants_those_alone_in_the_form_that_was_asked_for(asked: Any) -> None:
    answer = asked("launch/patient patient/*.read")[1](
        **{
            "only patient/*.read Patient": "yes",
            "only patient/*.read Observation": "yes",
            f"only patient/*.read Observation {LAB}": "yes",
        }
    )
    granted = answer["scope"].split()
    assert set(granted) == {"launch/patient", "patient/Patient.read", f"patient/Observation.rs?category={LAB}"}


def test_an_app_that_may_write_can_be_left_with_reading(asked: Any) -> None:
    answer = asked("launch/patient patient/Observation.cruds")[1](**{"read patient/Observation.cruds": "yes"})
    assert answer["scope"] == "launch/patient patient/Observation.rs"


def test_some_observations_beside_everything_are_asked_about_again_instead_of_granting_all(asked: Any) -> None:
    browser, answered = asked("launch/patient patient/*.rs patient/Observation.rs")
    finer = {f"only patient/Observation.rs Observation {LAB}": "yes"}
    browser.send("/auth/consent", action="allow", **finer)
    assert browser.page.status_code == 400
    assert "would give all of them" in browser.text
    assert browser.fields[f"only patient/Observation.rs Observation {LAB}"] == "yes"
    answer = answered(without=("give patient/*.rs",))
    assert answer["scope"] == f"launch/patient patient/Observation.rs?category={LAB}"


def test_nothing_ticked_is_told_and_grants_nothing(asked: Any) -> None:
    browser, _ = asked("openid patient/Patient.rs")
    browser.send("/auth/consent", action="allow", without=("give openid", "give patient/Patient.rs"))
    assert browser.page.status_code == 400
    assert "Allow at least one thing" in browser.text


def test_what_the_app_did_not_ask_for_cannot_be_slipped_into_the_form(asked: Any) -> None:
    answer = asked("openid patient/Patient.rs")[1](**{"give patient/*.cruds": "yes", "give offline_access": "yes"})
    assert answer["scope"] == "openid patient/Patient.rs"


def test_refusing_tells_the_app_so(asked: Any) -> None:
    browser, _ = asked("openid patient/Patient.rs")
    browser.send("/auth/consent", action="deny")
    assert browser.params["error"] == "access_denied"
    assert browser.params["state"] == "the state"


def test_the_time_that_was_chosen_ends_the_access(asked: Any, launch_site: Any) -> None:
    browser, answered = asked("openid launch/patient patient/Patient.rs offline_access")
    assert "How long may it keep its access?" in browser.text
    answered(lasts="86400")
    account_id = launch_site.trail.happenings[-1].account_id
    (grant,) = launch_site.auth.authorizations.of(account_id=account_id)
    assert abs((grant.expires_at - grant.created_at).total_seconds() - 86_400) < 60


def test_a_remembered_app_is_let_in_again_without_the_page_and_one_that_wants_more_is_not(launch_site: Any) -> None:
    app, person, browser = launch_site.client(), launch_site.account("patient"), launch_site.browser()
    verifier, params = launch_site.asking(app, "openid launch/patient patient/Patient.rs")
    browser.go("/auth/authorize", params=params).sign_in(person)
    browser.send("/auth/consent", action="allow", remember="yes")
    launch_site.redeem(app, browser, verifier)
    verifier, params = launch_site.asking(app, "openid launch/patient patient/Patient.rs")
    browser.go("/auth/authorize", params=params)
    assert launch_site.redeem(app, browser, verifier)["patient"] == "3"
    _, params = launch_site.asking(app, "openid launch/patient patient/Patient.rs patient/Observation.rs")
    assert browser.go("/auth/authorize", params=params).path == "/auth/consent"


def test_a_clinician_says_what_for_and_it_stands_in_the_authorization(launch_site: Any) -> None:
    app, browser = launch_site.client(), launch_site.browser()
    doctor = launch_site.account()
    verifier, params = launch_site.asking(app, "user/Patient.rs")
    browser.go("/auth/authorize", params=params).sign_in(doctor)
    assert "What do you use it for?" in browser.text
    browser.send("/auth/consent", action="allow", purpose="HRESCH", reason="study 7")
    launch_site.redeem(app, browser, verifier)
    (grant,) = launch_site.auth.authorizations.of(account_id=doctor.id)
    assert (grant.purpose, grant.reason) == ("HRESCH", "study 7")


def test_the_glass_cannot_be_broken_by_a_form(launch_site: Any) -> None:
    app, browser, doctor = launch_site.client(), launch_site.browser(), launch_site.account()
    verifier, params = launch_site.asking(app, "user/Patient.rs")
    browser.go("/auth/authorize", params=params).sign_in(doctor)
    browser.send("/auth/consent", action="allow", purpose="BTG", reason="I want to see it all")
    launch_site.redeem(app, browser, verifier)
    (grant,) = launch_site.auth.authorizations.of(account_id=doctor.id)
    assert (grant.purpose, grant.reason) == ("", "")  # treatment, as the table of roles says of clinicians


def test_another_session_cannot_see_or_answer_the_page(asked: Any, launch_site: Any) -> None:
    browser, _ = asked("openid patient/Patient.rs")
    stranger = launch_site.browser()
    stranger.go("/auth/account").sign_in(launch_site.account("patient"))
    stranger.go(browser.at)
    assert stranger.page.status_code == 400
    assert "another browser session" in stranger.text
    answer = stranger.http.post(
        f"{launch_site.root}/auth/consent",
        data={"csrf": stranger.csrf, "request": browser.params["request"], "action": "allow"},
    )
    assert answer.status_code == 400


def test_a_form_without_the_sessions_token_is_refused(asked: Any) -> None:
    browser, _ = asked("openid patient/Patient.rs")
    browser.send("/auth/consent", action="allow", csrf="of another page")
    assert browser.page.status_code == 403


def test_the_page_cannot_be_framed_and_runs_no_script_of_its_own(asked: Any) -> None:
    browser, _ = asked("openid patient/Patient.rs")
    policy = browser.page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "<script" not in browser.page.text
    assert "style=" not in browser.page.text


# --- administration ---------------------------------------------------------------------------------------------------


def managing(
    launch_site: Any, role: str, scope: str, *, registered: str = "openid fhirUser accounts user/*.rs", **client: Any
) -> Any:
    """Somebody comes to the consent page of an app that manages accounts; the browser, and how the app goes on."""
    app = launch_site.client(scope=registered, **client)
    browser = launch_site.browser()
    account = launch_site.account(role, name="Ada Min")
    _, secret = launch_site.side.sessions.begin(account, ("pwd", "otp"), address="", agent="")
    browser.http.cookies.set(launch_site.side.sessions.cookie, secret)
    verifier, params = launch_site.asking(app, scope)
    browser.go("/auth/authorize", params=params)
    return app, browser, verifier


def may_manage(launch_site: Any, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return int(launch_site.http.get("/auth/admin/accounts", headers=headers).status_code)


@pytest.mark.parametrize("trusted", [False, True])
def test_an_administrator_lets_an_app_manage_accounts_by_ticking_it(launch_site: Any, trusted: bool) -> None:
    app, browser, verifier = managing(launch_site, "administrator", "openid accounts", trusted=trusted)
    assert browser.path == "/auth/consent", "an app of our own asks, too"
    assert "Manage accounts and apps in your name" in browser.text
    browser.send("/auth/consent", action="allow", **{"give accounts": "accounts"})
    answer = launch_site.redeem(app, browser, verifier)
    assert answer["scope"] == "openid accounts"
    assert may_manage(launch_site, answer["access_token"]) == 200


def test_who_only_presses_allow_lets_no_app_manage_accounts(launch_site: Any) -> None:
    app, browser, verifier = managing(launch_site, "administrator", "openid accounts")
    browser.send("/auth/consent", action="allow")
    answer = launch_site.redeem(app, browser, verifier)
    assert answer["scope"] == "openid"
    assert may_manage(launch_site, answer["access_token"]) == 403


@pytest.mark.parametrize("role", ["patient", "practitioner", "auditor"])
def test_who_is_no_administrator_is_not_even_asked(launch_site: Any, role: str) -> None:
    app, browser, verifier = managing(launch_site, role, "openid accounts")
    assert "Manage accounts" not in browser.text
    browser.send("/auth/consent", action="allow", **{"give accounts": "accounts"})
    answer = launch_site.redeem(app, browser, verifier)
    assert answer["scope"] == "openid"
    assert may_manage(launch_site, answer["access_token"]) == 403


def test_where_nothing_else_was_asked_for_the_app_is_told_that_it_is_nobodys_to_give(launch_site: Any) -> None:
    _, browser, _ = managing(launch_site, "patient", "accounts")
    assert browser.params["error"] == "invalid_scope"


def test_an_app_that_is_not_registered_for_it_does_not_get_it(launch_site: Any) -> None:
    _, browser, _ = managing(launch_site, "administrator", "openid accounts", registered="openid user/*.rs")
    assert "Manage accounts" not in browser.text


def test_to_manage_accounts_is_asked_for_each_time(launch_site: Any) -> None:
    app, browser, _ = managing(
        launch_site, "administrator", "openid accounts", auth_method="client_secret_basic", redirect_uris=(CALLBACK,)
    )
    browser.send("/auth/consent", action="allow", remember="yes", **{"give accounts": "accounts"})
    assert "code" in browser.params
    _, params = launch_site.asking(app, "openid accounts")
    browser.go("/auth/authorize", params=params)
    assert browser.path == "/auth/consent"
    browser.go("/auth/authorize", params={**params, "prompt": "none"})
    assert browser.params["error"] == "consent_required"
