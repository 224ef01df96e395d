"""A whole sign-in side over real HTTP and real MongoDB: accounts, authorization, launches; the records are a stand-in.

Browsers are httpx clients that follow redirects and send the forms of the pages; an app is a test that reads the
address at which its user arrives.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
import pytest
from argon2 import PasswordHasher
from cryptography.fernet import Fernet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from fhir_server.model.access import Identity
from fhir_server.model.clock import new_id
from smart_auth.account_side import AccountSide, Neighbours
from smart_auth.accounts import account_of
from smart_auth.authorization_server import AuthorizationServer
from smart_auth.bearer import TokenError
from smart_auth.brands import Brand
from smart_auth.granted_apps import GrantedApps
from smart_auth.launch_side import LaunchSide, configuration_of
from smart_auth.launches import LaunchTokens
from smart_auth.model import Account, Client
from smart_auth.passwords import Passwords
from smart_auth.ports import EncounterCard, PatientCard
from smart_auth.vault import Vault
from tests.smart_auth.serving import APP_SCOPE, Heard, Served

T = TypeVar("T")

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
NPM = shutil.which("npm") or ""

PASSWORD = "tangerine gravel kazoo"
APP = "https://app.example.org"
CALLBACK = f"{APP}/callback"
VISIBLE = {"Practitioner/1": ("Patient/3", "Patient/4"), "Patient/3": ("Patient/3",), "RelatedPerson/5": ("Patient/3",)}

PATIENTS = {
    card.reference: card
    for card in (
        PatientCard("Patient/3", "Ida Berg", "1980-02-01", "female", "MRN-3"),
        PatientCard("Patient/4", "Jonas Falk", "1971-11-30", "male", "MRN-4"),
        PatientCard("Patient/9", "Hidden Person", "2001-01-01", "other", "MRN-9"),
    )
}
ENCOUNTERS = {
    "Patient/3": (
        EncounterCard("Encounter/31", "Check-up", "2026-10-02T09:30:00Z", "finished"),
        EncounterCard("Encounter/32", "Emergency visit", "2026-09-01T02:10:00Z", "finished"),
    ),
    "Patient/4": (EncounterCard("Encounter/41", "Follow-up", "2026-11-20T14:00:00Z", "in-progress"),),
}


class StandInRecords:
    """Records without a FHIR server; who sees whom stands in a table."""

    def __init__(self) -> None:
        self.asked_by: list[Identity] = []
        self.visible: dict[str, tuple[str, ...]] = dict(VISIBLE)

    def _seen(self, identity: Identity) -> tuple[str, ...]:
        self.asked_by.append(identity)
        return self.visible.get(identity.fhir_user or "", ())

    async def read(self, reference: str) -> dict[str, Any] | None:
        kind, _, id = reference.partition("/")
        return {"resourceType": kind, "id": id}

    async def create(self, resource: dict[str, Any], agent: str) -> str:
        return f"{resource['resourceType']}/{new_id()}"

    async def update(self, resource: dict[str, Any], agent: str) -> None:
        return None

    async def patients(self, identity: Identity, text: str, limit: int) -> list[PatientCard]:
        cards = [PATIENTS[reference] for reference in self._seen(identity)]
        words = text.casefold()
        return [
            card
            for card in cards
            if any(word.startswith(words) for word in (*card.name.casefold().split(), card.name.casefold()))
            or card.identifier.casefold().startswith(words)
            or card.birth_date.startswith(words)
        ][:limit]

    async def patient(self, identity: Identity, reference: str) -> PatientCard | None:
        return PATIENTS.get(reference) if reference in self._seen(identity) else None

    async def encounters(self, identity: Identity, patient: str, limit: int) -> list[EncounterCard]:
        return list(ENCOUNTERS.get(patient, ()))[:limit] if patient in self._seen(identity) else []

    async def encounter(self, identity: Identity, patient: str, reference: str) -> EncounterCard | None:
        there = await self.encounters(identity, patient, 100)
        return next((card for card in there if card.reference == reference), None)


class _Forms(HTMLParser):
    """The forms of a page: what a browser would send of each, and its buttons."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self._select: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append({"action": given.get("action", ""), "method": given.get("method", "get"), "fields": {}})
            return
        if not self.forms:
            return
        fields = self.forms[-1]["fields"]
        if tag == "input" and "name" in given:
            kind = given.get("type", "text")
            if kind not in ("checkbox", "radio") or "checked" in given:
                fields[given["name"]] = given.get("value", "on")
        elif tag == "select":
            self._select = given["name"]
        elif tag == "option" and self._select and (self._select not in fields or "selected" in given):
            fields[self._select] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = None


