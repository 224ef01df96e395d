"""The pages in a real Chromium: passkeys of a virtual authenticator, and the strict policy of content."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from smart_auth.accounts import now

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)

ACCOUNT = re.compile(r"^http://localhost:\d+/auth/account$")
PASSWORD = "tangerine gravel kazoo"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium"),
    # Playwright's own loop leaves its pipes to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def served(make_site: Any) -> Iterator[Any]:
    """A site that listens, at `localhost`, since browsers bind passkeys to names."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        site = make_site(base_url=f"http://localhost:{port}/fhir")
        server = uvicorn.Server(uvicorn.Config(site.app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="pages", daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield site
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive()


class Person:
    """Somebody with a browser window and a device that knows who they are."""

    def __init__(self, chromium: Any, origin: str) -> None:
        self.context = chromium.new_context(base_url=origin)
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.faults: list[str] = []
        self.page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.cdp = self.context.new_cdp_session(self.page)
        self.cdp.send("WebAuthn.enable")
        self.device = self.add_device()

    def add_device(self, *, verifies: bool = True) -> str:
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": verifies,
            "automaticPresenceSimulation": True,
        }
        return str(self.cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"])

    def keys(self) -> list[dict[str, Any]]:
        return list(self.cdp.send("WebAuthn.getCredentials", {"authenticatorId": self.device})["credentials"])

    def sign_in(self, email: str = "ida@example.org") -> None:
        self.page.goto("/auth/sign-in")
        self.page.get_by_label("E-mail address").fill(email)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in", exact=True).click()
        self.page.wait_for_url(ACCOUNT)

    def add_passkey(self, name: str) -> None:
        self.page.goto("/auth/account/passkeys")
        self.page.get_by_label("A name for it").fill(name)
        self.page.get_by_role("button", name="Add the passkey").click()

    def leave(self) -> None:
        self.context.clear_cookies()

    def sign_in_with_passkey(self, next_path: str = "/auth/account") -> None:
        self.page.goto(f"/auth/sign-in?next={next_path}")
        self.page.get_by_role("button", name="Sign in with a passkey").click()


@pytest.fixture
def person(served: Any, chromium: Any) -> Iterator[Person]:
    person = Person(chromium, served.side.parts.origin)
    yield person
    person.context.close()


def test_a_passkey_is_added_and_then_opens_the_account_without_a_password(served: Any, person: Person) -> None:
    account = served.account()
    person.sign_in()
    person.add_passkey("My telephone")
    person.page.wait_for_url("**/auth/account?done=passkey")
    assert person.page.get_by_text("My telephone").is_visible()
    (key,) = person.keys()
    assert (key["rpId"], key["isResidentCredential"]) == ("localhost", True)
    row = served.store.rows("passkeys").find_one()
    assert (row["account_id"], row["name"]) == (account.id, "My telephone")
    person.leave()
    person.sign_in_with_passkey()
    person.page.wait_for_url(ACCOUNT)
    assert person.page.get_by_role("heading", name="Your account").is_visible()
    assert served.trail.details("sign-in")[-1].split()[-2:] == ["user", "mfa"]
    assert served.store.rows("passkeys").find_one()["sign_count"] > row["sign_count"]
    assert person.faults == []


def test_an_account_with_a_passkey_does_not_open_to_its_password_alone(served: Any, person: Person) -> None:
    served.account()
    person.sign_in()
    person.add_passkey("My telephone")
    person.page.wait_for_url("**/auth/account?done=passkey")
    person.leave()
    person.page.goto("/auth/sign-in")
    person.page.get_by_label("E-mail address").fill("ida@example.org")
    person.page.get_by_label("Password").fill(PASSWORD)
    person.page.get_by_role("button", name="Sign in", exact=True).click()
    person.page.wait_for_url("**/auth/sign-in/second**")
    person.page.get_by_role("button", name="Use a passkey").click()
    person.page.wait_for_url(ACCOUNT)


def test_a_key_whose_count_goes_back_is_refused(served: Any, person: Person) -> None:
    served.account()
    person.sign_in()
    person.add_passkey("My telephone")
    person.page.wait_for_url("**/auth/account?done=passkey")
    served.store.rows("passkeys").update_one({}, {"$set": {"sign_count": 1000}})
    person.leave()
    person.sign_in_with_passkey()
    person.page.get_by_text("This passkey opens no account here.").wait_for()
    assert served.trail.details("sign-in-refused") == ["passkey does not prove it"]
    assert not [cookie for cookie in person.context.cookies() if cookie["name"] == "hs-session"]


def test_a_removed_key_opens_nothing(served: Any, person: Person) -> None:
    served.account()
    person.sign_in()
    person.add_passkey("My telephone")
    person.page.wait_for_url("**/auth/account?done=passkey")
    person.page.get_by_role("listitem").filter(has_text="My telephone").get_by_role("button", name="Remove").click()
    person.page.wait_for_url("**/auth/account?done=passkey")
    assert served.row("ida@example.org")["passkeys"] == 0
    person.leave()
    person.sign_in_with_passkey()
    person.page.get_by_text("This passkey opens no account here.").wait_for()
    person.sign_in()  # and the password is enough again


def test_the_same_device_is_not_registered_twice_and_another_is(served: Any, person: Person) -> None:
    served.account()
    person.sign_in()
    person.add_passkey("One")
    person.page.wait_for_url("**/auth/account?done=passkey")
    person.add_passkey("Two")
    person.page.get_by_text("This device has a passkey for this account already.").wait_for()
    person.cdp.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": person.device})
    person.device = person.add_device()
    person.add_passkey("Two")
    person.page.wait_for_url("**/auth/account?done=passkey")
    assert served.row("ida@example.org")["passkeys"] == 2


def test_a_device_that_does_not_know_who_holds_it_is_not_enough(served: Any, person: Person) -> None:
    served.account()
    person.sign_in()
    person.cdp.send("WebAuthn.setUserVerified", {"authenticatorId": person.device, "isUserVerified": False})
    person.add_passkey("One")
    person.page.get_by_text("The passkey was not used.").wait_for()
    assert served.store.rows("passkeys").count_documents({}) == 0


def test_a_disabled_account_stays_closed_to_its_passkey(served: Any, person: Person) -> None:
    account = served.account()
    person.sign_in()
    person.add_passkey("One")
    person.page.wait_for_url("**/auth/account?done=passkey")
    served.side.parts.accounts.change(account.id, {"state": "disabled", "credentials_changed_at": now()})
    person.leave()
    person.sign_in_with_passkey()
    person.page.get_by_text("This account is disabled.").wait_for()


def test_a_ticket_is_good_once_and_not_for_another_account(served: Any, person: Person) -> None:
    """What a script would send, sent twice: the second finds the ticket used."""
    served.account()
    person.sign_in()
    person.add_passkey("One")
    person.page.wait_for_url("**/auth/account?done=passkey")
    sent: list[Any] = []
    person.page.on("request", lambda request: sent.append(request) if request.url.endswith("/sign-in") else None)
    person.leave()
    person.sign_in_with_passkey()
    person.page.wait_for_url(ACCOUNT)
    post = next(request for request in sent if request.method == "POST")
    browser = served.browser()
    browser.get("/auth/sign-in")
    headers = {"X-CSRF-Token": browser.csrf, "Content-Type": "application/json"}
    answer = browser.client.post("/auth/passkeys/sign-in", content=post.post_data, headers=headers)
    assert answer.status_code == 403
    assert "too long" in answer.json()["error"]


def test_pages_work_without_a_script_and_break_no_rule_of_their_policy(served: Any, chromium: Any) -> None:
    served.account()
    context = chromium.new_context(base_url=served.side.parts.origin, java_script_enabled=False)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda said: faults.append(said.text))
    page.goto("/auth/account")
    page.get_by_label("E-mail address").fill("ida@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(ACCOUNT)
    for path in ("password", "email", "totp", "passkeys"):
        page.goto(f"/auth/account/{path}")
    page.goto("/auth/account")
    page.get_by_role("button", name="Sign out", exact=True).first.click()
    page.get_by_text("You are signed out").wait_for()
    assert faults == []
    context.close()
