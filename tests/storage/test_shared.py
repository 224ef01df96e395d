"""Quick searches that go together: each caller gets exactly what it would have got alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from fhir_server.storage import shared
from fhir_server.storage.database import connect
from fhir_server.storage.shared import Finding, Piping, Shared
from fhir_server.storage.store import Store

Row = dict[str, Any]
FIELDS = {"v": 1}
FIELD = "x.identifier"


class Noted(Store):
    """A store that notes its commands."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.commands: list[Finding | Piping] = []

    async def _find(self, finding: Finding) -> list[Row]:
        self.commands.append(finding)
        return await super()._find(finding)

    async def _aggregate(self, piping: Piping) -> list[Row]:
        self.commands.append(piping)
        return await super()._aggregate(piping)


@pytest.fixture
def within(mongodb_uri: str, mongodb_database: str) -> Callable[[list[Row], Callable[[Noted], Awaitable[Any]]], Any]:
    """Runs `work(store)` on a collection with these rows."""

    def run(rows: list[Row], work: Callable[[Noted], Awaitable[Any]]) -> Any:
        with MongoClient[Row](mongodb_uri) as client:
            collection = client[mongodb_database]["Patient"]
            collection.delete_many({})
            if rows:
                collection.insert_many(rows)
            exists = {FIELD: {"$exists": True}}
            collection.create_index([(FIELD, 1), ("_id", 1)], name="identifier", partialFilterExpression=exists)

        async def with_store() -> Any:
            client = connect(mongodb_uri)
            try:
                return await work(Noted(client, mongodb_database, lambda _: (), max_time_ms=10_000))
            finally:
                await client.close()

        return asyncio.run(with_store())

    return run


def row(name: str, *entries: str, bare: bool = False) -> Row:
    return {"_id": name, "v": 1, "r": b"{}", "x": {"identifier": entries[0] if bare else list(entries)}}


async def searched(store: Store, value: Any, *, limit: int = 3, field: str = FIELD, **options: Any) -> list[str]:
    rows = await store.find(
        "Patient", {field: value}, sort=[("_id", 1)], limit=limit, fields=FIELDS, shared=True, **options
    )
    assert all(set(row) == {"_id", "v"} for row in rows)
    return [row["_id"] for row in rows]


ROWS = [
    row("c", "=1", "s|1"),
    row("a", "=1", "s|1", "=1"),
    row("b", "=2", bare=True),
    row("d", "=1", "=2"),
    row("e", "=3"),
    {"_id": "gone", "v": 2, "d": True},
]


def test_searches_by_one_field_are_one_find_and_each_gets_its_own_rows_in_order(within: Any) -> None:
    async def work(store: Noted) -> None:
        values = ["=1", "=2", "s|1", "=1", "=none", "$where"]
        found = await asyncio.gather(*(searched(store, value, limit=4) for value in values))
        assert found == [["a", "c", "d"], ["b", "d"], ["a", "c"], ["a", "c", "d"], [], []]
        (command,) = store.commands
        assert isinstance(command, Finding)
        assert set(command.filter[FIELD]["$in"]) == set(values)

    within(ROWS, work)


def test_two_callers_of_one_row_get_one_each(within: Any) -> None:
    async def work(store: Noted) -> None:
        async def asked() -> list[Row]:
            return await store.find("Patient", {FIELD: "=3"}, sort=[("_id", 1)], limit=2, fields=FIELDS, shared=True)

        first, second = await asyncio.gather(asked(), asked())
        first[0]["v"] = "changed"
        assert second == [{"_id": "e", "v": 1}]

    within(ROWS, work)


def test_a_field_with_many_rows_for_a_value_is_answered_all_the_same_and_then_put_aside(within: Any) -> None:
    rows = [row(f"many-{n:02}", "=many") for n in range(20)] + ROWS

    async def work(store: Noted) -> None:
        for _ in range(2):
            found = await asyncio.gather(*(searched(store, value, limit=2) for value in ("=many", "=1", "=3")))
            assert found == [["many-00", "many-01"], ["a", "c"], ["e"]]
        assert [type(command) for command in store.commands] == [Finding, Piping, Piping]

    within(rows, work)


