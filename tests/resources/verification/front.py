"""The pages and the accounts of a server, as doctors who apply and administrators use them."""

from __future__ import annotations

import re
from typing import Any

import httpx
from pymongo import MongoClient

from tests.conftest import InProcessServer

Json = dict[str, Any]

PASSWORD = "tangerine gravel kazoo"
CSRF = re.compile(r'name="csrf" value="([^"]+)"')
LINK = re.compile(r"http://test(/auth/[a-z-]+\?token=\S+)")


class Front:
    """A server with accounts."""

    def __init__(self, server: InProcessServer) -> None:
        self.server = server
        assert server.settings.mongodb_uri is not None
        self._mongo = server.settings.mongodb_uri.get_secret_value()
        self._operator = server.settings.access_token_file.read_text().strip()

    def browser(self) -> httpx.Client:
        transport = self.server.client._transport
        return httpx.Client(transport=transport, base_url="http://test", follow_redirects=True)

    def applied(self, email: str, **fields: str) -> Json:
        """Apply on the page, and prove the address; the account."""
        with self.browser() as browser:
            form = {"given": "Dora", "family": "Doc", "email": email, "specialty": "Cardiology", "licence": email,
                    "issuer": "Board of Medicine", "organization": "", **fields}  # fmt: skip
            self.sent(browser, "/auth/apply", **form)
            assert "Your application has arrived" in self.followed(browser, email)
        return self.account(email)

    def followed(self, browser: httpx.Client, email: str) -> str:
        """Follow the link of the latest mail, and choose a password; the page to which this leads."""
        path = LINK.search(self.mail(email))
        assert path is not None
        token = path[1].partition("token=")[2]
        return self.sent(browser, path[1], token=token, password=PASSWORD, repeat=PASSWORD).text

    def sent(self, browser: httpx.Client, path: str, **fields: str) -> httpx.Response:
        """Fill a form in and send it."""
        page = browser.get(path)
        csrf = CSRF.search(page.text)
        assert csrf is not None, page.text
        answer = browser.post(path.partition("?")[0], data={"csrf": csrf[1], **fields})
        assert answer.status_code == 200, answer.text
        return answer

    def mail(self, to: str) -> str:
        """The text of the latest mail to somebody."""
        with MongoClient[Json](self._mongo) as client:
            rows = client[self.server.settings.mongodb_database]["auth_mails"].find({"to": to})
            return str(rows.sort([("sent_at", -1), ("_id", -1)])[0]["text"])

    def account(self, email: str) -> Json:
        (row,) = self.api("GET", f"?text={email}")["accounts"]
        found: Json = row
        return found

    def api(self, method: str, path: str, body: Json | None = None, expect: int = 200) -> Json:
        """Ask as the operator."""
        headers = {"Authorization": f"Bearer {self._operator}"}
        answer = self.server.client.request(
            method, f"http://test/auth/admin/accounts{path}", json=body, headers=headers
        )
        assert answer.status_code == expect, answer.text
        told: Json = answer.json()
        return told

    def caught_up(self) -> None:
        """What other processes have decided has been followed."""
        self.server.run(self.server.context.feed.caught_up())
