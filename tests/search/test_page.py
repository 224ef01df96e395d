"""Pages in every order: each row once, also while others come and go; one command for a first page.

Spec: https://hl7.org/fhir/R4/http.html#paging, https://hl7.org/fhir/R4/search.html#sort
"""

from __future__ import annotations

import asyncio
import random
import re
from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.model.errors import InvalidError
from fhir_server.search.execute import page_of
from fhir_server.search.page import Page, fingerprint_of
from fhir_server.search.parse import link_pairs, parse
from fhir_server.search.query import Search
from profiles.registry import registry
from profiles.terminology import terminology

TYPE = "Observation"
SORTS = [
    "", "_id", "-_id", "_lastUpdated", "-_lastUpdated", "date", "-date", "code", "-code", "value-quantity",
    "-value-quantity", "value-string", "-value-string", "subject", "-subject", "date,-code", "-code,value-string,-_id",
    "component-value-quantity", "-component-value-quantity", "date,-_id", "-_lastUpdated,date",
    "value-quantity,-date,code", "status", "-status", "-status,date", "status,-value-string", "-date,_id",
    "-value-string,_id", "subject,-date", "-subject,code", "-component-value-quantity,-code",
    "date,status,-_lastUpdated",
]  # fmt: skip


def document(number: int, chance: random.Random) -> dict[str, Any]:
    status = chance.choice(["amended", "final", "final"])
    x: dict[str, Any] = {"status": [f"={status}", f"|{status}", f"http://hl7.org/fhir/observation-status|{status}"]}
    if chance.random() < 0.8:
        start = chance.randrange(5) * 10**15
        x["date"] = {"s": start, "e": start + chance.choice([10, 20])}
    if chance.random() < 0.7:
        codes = [chance.choice("abc") for _ in range(chance.choice([1, 2]))]
        x["code"] = [e for c in codes for e in (f"={c}", f"http://z{'x' if c == 'a' else 'a'}.org|{c}")]
    if chance.random() < 0.6:
        numbers = [Decimal(chance.choice(["-1.5", "0", "2.50", "1E+3"])) for _ in range(chance.choice([1, 2, 3]))]
        entries = [{"l": n, "h": n + chance.choice([0, 1]), "u": [chance.choice("pq")]} for n in numbers]
        x["component-value-quantity"] = entries
        x["value-quantity"] = entries[:1]
    if chance.random() < 0.6:
        x["value-string"] = [
            chance.choice(["ä", "b", "bc", "\U0001f600", "\uffee"]) for _ in range(chance.choice([1, 2]))
        ]
    if chance.random() < 0.9:
        x["subject"] = x["patient"] = f"Patient/{chance.randrange(3)}"
    return {"_id": f"{number:05}", "v": 1, "t": chance.randrange(20) * 10**14, "r": b"{}", "x": x}


def search_for(pairs: list[tuple[str, str]], cursor: str | None = None) -> Search:
    return parse(TYPE, link_pairs(pairs, cursor), registry(), strict=True, default_count=20, max_count=1000)


def page(library: Any, pairs: list[tuple[str, str]], cursor: str | None = None) -> Page:
    return asyncio.run(page_of(library, search_for(pairs, cursor), terminology()))


def walk(library: Any, pairs: list[tuple[str, str]]) -> tuple[list[list[str]], Page]:
    pages, current = [], page(library, pairs)
    while True:
        pages.append([row["_id"] for row in current.rows])
        if current.next is None:
            return pages, current
        current = page(library, pairs, current.next)


def naive_order(documents: list[dict[str, Any]], sort: str) -> list[str]:
    """Sort by each rule from the last to the first; a stable sort keeps what the later ones decided."""
    rules = [r for r in sort.split(",") if r]
    single = len(rules) == 1 and rules[0].startswith("-")
    rows = sorted(documents, key=lambda d: d["_id"], reverse=single or sort.endswith("-_id"))
    for rule in reversed([r for r in rules if not r.endswith("_id")]):
        code, descending = rule.lstrip("-"), rule.startswith("-")

        def key(row: dict[str, Any], code: str = code, descending: bool = descending) -> Any:
            if code == "_lastUpdated":
                return row["t"]
            values = row["x"].get(code, [])
            if code in ("date", "subject"):
                values = [values] if values else []
            if code == "date":
                values = [(v["s"], v["e"]) for v in values]
            elif code.endswith("value-quantity"):
                values = [(v["l"], v["h"]) for v in values]
            elif code in ("code", "status"):
                values = [v for v in values if v.startswith("=")]
            return (max(values) if descending else min(values)) if values else None

        present, missing = [r for r in rows if key(r) is not None], [r for r in rows if key(r) is None]
        # A reverse stable sort keeps the order of equals.
        rows = sorted(present, key=key, reverse=descending) + missing
    return [row["_id"] for row in rows]


