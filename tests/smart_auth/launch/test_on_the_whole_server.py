"""Launches on the whole server: real records behind the pickers, real policies behind the tokens."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from argon2 import PasswordHasher
from pydantic import SecretStr
from pymongo import MongoClient

from fhir_server.app import create_app
from fhir_server.settings import Settings
from smart_auth.accounts import Accounts
from smart_auth.store import AuthStore
from tests.smart_auth.launch.conftest import PASSWORD, Browser
from tests.smart_auth.serving import challenge_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    # Playwright's own loop leaves its pipes to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LAB = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
APP = "https://app.example.org"


class Whole:
    """The server, with a doctor who cares for one of two patients."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.root = f"http://localhost:{self.listener.getsockname()[1]}"
        self.database = f"hs_test_{uuid.uuid4().hex[:12]}"
        self.uri = uri
        settings = Settings(
            auth="on",
            mongodb_uri=SecretStr(uri),
            mongodb_database=self.database,
            base_url=f"{self.root}/fhir",
            data_dir=folder,
            brand_name="Good Health",
        )
        self.server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning", lifespan="on"))
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}, name="whole-server", daemon=True
        )
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        operator = settings.access_token_file.read_text().strip()
        self.http = httpx.Client(base_url=self.root, timeout=60)
        self.operator = {"Authorization": f"Bearer {operator}"}
        self.store = AuthStore.connect(uri, self.database)
        self._fill()

    def _fill(self) -> None:
        def put(resource: dict[str, Any]) -> None:
            address = f"/fhir/{resource['resourceType']}/{resource['id']}"
            answer = self.http.put(address, json=resource, headers=self.operator)
            assert answer.status_code == 201, answer.text

        put({"resourceType": "Practitioner", "id": "vera", "name": [{"text": "Dr. Vera Lind"}]})
        for id, name in (("ida", "Ida"), ("jonas", "Jonas")):
            patient = {"resourceType": "Patient", "id": id, "name": [{"family": "Berg", "given": [name]}]}
            if id == "ida":
                patient["generalPractitioner"] = [{"reference": "Practitioner/vera"}]
            put(patient)
            for category in ("laboratory", "vital-signs"):
                put(
                    {
                        "resourceType": "Observation",
                        "id": f"{id}-{category}",
                        "status": "final",
                        "category": [{"coding": [{"system": LAB.partition("|")[0], "code": category}]}],
                        "code": {"text": category},
                        "subject": {"reference": f"Patient/{id}"},
                    }
                )
            put(
                {
                    "resourceType": "Encounter",
                    "id": f"visit-{id}",
                    "status": "finished",
                    "class": {"code": "AMB", "display": "ambulatory"},
                    "subject": {"reference": f"Patient/{id}"},
                    "period": {"start": "2026-10-02T09:30:00Z"},
                }
            )
        self.email = "vera@example.org"
        Accounts(self.store).add(
            email=self.email,
            name="Dr. Vera Lind",
            role="practitioner",
            state="active",
            fhir_user="Practitioner/vera",
            password=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD),
        )

    def client(self, **members: Any) -> str:
        """Register an app as an administrator's program does; its id."""
        answer = self.http.post(
            "/auth/admin/clients",
            json={
                "client_name": "Growth Chart",
                "redirect_uris": [f"{APP}/callback"],
                "launch_url": f"{APP}/launch",
                "scope": "openid fhirUser launch launch/patient launch/encounter offline_access patient/*.cruds",
                **members,
            },
            headers=self.operator,
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["client_id"])

    def close(self) -> None:
        self.http.close()
        self.server.should_exit = True
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()
        self.listener.close()
        self.store.close()
        with MongoClient[dict[str, Any]](self.uri) as client:
            client.drop_database(self.database)


