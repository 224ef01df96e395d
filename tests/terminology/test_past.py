"""`date`: terminology as it was, from the history of the definitions; and a plain word where that is not known.

Spec: https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_server.code_systems import import_csv
from fhir_server.model.clock import instant_of, new_id, now_us
from fhir_server.repository import past
from fhir_server.repository.packages import Installed, Packages
from fhir_server.terminology.system import About
from tests.terminology.samples import SETS, answers, codes, value_set

Json = dict[str, Any]

URL = "http://example.org/CodeSystem/then"
GENDERS = "http://hl7.org/fhir/ValueSet/administrative-gender"


@pytest.fixture(scope="module")
def server(make_server: Callable[..., Any]) -> Any:
    """A server of its own."""
    return make_server()


def moment() -> str:
    """An instant that lies between what was done before and what is done afterwards."""
    time.sleep(0.01)
    now = instant_of(now_us())
    time.sleep(0.01)
    return now


def put(server: Any, body: Json) -> None:
    answer = server.client.put(f"{body['resourceType']}/{body['id']}", json=body)
    assert answer.status_code in (200, 201), answer.text


def listed(name: str, *found: str, **more: Any) -> Json:
    return value_set(name, {"system": "urn:s", "concept": [{"code": code} for code in found]}, **more)


def code_system(*found: str, **more: Any) -> Json:
    rows = [{"code": code, "display": f"{code} display"} for code in found]
    return {"resourceType": "CodeSystem", "id": "then", "url": URL, "status": "active", "content": "complete",
            "concept": rows, **more}  # fmt: skip


def expanded(server: Any, name: str, date: str | None = None, *, by_id: bool = False) -> list[str] | int:
    """The codes of a value set, or the status where there are none."""
    given = {"date": date} if date is not None else {}
    if by_id:
        answer = server.client.get(f"ValueSet/{name}/$expand", params=given)
    else:
        answer = server.client.get("ValueSet/$expand", params={"url": SETS + name, **given})
    return codes(answer.json()) if answer.status_code == 200 else int(answer.status_code)


def key_of(answer: Any) -> str:
    return str(answer.json()["issue"][0]["details"]["coding"][0]["code"])


@pytest.mark.parametrize("by_id", [False, True])
def test_a_value_set_is_expanded_as_it_was_at_each_moment(server: Any, by_id: bool) -> None:
    name = f"versions-{by_id}".lower()
    before = moment()
    put(server, listed(name, "one"))
    first = moment()
    put(server, listed(name, "one", "two"))
    second = moment()
    server.client.delete(f"ValueSet/{name}")
    third = moment()
    put(server, listed(name, "three"))
    found = [expanded(server, name, date, by_id=by_id) for date in (before, first, second, third, None)]
    assert found == [404, ["one"], ["one", "two"], 404, ["three"]]


def test_a_value_set_is_found_by_the_url_that_it_had(server: Any) -> None:
    put(server, listed("moved", "old"))
    first = moment()
    put(server, listed("moved", "new", url=SETS + "moved-away"))
    assert expanded(server, "moved", first) == ["old"]
    assert expanded(server, "moved-away", first) == 404
    assert expanded(server, "moved") == 404


def test_what_a_value_set_imports_and_draws_on_is_of_the_same_moment(server: Any) -> None:
    put(server, code_system("a"))
    put(server, value_set("inner", {"system": URL}))
    put(server, value_set("outer", {"valueSet": [SETS + "inner"]}))
    first = moment()
    put(server, code_system("a", "b"))
    second = moment()
    put(server, listed("inner", "c"))
    assert expanded(server, "outer", first) == ["a"]
    assert expanded(server, "outer", second) == ["a", "b"]
    assert expanded(server, "outer") == ["c"]
    told = server.client.get("ValueSet/$expand", params={"url": SETS + "outer", "date": first}).json()
    assert {"name": "date", "valueDateTime": first} in told["expansion"]["parameter"]


def test_codes_are_looked_up_and_validated_as_they_were(server: Any) -> None:
    put(server, code_system("x"))
    first = moment()
    put(server, code_system("y"))

    def found(code: str, **given: str) -> tuple[int, Any]:
        looked = server.client.get("CodeSystem/$lookup", params={"system": URL, "code": code, **given}).status_code
        judged = [
            answers(server.client.get(f"{place}/$validate-code", params={"code": code, **more, **given}).json())
            for place, more in (("CodeSystem", {"url": URL}), ("CodeSystem/then", {}))
        ]
        assert judged[0]["result"] == judged[1]["result"]
        return looked, judged[0]["result"]

    assert (found("x", date=first), found("y", date=first)) == ((200, True), (404, False))
    assert (found("x"), found("y")) == ((404, False), (200, True))
    put(server, value_set("of-then", {"system": URL}))
    second = moment()
    put(server, code_system("z"))
    given = {"url": SETS + "of-then", "system": URL, "code": "y", "date": second}
    assert answers(server.client.get("ValueSet/$validate-code", params=given).json())["result"] is True


def test_a_code_system_that_was_big_is_known_as_it_was(server: Any) -> None:
    big = code_system(*(f"b{number}" for number in range(3_000)), id="was-big", url=URL + "-big")
    for concept in big["concept"]:
        concept["definition"] = "long " * 70
    put(server, big)
    first = moment()
    put(server, code_system("small", id="was-big", url=URL + "-big"))
    given = {"system": URL + "-big", "code": "b2999"}
    assert server.client.get("CodeSystem/$lookup", params={**given, "date": first}).status_code == 200
    assert server.client.get("CodeSystem/$lookup", params=given).status_code == 404


def test_what_the_specification_has_is_the_same_on_every_day_and_today_is_now(server: Any) -> None:
    for date in ("1999", "2020-02-29", "2024-01-01T12:00:00+01:00"):
        answer = server.client.get("ValueSet/$expand", params={"url": GENDERS, "date": date})
        assert codes(answer.json()) == ["male", "female", "other", "unknown"]
    put(server, listed("today", "one"))
    moment()
    today = instant_of(now_us())[:4]  # a year that has not passed
    assert expanded(server, "today", today) == ["one"]
    answer = server.client.get("ValueSet/$expand", params={"url": GENDERS, "date": "yesterday"})
    assert answer.status_code == 400


def test_a_definition_that_was_not_there_yet_is_told_by_its_date(server: Any) -> None:
    put(server, listed("new-born", "one"))
    answer = server.client.get("ValueSet/new-born/$expand", params={"date": "2001-01-01"})
    assert (answer.status_code, key_of(answer)) == (404, "HS-TERM-DATE")
    own = server.client.get("CodeSystem", params={"_count": 1, "url": "urn:healthsphere:dispensing"}).json()
    address = f"CodeSystem/{own['entry'][0]['resource']['id']}/$validate-code"
    given = {"code": "partly-dispensed", "date": "2001-01-01"}
    assert answers(server.client.get(address, params=given).json())["result"] is True


def test_of_a_code_system_from_a_file_only_what_came_before_is_known(
    make_server: Callable[..., Any], tmp_path: Path
) -> None:
    server = make_server()
    path = tmp_path / "filed.csv"
    path.write_text("code\na\n")
    before = moment()
    import_csv(server.settings, path, About(URL, "1", "Filed"), lambda *_: None, grace_s=0)
    after = moment()
    given = {"system": URL, "code": "a"}
    refused = server.client.get("CodeSystem/$lookup", params={**given, "date": before})
    assert (refused.status_code, key_of(refused)) == (422, "HS-TERM-DATE")
    assert "came from a file after that" in refused.json()["issue"][0]["diagnostics"]
    assert server.client.get("CodeSystem/$lookup", params={**given, "date": after}).status_code == 200


def test_where_packages_came_or_went_what_was_before_is_not_known(make_server: Callable[..., Any]) -> None:
    server = make_server()
    packages = Packages(server.context.repository.store)

    async def install() -> None:
        package = Installed("example.package", "1.0.0", "An example", new_id(), now_us())
        await packages.put(package, [(listed("packaged", "p"), "")])
        await server.context.definitions.refresh(at_once=True)

    async def remove() -> None:
        assert await packages.remove("example.package#1.0.0")
        await server.context.definitions.refresh(at_once=True)

    put(server, listed("stored", "s"))
    before = moment()
    server.run(install())
    after = moment()
    assert expanded(server, "packaged") == expanded(server, "packaged", after) == ["p"]
    assert expanded(server, "packaged", before) == 422
    assert expanded(server, "stored", before) == ["s"]
    server.run(remove())
    answer = server.client.get("ValueSet/$expand", params={"url": SETS + "stored", "date": after})
    assert (answer.status_code, key_of(answer)) == (422, "HS-TERM-DATE")
    assert expanded(server, "stored", moment()) == ["s"]


def test_what_has_changed_too_often_is_refused(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(server, listed("often", "one"))
    first = moment()
    for number in range(3):
        put(server, listed(f"often-{number}", "one"))
    monkeypatch.setattr(past, "MOST_CHANGED", 2)
    assert expanded(server, "often", first) == 422
    monkeypatch.setattr(past, "MOST_CHANGED", 2_000)
    put(server, listed("often", "two"))
    monkeypatch.setattr(past, "_MOST_VERSIONS", 0)
    assert expanded(server, "often", first) == 422