@pytest.fixture(scope="module")
def documents(library: Any) -> list[dict[str, Any]]:
    chance = random.Random(7)
    made = [document(i, chance) for i in range(120)]
    library.fill(TYPE, [*made, {"_id": "00000x", "v": 2, "t": 5, "d": True}])
    return made


@pytest.mark.parametrize("sort", SORTS)
def test_pages_forward_and_backward_show_every_row_once_in_the_order_of_the_specification(
    library: Any, documents: list[dict[str, Any]], sort: str
) -> None:
    pairs = [("_count", "17")] + ([("_sort", sort)] if sort else [])
    pages, last = walk(library, pairs)
    assert [i for p in pages for i in p] == naive_order(documents, sort)
    backward = [pages[-1]]
    while last.previous:
        last = page(library, pairs, last.previous)
        backward.append([row["_id"] for row in last.rows])
        assert last.next is not None
    assert backward[::-1] == pages


@pytest.mark.parametrize("sort", ["date", "-date", "date,-code"])
@pytest.mark.parametrize("code", ["", "a", "http://zx.org|a", "b,c"])
@pytest.mark.parametrize("since", ["", "ge1980", "lt1990"])
def test_pages_of_a_chart_are_those_of_the_patient_in_both_directions(
    library: Any, documents: list[dict[str, Any]], sort: str, code: str, since: str
) -> None:
    pairs = [("patient", "1"), ("_sort", sort), ("_count", "3")]
    pairs += ([("code", code)] if code else []) + ([("date", since)] if since else [])
    wanted = {c if "|" in c else f"={c}" for c in code.split(",") if c}
    year_us = 1_000_000 * int(datetime(int(since[2:] or 1970), 1, 1, tzinfo=UTC).timestamp())

    def matches(x: dict[str, Any]) -> bool:
        in_time = not since or ("date" in x and (x["date"]["s"] >= year_us) == since.startswith("ge"))
        return x.get("subject") == "Patient/1" and (not code or bool(wanted & {*x.get("code", [])})) and in_time

    pages, last = walk(library, pairs)
    assert [i for p in pages for i in p] == naive_order([d for d in documents if matches(d["x"])], sort)
    backward = [pages[-1]]
    while last.previous:
        last = page(library, pairs, last.previous)
        backward.append([row["_id"] for row in last.rows])
    assert backward[::-1] == pages


@pytest.mark.parametrize("sort", SORTS)
def test_a_first_page_costs_one_command_and_one_more_where_it_is_ordered_by_several(
    library: Any, documents: list[dict[str, Any]], sort: str
) -> None:
    by_several = "," in sort and not sort.startswith("-code")
    for pairs in ([("_count", "5")], [("_count", "500")], [("subject", "Patient/1"), ("_count", "500")]):
        library.commands.clear()
        page(library, [*pairs, *([("_sort", sort)] if sort else [])])
        assert len(library.commands) == (2 if by_several and len(pairs) == 1 else 1)


@pytest.mark.parametrize("sort", ["-date,_id", "date,-code", "value-string,-date", "-value-quantity,code"])
def test_a_page_of_an_order_by_several_looks_at_few_documents(library: Any, sort: str) -> None:
    chance = random.Random(5)
    made = [document(i, chance) for i in range(3000)]
    for number, one in enumerate(made):
        moment = number * 10**12
        one["x"] |= {"date": {"s": moment, "e": moment + 10}, "value-string": [f"s{number % 1000}"]}
        one["x"]["value-quantity"] = [{"l": Decimal(number % 700), "h": Decimal(number % 700 + 1), "u": ["p"]}]
    collection = library.fill(TYPE, made)
    try:
        library.pipelines.clear()
        pairs = [("_sort", sort), ("_count", "10")]
        first = page(library, pairs)
        second = page(library, pairs, first.next)
        assert [row["_id"] for row in (*first.rows, *second.rows)] == naive_order(made, sort)[:20]
        assert len(library.pipelines) >= 2
        for pipeline in library.pipelines:
            command = {"aggregate": TYPE, "pipeline": pipeline, "cursor": {}}
            options = {"codec_options": collection.codec_options}
            plan = collection.database.command("explain", command, verbosity="executionStats", **options)
            examined = [int(n) for n in re.findall(r"'totalDocsExamined': (\d+)", str(plan))]
            assert examined
            assert max(examined) < 100
    finally:
        library.fill(TYPE, [])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SORTS), st.integers(0, 2**32), st.integers(1, 9))