@pytest.fixture(scope="module")
def whole(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    there = Whole(mongodb_uri, tmp_path_factory.mktemp("whole"))
    yield there
    there.close()


@pytest.fixture
def browser(whole: Whole) -> Iterator[Browser]:
    made = Browser(whole)
    yield made
    made.http.close()


def asking(whole: Whole, client_id: str, scope: str, **more: str) -> tuple[str, dict[str, str]]:
    verifier = uuid.uuid4().hex * 2
    return verifier, {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": f"{APP}/callback",
        "scope": scope,
        "state": "s",
        "aud": f"{whole.root}/fhir",
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        **more,
    }


def redeemed(whole: Whole, client_id: str, browser: Browser, verifier: str) -> dict[str, Any]:
    assert "code" in browser.params, browser.page.text
    form = {"grant_type": "authorization_code", "client_id": client_id, "redirect_uri": f"{APP}/callback"}
    answer = whole.http.post("/auth/token", data={**form, "code": browser.params["code"], "code_verifier": verifier})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def sign_in(whole: Whole, browser: Browser) -> None:
    browser.send("/auth/sign-in", email=whole.email, password=PASSWORD)


def test_a_standalone_launch_shows_the_doctors_patients_and_its_token_reaches_what_was_allowed_of_one(
    whole: Whole, browser: Browser
) -> None:
    client_id = whole.client()
    verifier, params = asking(
        whole, client_id, "openid launch/patient launch/encounter patient/Patient.rs patient/Observation.rs"
    )
    browser.go("/auth/authorize", params=params)
    sign_in(whole, browser)
    assert browser.path == "/auth/choose-patient"
    request = browser.params["request"]
    browser.go("/auth/choose-patient", params={"request": request, "text": "berg"})
    assert "Ida Berg" in browser.text
    assert "Jonas" not in browser.text
    browser.send("/auth/choose-patient", patient="Patient/jonas")
    assert browser.page.status_code == 400
    browser.send("/auth/choose-patient", patient="Patient/ida")
    assert "ambulatory" in browser.text
    browser.send("/auth/choose-encounter", encounter="Encounter/visit-jonas")
    assert browser.page.status_code == 400
    browser.send("/auth/choose-encounter", encounter="Encounter/visit-ida")
    browser.send("/auth/consent", action="allow", **{f"only patient/Observation.rs Observation {LAB}": "yes"})
    answer = redeemed(whole, client_id, browser, verifier)
    assert (answer["patient"], answer["encounter"]) == ("ida", "visit-ida")
    assert f"patient/Observation.rs?category={LAB}" in answer["scope"].split()
    token = {"Authorization": f"Bearer {answer['access_token']}"}

    def status(path: str) -> int:
        return whole.http.get(f"/fhir/{path}", headers=token).status_code

    assert (status("Patient/ida"), status("Patient/jonas")) == (200, 404)
    assert (status("Observation/ida-laboratory"), status("Observation/ida-vital-signs")) == (200, 404)
    found = whole.http.get("/fhir/Observation", params={"patient": "ida"}, headers=token).json()
    assert [entry["resource"]["id"] for entry in found["entry"]] == ["ida-laboratory"]


def test_an_ehr_launch_carries_patient_and_encounter_into_the_token(whole: Whole, browser: Browser) -> None:
    client_id = whole.client()
    browser.go("/auth/launch", params={"app": client_id, "patient": "Patient/jonas"})
    sign_in(whole, browser)
    assert "Jonas" not in browser.text  # whom the doctor may not see is not there
    browser.go("/auth/launch", params={"app": client_id, "patient": "Patient/ida"})
    browser.send("/auth/launch", client_id=client_id, encounter="Encounter/visit-ida", intent="order")
    assert browser.at.startswith(f"{APP}/launch?iss="), browser.text
    verifier, params = asking(whole, client_id, "launch openid patient/Patient.rs", launch=browser.params["launch"])
    browser.go("/auth/authorize", params=params)
    browser.send("/auth/consent", action="allow")
    answer = redeemed(whole, client_id, browser, verifier)
    assert (answer["patient"], answer["encounter"], answer["intent"]) == ("ida", "visit-ida", "order")


def test_a_mother_of_two_chooses_one_of_them_and_her_app_reaches_that_one(whole: Whole, browser: Browser) -> None:
    for name in ("ida", "jonas"):  # only the first one's RelatedPerson is hers; her account names both
        relative = {"resourceType": "RelatedPerson", "id": f"mother-{name}", "active": True}
        relative["patient"] = {"reference": f"Patient/{name}"}
        answer = whole.http.put(f"/fhir/RelatedPerson/mother-{name}", json=relative, headers=whole.operator)
        assert answer.status_code == 201, answer.text
    email = "mother@example.org"
    Accounts(whole.store).add(
        email=email,
        name="Mona Berg",
        role="proxy",
        state="active",
        fhir_user="RelatedPerson/mother-ida",
        patients=("Patient/ida", "Patient/jonas"),
        password=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD),
    )
    client_id = whole.client()
    verifier, params = asking(whole, client_id, "launch/patient patient/Patient.rs patient/Observation.rs")
    browser.go("/auth/authorize", params=params)
    browser.send("/auth/sign-in", email=email, password=PASSWORD)
    assert browser.path == "/auth/choose-patient"
    assert "Ida Berg" in browser.text
    assert "Jonas Berg" in browser.text
    browser.send("/auth/choose-patient", patient="Patient/jonas")
    browser.send("/auth/consent", action="allow")
    answer = redeemed(whole, client_id, browser, verifier)
    assert answer["patient"] == "jonas"
    token = {"Authorization": f"Bearer {answer['access_token']}"}

    def status(path: str) -> int:
        return whole.http.get(f"/fhir/{path}", headers=token).status_code

    assert (status("Patient/jonas"), status("Patient/ida")) == (200, 404)
    assert (status("Observation/jonas-laboratory"), status("Observation/ida-laboratory")) == (200, 404)


