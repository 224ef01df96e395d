"""The indexes of every type, and that the usual searches are answered by them.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from fhir_server.search.charts import CHARTS
from fhir_server.search.compile import filter_of
from fhir_server.search.execute import page_of
from fhir_server.search.indexes import MOST, indexes_of
from fhir_server.search.parameters import table_of
from fhir_server.search.parse import parse
from profiles.registry import registry
from profiles.terminology import terminology

LIMIT_OF_MONGODB = 64
UCUM = "http://unitsofmeasure.org"


def test_every_type_has_fewer_indexes_than_mongodb_allows_with_names_of_their_own() -> None:
    for resource_type in registry().resource_types:
        specs = indexes_of(resource_type, registry())
        assert len(specs) <= MOST < LIMIT_OF_MONGODB
        assert len({s.name for s in specs}) == len({s.keys for s in specs}) == len(specs)


def test_no_type_loses_an_index_to_the_limit() -> None:
    assert max(len(indexes_of(t, registry())) for t in registry().resource_types) < MOST


def test_identifiers_and_references_have_indexes_for_their_modifiers_and_composites_have_none() -> None:
    names = {s.name for s in indexes_of("Observation", registry())}
    assert {"identifier:of-type", "subject:identifier", "date", "value-quantity:canonical", "_lastUpdated"} <= names
    assert not any(name.startswith("code-value") or name.endswith((":exact", ":text")) for name in names)


def test_every_chart_is_of_one_reference_and_bare_dates() -> None:
    for resource_type, chart in CHARTS.items():
        parameters = table_of(resource_type, registry()).parameters
        assert parameters[chart.patient].type == "reference"
        assert parameters[chart.patient].within is None
        assert parameters["patient"].within in (None, parameters[chart.patient].field)
        assert all(parameters[date].bare and parameters[date].charted for date in chart.dates)
        assert all(parameters[token].type == "token" for token in chart.tokens)
        assert parameters[chart.patient].bare or not chart.tokens  # two lists cannot share an index


def test_what_others_find_together_has_no_index_of_its_own() -> None:
    names = {s.name for s in indexes_of("Observation", registry())}
    assert {"code", "component-code", "subject", "subject:identifier"} <= names
    assert not any(name.startswith(("combo-", "patient")) for name in names)


def document(number: int, chance: random.Random) -> dict[str, Any]:
    code, patient = f"c{chance.randrange(50)}", f"Patient/{chance.randrange(200)}"
    start, value = 10**12 * chance.randrange(1_400, 1_600), Decimal(chance.randrange(5000)) / 10
    quantity = {"l": value, "h": value, "u": [f"{UCUM}|mg", "=mg"], "cl": value / 1000, "ch": value / 1000, "cu": "g"}
    codes = [f"={code}", f"http://loinc.org|{code}"]
    return {
        "_id": f"{chance.getrandbits(60):015x}",
        "v": 1,
        "t": number * 1000,
        "r": b"{}",
        "x": {
            "code": codes,
            "patient": patient,
            "subject": patient,
            "identifier": [f"={number}", f"http://x|{number}"],
            "identifier:of-type": [f"s|MR|{number}"],
            "date": {"s": start, "e": start + 1_000_000},
            "value-quantity": [quantity],
            "value-string": [f"word{chance.randrange(500)}"],
            "code-value-quantity": [{"0": codes, "1": [quantity]}],
        },
    }


class Explaining:
    """Answers as the store does, and keeps the plan of the last command."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.plan: dict[str, Any] = {}

    async def find(
        self,
        resource_type: str,
        filter: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]],
        limit: int,
        fields: Mapping[str, Any],
        shared: bool = False,
    ) -> list[dict[str, Any]]:
        database = self._library.database
        command = {"find": resource_type, "filter": filter, "sort": dict(sort), "limit": limit, "projection": fields}
        self.plan = database.command("explain", command, codec_options=database.codec_options)["queryPlanner"]
        return list(await self._library.find(resource_type, filter, sort=sort, limit=limit, fields=fields))

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[dict[str, Any]]:
        database = self._library.database
        command = {"aggregate": resource_type, "pipeline": pipeline, "cursor": {}}
        told = database.command("explain", command, codec_options=database.codec_options)
        self.plan = told["stages"][0]["$cursor"]["queryPlanner"] if "stages" in told else told["queryPlanner"]
        return list(await self._library.aggregate(resource_type, pipeline))

    async def count(
        self, resource_type: str, filter: Mapping[str, Any], limit: int | None = None, *, shared: bool = False
    ) -> int:
        return int(await self._library.count(resource_type, filter, limit))

    async def estimate(self, resource_type: str) -> int:
        return int(await self._library.estimate(resource_type))


