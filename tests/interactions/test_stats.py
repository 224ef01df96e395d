"""`$stats`: figures of measurements in whatever units."""

from __future__ import annotations

import random
import statistics
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import httpx
import pytest

from fhir_server.interactions import figures
from fhir_server.model import codec

Json = dict[str, Any]
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
WEIGHT = "29463-7"


def put(client: httpx.Client, subject: str, day: int, code: str = WEIGHT, **members: Any) -> None:
    resource = {
        "resourceType": "Observation",
        "id": f"s{uuid.uuid4().hex}",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": f"Patient/{subject}"},
        "effectiveDateTime": f"2020-01-{day:02}",
        **members,
    }
    answer = client.put(f"Observation/{resource['id']}", content=codec.encode(resource))
    assert answer.status_code == 201, answer.text


def quantity(value: str, unit: str | None = "kg", **members: Any) -> Json:
    coded = {"unit": unit, "system": UCUM, "code": unit} if unit else {}
    return {"valueQuantity": {"value": Decimal(value), **coded, **members}}


def ask(client: httpx.Client, subject: str, figures: str, **parameters: Any) -> dict[str, Json]:
    query = {"subject": f"Patient/{subject}", "code": WEIGHT, "system": LOINC, "statistic": figures, **parameters}
    return told(client.get("Observation/$stats", params=query))


def told(answer: httpx.Response, row: int = 0) -> dict[str, Json]:
    assert answer.status_code == 200, answer.text
    components = codec.decode(answer.content)["parameter"][row]["resource"]["component"]
    return {c["code"].get("text", c["code"]["coding"][0]["code"]): c.get("valueQuantity", {}) for c in components}


@pytest.fixture(scope="module")
def subject(server: Any) -> str:
    """70, 72, 74 and 80 kg, one in pounds; what does not count; a blood pressure."""
    p, client = f"s{uuid.uuid4().hex[:10]}", server.client
    put(client, p, 1, **quantity("70.0"))
    put(client, p, 2, **quantity("72.0"))
    put(client, p, 3, **quantity("154.323583529414", "[lb_av]"))  # 70.0000... kg
    put(client, p, 4, **quantity("80000", "g"))
    put(client, p, 5, **quantity("500"), status="entered-in-error")
    put(client, p, 6, **quantity("600"), status="cancelled")
    put(client, p, 7, **quantity("30", comparator="<"))
    put(client, p, 8, **quantity("1.8", "m"))
    put(client, p, 9, valueString="heavy")
    systolic = {"code": {"coding": [{"system": LOINC, "code": "8480-6"}]}, **quantity("120", "mm[Hg]")}
    diastolic = {"code": {"coding": [{"system": LOINC, "code": "8462-4"}]}, **quantity("80", "mm[Hg]")}
    put(client, p, 10, "85354-9", component=[systolic, diastolic])
    return p


def test_kilograms_pounds_and_grams_mix(client: httpx.Client, subject: str) -> None:
    found = ask(client, subject, "average,max,min,count,total-count,median,sum")
    assert found["count"]["value"] == 4
    assert found["total-count"]["value"] == 7
    assert found["maximum"] == {"value": 80, "unit": "kg", "system": UCUM, "code": "kg"}
    assert abs(found["minimum"]["value"] - 70) < Decimal("1e-9")
    assert abs(found["average"]["value"] - 73) < Decimal("1e-9")
    assert abs(found["median"]["value"] - 71) < Decimal("1e-9")
    assert "unit" not in found["count"]


def test_decimals_are_exact(client: httpx.Client) -> None:
    p = f"s{uuid.uuid4().hex[:10]}"
    for day, value in enumerate(("0.1", "0.2", "0.4"), 1):
        put(client, p, day, **quantity(value))
    found = ask(client, p, "sum,variance,regression,average")
    assert str(found["sum"]["value"]) == "0.7"
    assert found["average"]["value"] == Decimal("0.233333333333333")
    assert found["variance"]["code"] == "(kg).(kg)"
    assert found["gradient, per day"] == {"value": Decimal("0.15"), "unit": "kg/d", "system": UCUM, "code": "kg/d"}
    assert abs(found["intercept, at the first measurement"]["value"] - Decimal("0.25") / 3) < Decimal("1e-14")


def test_temperatures_convert_with_their_offset(client: httpx.Client) -> None:
    p = f"s{uuid.uuid4().hex[:10]}"
    for day, (value, unit) in enumerate((("37", "Cel"), ("98.6", "[degF]"), ("38", "Cel")), 1):
        put(client, p, day, **quantity(value, unit))
    assert ask(client, p, "minimum,maximum,count")["minimum"]["value"] == 37


