"""SMART app state: kept exactly, apart for each app, and changed only by who knows the version."""

from __future__ import annotations

import json
from typing import Any

import pytest

SYSTEM = "https://app.example.org"
OTHER_LAB = "https://lab.example.org"


def basic(site: Any, subject: str | None = "Patient/3", code: str = "keys", **more: Any) -> dict[str, Any]:
    resource: dict[str, Any] = {"resourceType": "Basic", "code": {"coding": [{"system": SYSTEM, "code": code}]}}
    if subject is not None:
        resource["subject"] = {"reference": f"{site.issuer}/{subject}"}
    return {**resource, "extension": [{"url": f"{SYSTEM}/v1", "valueString": '{"a":1}'}], **more}


class App:
    """An app with a token, at the app state endpoint."""

    def __init__(self, site: Any, scope: str, role: str = "patient", client: Any = None) -> None:
        self.site = site
        self.client = client or site.client()
        person = site.account(role)
        self.token = site.token(self.client, person, scope, patient="Patient/3")["access_token"]

    def ask(self, method: str, path: str = "", **how: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", **how.pop("headers", {})}
        return self.site.http.request(method, f"/auth/app-state/Basic{path}", headers=headers, **how)

    def create(self, **how: Any) -> Any:
        return self.ask("POST", json=basic(self.site, **how))

    def find(self, code: str = "keys", **params: str) -> Any:
        return self.ask("GET", params={"code": f"{SYSTEM}|{code}", **params})

    def about(self, subject: str) -> dict[str, str]:
        return {"subject": f"{self.site.issuer}/{subject}"}


PATIENT_SCOPE = "launch/patient patient/Basic.cruds"


@pytest.fixture
def app(launch_site: Any) -> App:
    return App(launch_site, PATIENT_SCOPE)


def test_state_is_created_found_read_changed_and_deleted(app: App, launch_site: Any) -> None:
    made = app.create()
    assert made.status_code == 201, made.text
    state = made.json()
    assert made.headers["etag"] == 'W/"1"'
    assert made.headers["location"] == f"{launch_site.root}/auth/app-state/Basic/{state['id']}"
    assert made.headers["access-control-allow-origin"] == "*"
    assert state["meta"]["versionId"] == "1"
    assert state["extension"] == basic(launch_site)["extension"]

    found = app.find(**app.about("Patient/3")).json()
    assert (found["total"], [entry["resource"] for entry in found["entry"]]) == (1, [state])
    assert app.ask("GET", f"/{state['id']}").json() == state

    state["extension"][0]["valueString"] = "new"
    changed = app.ask("PUT", f"/{state['id']}", json=state, headers={"If-Match": 'W/"1"'})
    assert changed.status_code == 200
    assert changed.headers["etag"] == 'W/"2"'
    assert changed.json()["extension"][0]["valueString"] == "new"

    assert app.ask("DELETE", f"/{state['id']}", headers={"If-Match": 'W/"2"'}).status_code == 204
    assert app.find(**app.about("Patient/3")).json()["total"] == 0
    for method, how in (("PUT", {"json": state}), ("DELETE", {})):
        assert app.ask(method, f"/{state['id']}", headers={"If-Match": 'W/"2"'}, **how).status_code == 412


@pytest.mark.parametrize("known", ['W/"2"', "", "*", "1", 'W/"x"'])
def test_without_the_right_version_nothing_changes(app: App, known: str) -> None:
    state = app.create().json()
    headers = {"If-Match": known} if known else {}
    assert app.ask("PUT", f"/{state['id']}", json=state, headers=headers).status_code == 412
    assert app.ask("DELETE", f"/{state['id']}", headers=headers).status_code == 412
    assert app.ask("GET", f"/{state['id']}").json() == state


def test_code_and_subject_do_not_change(app: App, launch_site: Any) -> None:
    state = app.create().json()
    for more in ({"code": {"coding": [{"system": SYSTEM, "code": "other"}]}}, {"subject": None}):
        changed = {name: value for name, value in {**state, **more}.items() if value is not None}
        answer = app.ask("PUT", f"/{state['id']}", json=changed, headers={"If-Match": 'W/"1"'})
        assert answer.status_code == 412, answer.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"resourceType": "Observation"},
        {"id": "1"},
        {"meta": {"versionId": "1"}},
        {"code": {"coding": []}},
        {"code": {"coding": [{"system": "a", "code": "b"}, {"system": "a", "code": "c"}]}},
        {"code": {"coding": [{"code": "b"}]}},
        {"extension": [{"url": "a", "valueInteger": 1}]},
        {"extension": {}},
        {"subject": {"reference": "Patient/3"}},
        {"subject": {"reference": "https://elsewhere.example.org/fhir/Patient/3"}},
        {"subject": {}},
        {"author": {"reference": "Patient/3"}},
    ],
)
def test_what_would_not_be_kept_whole_is_refused(app: App, launch_site: Any, wrong: Any) -> None:
    answer = app.ask("POST", json={**basic(launch_site), **wrong})
    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_state_has_a_size_and_a_number(app: App, launch_site: Any) -> None:
    large = [{"url": "a", "valueString": "x" * 262_144}]
    assert app.ask("POST", json=basic(launch_site, extension=large)).status_code == 413
    assert app.ask("POST", json=basic(launch_site, extension=[{"url": "a", "valueString": "x" * 250_000}])).is_success
    for _ in range(19):
        assert app.create().status_code == 201
    assert app.create().status_code == 422