class Browser:
    """One person's browser."""

    def __init__(self, site: Any) -> None:
        self.site = site
        self.http = httpx.Client(timeout=30)
        self.at = ""
        self.page = httpx.Response(204)
        self.visited: list[str] = []

    def go(self, address: str, **how: Any) -> Browser:
        """Open an address of the server, and follow redirects until a page, or an address of somebody else."""
        return self._follow("GET", urljoin(self.site.root, address), how)

    def send(self, form_action: str, /, *, without: tuple[str, ...] = (), **fields: str) -> Browser:
        """Send the form of the page that leads to `form_action`, filled in as it stands, with changes."""
        forms = [
            form for form in _Forms(self.page.text).forms if form["action"] == form_action and form["method"] == "post"
        ]
        assert forms, (form_action, self.page.text)
        data = {**forms[0]["fields"], **fields}
        return self._follow(
            "POST", urljoin(self.site.root, form_action), {"data": {n: v for n, v in data.items() if n not in without}}
        )

    def _follow(self, method: str, address: str, how: dict[str, Any]) -> Browser:
        answer = self.http.request(method, address, **how)
        self.visited.append(urlsplit(address).path)
        while answer.status_code in (302, 303):
            address = urljoin(address, answer.headers["location"])
            if not address.startswith(self.site.root):
                break
            self.visited.append(urlsplit(address).path)
            answer = self.http.get(address)
        self.at, self.page = address, answer
        return self

    @property
    def path(self) -> str:
        return urlsplit(self.at).path

    @property
    def params(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.at).query))

    @property
    def fields(self) -> dict[str, str]:
        """What the last form of the page would send as it stands."""
        fields: dict[str, str] = _Forms(self.page.text).forms[-1]["fields"]
        return fields

    @property
    def text(self) -> str:
        """What the page says, without tags."""
        return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", self.page.text)))

    def sign_in(self, account: Account) -> Browser:
        """On the sign-in page, wherever that was reached from."""
        if self.path != "/auth/sign-in":
            self.go("/auth/sign-in")
        return self.send("/auth/sign-in", email=account.email, password=PASSWORD)

    @property
    def csrf(self) -> str:
        self.go("/auth/account")
        return str(_Forms(self.page.text).forms[0]["fields"]["csrf"])


