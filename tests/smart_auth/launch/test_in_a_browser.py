"""Whole launches in a real Chromium, with npm's fhirclient as the app: nobody here wrote it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "tangerine gravel kazoo"
#: Where to keep pictures of the pages, when somebody wants to look at them.
PICTURES = os.environ.get("TEST_PICTURES", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    # Playwright's own loop leaves its pipes to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: An app as its documentation says one is written: a page that asks, and a page to which the user comes back.
LAUNCH_PAGE = """<!doctype html><title>Launch</title><link rel="icon" href="data:,"><script src="{script}"></script>
<script>FHIR.oauth2.authorize({options});</script>"""
INDEX_PAGE = """<!doctype html><title>App</title><link rel="icon" href="data:,">
<script src="{script}"></script><pre id="said"></pre>
<script>
const said = (what) => {{ document.getElementById("said").textContent = JSON.stringify(what); }};
FHIR.oauth2.ready()
  .then(async (client) => {{
    const patient = await client.patient.read();
    said({{name: patient.name[0].text, user: client.user.fhirUser, encounter: client.encounter.id,
      scope: client.state.tokenResponse.scope, intent: client.state.tokenResponse.intent || null,
      refreshed: client.state.tokenResponse.refresh_token
        ? (await client.refresh()).tokenResponse.access_token !== "" : false}});
  }})
  .catch((error) => said({{error: String(error)}}));
</script>"""


class Person:
    """Somebody with a browser window."""

    def __init__(self, chromium: Any, site: Any, **how: Any) -> None:
        self.site = site
        self.context = chromium.new_context(base_url=site.root, **how)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.faults: list[str] = []
        self.page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def sign_in(self, account: Any) -> None:
        self.page.get_by_label("E-mail address").fill(account.email)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in", exact=True).click()

    def picture(self, name: str) -> None:
        if PICTURES:
            Path(PICTURES).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)

    def fits(self) -> bool:
        """Whether nothing of the page lies beside the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))

    def said(self) -> dict[str, Any]:
        """What the app shows in the end."""
        self.page.wait_for_function("document.getElementById('said')?.textContent")
        return dict(json.loads(self.page.locator("#said").text_content()))


@pytest.fixture
def somebody(chromium: Any, launch_site: Any) -> Iterator[Any]:
    people: list[Person] = []

    def make(**how: Any) -> Person:
        people.append(Person(chromium, launch_site, **how))
        return people[-1]

    yield make
    for person in people:
        person.context.close()


def fhirclient_app(site: Any, script: Path, scope: str, *, standalone: bool) -> Any:
    """An app with npm's fhirclient, registered and served."""
    kind = "standalone" if standalone else "ehr"
    client = site.client(
        name="Growth Chart",
        redirect_uris=(f"{site.root}/app/{kind}-index",),
        launch_url="" if standalone else f"{site.root}/app/{kind}-launch",
        publisher="Chart Makers",
        client_uri="https://charts.example.org",
        description="Draws how children grow, and compares it with other children of their age.",
    )
    options = {"clientId": client.client_id, "scope": scope, "redirectUri": f"/app/{kind}-index"}
    if standalone:
        options["iss"] = site.issuer
    address = f"/static{script}"
    site.app_pages[f"{kind}-launch"] = LAUNCH_PAGE.format(script=address, options=json.dumps(options))
    site.app_pages[f"{kind}-index"] = INDEX_PAGE.format(script=address)
    return client


def test_fhirclient_completes_a_standalone_launch_with_a_patient_chosen_and_a_scope_dropped(
    somebody: Any, launch_site: Any, fhirclient_script: Path
) -> None:
    scope = "openid fhirUser launch/patient patient/Patient.rs patient/Observation.rs offline_access"
    fhirclient_app(launch_site, fhirclient_script, scope, standalone=True)
    doctor = somebody()
    doctor.page.goto("/app/standalone-launch")
    doctor.sign_in(launch_site.account())
    doctor.page.wait_for_url("**/auth/choose-patient?**")
    doctor.page.get_by_label("Name, identifier or birth date").fill("falk")
    doctor.page.get_by_role("button", name="Search").click()
    doctor.picture("choose-patient")
    doctor.page.get_by_role("button", name="Choose Jonas Falk").click()
    doctor.page.wait_for_url("**/auth/consent?**")
    doctor.picture("consent")
    doctor.page.get_by_label("Read measurements, test results and other observations").uncheck()
    doctor.page.get_by_role("button", name="Allow", exact=True).click()
    said = doctor.said()
    assert said.get("name") == "Jonas Falk", said
    assert said["user"] == "Practitioner/1"
    assert said["scope"] == "openid fhirUser launch/patient patient/Patient.rs offline_access"
    assert said["refreshed"] is True
    assert not doctor.faults