def test_state_lies_in_the_database_sealed(app: App, launch_site: Any) -> None:
    app.create(extension=[{"url": "a", "valueString": "a key that nobody else may know"}])
    assert b"nobody else may know" not in b"".join(row["sealed"] for row in launch_site.store.rows("app_state").find())


def test_another_app_of_the_same_person_sees_and_changes_nothing_of_it(app: App, launch_site: Any) -> None:
    state = app.create().json()
    other = App(launch_site, PATIENT_SCOPE)
    assert other.find(**other.about("Patient/3")).json()["total"] == 0
    assert other.ask("GET", f"/{state['id']}").status_code == 404
    unknown = other.ask("DELETE", "/none", headers={"If-Match": 'W/"1"'})
    hidden = other.ask("DELETE", f"/{state['id']}", headers={"If-Match": 'W/"1"'})
    assert (hidden.status_code, hidden.json()) == (unknown.status_code, unknown.json()) == (412, unknown.json())


def test_apps_share_state_under_the_systems_that_an_administrator_gave_to_both(launch_site: Any) -> None:
    writer = App(launch_site, PATIENT_SCOPE, client=launch_site.client(state_systems=(SYSTEM,)))
    reader = App(launch_site, "launch/patient patient/Basic.s", client=launch_site.client(state_systems=(SYSTEM,)))
    assert writer.create().status_code == 201
    assert reader.find(**reader.about("Patient/3")).json()["total"] >= 1
    assert reader.create().status_code == 403


def test_scopes_with_a_code_reach_that_code_alone(launch_site: Any) -> None:
    app = App(launch_site, f"launch/patient patient/Basic.cuds?code={SYSTEM}|keys")
    assert app.create().status_code == 201
    assert app.create(code="other").status_code == 403
    assert app.find("other", **app.about("Patient/3")).status_code == 403
    assert app.find(**app.about("Patient/3")).status_code == 200


def test_state_of_others_and_of_everybody_is_out_of_reach(launch_site: Any) -> None:
    app = App(launch_site, PATIENT_SCOPE)
    assert app.create(subject="Patient/4").status_code == 403
    assert app.create(subject=None).status_code == 403
    assert app.find(**app.about("Patient/4")).status_code == 403
    assert app.find(**{"subject:missing": "true"}).status_code == 403


def test_a_users_preferences_are_about_the_user(launch_site: Any) -> None:
    app = App(launch_site, "openid fhirUser user/Basic.cruds", "practitioner")
    assert app.create(subject="Practitioner/1", code="preferences").status_code == 201
    assert app.find("preferences", **app.about("Practitioner/1")).json()["total"] == 1
    assert app.create(subject="Patient/3").status_code == 403
    assert app.create(subject=None).status_code == 403
    assert app.find("config", **{"subject:missing": "true"}).json()["total"] == 0


def test_without_basic_in_its_scopes_or_without_a_token_an_app_gets_nothing(launch_site: Any) -> None:
    app = App(launch_site, "launch/patient patient/Patient.rs")
    assert app.create().status_code == 403
    assert app.find().status_code == 403
    anonymous = launch_site.http.get("/auth/app-state/Basic")
    assert anonymous.status_code == 401
    assert anonymous.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"code": "keys"},
        {"code": f"{SYSTEM}|keys", "author": "x"},
        {"code": f"{SYSTEM}|keys", "subject": "Patient/3"},
        {"code": f"{SYSTEM}|keys", "subject:missing": "maybe"},
    ],
)
def test_other_searches_are_refused(app: App, params: dict[str, str]) -> None:
    assert app.ask("GET", params=params).status_code == 400


def test_numbers_and_letters_come_back_as_they_were_sent(app: App, launch_site: Any) -> None:
    text = json.dumps({"pi": 3.140, "letters": "ünï\\u0000"})
    state = app.create(extension=[{"url": "a", "valueString": text}]).json()
    assert state["extension"][0]["valueString"] == text


def test_pages_of_any_origin_may_ask(launch_site: Any) -> None:
    answer = launch_site.http.options("/auth/app-state/Basic/1")
    assert answer.status_code == 204
    assert "If-Match" in answer.headers["access-control-allow-headers"]


def test_discovery_names_the_endpoint(launch_site: Any) -> None:
    found = launch_site.http.get("/fhir/.well-known/smart-configuration").json()
    base = f"{launch_site.root}/auth/app-state"
    assert "smart-app-state" in found["capabilities"]
    assert found["smart_app_state_endpoint"] == base
    assert found["associated_endpoints"] == [{"url": base, "capabilities": ["smart-app-state"]}]
    assert launch_site.http.get("/auth/app-state/metadata").json()["implementation"]["url"] == base