class Site(Served):
    """The server and everything around it."""

    def __init__(self, uri: str, database: str, **terms: Any) -> None:
        # Browsers bind cookies and secure contexts to names.
        super().__init__(uri, database, host="localhost", **terms)
        self.records, self.trail, self.apps = StandInRecords(), Heard(), GrantedApps()
        self.brand = Brand(name="Good Health", website="https://www.goodhealth.example.org/home")
        self._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        vault = Vault((Fernet.generate_key().decode(),))
        self.vault = vault
        self.side = AccountSide(
            self.store,
            vault,
            Neighbours(self.records, self.trail, self._credentials_changed, self.apps, self._bearer),
            self.issuer,
            passwords=Passwords(self._hasher),
        )
        self.tokens = LaunchTokens(self.store)
        self.auth = self.server(vault)
        self.apps.server = self.auth
        self.launch = self.launches(vault)
        self.auth.open()
        self.app_pages: dict[str, str] = {}
        self._browsers: list[Browser] = []
        self.start(self._app())
        self.run(self.side.open())
        self.run(self.launch.open())

    def server(self, vault: Vault) -> AuthorizationServer:
        more = configuration_of(self.brand, self.terms)
        return self.authorization(vault, self.side.sessions, self.tokens, self.trail, more)

    def launches(self, vault: Vault) -> LaunchSide:
        return LaunchSide(self.store, vault, self.auth, self.side, self.tokens, self.records, self.trail, self.brand)

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                *self.launch.routes(),
                *self.auth.routes,
                *self.side.routes(),
                Route("/fhir/metadata", self.metadata),
                Route("/fhir/Patient/{id}", self._patient),
                Route("/app/{name}", self._app_page),
                Mount("/static", StaticFiles(directory="/", check_dir=False), name="static"),
            ]
        )

    async def _credentials_changed(self, account_id: str) -> None:
        await asyncio.to_thread(self.auth.authorizations.revoke_account, account_id)

    async def _bearer(self, request: Request) -> Identity | None:
        try:
            return self.auth.bearer.identify(request.headers.get("authorization"))
        except TokenError:
            return None

    async def _patient(self, request: Request) -> Response:
        """A FHIR read, as a stand-in: of the patient in context alone."""
        try:
            who = self.auth.bearer.identify(request.headers.get("authorization"))
        except TokenError as error:
            return JSONResponse(error.outcome(), 401, error.headers)
        reference = f"Patient/{request.path_params['id']}"
        allowed = any(scope.type in ("*", "Patient") and "r" in scope.verbs for scope in who.scopes)
        if not allowed or reference != who.patient:
            return JSONResponse({"resourceType": "OperationOutcome", "issue": []}, 403)
        card = PATIENTS[reference]
        return JSONResponse(
            {"resourceType": "Patient", "id": request.path_params["id"], "name": [{"text": card.name}]},
            headers={"Access-Control-Allow-Origin": "*"},
        )

    async def _app_page(self, request: Request) -> Response:
        return Response(self.app_pages[request.path_params["name"]], media_type="text/html")

    def close(self) -> None:
        self.run(self.side.close())
        for browser in self._browsers:
            browser.http.close()
        super().close()

    # What a test makes.

    def browser(self) -> Browser:
        browser = Browser(self)
        self._browsers.append(browser)
        return browser

    def account(self, role: str = "practitioner", **more: Any) -> Account:
        """Somebody with the usual password."""
        own = {"practitioner": "Practitioner/1", "patient": "Patient/3", "proxy": "RelatedPerson/5"}
        row = self.side.parts.accounts.add(
            email=f"{new_id()}@example.org",
            name=more.pop("name", "Dr. Vera Lind"),
            role=role,  # type: ignore[arg-type]
            state="active",
            fhir_user=more.pop("fhir_user", own.get(role)),
            password=self._hasher.hash(PASSWORD),
            **more,
        )
        return account_of(row)

    def client(self, **given: Any) -> Client:
        """A registered public app."""
        values: dict[str, Any] = {
            "client_id": "",
            "name": "Growth Chart",
            "auth_method": "none",
            "redirect_uris": (CALLBACK,),
            "scope": APP_SCOPE,
            **given,
        }
        return self.auth.clients.add(Client(**values))[0]

    def redeem(self, client: Client, browser: Browser, verifier: str) -> dict[str, Any]:
        """What the app gets for the code with which the browser came back."""
        assert browser.at.startswith(client.redirect_uris[0]), (browser.at, browser.page.text)
        assert "code" in browser.params, browser.params
        form = {
            "grant_type": "authorization_code",
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uris[0],
            "code": browser.params["code"],
            "code_verifier": verifier,
        }
        answer = self.http.post("/auth/token", data=form)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def token(self, client: Client, account: Account, scope: str, patient: str | None = None) -> dict[str, Any]:
        """What an app gets at the end of a whole flow."""
        browser = self.browser()
        verifier, params = self.asking(client, scope)
        browser.go("/auth/authorize", params=params)
        if browser.path == "/auth/sign-in":
            browser.sign_in(account)
        if browser.path == "/auth/choose-patient":
            browser.send("/auth/choose-patient", patient=patient or "")
        if browser.path == "/auth/consent":
            browser.send("/auth/consent", action="allow")
        return self.redeem(client, browser, verifier)

    def change(self, client: Client, **changes: Any) -> Client:
        return self.auth.clients.update(replace(client, **changes))


@pytest.fixture(scope="session")
def make_launch_site(mongodb_uri: str) -> Iterator[Callable[..., Site]]:
    """Makes servers with terms of your choice."""
    made: list[Site] = []

    def make(**terms: Any) -> Site:
        made.append(Site(mongodb_uri, f"hs_test_{uuid.uuid4().hex[:12]}", **terms))
        return made[-1]

    yield make
    for there in made:
        there.close()


@pytest.fixture(scope="session")
def launch_site(make_launch_site: Callable[..., Site]) -> Site:
    """A server that the tests of this process share: register clients and people of your own."""
    return make_launch_site()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A real browser, as the system has it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def fhirclient_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script of npm's fhirclient, as published."""
    if not NPM:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("fhirclient")
    installed = subprocess.run(
        [NPM, "install", "--no-audit", "--no-fund", "--ignore-scripts", "fhirclient@2"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"npm cannot install fhirclient: {installed.stderr[-200:]}")
    return folder / "node_modules/fhirclient/build/fhir-client.min.js"
