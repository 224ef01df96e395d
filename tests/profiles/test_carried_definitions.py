"""The definitions that the server carries are found as if they were stored, by every search.

One server carries them; on another one the same definitions are stored, which hides what is carried. Both must answer
alike, whatever is asked, but for moments, which carried ones have not.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from fhir_server.model.codec import encode
from fhir_server.repository.carried import CARRIED
from profiles.registry import own_definitions

Json = dict[str, Any]

#: As many of each type are stored on both servers, so that pages are mixed.
MORE = 7

DEFINITIONS = [json.loads(encode(one)) for kind in sorted(CARRIED) for one in own_definitions(kind)]


def stored_ones(kind: str) -> Iterator[Json]:
    """Resources whose keys lie before, between and behind those of the carried ones; some lack what is sorted by."""
    for number in range(MORE):
        body: Json = {
            "resourceType": kind,
            "id": f"{'a' if number % 2 else 'healthsphere-m' if number % 3 else 'z'}{number}",
            "url": f"http://example.org/{kind}/{number}",
            "name": f"{'ABMZ'[number % 4]}ame{number}",
            "status": ("active", "draft", "retired")[number % 3],
            "date": f"20{20 + number}-03-01",
        }
        if number % 2:
            body |= {"title": f"Title {number % 3}", "version": f"1.{number}", "publisher": "Somebody"}
        if kind == "StructureDefinition":
            kind_of = ("Task", "Device")[number % 2]
            body |= {"kind": "resource", "abstract": False, "type": kind_of, "derivation": "constraint"}
            body |= {"differential": {"element": [{"id": kind_of, "path": kind_of}]}}
            body["baseDefinition"] = f"http://hl7.org/fhir/StructureDefinition/{kind_of}"
        if kind == "CodeSystem":
            body |= {"content": "complete", "concept": [{"code": f"c{number}"}, {"code": "x"}]}
        yield body


def filled(client: httpx.Client, resources: list[Json]) -> None:
    entries = [
        {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in resources
    ]
    answer = client.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
    rows = [row["response"] for row in answer.json()["entry"]]
    assert [row for row in rows if row["status"] != "201"] == []


@dataclass(frozen=True)
class Twins:
    """The server that carries the definitions, and the one where they are stored."""

    carrying: httpx.Client
    storing: httpx.Client


@pytest.fixture(scope="module")
def twins(make_server: Callable[..., Any]) -> Twins:
    carrying, storing = make_server().client, make_server().client
    more = [one for kind in sorted(CARRIED) for one in stored_ones(kind)]
    filled(carrying, more)
    filled(storing, [*more, *DEFINITIONS])
    return Twins(carrying, storing)


def page(client: httpx.Client, address: str) -> Json:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def names(bundle: Json) -> list[str]:
    rows = [row for row in bundle.get("entry", ()) if row["search"]["mode"] == "match"]
    return [f"{row['resource']['resourceType']}/{row['resource']['id']}" for row in rows]


def link(bundle: Json, relation: str) -> str | None:
    return next((row["url"] for row in bundle["link"] if row["relation"] == relation), None)


def walked(client: httpx.Client, address: str) -> list[list[str]]:
    """The pages of a search, read to the end and back again."""
    pages, bundle = [], page(client, address)
    pages.append(names(bundle))
    while (following := link(bundle, "next")) is not None:
        bundle = page(client, following)
        pages.append(names(bundle))
        assert names(page(client, str(link(bundle, "self")))) == pages[-1]
        assert len(pages) < 200
    back = [pages[-1]]
    while (before := link(bundle, "previous")) is not None:
        bundle = page(client, before)
        back.append(names(bundle))
    assert back[::-1] == pages, "back again they are the same"
    return pages


#: Each is asked with pages of 5 in both servers.
QUERIES = [
    "StructureDefinition?",
    "StructureDefinition?_sort=name",
    "StructureDefinition?_sort=-name",
    "StructureDefinition?_sort=title",
    "StructureDefinition?_sort=-title",
    "StructureDefinition?_sort=-_id",
    "StructureDefinition?_sort=date",
    "StructureDefinition?_sort=-date",
    "StructureDefinition?_sort=type,-name",
    "StructureDefinition?_sort=-status,title,-_id",
    "StructureDefinition?_sort=-type",
    "StructureDefinition?_sort=url",
    "StructureDefinition?_sort=-base",
    "StructureDefinition?_sort=publisher,-url",
    "StructureDefinition?name:contains=a&_sort=name",
    "StructureDefinition?name:exact=Aame0",
    "StructureDefinition?type=Task&_sort=-url",
    "StructureDefinition?status:not=draft&_sort=url",
    "StructureDefinition?title:missing=true",
    "StructureDefinition?title:missing=false&_sort=title",
    "StructureDefinition?url:below=http://example.org&_sort=-url",
    "StructureDefinition?status=active,draft&_sort=-name,url",
    "StructureDefinition?_filter=name co m or type eq Device",
    "StructureDefinition?date=ge2021&_sort=date",
    "StructureDefinition?base=http://hl7.org/fhir/StructureDefinition/Task",
    "StructureDefinition?_content=patient&_sort=-_score",
    "CodeSystem?_sort=-name",
    "CodeSystem?code=x&_sort=name",
    "CodeSystem?content-mode=complete&_sort=-code",
    "CodeSystem?_sort=code",
    "ValueSet?_sort=name",
    "ValueSet?_sort=-version,name",
    "?_type=StructureDefinition,CodeSystem,ValueSet",
    "?_type=StructureDefinition,CodeSystem,ValueSet,Patient&_sort=_id",
    "?_type=ValueSet,CodeSystem&_sort=-_id",
    "?_type=ValueSet,StructureDefinition&status=active",
    "?_type=ValueSet,StructureDefinition,CodeSystem&name=a&_sort=-_id",
    "?_type=StructureDefinition&_sort=-name",
    "?_id=healthsphere-device,a1,z0,healthsphere-dispensing",
    "?",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_a_search_finds_what_is_carried_where_it_would_find_it_stored_page_by_page(twins: Twins, query: str) -> None:
    address = f"{query}&_count=17"
    carried, stored = walked(twins.carrying, address), walked(twins.storing, address)
    assert carried == stored
    listed = [name for found in carried for name in found]
    assert listed, "a query that finds nothing shows nothing"
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("query", ["StructureDefinition?type=Task", "CodeSystem?status=active", "ValueSet?", "?"])
@pytest.mark.parametrize("total", ["_total=accurate", "_total=estimate", "_summary=count", "_count=0"])
def test_they_are_counted(twins: Twins, query: str, total: str) -> None:
    more = "" if "count" in total else "&_count=2"
    counted = [page(client, f"{query}&{total}{more}")["total"] for client in (twins.carrying, twins.storing)]
    assert counted[0] == counted[1] > 2
    if "accurate" in total:
        following = link(page(twins.carrying, f"{query}&{total}{more}"), "next")
        assert page(twins.carrying, str(following))["total"] == counted[0]


@pytest.mark.parametrize("shown", ["_elements=url,status", "_summary=true", "_summary=text", "_summary=data"])
def test_they_are_shown_as_is_asked(twins: Twins, shown: str) -> None:
    def content(client: httpx.Client) -> list[Json]:
        rows = [row["resource"] for row in page(client, f"CodeSystem?_count=500&{shown}")["entry"]]
        return [{name: value for name, value in row.items() if name != "meta"} for row in rows]

    assert content(twins.carrying) == content(twins.storing)


def test_they_have_no_moment_and_are_the_oldest_in_an_order_by_it(twins: Twins) -> None:
    client = twins.carrying
    own = {f"CodeSystem/{one['id']}" for one in own_definitions("CodeSystem")}
    found = [name for one in walked(client, "CodeSystem?_sort=_lastUpdated&_count=3") for name in one]
    assert set(found[: len(own)]) == own
    assert not set(found[len(own) :]) & own
    back = [name for one in walked(client, "CodeSystem?_sort=-_lastUpdated&_count=3") for name in one]
    assert back == found[::-1]
    for moment in ("gt1900", "lt2100"):
        assert not set(names(page(client, f"CodeSystem?_lastUpdated={moment}&_count=500"))) & own
    mixed = [name for one in walked(client, "?_type=CodeSystem,ValueSet&_sort=-_lastUpdated&_count=4") for name in one]
    assert mixed[-1].split("/")[1] in {one["id"] for kind in CARRIED for one in own_definitions(kind)}


def test_what_is_written_between_two_pages_moves_nothing(make_server: Callable[..., Any]) -> None:
    client = make_server().client
    first = page(client, "StructureDefinition?_sort=name&_count=10")
    (one, *_) = [one for one in stored_ones("StructureDefinition") if one["id"].startswith("a")]
    assert client.put(f"StructureDefinition/{one['id']}", json={**one, "name": "0 before all"}).status_code == 201
    second = page(client, str(link(first, "next")))
    following = page(client, "StructureDefinition?_sort=name&_count=21")
    assert names(following) == [f"StructureDefinition/{one['id']}", *names(first), *names(second)]


def test_a_page_of_them_adds_what_it_includes(twins: Twins) -> None:
    query = "StructureDefinition?_id=healthsphere-device&_include=StructureDefinition:base"
    assert names(page(twins.carrying, query)) == ["StructureDefinition/healthsphere-device"]


def test_conditional_interactions_are_about_what_is_stored_alone(make_server: Callable[..., Any]) -> None:
    client = make_server().client
    (mine,) = [one for one in DEFINITIONS if one["id"] == "healthsphere-device"]
    headers = {"If-None-Exist": f"url={mine['url']}"}
    assert client.post("StructureDefinition", json=mine, headers=headers).status_code == 201
    assert client.post("StructureDefinition", json=mine, headers=headers).status_code == 200
