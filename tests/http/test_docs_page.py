"""The page that shows the API: it loads nothing from elsewhere, and works in a browser.

Spec: https://www.w3.org/TR/CSP3/
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

HTML, CSS, JS = (
    (files("fhir_server") / "http" / "docs" / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def root_of(server: Any) -> str:
    return str(server.base_url).removesuffix("/fhir")


def test_the_page_allows_scripts_and_styles_from_here_alone(server: Any) -> None:
    answer = server.client.get(f"{root_of(server)}/docs")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    rules = dict(rule.split(maxsplit=1) for rule in answer.headers["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert rules["connect-src"] == f"'self' {root_of(server)}"


def test_the_page_has_no_script_of_its_own_text_and_names_no_other_host() -> None:
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", HTML) == []
    assert re.findall(r"(?:src|href|url|import|fetch)\W{1,3}(?:https?:)?//", HTML + CSS + JS) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", JS) == []


def test_everything_that_the_page_loads_is_here(server: Any) -> None:
    root = root_of(server)
    for address in re.findall(r'(?:src|href)="([^"#:]+)"', HTML):
        assert server.client.get(f"{root}/{address.removeprefix('./')}").status_code == 200, address
    front = server.client.get(f"{root}/").text
    assert 'href="docs"' in front
    assert 'href="openapi.json"' in front


@pytest.fixture(scope="module")
def page(server: Any) -> Iterator[Any]:
    """The page in a browser, whose requests the server in this process answers."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    api = pytest.importorskip("playwright.sync_api")

    def answered(route: Any) -> None:
        found = server.client.get(route.request.url, headers={"Accept-Encoding": "identity"})
        route.fulfill(status=found.status_code, headers=dict(found.headers), body=found.content)

    with api.sync_playwright() as playwright:
        trusted = f"--unsafely-treat-insecure-origin-as-secure={root_of(server)}"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", trusted])
        page = browser.new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
        page.route("**/*", answered)
        page.goto(f"{root_of(server)}/docs")
        page.wait_for_selector("#types a")
        yield page
        browser.close()


def test_the_page_lists_all_types_and_breaks_no_rule(page: Any) -> None:
    assert page.locator("#types a").count() == 148
    assert page.locator("main details").count() > 10
    assert page.faults == []


def test_a_type_shows_its_calls_parameters_operations_and_elements(page: Any) -> None:
    page.locator("#types a", has_text="Patient").first.click()
    page.wait_for_selector("h1:has-text('Patient')")
    assert page.locator("main h2").all_inner_texts() == ["Interactions", "Search parameters", "Operations", "Elements"]
    assert page.locator("#search-birthdate td").nth(2).inner_text() == "Patient.birthDate"
    assert "HumanName" in page.locator("#element-name td").nth(1).inner_text()
    page.locator("summary", has_text="$everything").first.click()
    assert "curl" in page.locator("details[open] pre").inner_text()
    assert page.faults == []


def test_what_is_looked_for_is_found_and_leads_to_its_place(page: Any) -> None:
    page.fill("#find", "birthdate")
    page.wait_for_selector(".hits li")
    assert "search parameter" in page.locator(".hits li").first.inner_text()
    page.locator(".hits a").first.click()
    page.wait_for_selector("#search-birthdate")
    assert page.url.endswith("#Patient/search-birthdate")
    page.fill("#find", "$stats")
    page.wait_for_selector(".hits li:has-text('operation')")
    assert page.locator(".hits a").first.inner_text() == "$stats"
    page.fill("#find", "<img src=x onerror=alert(1)>")
    page.wait_for_selector("h1:has-text('<img')")
    assert page.locator("main img").count() == 0
    assert page.faults == []