def test_fhirclient_completes_an_ehr_launch_from_the_gallery(
    somebody: Any, launch_site: Any, fhirclient_script: Path
) -> None:
    scope = "launch openid fhirUser patient/Patient.rs"
    client = fhirclient_app(launch_site, fhirclient_script, scope, standalone=False)
    doctor = somebody()
    doctor.page.goto("/auth/apps")
    doctor.sign_in(launch_site.account())
    doctor.page.locator(f"a[href='/auth/launch?app={client.client_id}']").click()
    doctor.page.get_by_label("Name, identifier or birth date").fill("MRN-3")
    doctor.page.get_by_role("button", name="Search").click()
    doctor.page.get_by_role("link", name="Choose Ida Berg").click()
    doctor.page.get_by_label("Visit").select_option(label="2026-10-02 Check-up (finished)")
    doctor.page.get_by_text("More for the app").click()
    doctor.page.get_by_label("What you want to do").fill("order")
    doctor.picture("launch")
    doctor.page.get_by_role("button", name="Open the app").click()
    doctor.page.wait_for_url("**/auth/consent?**")
    assert "Ida Berg" in doctor.page.locator("main").inner_text()
    doctor.page.get_by_role("button", name="Allow", exact=True).click()
    said = doctor.said()
    assert (said["name"], said["encounter"], said["intent"]) == ("Ida Berg", "31", "order"), said
    assert not doctor.faults


def test_fhirclient_is_told_when_the_user_refuses(somebody: Any, launch_site: Any, fhirclient_script: Path) -> None:
    fhirclient_app(launch_site, fhirclient_script, "openid launch/patient patient/Patient.rs", standalone=True)
    patient = somebody()
    patient.page.goto("/app/standalone-launch")
    patient.sign_in(launch_site.account("patient"))
    patient.page.get_by_role("button", name="Do not allow").click()
    assert "The user did not allow it" in patient.said()["error"]


@pytest.mark.parametrize(
    ("window", "script"),
    [("desktop", True), ("phone", True), ("phone", False)],
    ids=["desktop", "phone", "phone-without-script"],
)
def test_every_page_fits_and_works_without_a_fault(somebody: Any, launch_site: Any, window: str, script: bool) -> None:
    sizes = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}
    app = launch_site.client(
        name="Growth Chart of a Very Long Name that Somebody Gave It",
        launch_url="https://app.example.org/launch",
        publisher="Chart Makers",
        client_uri="https://charts.example.org",
        description="Draws how children grow, and compares it with other children of their age.",
    )
    doctor = somebody(viewport=sizes[window], java_script_enabled=script)

    def look(name: str) -> None:
        doctor.picture(f"{window}{'' if script else '-plain'}-{name}")
        if script:
            assert doctor.fits(), name

    scope = (
        "openid fhirUser launch/patient launch/encounter offline_access patient/*.cruds patient/Patient.rs "
        "patient/Observation.rs patient/Condition.rs user/Practitioner.rs"
    )
    _, params = launch_site.asking(app, scope)
    doctor.page.goto("/auth/authorize?" + "&".join(f"{name}={value}" for name, value in params.items()))
    doctor.sign_in(launch_site.account())
    look("choose-patient")
    doctor.page.get_by_role("button", name="Choose Ida Berg").click()
    look("choose-encounter")
    doctor.page.get_by_role("button", name="Choose Emergency visit, 2026-09-01").click()
    look("consent")
    for more in doctor.page.get_by_text("Only some of it").all():
        more.click()
    look("consent-open")
    doctor.page.locator("main").get_by_label("Laboratory results").last.check()
    doctor.page.get_by_role("button", name="Allow", exact=True).click()
    assert "would give all of them" in doctor.page.get_by_role("alert").inner_text()
    look("consent-conflict")
    for path, name in (
        ("/auth/apps", "apps"),
        (f"/auth/launch?app={app.client_id}", "launch-patient"),
        (f"/auth/launch?app={app.client_id}&patient=Patient/3", "launch"),
        ("/auth/consent?request=over", "over"),
    ):
        doctor.page.goto(path, wait_until="load")
        look(name)
    allowed = [fault for fault in doctor.faults if "400 (Bad Request)" not in fault]
    assert not allowed


@pytest.mark.parametrize("window", [1280, 360])
def test_the_pages_of_administrators_fit(somebody: Any, launch_site: Any, window: int) -> None:
    app, patient = launch_site.client(launch_url="https://app.example.org/launch"), launch_site.account("patient")
    launch_site.token(app, patient, "openid launch/patient patient/Patient.rs offline_access")
    account = launch_site.account("administrator", name="Ada Min", fhir_user=None)
    _, secret = launch_site.side.sessions.begin(account, ("pwd", "otp"), address="", agent="")
    admin = somebody(viewport={"width": window, "height": 800})
    admin.context.add_cookies([{"name": launch_site.side.sessions.cookie, "value": secret, "url": launch_site.root}])
    admin.page.goto("/auth/admin/apps")
    admin.page.get_by_text("Register an app").click()
    assert admin.fits()
    admin.picture(f"admin-apps-{window}")
    admin.page.goto(f"/auth/admin/app/{app.client_id}")
    admin.page.get_by_text("Change", exact=True).click()
    assert admin.fits()
    admin.picture(f"admin-app-{window}")
    assert not admin.faults