def test_rows_that_stay_are_seen_exactly_once_while_others_come_and_go(
    library: Any, sort: str, seed: int, count: int
) -> None:
    chance = random.Random(seed)
    made = [document(i * 10, chance) for i in range(40)]
    collection = library.fill(TYPE, made)
    try:
        volatile = {d["_id"] for d in made if chance.random() < 0.3}
        pairs = [("_count", str(count))] + ([("_sort", sort)] if sort else [])
        seen: list[str] = []
        current = page(library, pairs)
        while True:
            seen += [row["_id"] for row in current.rows]
            if current.next is None:
                break
            if volatile and chance.random() < 0.5:
                collection.delete_one({"_id": volatile.pop()})
            number = chance.randrange(40) * 10 + chance.randrange(1, 9)
            fresh = document(number, chance)
            collection.replace_one({"_id": fresh["_id"]}, fresh, upsert=True)
            current = page(library, pairs, current.next)
        staying = {d["_id"] for d in made if d["_id"].endswith("0")} & {
            d["_id"] for d in collection.find({}, {"_id": 1})
        }
        assert sorted(i for i in seen if i in staying) == sorted(staying)
    finally:
        library.fill(TYPE, [])


def test_a_page_back_after_all_before_it_was_deleted_is_the_first_page(library: Any) -> None:
    collection = library.fill(TYPE, [document(i, random.Random(i)) for i in range(10)])
    second = page(library, [("_count", "3")], page(library, [("_count", "3")]).next)
    collection.delete_many({"_id": {"$lt": "00003"}})
    back = page(library, [("_count", "3")], second.previous)
    assert [row["_id"] for row in back.rows] == ["00003", "00004", "00005"]
    assert back.previous is None


def test_an_empty_page_after_the_rest_was_deleted_leads_back_to_the_last_rows(library: Any) -> None:
    collection = library.fill(TYPE, [document(i, random.Random(i)) for i in range(5)])
    following = page(library, [("_count", "3")]).next
    collection.delete_many({"_id": {"$gt": "00002"}})
    empty = page(library, [("_count", "3")], following)
    assert empty.rows == []
    assert empty.next is None
    back = page(library, [("_count", "3")], empty.previous)
    assert [row["_id"] for row in back.rows] == ["00000", "00001", "00002"]


@pytest.mark.parametrize(
    ("pairs", "total", "commands"),
    [
        ([("_count", "3")], None, ["find"]),
        ([("_count", "30")], 10, ["find"]),
        ([("_count", "30"), ("_total", "none")], None, ["find"]),
        ([("_count", "30"), ("_total", "accurate")], 10, ["find"]),
        ([("_count", "3"), ("_total", "accurate")], 10, ["find", "count"]),
        ([("_count", "3"), ("_total", "estimate")], 10, ["find", "estimate"]),
        ([("status", "final,amended"), ("_count", "3"), ("_total", "estimate")], 10, ["find", "count"]),
        ([("_count", "0")], 10, ["count"]),
        ([("_summary", "count")], 10, ["count"]),
        ([("_summary", "count"), ("_total", "estimate")], 10, ["estimate"]),
    ],
)
def test_a_total_is_given_when_asked_for_and_when_it_costs_nothing(
    library: Any, pairs: list[tuple[str, str]], total: int | None, commands: list[str]
) -> None:
    library.fill(TYPE, [document(i, random.Random(i)) for i in range(10)])
    found = page(library, pairs)
    assert found.total == total
    assert library.commands == commands
    assert bool(found.rows) == (commands[0] == "find")


def cursor(row: str) -> str:
    return urlsafe_b64encode(row.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    ["x", "%%%", "é", "[]", cursor("[]"), cursor("{}"), cursor('["n"]'), cursor('["z","a","b"]'), cursor("[1,2,3]"),
     cursor("[" * 3000), cursor('["n",null,"x"]'), "A" * 9000, cursor('"n\\ud800"')],
)  # fmt: skip
def test_a_mangled_cursor_is_a_400_that_says_what_to_do(library: Any, text: str) -> None:
    with pytest.raises(InvalidError, match="start again without _cursor"):
        page(library, [("_sort", "-date")], text)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["date", "-value-quantity", "_lastUpdated", "code", "", "date,code"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("1e99999"),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
)
def test_a_forged_cursor_of_the_right_query_never_crashes(library: Any, sort: str, value: Any) -> None:
    pairs = [("_sort", sort)] if sort else []
    row = ["n", fingerprint_of(search_for(pairs)), "x", *([value] * (sort.count(",") + 1 if sort else 0))]
    with suppress(InvalidError):  # any other error fails the test
        assert page(library, pairs, cursor(msgspec.json.encode(row).decode())).total is None


def test_a_cursor_of_another_query_is_a_400(library: Any) -> None:
    library.fill(TYPE, [document(i, random.Random(i)) for i in range(10)])
    following = page(library, [("_count", "3")]).next
    for pairs in ([("_sort", "date")], [("status", "final")]):
        with pytest.raises(InvalidError, match="belongs to another search"):
            page(library, pairs, following)
    shown = page(library, [("_count", "2"), ("_summary", "text"), ("_total", "none")], following)
    assert [row["_id"] for row in shown.rows] == ["00003", "00004"]
