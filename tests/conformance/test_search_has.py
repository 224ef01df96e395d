"""Reverse chains find the same whichever way they are followed: gathered, by charts, or checked match by match.

The first time, a chain is gathered; when it is asked again, the way is taken that costs least (see `search.reverse`).

Spec: https://hl7.org/fhir/R4/search.html#has
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.model.dates import OPEN_END_US, interval_of

pytestmark = pytest.mark.xdist_group("search")

Json = dict[str, Any]
PEOPLE = 40


def observations(chance: random.Random) -> list[Json]:
    """Some thirty for each of the first patients, few for the others, none for the last."""
    found: list[Json] = []
    for number in range(1000):
        who = chance.randrange(30) if number % 20 else chance.randrange(30, PEOPLE - 2)
        year, month, day = chance.randrange(1995, 2012), chance.randrange(1, 13), chance.randrange(1, 28)
        moment = f"{year}-{month:02}-{day:02}"
        when: Json = chance.choice(
            [
                {"effectiveDateTime": f"{year}"},
                {"effectiveDateTime": moment},
                {"effectiveDateTime": f"{moment}T10:00:00Z"},
                {"effectivePeriod": {"start": moment, "end": f"{year + 1}"}},
                {"effectivePeriod": {"start": moment}},
                {},
            ]
        )
        found.append(
            {
                "resourceType": "Observation",
                "id": f"o{number}",
                "status": chance.choice(["final", "final", "final", "amended"]),
                "code": {"coding": [{"system": "http://s", "code": chance.choice("aaaab")}]},
                "subject": {"reference": f"Patient/p{who:02}"},
                **when,
            }
        )
    return found


@pytest.fixture(scope="module")
def data(make_server: Callable[..., Any]) -> tuple[Any, list[Json]]:
    server = make_server()
    resources = observations(random.Random(3))
    people = [
        {"resourceType": "Patient", "id": f"p{n:02}", "gender": ("male", "female")[n % 2], "birthDate": f"19{90 - n}"}
        for n in range(PEOPLE)
    ]
    for start in range(0, len(resources), 500):
        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {"request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}, "resource": r}
                for r in [*(people if start == 0 else ()), *resources[start : start + 500]]
            ],
        }
        answer = server.client.post("", json=bundle)
        assert answer.status_code == 200, answer.text[:500]
    return server, resources


def span_of(resource: Json) -> tuple[int, int] | None:
    if "effectiveDateTime" in resource:
        span = interval_of(resource["effectiveDateTime"])
        return span.start_us, span.end_us
    if "effectivePeriod" not in resource:
        return None
    period = resource["effectivePeriod"]
    end = interval_of(period["end"]).end_us if "end" in period else OPEN_END_US
    return interval_of(period["start"]).start_us, end


def meets_date(resource: Json, prefix: str, year: str) -> bool:
    span = span_of(resource)
    if span is None:
        return False
    (start, end), low, high = span, interval_of(year).start_us, interval_of(year).end_us
    within = low <= start and end <= high
    return {
        "eq": within,
        "ne": not within,
        "gt": end > high,
        "lt": start < low,
        "ge": within or end > high,
        "le": within or start < low,
        "sa": start >= high,
        "eb": end <= low,
    }[prefix]


CRITERIA: dict[str, Callable[[Json], bool]] = {
    "status=final": lambda o: bool(o["status"] == "final"),
    "code=a": lambda o: bool(o["code"]["coding"][0]["code"] == "a"),
    "code=http://s|a,http://s|b": lambda o: True,
    "code:not=a": lambda o: bool(o["code"]["coding"][0]["code"] != "a"),
    "date:missing=true": lambda o: span_of(o) is None,
    **{
        f"date={prefix}{year}": lambda o, p=prefix, y=year: meets_date(o, p, y)
        for prefix in ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb")
        for year in ("1996", "2003", "2012")
    },
}


def ids(bundle: Json) -> list[str]:
    return [entry["resource"]["id"] for entry in bundle.get("entry", [])]


def walked(client: Any, address: str) -> list[str]:
    seen: list[str] = []
    while True:
        bundle = client.get(address, headers={"Prefer": "handling=strict"}).json()
        seen += ids(bundle)
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        if not following:
            return seen
        address = following[0]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_way_finds_the_same_in_the_same_order(data: tuple[Any, list[Json]], criterion: str) -> None:
    server, resources = data
    expected = sorted({o["subject"]["reference"][8:] for o in resources if CRITERIA[criterion](o)})
    query = f"Patient?_has:Observation:patient:{criterion}"
    for _ in range(2):  # gathered, and by the way that seemed best then
        assert walked(server.client, f"{query}&_count=100") == expected
        assert walked(server.client, f"{query}&_count=7") == expected
    assert walked(server.client, f"{query}&_count=9&_sort=-birthdate") == expected
    assert walked(server.client, f"{query}&_count=9&_sort=birthdate,_id") == expected[::-1]
    assert walked(server.client, f"{query}&_count=9&_sort=gender") == sorted(expected, key=lambda i: -(int(i[1:]) % 2))
    women = [i for i in expected if int(i[1:]) % 2]
    assert walked(server.client, f"{query}&gender=female&_count=5") == women
    assert walked(server.client, f"{query}&_id=p01,p02,p31,p39") == [i for i in expected if i in "p01,p02,p31,p39"]
    for total in ("_summary=count", "_total=accurate&_count=3", "_total=estimate&_count=3"):
        assert server.client.get(f"{query}&{total}").json()["total"] == len(expected)
    both = [i for i in expected if i in {o["subject"]["reference"][8:] for o in resources if o["status"] == "amended"}]
    assert walked(server.client, f"{query}&_has:Observation:subject:status=amended&_count=8") == both


def test_pages_of_checked_matches_go_back_as_they_came(data: tuple[Any, list[Json]]) -> None:
    client = data[0].client
    query = "Patient?_has:Observation:patient:status=final&_count=6"
    walked(client, query)
    pages = [client.get(query).json()]
    while any(link["relation"] == "next" for link in pages[-1]["link"]):
        pages.append(client.get(next(k["url"] for k in pages[-1]["link"] if k["relation"] == "next")).json())
    assert len(pages) > 4
    back = pages[-1]
    for page in reversed(pages[:-1]):
        back = client.get(next(k["url"] for k in back["link"] if k["relation"] == "previous")).json()
        assert ids(back) == ids(page)


def explained(client: Any, query: str) -> str:
    bundle = client.get(query, headers={"Prefer": "explain"}).json()
    return " ".join(
        issue["diagnostics"]
        for entry in bundle["entry"]
        if entry["search"]["mode"] == "outcome"
        for issue in entry["resource"]["issue"]
    )


@pytest.mark.parametrize(
    ("query", "first", "again", "index"),
    [
        ("_has:Observation:patient:date=gt2001", '"c": {"$sum": 1}', '{"_id": "$x.subject"}', "subject+date"),
        ("_has:Observation:subject:status=final&_count=3", '"c": {"$sum": 1}', '"$lookup"', "subject"),
        ("_has:Observation:subject:status=final&_id=p01", '"$lookup"', '"$lookup"', "_id_"),
    ],
)
def test_a_wide_condition_goes_another_way_when_it_is_asked_again(
    make_server: Callable[..., Any], query: str, first: str, again: str, index: str
) -> None:
    client = wide(make_server)
    told = explained(client, f"Patient?{query}")
    assert first in told
    told = explained(client, f"Patient?{query}")
    assert again in told
    assert re.search(rf"indexes [^;]*{re.escape(index)}", told), told[-300:]


def wide(make_server: Callable[..., Any]) -> Any:
    """A server that has seen no search yet, whose patients have 40 observations each."""
    server = make_server()
    entries = [
        {
            "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
            "resource": resource,
        }
        for who in range(12)
        for resource in [
            {"resourceType": "Patient", "id": f"p{who:02}"},
            *(
                {
                    "resourceType": "Observation",
                    "id": f"o{who}-{n}",
                    "status": "final",
                    "code": {"text": "x"},
                    "subject": {"reference": f"Patient/p{who:02}"},
                    "effectiveDateTime": f"20{n:02}",
                }
                for n in range(40)
            ),
        ]
    ]
    answer = server.client.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
    assert answer.status_code == 200
    return server.client
