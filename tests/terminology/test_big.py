"""Big code systems: from files and as resources, whole or not there, and the same in every answer as small ones.

Spec: https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fhir_server.cli import app
from fhir_server.code_systems import import_csv
from fhir_server.terminology.big import BigHoldings, BigSystem
from fhir_server.terminology.big_build import MOST_ABOVE, Builder, Lineage, Origin, rows_of
from fhir_server.terminology.concepts import concepts_of
from fhir_server.terminology.conditions import (
    Active,
    All,
    Condition,
    Everything,
    Filtered,
    Listed,
    Not,
    Selectable,
    Some,
    Unknown,
)
from fhir_server.terminology.memory import MemorySystem, about_of, system_of
from fhir_server.terminology.system import About, Wanted
from fhir_server.terminology.words import words_of
from tests.terminology.samples import ANIMALS, SETS, animals, answers, by, codes, value_set

Json = dict[str, Any]

URL = "http://example.org/CodeSystem/big"

FILE = """code,display,display:de,parent,legs,inactive,notSelectable
animal,Animal,Tier,,,,true
mammal,Mammal,Säugetier,animal,,,
dog,Dog,Hund,mammal,4,,
bat,Bat,,mammal|flyer,2,,
flyer,Flying animal,,animal,,,
dodo,"Dodo, extinct",,flyer,2,true,
"""


def imported(server: Any, path: Path, text: str, version: str = "1") -> Any:
    path.write_text(text, encoding="utf-8")
    about = About(URL, version, "Animals of a file")
    return import_csv(server.settings, path, about, lambda *_: None, grace_s=0)


@pytest.fixture(scope="module")
def filed(make_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with a code system from a file."""
    server = make_server()
    path = tmp_path_factory.mktemp("csv") / "animals.csv"
    assert imported(server, path, FILE).concepts == 6
    return server


def expand(client: Any, *parts: Json, **given: Any) -> Json:
    rows = [{"name": "valueSet", "resource": value_set("sent", *parts)}]
    rows += [{"name": name, "valueString": str(value)} for name, value in given.items()]
    answer = client.post("ValueSet/$expand", json={"resourceType": "Parameters", "parameter": rows})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_concepts_of_a_file_are_looked_up_compared_and_expanded(filed: Any) -> None:
    client = filed.client
    told = client.get("CodeSystem/$lookup", params={"system": URL, "code": "bat"}).json()
    assert answers(told)["name"] == "Animals of a file"
    found = [{p["name"]: p for p in row["part"]} for row in told["parameter"] if row["name"] == "property"]
    assert [(one["code"]["valueCode"], list(one["value"].values())[1]) for one in found] == [
        ("parent", "mammal"),
        ("parent", "flyer"),
        ("legs", "2"),
    ]
    given = {"system": URL, "codeA": "flyer", "codeB": "bat"}
    assert answers(client.get("CodeSystem/$subsumes", params=given).json()) == {"outcome": "subsumes"}
    assert codes(expand(client, {"system": URL})) == ["animal", "mammal", "dog", "bat", "flyer", "dodo"]
    assert codes(expand(client, {"system": URL}, offset=2, count=2)) == ["dog", "bat"]
    assert codes(expand(client, by("concept", "is-a", "flyer", URL), filter="ba")) == ["bat"]
    rows = expand(client, by("legs", "=", "4", URL), displayLanguage="de")["expansion"]["contains"]
    assert [row["display"] for row in rows] == ["Hund"]
    assert client.get("CodeSystem/$lookup", params={"system": URL, "code": "unicorn"}).status_code == 404


def test_searches_find_what_is_in_a_value_set_of_a_big_code_system_and_below_a_code(filed: Any) -> None:
    client = filed.client
    for number, code in enumerate(("dog", "bat", "dodo")):
        body = {"resourceType": "Basic", "id": f"b{number}", "code": {"coding": [{"system": URL, "code": code}]}}
        assert client.put(f"Basic/b{number}", json=body).status_code == 201
    client.put("ValueSet/big-mammals", json=value_set("big-mammals", by("concept", "is-a", "mammal", URL)))
    client.put("ValueSet/big-all", json=value_set("big-all", {"system": URL}))

    def found(**given: str) -> list[str]:
        answer = client.get("Basic", params={name.replace("_", ":"): value for name, value in given.items()}).json()
        return sorted(row["resource"]["id"] for row in answer.get("entry", ()))

    assert found(code_in=SETS + "big-mammals") == ["b0", "b1"]
    assert found(code_in="ValueSet/big-mammals") == ["b0", "b1"]
    assert found(**{"code_not-in": SETS + "big-mammals"}) == ["b2"]
    assert found(code_below=f"{URL}|flyer") == ["b1", "b2"]
    assert found(code_above=f"{URL}|bat") == ["b1"]
    assert found(code_in=SETS + "big-all") == ["b0", "b1", "b2"]


