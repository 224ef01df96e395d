"""`memberOf` in the invariants of profiles: it knows what bindings know, and where nobody knows it says so.

Spec: https://hl7.org/fhir/R4/fhirpath.html#functions
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from fhir_server.code_systems import import_csv
from fhir_server.search.ucum import canonical
from fhir_server.terminology.system import About
from fhir_server.validation.profile.validator import ProfileValidator
from profiles.registry import registry
from profiles.terminology import terminology
from tests.terminology.samples import SETS, by, value_set
from tests.validation.profile.holding import Memory, profile

Json = dict[str, Any]

URL = "http://example.org/CodeSystem/filed"
PROFILE = "http://example.org/StructureDefinition/member-of"
FILE = "code,display,parent\nanimal,Animal,\ndog,Dog,animal\nplant,Plant,\n"


def asking(expression: str) -> Json:
    """A profile of Basic with an invariant."""
    constraint = {"key": "x-1", "severity": "error", "human": "it is an animal", "expression": expression}
    return {"resourceType": "StructureDefinition", "id": "member-of", "url": PROFILE, "name": "MemberOf",
            "status": "active", "kind": "resource", "abstract": False, "type": "Basic", "derivation": "constraint",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Basic",
            "differential": {"element": [{"id": "Basic", "path": "Basic", "constraint": [constraint]}]}}  # fmt: skip


@pytest.fixture(scope="module")
def filed(make_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with a code system from a file, and value sets of it and of what is not held."""
    server = make_server()
    path = tmp_path_factory.mktemp("csv") / "filed.csv"
    path.write_text(FILE)
    import_csv(server.settings, path, About(URL, "1", "Filed"), lambda *_: None, grace_s=0)
    for resource in (
        value_set("filed", by("concept", "is-a", "animal", URL)),
        value_set("unheld", by("concept", "is-a", "x", "urn:example:nowhere")),
    ):
        assert server.client.put(f"ValueSet/{resource['id']}", json=resource).status_code == 201
    return server


def judged(server: Any, expression: str, code: str, system: str = URL) -> list[tuple[str, str]]:
    """What `$validate` says of a Basic with a code: severities and keys."""
    assert server.client.put("StructureDefinition/member-of", json=asking(expression)).status_code in (200, 201)
    body = {"resourceType": "Basic", "code": {"coding": [{"system": system, "code": code}]}}
    answer = server.client.post("Basic/$validate", params={"profile": PROFILE}, json=body)
    rows = [
        (one["severity"], one["details"]["coding"][0]["code"]) for one in answer.json()["issue"] if "details" in one
    ]
    return [row for row in rows if row[1].startswith("HS-PROFILE")]


IN_FILE = f"code.memberOf('{SETS}filed')"
UNHELD = f"code.memberOf('{SETS}unheld')"
BROKEN = [("error", "HS-PROFILE-INVARIANT")]
UNCHECKED = [("information", "HS-PROFILE-UNCHECKED")]


@pytest.mark.parametrize(
    ("expression", "code", "found"),
    [
        (IN_FILE, "dog", []),
        (IN_FILE, "plant", BROKEN),
        (f"code.coding.where(memberOf('{SETS}filed')).exists()", "dog", []),
        (f"code.coding.where(memberOf('{SETS}filed')).exists()", "plant", BROKEN),
        (f"{IN_FILE}.not()", "dog", BROKEN),
        (UNHELD, "dog", BROKEN),  # none of another code system is in it
        (f"code.exists() and {IN_FILE}", "unicorn", BROKEN),
    ],
)
def test_an_invariant_asks_what_is_held_as_rows(filed: Any, expression: str, code: str, found: list[Any]) -> None:
    assert judged(filed, expression, code) == found


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        (UNHELD, UNCHECKED),
        (f"{UNHELD}.not()", UNCHECKED),
        (f"code.coding.where(memberOf('{SETS}unheld')).exists()", UNCHECKED),
        ("code.memberOf('http://example.org/ValueSet/nobody-has-it')", UNCHECKED),
        (f"{UNHELD} or code.exists()", []),
        (f"{UNHELD} and code.empty()", BROKEN),
    ],
)
def test_what_nobody_knows_is_told_as_not_checked_where_it_decides(
    filed: Any, expression: str, found: list[Any]
) -> None:
    assert judged(filed, expression, "x", "urn:example:nowhere") == found


def test_a_write_that_claims_a_profile_is_held_to_it(make_server: Callable[..., Any], tmp_path: Path) -> None:
    policy = tmp_path / "validation.toml"
    policy.write_text(f'[type.Basic]\nrequired = ["{PROFILE}"]\n')
    server = make_server(validation_file=policy)
    path = tmp_path / "filed.csv"
    path.write_text(FILE)
    import_csv(server.settings, path, About(URL, "1", "Filed"), lambda *_: None, grace_s=0)
    for body in (value_set("filed", by("concept", "is-a", "animal", URL)), asking(IN_FILE)):
        assert server.client.put(f"{body['resourceType']}/{body['id']}", json=body).status_code == 201

    def written(code: str) -> int:
        body = {"resourceType": "Basic", "code": {"coding": [{"system": URL, "code": code}]}}
        return int(server.client.post("Basic", json=body).status_code)

    assert (written("dog"), written("plant")) == (201, 422)


# --- by itself ---

RULE = {"key": "x-1", "severity": "error", "human": "h"}


class Knowing:
    """Knows some memberships, and notes what it was asked."""

    def __init__(self, answers: Mapping[tuple[str, str], bool | None]) -> None:
        self._answers = answers
        self.asked: list[tuple[str, str]] = []

    async def member_of(self, value_set: str, system: str | None, code: str) -> bool | None:
        self.asked.append((value_set, code))
        return self._answers.get((value_set, code))


def issues(expression: str, knowing: Knowing, *codes: str) -> list[str]:
    whole = profile("Basic", {"path": "code", "constraint": [{**RULE, "expression": expression}]})
    validator = ProfileValidator(registry(), terminology(), canonical, Memory([whole]), knowing)
    body = {"resourceType": "Basic", "code": {"coding": [{"system": "urn:s", "code": code} for code in codes]}}
    return [str(issue.key) for issue in asyncio.run(validator.issues_of(body, [whole["url"]]))]


def test_each_membership_is_asked_once_and_one_answer_may_lead_to_the_next_question() -> None:
    knowing = Knowing({("urn:one", "a"): True, ("urn:two", "a"): True})
    expression = "coding.where(memberOf('urn:one')).all(memberOf('urn:two')) and coding.exists(memberOf('urn:one'))"
    assert issues(expression, knowing, "a") == []
    assert knowing.asked == [("urn:one", "a"), ("urn:two", "a")]


def test_a_no_is_told_and_a_doubt_is_none() -> None:
    every = "coding.all(memberOf('urn:one'))"
    assert issues(every, Knowing({("urn:one", "a"): True, ("urn:one", "b"): False}), "a", "b") == [
        "HS-PROFILE-INVARIANT"
    ]
    assert issues(every, Knowing({("urn:one", "a"): True}), "a", "b") == ["HS-PROFILE-UNCHECKED"]
    assert issues(every, Knowing({("urn:one", "a"): False}), "a", "b") == ["HS-PROFILE-INVARIANT"]