def stages(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield plan["stage"], plan.get("indexName", "")
    for below in [plan["inputStage"]] if "inputStage" in plan else plan.get("inputStages", ()):
        yield from stages(below)


@pytest.fixture(scope="module")
def explaining(library: Any) -> Explaining:
    chance = random.Random(5)
    library.fill("Observation", [document(i, chance) for i in range(4000)])
    return Explaining(library)


PATIENT, CODE = ("patient", "Patient/5"), ("code", "http://loinc.org|c7")


@pytest.mark.parametrize(
    ("pairs", "indexes", "is_sorted"),
    [
        ([], {"_id_"}, True),
        ([("identifier", "http://x|7")], {"identifier"}, True),
        ([("identifier:of-type", "s|MR|7")], {"identifier:of-type"}, True),
        ([CODE], {"code"}, True),
        ([("code", "c7,c8")], {"code"}, True),
        ([PATIENT], {"subject"}, True),
        ([("subject", "Patient/5")], {"subject"}, True),
        ([("patient", "http://elsewhere.example/Patient/5")], {"subject"}, True),
        ([("combo-code", "c7")], {"code", "component-code"}, True),
        ([("combo-code-value-quantity", "c7$gt5")], {"code", "component-code"}, True),
        ([PATIENT, CODE, ("date", "ge2018"), ("_sort", "-date")], {"subject+code+date"}, True),
        ([PATIENT, CODE, ("_sort", "-date")], {"subject+code+date"}, True),
        ([PATIENT, CODE, ("_sort", "date")], {"subject+code+date"}, True),
        ([PATIENT, ("category", "c1"), ("_sort", "-date")], {"subject+category+date"}, True),
        ([PATIENT, ("code", "c7,c8"), ("_sort", "-date")], {"subject+code+date"}, True),
        ([PATIENT, ("_sort", "-date")], {"subject+date"}, True),
        ([("patient", "Patient/5,Patient/6"), ("_sort", "-date")], {"subject+date"}, True),
        ([PATIENT, ("date", "ge2018"), ("date", "lt2019"), ("_sort", "-date")], {"subject+date"}, True),
        ([("_sort", "-date")], {"date"}, True),
        ([("_sort", "date")], {"date"}, True),
        ([("_sort", "code")], {"code"}, True),
        ([("_sort", "-_lastUpdated")], {"_lastUpdated"}, True),
        ([("_sort", "value-quantity")], {"value-quantity"}, True),
        ([("value-string", "word7"), CODE], {"value-string", "code"}, False),
        ([("value-string:exact", "word7")], {"value-string"}, True),
        ([("value-quantity", f"5.4|{UCUM}|mg")], {"value-quantity", "value-quantity:canonical"}, False),
        ([("code-value-quantity", "c7$gt5")], {"code"}, True),
    ],
)
def test_the_usual_searches_are_answered_by_an_index(
    explaining: Explaining, pairs: list[tuple[str, str]], indexes: set[str], is_sorted: bool
) -> None:
    search = parse("Observation", pairs, registry(), strict=True, default_count=10, max_count=10)
    asyncio.run(page_of(explaining, search, terminology()))
    plan = list(stages(explaining.plan["winningPlan"]))
    assert {index for _, index in plan if index} <= indexes
    assert {"IXSCAN"} <= {stage for stage, _ in plan}
    assert "COLLSCAN" not in {stage for stage, _ in plan}
    if is_sorted:
        assert "SORT" not in {stage for stage, _ in plan}


def test_two_lists_cannot_share_an_index_which_is_why_charts_need_bare_entries(
    explaining: Explaining, library: Any
) -> None:
    with pytest.raises(OperationFailure, match="parallel arrays"):
        library.database["Observation"].create_index([("x.identifier", 1), ("x.code", 1)])


def test_a_day_of_appointments_is_one_short_walk_along_the_index_of_their_starts(library: Any) -> None:
    hour_us, day_us = 3_600 * 10**6, 86_400 * 10**6
    starts = [1_577_836_800 * 10**6 + i * hour_us for i in range(3000)]
    rows = [{"_id": f"{s}", "v": 1, "t": 0, "x": {"date": {"s": s, "e": s + 10**6}}} for s in starts]
    library.fill("Appointment", rows)
    pairs = [("date", "ge2020-03-01"), ("date", "lt2020-03-02")]
    search = parse("Appointment", pairs, registry(), strict=True, default_count=100, max_count=100)
    page = asyncio.run(page_of(library, search, terminology()))
    first = 1_583_020_800 * 10**6
    assert [int(row["_id"]) for row in page.rows] == [s for s in starts if first <= s < first + day_us]
    database = library.database
    command = {"find": "Appointment", "filter": filter_of(search, terminology()), "hint": "date"}
    told = database.command("explain", command, verbosity="executionStats", codec_options=database.codec_options)
    assert told["executionStats"]["totalDocsExamined"] == 24
    assert told["executionStats"]["totalKeysExamined"] < 30