def test_another_file_takes_the_place_of_the_one_before_and_versions_stand_side_by_side(
    make_server: Callable[..., Any], tmp_path: Path
) -> None:
    server = make_server()
    path = tmp_path / "some.csv"
    imported(server, path, "code\na\n")
    imported(server, path, "code\na\nb\n")
    assert codes(expand(server.client, {"system": URL})) == ["a", "b"]
    imported(server, path, "code\nc\n", "2")
    assert codes(expand(server.client, {"system": URL})) == ["c"]
    assert codes(expand(server.client, {"system": URL, "version": "1"})) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "name the columns"),
        ("kode\nx\n", "name the columns"),
        ("code,code\nx,y\n", "each once"),
        ("code\n", "no concepts"),
        ("code,display\nx\n", "line 2 has 1 columns"),
        ("code\nx\n \n", "line 3 has no code"),
        ("code\nx\nx\n", "line 3 has the code 'x'"),
        ("code,inactive\nx,perhaps\n", "line 2: inactive"),
        ('code\n"x\n', "cannot be read"),
        ("code,parent\n" + "".join(f"c{n},c{n - 1}\n" for n in range(MOST_ABOVE + 3)), "codes are above"),
    ],
)
def test_a_file_that_is_broken_changes_nothing_and_is_told_by_its_line(
    filed: Any, tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(text)
    environment = {
        "MONGODB_URI": filed.settings.mongodb_uri.get_secret_value(),
        "HEALTHSPHERE_MONGODB_DATABASE": filed.settings.mongodb_database,
        "HEALTHSPHERE_DATA_DIR": str(tmp_path / "data"),
    }
    result = CliRunner().invoke(app, ["terminology", "import", str(path), "--system", URL], env=environment)
    assert result.exit_code != 0
    assert told in " ".join(result.output.split())
    assert len(codes(expand(filed.client, {"system": URL}))) == 6


def test_the_command_line_imports_lists_and_removes(make_server: Callable[..., Any], tmp_path: Path) -> None:
    server = make_server()
    path = tmp_path / "animals.csv"
    path.write_text(FILE + "stray,Stray,,nowhere,,,\n", encoding="utf-8")
    environment = {
        "MONGODB_URI": server.settings.mongodb_uri.get_secret_value(),
        "HEALTHSPHERE_MONGODB_DATABASE": server.settings.mongodb_database,
        "HEALTHSPHERE_DATA_DIR": str(tmp_path / "data"),
        "COLUMNS": "240",
    }

    def run(*arguments: str, expect: int = 0) -> str:
        result = CliRunner().invoke(app, ["terminology", *arguments], env=environment)
        assert result.exit_code == expect, result.output
        return result.output

    assert "There is none" in run("list")
    told = run("import", str(path), "--system", URL, "--version", "3", "--name", "Animals")
    assert "7 concepts" in told
    assert "nowhere" in told
    listed = run("list")
    assert "ready" in listed
    assert "a file" in listed
    assert codes(expand(server.client, {"system": URL}))[-1] == "stray"
    run("remove", URL, "--version", "4", expect=1)
    assert "Removed 1" in run("remove", URL)
    assert server.client.get("CodeSystem/$lookup", params={"system": URL, "code": "dog"}).status_code == 404


def test_a_big_resource_is_built_in_the_background_says_so_meanwhile_and_goes_when_it_is_deleted(
    make_server: Callable[..., Any],
) -> None:
    client = make_server().client
    concepts = [
        {"code": f"c{number}", "display": f"Concept {number}", "definition": "long " * 60}
        | ({"property": [{"code": "parent", "valueCode": f"c{number // 10}"}]} if number else {})
        for number in range(3_500)
    ]
    body = {"resourceType": "CodeSystem", "id": "big", "url": URL, "version": "1", "status": "active",
            "content": "complete", "concept": concepts}  # fmt: skip

    def lookup(code: str) -> int:
        return int(client.get("CodeSystem/$lookup", params={"system": URL, "code": code}).status_code)

    def eventually(code: str, status: int, *, meanwhile: set[int]) -> None:
        end = time.monotonic() + 60
        while (found := lookup(code)) != status:
            assert found in meanwhile, found
            assert time.monotonic() < end
            time.sleep(0.1)

    assert client.put("CodeSystem/big", json=body).status_code == 201
    eventually("c3499", 200, meanwhile={503})
    assert codes(expand(client, by("concept", "is-a", "c34", URL), count=3)) == ["c34", "c340", "c341"]
    answer = client.get("CodeSystem/big/$validate-code", params={"code": "c17"})
    assert answers(answer.json())["result"] is True
    # What is there stays in force until the next version is whole.
    client.put("CodeSystem/big", json={**body, "concept": [*concepts, {"code": "new", "display": "New"}]})
    eventually("new", 200, meanwhile={404})
    assert client.delete("CodeSystem/big").status_code in (200, 204)
    eventually("c1", 404, meanwhile={200})


CONDITIONS: list[Condition] = [
    Everything(),
    Selectable(),
    Active(),
    Listed(frozenset({"dog", "unicorn", "cat"})),
    *(Filtered("concept", op, code) for op in ("is-a", "descendent-of", "is-not-a", "generalizes")
      for code in ("animal", "mammal", "bat", "unicorn")),
    Filtered("legs", "=", "2"),
    Filtered("legs", "in", "2,4"),
    Filtered("legs", "not-in", "2"),
    Filtered("flying", "exists", "true"),
    Filtered("flying", "exists", "false"),
    Filtered("legs", "regex", "[24]"),
    Filtered("code", "regex", ".at"),
    Filtered("display", "=", "Dog"),
    Filtered("parent", "=", "flyer"),
    Filtered("parent", "exists", "false"),
    Filtered("child", "exists", "true"),
    Filtered("child", "=", "bat"),
    Filtered("inactive", "=", "true"),
    Filtered("notSelectable", "=", "false"),
    All((Filtered("concept", "is-a", "mammal"), Not(Filtered("legs", "=", "4")))),
    Some((Filtered("concept", "is-a", "flyer"), Listed(frozenset({"cat"})))),
    Not(Everything()),
    Not(Some((Filtered("legs", "=", "4"), Selectable()))),
]  # fmt: skip


@pytest.fixture(scope="module")
def twins(make_server: Callable[..., Any]) -> tuple[Any, MemorySystem, BigSystem]:
    """The same code system in memory and as rows."""
    server = make_server()
    resource = animals()
    small = system_of(resource)
    holdings: BigHoldings = server.context.terminology.big

    async def build() -> BigSystem:
        concepts = [concept for concept, _ in concepts_of(resource)]
        parents = {concept.code: concept.parents for concept in concepts}
        builder = Builder(holdings, about_of(resource), Origin("test"), grace_s=0)
        await builder.begin()
        below = frozenset(code for found in parents.values() for code in found)
        count = await builder.write(
            rows_of(builder.token, concepts, Lineage(parents, parents.__contains__), below), nothing
        )
        await builder.finish(count, (one["code"] for concept in concepts for one in concept.properties))
        return (await holdings.code_systems([ANIMALS])).systems[ANIMALS][0]

    return server, small, server.run(build())


def test_a_building_that_was_broken_off_goes_on_and_writes_nothing_twice(make_server: Callable[..., Any]) -> None:
    server = make_server()
    holdings: BigHoldings = server.context.terminology.big
    resource = animals()
    concepts = [concept for concept, _ in concepts_of(resource)]
    known = {concept.code: concept.parents for concept in concepts}

    async def run() -> tuple[list[str], list[str]]:
        builder = Builder(holdings, about_of(resource), Origin("test"), grace_s=0)
        await builder.begin()
        lineage = Lineage(known, known.__contains__)
        await holdings.concepts.add(list(rows_of(builder.token, concepts[:5], lineage, frozenset())))
        before = [row["_id"] for row in await holdings.systems.all({"state": "ready"})]
        again = Builder(holdings, about_of(resource), Origin("test"), builder.token, grace_s=0)
        count = await again.write(rows_of(builder.token, concepts, lineage, frozenset()), nothing, done=3)
        await again.finish(count, ())
        system = (await holdings.code_systems([ANIMALS])).systems[ANIMALS][0]
        rows = await system.page(Wanted(Everything()), 0, 100)
        return before, [row.code for row in rows]

    before, listed = server.run(run())
    assert before == []
    assert listed == [concept.code for concept in concepts]


async def nothing(_: int) -> None:
    return None


@pytest.mark.parametrize("condition", CONDITIONS, ids=[f"condition{n}" for n in range(len(CONDITIONS))])
@pytest.mark.parametrize("words", ["", "ani", "a", "do e"])
def test_a_big_code_system_answers_as_a_small_one(
    twins: tuple[Any, MemorySystem, BigSystem], condition: Condition, words: str
) -> None:
    server, small, big = twins
    wanted = Wanted(condition, {}, words_of(words))

    async def told(system: MemorySystem | BigSystem) -> Any:
        listed = [concept.code for concept in await system.page(wanted, 0, 100)]
        verdicts = [await system.has(code, condition) for code in ("dog", "bat", "dodo", "animal", "unicorn")]
        pages = [concept.code for n in range(0, 12, 3) for concept in await system.page(wanted, n, 3)]
        return listed, verdicts, pages == listed, await system.count(wanted), await system.unanswerable(condition)

    assert server.run(told(big)) == asyncio.run(told(small))


@pytest.mark.parametrize(
    "condition",
    [Unknown("urn:x"), Filtered("wings", "=", "2"), Filtered("code", "regex", "("), Filtered("code", "like", "x")],
)  # fmt: skip
def test_what_a_small_one_cannot_answer_a_big_one_cannot_either(
    twins: tuple[Any, MemorySystem, BigSystem], condition: Condition
) -> None:
    server, small, big = twins
    assert server.run(big.unanswerable(condition))
    assert asyncio.run(small.unanswerable(condition))
    assert server.run(big.has("dog", condition)) is None
    assert asyncio.run(small.has("dog", condition)) is None
    mixed = Some((condition, Listed(frozenset({"dog"}))))
    assert server.run(big.has("dog", mixed)) is True
    assert server.run(big.has("cat", mixed)) is None
    assert server.run(big.has("unicorn", mixed)) is False
