"""What was removed for good and made again under its id, with the versions that it had: nothing of the old one answers.

Versions begin at 1 again, so whatever is kept by id and version would still be what was removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.terminology.samples import MAPS, SETS, answers, codes, parameters, value_set

Json = dict[str, Any]

URL = "http://example.org/CodeSystem/remade"
PROFILE = "http://example.org/StructureDefinition/remade"


@pytest.fixture(scope="module")
def client(make_server: Callable[..., Any]) -> Any:
    """The client of a server of its own."""
    return make_server().client


def put(client: Any, body: Json, status: int = 201) -> None:
    answer = client.put(f"{body['resourceType']}/{body['id']}", json=body)
    assert answer.status_code == status, answer.text
    if status == 201:
        assert answer.headers["ETag"] == 'W/"1"', "it must begin again for these tests to tell anything"


def expunge(client: Any, address: str) -> None:
    answer = client.post(f"{address}/$expunge", json=parameters(confirm=True))
    assert answer.status_code == 200, answer.text


def remake(client: Any, body: Json) -> None:
    """Remove a resource for good, and make another one with its id."""
    expunge(client, f"{body['resourceType']}/{body['id']}")
    put(client, body)


def code_system(*concepts: str, **more: Any) -> Json:
    rows = [{"code": code, "display": code.title()} for code in concepts]
    return {"resourceType": "CodeSystem", "id": "remade", "url": URL, "status": "active", "content": "complete",
            "concept": rows, **more}  # fmt: skip


def concept_map(target: str) -> Json:
    element = [{"code": "a", "target": [{"code": target, "equivalence": "equivalent"}]}]
    group = [{"source": "urn:from", "target": "urn:to", "element": element}]
    return {"resourceType": "ConceptMap", "id": "remade", "url": MAPS + "remade", "status": "active", "group": group}


def profile(element: str) -> Json:
    rows = [{"id": "Basic", "path": "Basic"}, {"id": f"Basic.{element}", "path": f"Basic.{element}", "min": 1}]
    return {"resourceType": "StructureDefinition", "id": "remade", "url": PROFILE, "name": "Remade", "status": "active",
            "kind": "resource", "abstract": False, "type": "Basic", "derivation": "constraint",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Basic",
            "differential": {"element": rows}}  # fmt: skip


def search_parameter(expression: str) -> Json:
    return {"resourceType": "SearchParameter", "id": "remade", "url": "http://example.org/SearchParameter/remade",
            "name": "Remade", "status": "active", "description": "d", "code": "remade", "base": ["Basic"],
            "type": "reference", "expression": expression, "target": ["Patient", "Practitioner"]}  # fmt: skip


def test_a_value_set_that_was_made_again_is_expanded_as_it_is_now(client: Any) -> None:
    def expanded() -> list[str]:
        return codes(client.get("ValueSet/$expand", params={"url": SETS + "remade"}).json())

    put(client, value_set("remade", {"system": "urn:s", "concept": [{"code": "old"}]}))
    assert expanded() == ["old"]
    remake(client, value_set("remade", {"system": "urn:s", "concept": [{"code": "new"}]}))
    assert expanded() == ["new"]
    given = {"url": SETS + "remade", "system": "urn:s", "code": "old"}
    assert answers(client.get("ValueSet/$validate-code", params=given).json())["result"] is False


def test_a_code_system_that_was_made_again_has_the_codes_that_it_has_now(client: Any) -> None:
    def lookup(code: str) -> int:
        return int(client.get("CodeSystem/$lookup", params={"system": URL, "code": code}).status_code)

    put(client, code_system("old"))
    assert lookup("old") == 200
    remake(client, code_system("new"))
    assert (lookup("old"), lookup("new")) == (404, 200)
    expunge(client, "CodeSystem/remade")


def test_a_concept_map_that_was_made_again_translates_as_it_does_now(client: Any) -> None:
    def translated() -> Any:
        given = {"url": MAPS + "remade", "system": "urn:from", "code": "a"}
        (match,) = [r for r in client.get("ConceptMap/$translate", params=given).json()["parameter"] if "part" in r]
        return next(part["valueCoding"]["code"] for part in match["part"] if part["name"] == "concept")

    put(client, concept_map("old"))
    assert translated() == "old"
    remake(client, concept_map("new"))
    assert translated() == "new"


def test_a_profile_that_was_made_again_asks_for_what_it_asks_now(client: Any) -> None:
    def missing() -> list[str]:
        body = {"resourceType": "Basic", "code": {"text": "x"}}
        told = client.post("Basic/$validate", params={"profile": PROFILE}, json=body).json()["issue"]
        return [issue["expression"][0] for issue in told if issue["severity"] == "error"]

    put(client, profile("subject"))
    old = missing()
    remake(client, profile("author"))
    new = missing()
    assert len(old) == len(new) == 1
    assert old != new


def test_a_search_parameter_that_was_made_again_searches_by_what_it_says_now(client: Any) -> None:
    def found(reference: str) -> list[str]:
        answer = client.get("Basic", params={"remade": reference}, headers={"Prefer": "handling=strict"})
        rows = answer.json().get("entry", ())
        return [row["resource"]["id"] for row in rows if row["search"]["mode"] == "match"]

    def basic(name: str) -> Json:
        return {"resourceType": "Basic", "id": name, "code": {"text": "x"}, "subject": {"reference": "Patient/s"},
                "author": {"reference": "Practitioner/a"}}  # fmt: skip

    put(client, search_parameter("Basic.subject"))
    put(client, basic("remade-1"))
    assert found("Patient/s") == ["remade-1"]
    remake(client, search_parameter("Basic.author"))
    put(client, basic("remade-2"))
    assert found("Practitioner/a") == ["remade-2"]


def test_a_search_parameter_that_was_removed_for_good_is_in_force_no_longer(client: Any) -> None:
    put(client, {**search_parameter("Basic.subject"), "id": "removed", "code": "removed",
                 "url": "http://example.org/SearchParameter/removed"})  # fmt: skip
    later = {**search_parameter("Basic.author"), "id": "later", "code": "later"}
    put(client, {**later, "url": "http://example.org/SearchParameter/later"})  # what is newest does not change
    strict = {"Prefer": "handling=strict"}
    assert client.get("Basic", params={"removed": "Patient/s"}, headers=strict).status_code == 200
    expunge(client, "SearchParameter/removed")
    assert client.get("Basic", params={"removed": "Patient/s"}, headers=strict).status_code == 400
    assert client.get("Basic", params={"later": "Practitioner/a"}, headers=strict).status_code == 200


def test_a_big_code_system_goes_with_its_resource_and_is_built_anew_when_that_is_made_again(
    make_server: Callable[..., Any],
) -> None:
    server = make_server()
    client = server.client

    def body(prefix: str) -> Json:
        many = code_system(*(f"{prefix}{number}" for number in range(3_000)))
        for concept in many["concept"]:
            concept["definition"] = "long " * 70
        return many

    def lookup(code: str) -> int:
        return int(client.get("CodeSystem/$lookup", params={"system": URL, "code": code}).status_code)

    def built(code: str) -> None:
        end = time.monotonic() + 60
        while (found := lookup(code)) != 200:
            assert found == 503
            assert time.monotonic() < end
            time.sleep(0.1)

    async def rows() -> int:
        big = server.context.terminology.big
        return len(await big.systems.all({"u": URL})) + await big.concepts.count({}, max_time_ms=5_000)

    put(client, body("old"))
    built("old1")
    expunge(client, "CodeSystem/remade")
    assert lookup("old1") == 404
    assert server.run(rows()) == 0, "its concepts are removed as well"
    put(client, body("new"))
    built("new1")
    assert lookup("old1") == 404
