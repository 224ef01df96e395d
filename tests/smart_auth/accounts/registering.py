"""How people of tests register, apply and follow the links of mails."""

from __future__ import annotations

from typing import Any

from smart_auth.parts import Visit

PASSWORD = "tangerine gravel kazoo"
PERSON = {"given": "Ida Maria", "family": "Berg", "birth_date": "1980-03-01", "email": "ida@example.org"}
DOCTOR = {
    "given": "Dora",
    "family": "Doc",
    "email": "dora@example.org",
    "specialty": "Cardiology",
    "licence": "L-4711",
    "issuer": "Board of Medicine",
    "organization": "Clinic North",
}


def register(browser: Any, path: str = "/auth/register", **fields: str) -> Any:
    browser.get(path)
    return browser.send(path, **fields)


def follow(browser: Any, link: str, password: str = PASSWORD, repeat: str | None = None) -> Any:
    browser.get(link)
    path, _, token = link.partition("?token=")
    return browser.send(path, token=token, password=password, repeat=password if repeat is None else repeat)


def apply(site: Any) -> str:
    """The id of the account of a doctor who has applied and proven the address."""
    browser = site.browser()
    register(browser, "/auth/apply", **DOCTOR)
    follow(browser, site.link("dora@example.org"))
    assert "Your application has arrived" in browser.text
    return str(site.row("dora@example.org")["_id"])


def decide(site: Any, account_id: str, decision: str, by: str) -> Any:
    return site.loop.run(site.side.verification.decide(account_id, decision, by=by, visit=Visit()))