def test_the_time_is_a_period_or_the_last_hours(client: httpx.Client, subject: str) -> None:
    period = {"name": "period", "valuePeriod": {"start": "2020-01-02", "end": "2020-01-04"}}
    rows = [
        {"name": "subject", "valueUri": f"Patient/{subject}"},
        {"name": "coding", "valueCoding": {"system": LOINC, "code": WEIGHT}},
        {"name": "statistic", "valueCode": "count"},
        period,
    ]
    answer = client.post("Observation/$stats", json={"resourceType": "Parameters", "parameter": rows})
    assert told(answer)["count"]["value"] == 3
    assert answer.json()["parameter"][0]["resource"]["effectivePeriod"]["start"] == "2020-01-02T00:00:00.000Z"
    assert ask(client, subject, "count", duration="1")["count"]["value"] == 0
    now = (datetime.now(UTC) - timedelta(minutes=30)).isoformat(timespec="seconds")
    p = f"s{uuid.uuid4().hex[:10]}"
    put(client, p, 1, **quantity("5"), effectiveDateTime=now)
    assert ask(client, p, "count", duration="1.5")["count"]["value"] == 1


def test_components_are_measurements_and_each_code_has_figures_of_its_own(client: httpx.Client, subject: str) -> None:
    query = f"Observation/$stats?subject=Patient/{subject}&code={LOINC}|8480-6,8462-4&statistic=maximum"
    answer = client.get(query)
    assert [told(answer, n)["maximum"]["value"] for n in (0, 1)] == [120, 80]


def test_sources_come_when_asked_for_newest_first(client: httpx.Client, subject: str) -> None:
    query = f"Observation/$stats?subject=Patient/{subject}&code={WEIGHT}&statistic=count&include=true&limit=2"
    names = [(p["name"], p["resource"]["effectiveDateTime"]) for p in client.get(query).json()["parameter"][1:]]
    assert names == [("source", "2020-01-09"), ("source", "2020-01-08")]


def test_without_measurements_counts_are_zero_and_figures_absent(client: httpx.Client) -> None:
    answer = client.get(
        f"Observation/$stats?subject=Patient/nobody&code={WEIGHT}&statistic=average,count,regression,skew"
    )
    components = answer.json()["parameter"][0]["resource"]["component"]
    assert components[0]["dataAbsentReason"]["coding"][0]["code"] == "not-applicable"
    assert components[1]["valueQuantity"]["value"] == 0
    validated = client.post("Observation/$validate", json=answer.json()["parameter"][0]["resource"]).json()
    assert {issue["severity"] for issue in validated["issue"]} <= {"information", "warning"}


def test_every_statistic_of_the_value_set_is_there(client: httpx.Client, subject: str) -> None:
    codes = "average maximum minimum count total-count totalcount median std-dev sum variance 20-percent 80-percent "
    codes += "4-lower 4-upper 4-dev 5-1 5-2 5-3 5-4 skew kurtosis regression"
    found = ask(client, subject, codes.replace(" ", ","))
    assert len(found) == 22
    assert all("value" in quantity for quantity in found.values())


@pytest.mark.parametrize(
    "query",
    [
        "code=x&statistic=count",
        "subject=Patient/1&statistic=count",
        "subject=Patient/1&code=x",
        "subject=Patient/1&code=x&statistic=mode",
        "subject=Nobody/1&code=x&statistic=count",
        "subject=Patient/1&code=x&statistic=count&duration=x",
        "subject=Patient/1&code=x&statistic=count&limit=0",
        "subject=Patient/1&code=x&statistic=count&include=perhaps",
        "subject=Patient/1&code=x&statistic=count&patient=1",
        "subject=Patient/1&code=x&statistic=count&period=2020",
        "subject=Patient/1&code=&statistic=count",
        "subject=Patient/1&code=x&statistic=count&duration=NaN",
    ],
)
def test_what_cannot_be_understood_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"Observation/$stats?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize("seed", range(50))
def test_figures_are_those_of_the_standard_library(seed: int) -> None:
    chance = random.Random(seed)
    values = [Fraction(chance.randint(-(10**6), 10**6), 1000) for _ in range(chance.randint(2, 30))]
    assert figures.average(values) == statistics.mean(values)
    assert figures.quantile(values, Fraction(1, 2)) == statistics.median(values)
    assert figures.variance(values) == statistics.variance(values)
    fifths = statistics.quantiles(values, n=5, method="inclusive")
    assert [figures.quantile(values, Fraction(n, 5)) for n in range(1, 5)] == fifths
    spread = figures.deviation(values)
    assert spread is not None
    assert abs(spread**2 - statistics.variance(values)) < Fraction(1, 10**20)