def test_app_state_and_the_brand_are_where_discovery_says(whole: Whole, browser: Browser) -> None:
    found = whole.http.get("/fhir/.well-known/smart-configuration").json()
    assert whole.http.get(found["user_access_brand_bundle"]).json()["entry"][0]["resource"]["name"] == "Good Health"
    client_id = whole.client()
    verifier, params = asking(whole, client_id, "openid launch/patient patient/Basic.cruds")
    browser.go("/auth/authorize", params=params)
    sign_in(whole, browser)
    browser.send("/auth/choose-patient", patient="Patient/ida")
    browser.send("/auth/consent", action="allow")
    token = {"Authorization": f"Bearer {redeemed(whole, client_id, browser, verifier)['access_token']}"}
    state = {
        "resourceType": "Basic",
        "code": {"coding": [{"system": APP, "code": "keys"}]},
        "subject": {"reference": f"{whole.root}/fhir/Patient/ida"},
    }
    base = found["associated_endpoints"][0]["url"]
    made = whole.http.post(f"{base}/Basic", json=state, headers=token)
    assert made.status_code == 201, made.text
    assert whole.http.get("/fhir/Basic", headers=token).json().get("entry", []) == []


@contextmanager
def served(pages: dict[str, str]) -> Iterator[str]:
    """An app of another origin that serves these pages; its address. The browser asks for nothing that is not there."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            body = pages[path].encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if path.endswith(".js") else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, name="app", daemon=True)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_fhirclient_of_another_origin_reads_the_patient_from_the_whole_server(
    whole: Whole, chromium: Any, fhirclient_script: Path
) -> None:
    head = '<!doctype html><link rel="icon" href="data:,"><script src="/fhir-client.js"></script>'
    pages = {"/fhir-client.js": fhirclient_script.read_text("utf-8")}
    with served(pages) as app:
        options = {
            "clientId": whole.client(redirect_uris=[f"{app}/index"]),
            "scope": "openid fhirUser launch/patient patient/Patient.rs offline_access",
            "iss": f"{whole.root}/fhir",
            "redirectUri": f"{app}/index",
        }
        pages["/launch"] = f"{head}<script>FHIR.oauth2.authorize({json.dumps(options)})</script>"
        pages["/index"] = (
            f'{head}<pre id="said"></pre><script>FHIR.oauth2.ready().then(c => c.patient.read())'
            ".then(p => p.name[0].given[0], e => String(e))"
            ".then(said => { document.getElementById('said').textContent = said })</script>"
        )
        context = chromium.new_context()
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.goto(f"{app}/launch")
        page.get_by_label("E-mail address").fill(whole.email)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.get_by_role("button", name="Choose Ida Berg").click()
        page.get_by_role("button", name="Allow", exact=True).click()
        page.wait_for_function("document.getElementById('said')?.textContent")
        assert page.locator("#said").text_content() == "Ida"
        context.close()
