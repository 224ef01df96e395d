"""How searches are answered: order, pages, totals, summaries, links, and what is said of parameters nobody knows.

Spec: https://hl7.org/fhir/R4/search.html#return, https://hl7.org/fhir/R4/http.html#paging
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("search")

Json = dict[str, Any]
SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
PLACES = 53

#: id: family, gender, birth date; None where there is none.
PEOPLE: dict[str, tuple[str | None, str | None, str | None]] = {
    "a": ("Muller", "male", "1970-05"),
    "b": ("müller-lüdenscheidt", "female", "1970-05-06"),
    "c": ("O'Brien", "female", "1971"),
    "d": (None, "female", "1969-12-31"),
    "e": ("Abel", None, None),
    "f": ("Zorn", "male", "1980-01-01"),
}


def person(name: str) -> Json:
    family, gender, birth_date = PEOPLE[name]
    resource: Json = {"resourceType": "Patient", "id": name}
    if family:
        resource["name"] = [{"family": family}]
    if gender:
        resource["gender"] = gender
    if birth_date:
        resource["birthDate"] = birth_date
    return resource


@pytest.fixture(scope="module")
def data(make_server: Callable[..., Any]) -> Any:
    """People to be sorted, places to be paged through, and a device request with much in it."""
    server = make_server()
    resources = [person(name) for name in PEOPLE]
    resources += [
        {
            "resourceType": "Location",
            "id": f"place-{number:02}",
            "status": "active" if number % 3 else "inactive",
            **({"name": f"Name {number * 7 % 10}"} if number % 5 else {}),
        }
        for number in range(PLACES)
    ]
    resources.append(RICH)
    entries = [
        {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in resources
    ]
    answer = server.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text
    return server


RICH: Json = {
    "resourceType": "Observation",
    "id": "rich",
    "meta": {"tag": [{"code": "own"}]},
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Told</div>'},
    "identifier": [{"system": "http://x", "value": "1"}],
    "status": "final",
    "code": {"text": "Weight"},
    "valueQuantity": {"value": 7.5, "unit": "kg"},
    "note": [{"text": "Not in the summary"}],
    "bodySite": {"text": "Nor this"},
}


def bundle_of(client: httpx.Client, address: str, **headers: str) -> Json:
    answer = client.get(address, headers=headers)
    assert answer.status_code == 200, answer.text
    bundle: Json = answer.json()
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "searchset")
    return bundle


def matches(bundle: Json) -> list[Json]:
    return [entry["resource"] for entry in bundle.get("entry", []) if entry["search"]["mode"] == "match"]


def ids(bundle: Json) -> str:
    return " ".join(resource["id"] for resource in matches(bundle))


def link(bundle: Json, relation: str) -> str | None:
    found = [one["url"] for one in bundle["link"] if one["relation"] == relation]
    assert len(found) <= 1
    return found[0] if found else None


def pages(client: httpx.Client, address: str | None, relation: str = "next") -> Iterator[Json]:
    while address is not None:
        bundle = bundle_of(client, address)
        yield bundle
        address = link(bundle, relation)


# --- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("family", "e a b c f d"),
        ("-family", "f c b a e d"),
        ("birthdate", "d a b c f e"),
        ("-birthdate", "f c b a d e"),
        ("gender,birthdate", "d b c a f e"),
        ("gender,-birthdate", "c b d f a e"),
        ("-gender,family", "a f b c d e"),
        ("_id", "a b c d e f"),
        ("-_id", "f e d c b a"),
    ],
)
def test_the_order_is_that_of_all_keys_and_who_has_none_comes_last(data: Any, sort: str, order: str) -> None:
    assert ids(bundle_of(data.client, f"Patient?_sort={sort}")) == order
    for count in (1, 2, 4):
        walked = " ".join(filter(None, map(ids, pages(data.client, f"Patient?_sort={sort}&_count={count}"))))
        assert walked == order, count


def test_a_later_key_decides_among_those_of_one_moment(data: Any) -> None:
    found = matches(bundle_of(data.client, "Patient?_sort=_lastUpdated,-_id"))
    backwards = sorted(found, key=lambda patient: patient["id"], reverse=True)
    assert len(found) == len(PEOPLE)
    assert found == sorted(backwards, key=lambda patient: patient["meta"]["lastUpdated"])


def test_the_last_changed_is_the_first_when_sorted_backwards_by_its_moment(data: Any) -> None:
    client = data.client
    for name in ("x1", "x2", "x3"):
        client.put(f"Device/{name}", json={"resourceType": "Device", "id": name})
    client.put("Device/x1", json={"resourceType": "Device", "id": "x1", "status": "active"})
    assert ids(bundle_of(client, "Device?_sort=-_lastUpdated")) == "x1 x3 x2"


def test_a_key_that_cannot_be_sorted_by_is_told(data: Any) -> None:
    bundle = bundle_of(data.client, "Patient?_sort=nonsense,_id")
    assert ids(bundle) == "a b c d e f"
    assert "_sort=_id" in str(link(bundle, "self"))
    assert "nonsense" in str(outcomes(bundle))
    assert data.client.get("Patient?_sort=nonsense", headers={"Prefer": "handling=strict"}).status_code == 400


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["", "&_sort=name", "&_sort=-name,status", "&status=active&_sort=-_id", "&_sort=-status"]
)
def test_all_pages_forward_and_back_show_each_match_once(data: Any, query: str) -> None:
    whole = [r["id"] for r in matches(bundle_of(data.client, f"Location?_count=200{query}"))]
    forward = list(pages(data.client, f"Location?_count=7{query}"))
    assert [r["id"] for page in forward for r in matches(page)] == whole
    assert all(len(matches(page)) == 7 for page in forward[:-1])
    assert link(forward[0], "previous") is None
    assert link(forward[-1], "next") is None
    backward = list(pages(data.client, link(forward[-1], "previous"), "previous"))
    assert [r["id"] for page in reversed(backward) for r in matches(page)] == whole[
        : len(whole) - len(matches(forward[-1]))
    ]
    for page in forward[1:]:
        assert ids(bundle_of(data.client, str(link(page, "first")))) == ids(forward[0])
        assert ids(bundle_of(data.client, str(link(page, "self")))) == ids(page)


@pytest.mark.parametrize("sort", ["", "&_sort=name", "&_sort=-name", "&_sort=-_lastUpdated", "&_sort=_id"])
def test_pages_neither_double_nor_leave_out_what_stays_while_others_come_and_go(data: Any, sort: str) -> None:
    client, tag = data.client, "t" + sort.replace("&_sort=", "").replace("_", ".")

    def put(name: str, number: int) -> None:
        resource = {
            "resourceType": "Organization",
            "id": name,
            "name": f"N{number % 4}",
            "meta": {"tag": [{"code": tag}]},
        }
        if number % 6 == 0:
            resource.pop("name")
            resource["identifier"] = [{"value": "x"}]
        assert client.put(f"Organization/{name}", json=resource).status_code in (200, 201)

    names = [f"{tag}-{number:02}" for number in range(20)]
    for number, name in enumerate(names):
        put(name, number)
    deleted: set[str] = set()
    seen: list[str] = []
    for turn, page in enumerate(pages(client, f"Organization?_tag={tag}&_count=3{sort}")):
        shown = [r["id"] for r in matches(page)]
        assert not deleted & set(shown)
        seen += shown
        # One that was shown and one that was not are deleted; new ones come before, between and behind.
        unseen = [name for name in names if name not in seen and name not in deleted]
        for gone in [*shown[:1], *unseen[-1:]]:
            client.delete(f"Organization/{gone}")
            deleted.add(gone)
        for number, place in enumerate(("a", "m", "z")):
            put(f"{place}-{tag}-{turn}", number + turn)
        assert turn < 40
        if turn > 12:
            break
    staying = [name for name in names if name not in deleted]
    assert len(seen) == len(set(seen))
    assert set(staying) <= set(seen)


def test_a_count_above_the_limit_is_lowered_and_the_self_link_says_so(data: Any) -> None:
    self_link = str(link(bundle_of(data.client, "Patient?_count=100000"), "self"))
    assert dict(parse_qsl(urlsplit(self_link).query))["_count"] == str(data.settings.max_page_size)


# --- totals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["Location?_count=5&", "Location?status=active&_count=5&", "Location?name:missing=true&"]
)
def test_an_accurate_total_is_that_of_all_pages(data: Any, query: str) -> None:
    expected = sum(len(matches(page)) for page in pages(data.client, query.rstrip("&")))
    bundle = bundle_of(data.client, f"{query}_total=accurate")
    assert bundle["total"] == expected
    second = link(bundle, "next")
    if second:
        assert bundle_of(data.client, second)["total"] == expected


def test_an_estimate_is_a_number_and_none_stands_for_no_need(data: Any) -> None:
    assert bundle_of(data.client, "Location?_total=estimate&_count=5")["total"] >= 5
    assert ids(bundle_of(data.client, "Location?_total=none&_count=2&_sort=_id")) == "place-00 place-01"


@pytest.mark.parametrize("query", ["_count=0", "_summary=count", "_summary=count&_count=5", "_count=0&_sort=name"])
def test_only_the_number_of_matches_is_told_when_that_is_asked_for(data: Any, query: str) -> None:
    bundle = bundle_of(data.client, f"Location?status=inactive&{query}")
    assert bundle["total"] == len(range(0, PLACES, 3))
    assert "entry" not in bundle
    assert link(bundle, "next") is None
    assert link(bundle, "self")


# --- parts of resources -----------------------------------------------------------------------------------------------


def shown(data: Any, query: str) -> Json:
    (entry,) = bundle_of(data.client, f"Observation?_id=rich&{query}")["entry"]
    assert entry["fullUrl"] == f"{data.base_url}/Observation/rich"
    resource: Json = entry["resource"]
    return resource


@pytest.mark.parametrize(
    ("query", "members"),
    [
        ("_summary=true", {"identifier", "status", "code", "valueQuantity"}),
        ("_summary=text", {"text", "status", "code"}),
        ("_summary=data", {"identifier", "status", "code", "valueQuantity", "note", "bodySite"}),
        ("_elements=identifier", {"identifier", "status", "code"}),
        ("_elements=note,bodySite", {"note", "bodySite", "status", "code"}),
        ("_elements=value", {"valueQuantity", "status", "code"}),
    ],
)
def test_a_part_has_what_was_asked_for_and_what_is_mandatory_and_is_marked(
    data: Any, query: str, members: set[str]
) -> None:
    part = shown(data, query)
    assert set(part) == members | {"resourceType", "id", "meta"}
    assert {"code": "own"} in part["meta"]["tag"]
    assert any(SUBSETTED.items() <= tag.items() for tag in part["meta"]["tag"])
    assert part["meta"]["versionId"] == "1"
    assert all(part[name] == RICH[name] for name in members)
    read = data.client.get(f"Observation/rich?{query}").json()
    assert read == part


def test_no_summary_is_the_whole_resource_unmarked(data: Any) -> None:
    whole = data.client.get("Observation/rich").json()
    assert shown(data, "_summary=false") == whole
    assert SUBSETTED not in whole["meta"]["tag"]


def test_a_search_page_holds_the_bytes_that_a_read_gives(data: Any) -> None:
    text = data.client.get("Observation/rich").text
    assert text in data.client.get("Observation?_id=rich").text
    assert '"value":7.5,' in text
    assert Decimal("7.5") == Decimal(str(shown(data, "_summary=true")["valueQuantity"]["value"]))


# --- links and warnings -----------------------------------------------------------------------------------------------


def outcomes(bundle: Json) -> list[Json]:
    return [entry["resource"] for entry in bundle.get("entry", []) if entry["search"]["mode"] == "outcome"]


def test_every_entry_has_its_full_url_and_its_mode(data: Any) -> None:
    for entry in bundle_of(data.client, "Patient?gender=male")["entry"]:
        assert entry["fullUrl"] == f"{data.base_url}/Patient/{entry['resource']['id']}"
        assert entry["search"] == {"mode": "match"}


def test_no_match_is_an_empty_searchset_with_a_total_of_none(data: Any) -> None:
    bundle = bundle_of(data.client, "Patient?family=nobody")
    assert "entry" not in bundle
    assert bundle["total"] == 0


def test_the_self_link_shows_all_that_was_applied(data: Any) -> None:
    query = [
        ("family:contains", "l|l, x&y=ü+"),
        ("birthdate", "ge1970"),
        ("birthdate", "lt1990"),
        ("_sort", "-birthdate"),
    ]
    bundle = data.client.get("Patient", params=[*query, ("_count", "3"), ("_format", "json")]).json()
    self_link = urlsplit(str(link(bundle, "self")))
    assert f"{self_link.scheme}://{self_link.netloc}{self_link.path}" == f"{data.base_url}/Patient"
    told = parse_qsl(self_link.query)
    assert all(pair in told for pair in [*query, ("_count", "3")])


@pytest.mark.parametrize(
    "unknown", ["nonsense=1", "nonsense:exact=1", "_nonsense=1", "nonsense.name=1", "organization.nonsense=1"]
)
def test_an_unknown_parameter_is_ignored_with_a_warning_or_refused_when_the_client_is_strict(
    data: Any, unknown: str
) -> None:
    name = unknown.partition("=")[0]
    query = f"Patient?gender=male&{unknown}"
    for headers in ({}, {"Prefer": "handling=lenient"}):
        bundle = bundle_of(data.client, query, **headers)
        assert ids(bundle) == "a f"
        assert name not in str(link(bundle, "self"))
        assert "gender=male" in str(link(bundle, "self"))
        (outcome,) = outcomes(bundle)
        assert outcome["resourceType"] == "OperationOutcome"
        assert [issue["severity"] for issue in outcome["issue"]] == ["warning"]
        assert name.partition(":")[0] in outcome["issue"][0]["diagnostics"]
    answer = data.client.get(query, headers={"Prefer": "handling=strict"})
    assert answer.status_code == 400
    assert name.partition(":")[0] in answer.json()["issue"][0]["diagnostics"]


def test_a_warning_is_no_match_and_counts_for_nothing(data: Any) -> None:
    bundle = bundle_of(data.client, "Patient?gender=male&nonsense=1&_total=accurate&_count=2")
    assert (bundle["total"], len(matches(bundle)), len(outcomes(bundle))) == (2, 2, 1)


def test_a_cursor_of_another_search_or_of_nobody_is_refused(data: Any) -> None:
    following = str(link(bundle_of(data.client, "Location?_count=5&_sort=name"), "next"))
    cursor = dict(parse_qsl(urlsplit(following).query))
    name = next(name for name in cursor if name not in ("_count", "_sort"))
    for address in (f"Location?_count=5&_sort=-name,status&{name}={cursor[name]}", f"Location?{name}=nonsense"):
        answer = data.client.get(address)
        assert answer.status_code == 400, address
        assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("address", ["Patient/_search", "Patient/_search?gender=male"])
def test_a_search_by_post_without_a_body_has_the_parameters_of_its_address(data: Any, address: str) -> None:
    answer = data.client.post(address, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 200
    assert len(matches(answer.json())) == (2 if "?" in address else 6)