def test_searches_of_several_kinds_go_together_each_in_its_way(within: Any) -> None:
    async def work(store: Noted) -> None:
        pipeline = [{"$match": {FIELD: "=2"}}, {"$count": "n"}]
        found = await asyncio.gather(
            searched(store, "=1"),
            searched(store, "=1", limit=2),
            searched(store, "=2"),
            searched(store, {"$in": ["=2", "=3"]}),
            store.aggregate("Patient", pipeline, shared=True),
            store.find("Patient", {FIELD: "=1"}, sort=[("_id", -1)], limit=1, fields={"v": 1}, shared=True),
        )
        assert found == [["a", "c", "d"], ["a", "c"], ["b", "d"], ["b", "d", "e"], [{"n": 2}], [{"_id": "d", "v": 1}]]
        assert sorted(type(command).__name__ for command in store.commands) == ["Finding", "Piping"]

    within(ROWS, work)


def test_a_lone_search_is_a_plain_find(within: Any) -> None:
    async def work(store: Noted) -> None:
        assert await searched(store, "=3") == ["e"]
        (command,) = store.commands
        assert isinstance(command, Finding)
        assert command.filter == {FIELD: "=3"}

    within(ROWS, work)


def test_the_find_for_several_values_walks_the_index(within: Any, mongodb_uri: str, mongodb_database: str) -> None:
    async def work(store: Noted) -> Any:
        await asyncio.gather(*(searched(store, value) for value in ("=1", "=2")))
        (command,) = store.commands
        return await store.explain({"find": "Patient", "filter": command.filter, "projection": command.fields})

    plan = within([*ROWS, *(row(f"more-{n}", f"=more-{n}") for n in range(50))], work)
    assert "'indexName': 'identifier'" in str(plan["queryPlanner"]["winningPlan"])
    assert plan["executionStats"]["totalDocsExamined"] < 10


def test_where_searches_cannot_go_together_each_gets_its_own_answer_or_error() -> None:
    async def find(finding: Finding) -> list[Row]:
        (value,) = finding.filter.values()
        if value != "=good":
            raise OperationFailure(f"no {value}")
        return [{"_id": "good"}]

    async def aggregate(_: Piping) -> list[Row]:
        raise OperationFailure("no unions")

    def finding(value: Any) -> Finding:
        return Finding("Patient", {FIELD: value}, shared.BY_ID, 2, FIELDS)

    async def work() -> list[Any]:
        together = Shared(find, aggregate)
        queries = [finding("=good"), finding("=bad"), finding({"$in": []}), Piping("Patient", [])]
        return await asyncio.gather(*map(together, queries), return_exceptions=True)

    good, *bad = asyncio.run(work())
    assert good == [{"_id": "good"}]
    assert [str(error) for error in bad] == ["no =bad", "no {'$in': []}", "no unions"]


ENTRIES = st.lists(st.sampled_from(["=1", "=2", "=3", "s|1", "s|2"]), min_size=1, max_size=4)


def test_whatever_is_stored_each_search_finds_together_what_it_finds_alone(within: Any) -> None:
    @settings(max_examples=15)
    @given(
        stored=st.lists(ENTRIES, max_size=12),
        asked=st.lists(st.sampled_from(["=1", "=2", "=3", "s|1", "=none"]), min_size=2, max_size=10),
        limit=st.integers(1, 5),
    )
    def proved(stored: list[list[str]], asked: list[str], limit: int) -> None:
        async def work(store: Noted) -> None:
            alone = [await searched(store, value, limit=limit) for value in asked]
            assert await asyncio.gather(*(searched(store, value, limit=limit) for value in asked)) == alone

        within([row(f"p{n:02}", *entries) for n, entries in enumerate(stored)], work)

    proved()
