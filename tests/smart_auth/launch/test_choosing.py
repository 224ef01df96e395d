"""The pickers of a standalone launch: what they show and take is what the user may see."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def arrived(launch_site: Any) -> Any:
    """Somebody in front of the first page after signing in."""

    def arrive(scope: str, role: str = "practitioner", client: dict[str, Any] | None = None, **account: Any) -> Any:
        app, browser = launch_site.client(**(client or {})), launch_site.browser()
        verifier, params = launch_site.asking(app, scope)
        browser.go("/auth/authorize", params=params).sign_in(launch_site.account(role, **account))
        return browser, lambda: launch_site.redeem(app, browser, verifier)

    return arrive


def test_a_clinician_looks_for_a_patient_and_the_app_learns_which(arrived: Any) -> None:
    browser, redeemed = arrived("launch/patient openid patient/Patient.rs")
    assert browser.path == "/auth/choose-patient"
    request = browser.params["request"]
    for text in ("falk", "MRN-4", "1971-11-30"):
        browser.go("/auth/choose-patient", params={"request": request, "text": text})
        assert "Jonas Falk" in browser.text
        assert "Ida Berg" not in browser.text
    browser.send("/auth/choose-patient", patient="Patient/4")
    assert "Jonas Falk" in browser.text
    browser.send("/auth/consent", action="allow")
    assert redeemed()["patient"] == "4"


def test_a_patient_whom_the_user_may_not_see_is_neither_found_nor_chosen(arrived: Any) -> None:
    browser, _ = arrived("launch/patient patient/Patient.rs")
    there = {"request": browser.params["request"]}
    browser.go("/auth/choose-patient", params={**there, "text": "Hidden"})
    assert "No patient whom you may see" in browser.text
    for reference in ("Patient/9", "Patient/77", "Practitioner/1", "", "../Patient/3"):
        browser.send("/auth/choose-patient", patient=reference)
        assert browser.page.status_code == 400
        assert "Choose one of these patients" in browser.text
        browser.go("/auth/choose-patient", params=there)


def test_what_the_page_looks_at_is_judged_as_the_users_own_reading(arrived: Any, launch_site: Any) -> None:
    launch_site.records.asked_by.clear()
    arrived("launch/patient patient/Patient.rs", organization="Organization/1")
    viewer = launch_site.records.asked_by[0]
    assert (viewer.role, viewer.fhir_user, viewer.organization) == ("practitioner", "Practitioner/1", "Organization/1")
    assert {(scope.level, scope.type, scope.verbs) for scope in viewer.scopes} == {
        ("user", "Patient", "rs"),
        ("user", "Encounter", "rs"),
    }


def test_a_patient_need_not_choose(arrived: Any) -> None:
    browser, redeemed = arrived("launch/patient patient/Patient.rs", "patient")
    assert browser.path == "/auth/consent"
    browser.send("/auth/consent", action="allow")
    assert redeemed()["patient"] == "3"


def test_who_stands_for_several_chooses_one_of_them_without_searching(arrived: Any) -> None:
    browser, redeemed = arrived("launch/patient patient/Patient.rs", "proxy", patients=("Patient/3", "Patient/9"))
    assert browser.path == "/auth/choose-patient"
    assert "Search" not in browser.text
    assert "Ida Berg" in browser.text
    assert "Hidden Person" not in browser.text  # the records no longer let this proxy see them
    browser.send("/auth/choose-patient", patient="Patient/4")
    assert browser.page.status_code == 400
    browser.send("/auth/choose-patient", patient="Patient/3")
    browser.send("/auth/consent", action="allow")
    assert redeemed()["patient"] == "3"


def test_an_encounter_is_chosen_among_those_of_the_patient(arrived: Any) -> None:
    browser, redeemed = arrived("launch/patient launch/encounter patient/Patient.rs")
    browser.send("/auth/choose-patient", patient="Patient/3")
    assert browser.path == "/auth/choose-encounter"
    assert "Check-up" in browser.text
    assert "Follow-up" not in browser.text
    browser.send("/auth/choose-encounter", encounter="Encounter/41")
    assert browser.page.status_code == 400
    browser.send("/auth/choose-encounter", encounter="Encounter/32")
    browser.send("/auth/consent", action="allow")
    answer = redeemed()
    assert (answer["patient"], answer["encounter"]) == ("3", "32")


def test_an_encounter_can_be_left_out_and_the_app_is_told_so_by_its_scopes(arrived: Any) -> None:
    browser, redeemed = arrived("launch/patient launch/encounter patient/Patient.rs")
    browser.send("/auth/choose-patient", patient="Patient/3")
    browser.send("/auth/choose-encounter", action="none")
    browser.send("/auth/consent", action="allow")
    answer = redeemed()
    assert "encounter" not in answer
    assert answer["scope"] == "launch/patient patient/Patient.rs"


def test_an_app_that_asks_for_an_encounter_alone_gets_no_patient(arrived: Any) -> None:
    browser, redeemed = arrived("launch/encounter user/Encounter.rs")
    assert browser.path == "/auth/choose-patient"
    browser.send("/auth/choose-patient", patient="Patient/4")
    browser.send("/auth/choose-encounter", encounter="Encounter/41")
    browser.send("/auth/consent", action="allow")
    answer = redeemed()
    assert answer["encounter"] == "41"
    assert "patient" not in answer


@pytest.mark.parametrize("page", ["choose-patient", "choose-encounter"])
def test_each_page_lets_the_user_refuse(arrived: Any, page: str) -> None:
    browser, _ = arrived("launch/patient launch/encounter patient/Patient.rs")
    if page == "choose-encounter":
        browser.send("/auth/choose-patient", patient="Patient/3")
    browser.send(f"/auth/{page}", action="deny")
    assert browser.params["error"] == "access_denied"


def test_a_request_that_is_over_says_so(arrived: Any, launch_site: Any) -> None:
    browser, _ = arrived("launch/patient patient/Patient.rs")
    launch_site.store.rows("requests").delete_one({"_id": browser.params["request"]})
    browser.go(browser.at)
    assert browser.page.status_code == 400
    assert "This request is over" in browser.text


def test_who_is_not_signed_in_signs_in_first(launch_site: Any) -> None:
    browser = launch_site.browser()
    for page in ("choose-patient", "choose-encounter", "consent"):
        assert browser.go(f"/auth/{page}?request=abc").path == "/auth/sign-in"
