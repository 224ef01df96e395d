"""Contained resources: found where `_contained` asks for them and by chains, and nowhere else.

Spec: https://hl7.org/fhir/R4/search.html#contained
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from pymongo import AsyncMongoClient

pytestmark = pytest.mark.xdist_group("search")

Json = dict[str, Any]
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"


def ref(to: str) -> Json:
    return {"reference": to}


def medication(name: str, code: str, **more: Any) -> Json:
    return {
        "resourceType": "Medication",
        "id": name,
        "code": {"coding": [{"system": RXNORM, "code": code}], "text": f"Tablets of {code}"},
        **more,
    }


def order(name: str, *contained: Json, to: str = "#m", status: str = "active", **more: Any) -> Json:
    """A prescription of one of the resources that it contains; the others are mentioned, as they have to be."""
    others = [ref(f"#{one['id']}") for one in contained if f"#{one['id']}" != to]
    return {
        "resourceType": "MedicationRequest",
        "id": name,
        **({"contained": list(contained)} if contained else {}),
        **({"supportingInformation": others} if others else {}),
        "status": status,
        "intent": "order",
        "medicationReference": ref(to),
        "subject": ref("Patient/p"),
        **more,
    }


RESOURCES: list[Json] = [
    {"resourceType": "Patient", "id": "p", "name": [{"family": "Parr"}]},
    {"resourceType": "Organization", "id": "maker", "name": "Maker"},
    {
        "resourceType": "Organization",
        "id": "hull",
        "name": "Hull",
        "contained": [
            {"resourceType": "Organization", "id": "within", "name": "Hull Inner", "partOf": ref("#other")},
            {"resourceType": "Organization", "id": "other", "name": "Other"},
        ],
        "partOf": ref("#within"),
        "endpoint": [],
    },
    medication("alone", "A", manufacturer=ref("Organization/maker")),
    order("r1", medication("m", "A", manufacturer=ref("Organization/maker"))),
    order("r2", medication("m", "B", status="active"), medication("n", "A", status="inactive"), status="stopped"),
    order("r3", to="Medication/alone"),
    order(
        "r6",
        medication("m", "D", ingredient=[{"itemReference": ref("#s")}]),
        {"resourceType": "Substance", "id": "s", "code": {"text": "Sugar"}},
        {"resourceType": "Substance", "id": "t", "code": {"text": "Salt"}},
    ),
    order("r4", medication("m", "C", batch={"expirationDate": "2030-01-01"})),
    {
        "resourceType": "MedicationStatement",
        "id": "s1",
        "status": "active",
        "contained": [medication("m", "A", batch={"expirationDate": "2025-05-05"})],
        "medicationReference": ref("#m"),
        "subject": ref("Patient/p"),
    },
    {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"text": "x"},
        "contained": [
            {
                "resourceType": "Patient",
                "id": "p",
                "name": [{"family": "Inward"}],
                "birthDate": "1950-05-05",
                "managingOrganization": ref("Organization/maker"),
            },
            {"resourceType": "Practitioner", "id": "d", "name": [{"family": "Inward"}]},
        ],
        "subject": ref("#p"),
        "performer": [ref("#d")],
    },
    {
        "resourceType": "QuestionnaireResponse",
        "id": "q1",
        "status": "completed",
        "contained": [{"resourceType": "Questionnaire", "id": "form", "status": "draft", "title": "Inner Form"}],
        "questionnaire": "#form",
    },
    {
        "resourceType": "Provenance",
        "id": "v",
        "target": [ref("MedicationRequest/r1")],
        "recorded": "2020-01-01T00:00:00Z",
        "agent": [{"who": ref("Organization/maker")}],
    },
]
del RESOURCES[2]["endpoint"]


def fill(client: Any, resources: list[Json]) -> None:
    entries = [
        {"request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}, "resource": r} for r in resources
    ]
    answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def data(make_server: Callable[..., Any]) -> Any:
    server = make_server(text_search="all")
    fill(server.client, RESOURCES)
    client = server.client
    client.put("MedicationRequest/gone", json=order("gone", medication("m", "A")))
    client.delete("MedicationRequest/gone")
    client.put("MedicationRequest/r5", json=order("r5", medication("m", "A")))
    client.put("MedicationRequest/r5", json=order("r5", to="Medication/none"))  # it no longer contains anything
    return server


def get(client: Any, query: str, status: int = 200, *, strict: bool = True) -> Json:
    place, _, criteria = query.partition("?")
    pairs = (part.partition("=") for part in criteria.split("&") if part)
    encoded = "&".join(f"{quote(name, safe=':')}={quote(value, safe='')}" for name, _, value in pairs)
    answer = client.get(f"{place}?{encoded}", headers={"Prefer": f"handling={'strict' if strict else 'lenient'}"})
    assert answer.status_code == status, answer.text[:600]
    result: Json = answer.json()
    return result


def urls(bundle: Json, mode: str = "match") -> list[str]:
    return [
        entry["fullUrl"].removeprefix("http://test/fhir/")
        for entry in bundle.get("entry", [])
        if entry["search"]["mode"] == mode
    ]


def found(client: Any, query: str) -> str:
    names = urls(get(client, f"{query}&_count=500"))
    assert len(set(names)) == len(names)
    return " ".join(names)


CASES = {
    # As the specification says it: the container, in place of what it contains.
    "Medication?code=A": "Medication/alone",
    "Medication?code=A&_contained=false": "Medication/alone",
    "Medication?code=A&_contained=true": "MedicationRequest/r1 MedicationRequest/r2 MedicationStatement/s1",
    "Medication?code=A&_contained=both": (
        "Medication/alone MedicationRequest/r1 MedicationRequest/r2 MedicationStatement/s1"
    ),
    "Medication?code=A&_contained=true&_containedType=container": (
        "MedicationRequest/r1 MedicationRequest/r2 MedicationStatement/s1"
    ),
    "Medication?code=A&_contained=true&_containedType=contained": (
        "MedicationRequest/r1#m MedicationRequest/r2#n MedicationStatement/s1#m"
    ),
    "Medication?code=A&_contained=both&_containedType=contained": (
        "Medication/alone MedicationRequest/r1#m MedicationRequest/r2#n MedicationStatement/s1#m"
    ),
    "Medication?code=A&_contained=false&_containedType=contained": "Medication/alone",
    f"Medication?code={RXNORM}|B&_contained=true": "MedicationRequest/r2",
    f"Medication?code={RXNORM}|&_contained=true": (
        "MedicationRequest/r1 MedicationRequest/r2 MedicationRequest/r4 MedicationRequest/r6 MedicationStatement/s1"
    ),
    "Medication?code=B,C&_contained=true&_containedType=contained": "MedicationRequest/r2#m MedicationRequest/r4#m",
    # All criteria hold for one contained resource, not for several together.
    "Medication?code=B&status=active&_contained=true": "MedicationRequest/r2",
    "Medication?code=B&status=inactive&_contained=true": "",
    "Medication?code:not=A&_contained=true&_containedType=contained": (
        "MedicationRequest/r2#m MedicationRequest/r4#m MedicationRequest/r6#m"
    ),
    "Medication?code:not=A&_contained=true": "MedicationRequest/r2 MedicationRequest/r4 MedicationRequest/r6",
    "Medication?code:text=tablets&status:missing=false&_contained=true&_containedType=contained": (
        "MedicationRequest/r2#m MedicationRequest/r2#n"
    ),
    "Medication?expiration-date=gt2026&_contained=true": "MedicationRequest/r4",
    "Medication?expiration-date=lt2026,gt2029&_contained=true": "MedicationRequest/r4 MedicationStatement/s1",
    "Medication?manufacturer=maker&_contained=true": "MedicationRequest/r1",
    "Medication?manufacturer=Organization/maker&_contained=both": "Medication/alone MedicationRequest/r1",
    "Medication?manufacturer.name=maker&_contained=true": "MedicationRequest/r1",
    "Medication?_filter=code eq A and status eq inactive&_contained=true": "MedicationRequest/r2",
    "Medication?_id=n&_contained=true": "MedicationRequest/r2",
    "Medication?_id=n&_contained=true&_containedType=contained": "MedicationRequest/r2#n",
    "Medication?_content=tablets&code=C&_contained=true": "MedicationRequest/r4",
    "Medication?_lastUpdated=gt2020&code=C&_contained=true": "MedicationRequest/r4",
    "Medication?_lastUpdated=lt2020&code=C&_contained=true&_containedType=contained": "",
    "Medication?_contained=true&_containedType=contained": (
        "MedicationRequest/r1#m MedicationRequest/r2#m MedicationRequest/r2#n MedicationRequest/r4#m "
        "MedicationRequest/r6#m MedicationStatement/s1#m"
    ),
    "Medication?_contained=true&_sort=_id": (
        "MedicationRequest/r1 MedicationRequest/r2 MedicationRequest/r4 MedicationRequest/r6 MedicationStatement/s1"
    ),
    "Medication?code=A&_contained=both&_sort=-_id": (
        "MedicationStatement/s1 MedicationRequest/r2 MedicationRequest/r1 Medication/alone"
    ),
    # A resource of the searched type may contain one, and match twice.
    "Organization?name=hull&_contained=true": "Organization/hull",
    "Organization?name=hull&_contained=both": "Organization/hull",
    "Organization?name=hull&_contained=both&_containedType=contained": "Organization/hull Organization/hull#within",
    "Organization?name=other&_contained=both&_containedType=contained": "Organization/hull#other",
    "Organization?name=hull&_contained=both&_containedType=contained&_sort=-_id": (
        "Organization/hull#within Organization/hull"
    ),
    "Patient?birthdate=lt1960&_contained=true": "Observation/o1",
    "Patient?family=inward&_contained=both": "Observation/o1",
    "Practitioner?name=inward&_contained=true&_containedType=contained": "Observation/o1#d",
    # Types that nothing is stored of, and types that nothing contains.
    "Device?_contained=true": "",
    "Binary?_contained=both": "",
    # Ordinary searches see no contained resource.
    "Medication?": "Medication/alone",
    "Patient?family=inward": "",
    "MedicationRequest?code=A": "",
}


@pytest.mark.parametrize(("query", "expected"), CASES.items())
def test_contained_resources_are_found_where_they_are_asked_for(data: Any, query: str, expected: str) -> None:
    assert found(data.client, query) == expected


CHAINS = {
    "MedicationRequest?medication.code=A": "MedicationRequest/r1 MedicationRequest/r3",
    "MedicationRequest?medication.code=B": "MedicationRequest/r2",
    "MedicationRequest?medication:Medication.code=A&status=active": "MedicationRequest/r1 MedicationRequest/r3",
    # What is contained and not what the reference leads to does not count: `r2` refers to `#m`.
    "MedicationRequest?medication.status=inactive": "",
    "MedicationRequest?medication.manufacturer.name=maker": "MedicationRequest/r1 MedicationRequest/r3",
    "MedicationRequest?medication.ingredient:Substance.code:text=sugar": "MedicationRequest/r6",
    "MedicationRequest?medication.ingredient:Substance.code:text=salt": "",
    "Observation?subject.name=inward": "Observation/o1",
    "Observation?patient.birthdate=lt1960": "Observation/o1",
    "Observation?subject:Patient.organization.name=maker": "Observation/o1",
    "Observation?performer.name=inward": "Observation/o1",
    "Observation?performer:Practitioner.name=inward&subject.name=inward": "Observation/o1",
    'Observation?_filter=subject.name co "war"': "Observation/o1",
    "Organization?partof.name=hull": "Organization/hull",
    "Organization?partof.name=other": "",
    "QuestionnaireResponse?questionnaire.title=inner": "QuestionnaireResponse/q1",
    "Provenance?target:MedicationRequest.medication.code=A": "Provenance/v",
    "Patient?_has:MedicationRequest:patient:medication.code=B": "Patient/p",
    # Ids and moments are of resources that stand by themselves.
    "Observation?patient._id=p": "",
    "MedicationRequest?medication._lastUpdated=gt2000": "MedicationRequest/r3",
}


@pytest.mark.parametrize(("query", "expected"), CHAINS.items())
def test_a_chain_is_followed_into_what_the_resource_contains(data: Any, query: str, expected: str) -> None:
    assert found(data.client, query) == expected


def test_what_is_contained_is_shown_as_it_stands_with_the_address_of_its_container(data: Any) -> None:
    bundle = get(data.client, "Medication?code=B&_contained=true&_containedType=contained")
    (entry,) = bundle["entry"]
    assert entry["fullUrl"] == "http://test/fhir/MedicationRequest/r2#m"
    assert entry["resource"] == medication("m", "B", status="active")
    assert entry["search"] == {"mode": "match"}
    assert bundle["total"] == 1
    url = "http://test/fhir/Medication?code=B&_contained=true&_containedType=contained"
    assert bundle["link"] == [{"relation": "self", "url": url}]


def test_parts_of_what_is_found_are_shown_as_of_any_match(data: Any) -> None:
    query = "Medication?code=B&_contained=true"
    contained = get(data.client, f"{query}&_containedType=contained&_elements=status")["entry"][0]["resource"]
    assert contained.keys() == {"resourceType", "id", "meta", "status"}
    container = get(data.client, f"{query}&_elements=status,MedicationRequest.subject")["entry"][0]["resource"]
    assert {"status", "subject", "intent"} <= container.keys()
    assert "contained" not in container
    assert get(data.client, f"{query}&_summary=count") == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 1,
        "link": [{"relation": "self", "url": f"http://test/fhir/{query}&_summary=count"}],
    }
    assert "code" in get(data.client, f"{query}&_containedType=contained&_summary=true")["entry"][0]["resource"]


INCLUDES = {
    "Medication?code=A&_contained=true&_include=Medication:manufacturer": "Organization/maker",
    "Medication?code=A&_contained=true&_containedType=contained&_include=Medication:manufacturer": "Organization/maker",
    "Medication?code=A&_contained=true&_include=MedicationRequest:subject": "Patient/p",
    "Medication?code=B&_contained=true&_include=Medication:manufacturer": "",
    "Medication?code=A&_contained=both&_include=*": "Organization/maker",
    "Medication?code=A&_contained=true&_revinclude=Provenance:target": "Provenance/v",
    "Medication?code=A&_contained=true&_containedType=contained&_revinclude=Provenance:target"
    "&_include:iterate=Provenance:agent": "Organization/maker Provenance/v",
    "Patient?family=inward&_contained=true&_include=Patient:organization": "Organization/maker",
}


@pytest.mark.parametrize(("query", "expected"), INCLUDES.items())
def test_includes_go_from_what_is_found_and_from_its_container(data: Any, query: str, expected: str) -> None:
    assert " ".join(sorted(urls(get(data.client, query), "include"))) == expected


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("Medication?_contained=perhaps", "HS-SEARCH-VALUE"),
        ("Medication?_contained=true&_containedType=both", "HS-SEARCH-VALUE"),
        ("Medication?_contained=true&_sort=code", "HS-SEARCH-SORT"),
        ("Medication?_contained=true&_has:MedicationRequest:medication:status=active", "HS-SEARCH-CONTAINED"),
        ("Medication?_contained=both&_list=l", "HS-SEARCH-CONTAINED"),
        ("Medication?_contained=true&_filter=code eq A or _lastUpdated gt 2020", "HS-SEARCH-CONTAINED"),
        ("?_type=Medication,Patient&_contained=true", "HS-SEARCH-CONTAINED"),
        ("?_contained=true", "HS-SEARCH-CONTAINED"),
        ("Patient/p/*?_contained=true", "HS-SEARCH-CONTAINED"),
        ("Observation/$lastn?patient=p&_contained=true", "HS-SEARCH-CONTAINED"),
    ],
)
def test_what_cannot_be_asked_of_contained_resources_is_refused_with_a_reason(data: Any, query: str, key: str) -> None:
    outcome = get(data.client, query, 400)
    assert outcome["issue"][0]["details"]["coding"][0]["code"] == key


def test_criteria_of_conditional_interactions_do_not_look_inside(data: Any) -> None:
    criteria = "code=A&_contained=true"
    answer = data.client.post("Medication", json=medication("", "A") | {"id": "x"}, headers={"If-None-Exist": criteria})
    assert answer.status_code == 400
    assert "_contained" in answer.text
    assert data.client.delete(f"Medication?{criteria}").status_code == 400


def test_graphql_lists_no_containers(data: Any) -> None:
    query = '{MedicationList(code: "A", _contained: "true") {id}}'
    answer = data.client.post("$graphql", json={"query": query}).json()
    assert "_contained" in str(answer["errors"] if "errors" in answer else answer["issue"])


def test_an_order_that_containers_do_not_have_is_ignored_with_a_warning(data: Any) -> None:
    bundle = get(data.client, "Medication?code=A&_contained=true&_sort=code,-_id", strict=False)
    assert urls(bundle) == ["MedicationStatement/s1", "MedicationRequest/r2", "MedicationRequest/r1"]
    assert "_sort=-_id" in bundle["link"][0]["url"]
    assert bundle["entry"][-1]["resource"]["issue"][0]["severity"] == "warning"


def test_within_a_compartment_contained_resources_belong_by_their_own_references(data: Any) -> None:
    inner = {"resourceType": "Coverage", "id": "c", "status": "active", "beneficiary": ref("Patient/p")}
    bill = {
        "resourceType": "Account",
        "id": "bill",
        "status": "active",
        "contained": [{**inner, "payor": [ref("Organization/maker")]}],
        "coverage": [{"coverage": ref("#c")}],
    }
    fill(data.client, [bill])
    assert found(data.client, "Patient/p/Coverage?_contained=true") == "Account/bill"
    assert found(data.client, "Patient/q/Coverage?_contained=true") == ""
    assert found(data.client, "Patient/p/Coverage?status=active&_contained=true&_containedType=contained") == (
        "Account/bill#c"
    )
    data.client.delete("Account/bill")


@pytest.fixture(scope="module")
def library(make_server: Callable[..., Any]) -> tuple[Any, list[Json]]:
    """Resources of three types, of which each may contain Medications, in the order in which they were written."""
    chance = random.Random(11)

    def inner(number: int) -> list[Json]:
        names = chance.sample("zyxwv", number)
        return [medication(name, chance.choice("AB"), status=chance.choice(["active", "inactive"])) for name in names]

    resources: list[Json] = []
    for number in range(40):
        contained = inner(chance.choice([0, 1, 1, 2, 4]))
        kind = chance.choice(["MedicationRequest", "Medication", "List"])
        name = f"{chance.randrange(1000)}-{number}"
        if kind == "MedicationRequest":
            resources.append(order(name, *contained, to=f"#{contained[0]['id']}" if contained else "Medication/x"))
        elif kind == "Medication":
            parts = {"ingredient": [{"itemReference": ref(f"#{one['id']}")} for one in contained]}
            extra = {"contained": contained, **parts} if contained else {}
            resources.append(medication(name, chance.choice("AB"), status="active") | extra)
        else:
            entries = {"entry": [{"item": ref(f"#{one['id']}")} for one in contained]}
            extra = {"contained": contained, **entries} if contained else {}
            resources.append({"resourceType": "List", "id": name, "status": "current", "mode": "working", **extra})
    server = make_server()
    for resource in resources:
        answer = server.client.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.status_code == 201, answer.text
    return server, resources


def expected_of(resources: list[Json], contained: str, kind: str, sort: str) -> list[str]:
    """What a search for active Medications with the code A finds, by a naive reading."""

    def meets(resource: Json) -> bool:
        coded = resource["resourceType"] == "Medication" and resource["code"]["coding"][0]["code"] == "A"
        return coded and resource["status"] == "active"

    rows: dict[tuple[Any, ...], str] = {}
    for moment, resource in enumerate(resources):
        place = f"{resource['resourceType']}/{resource['id']}"
        hits = sorted(one["id"] for one in resource.get("contained", ()) if meets(one))
        names = [f"{place}#{hit}" for hit in hits] if kind == "contained" else [place] if hits else []
        if contained == "both" and meets(resource) and place not in names:
            names.append(place)
        first = {"": (), "_id": (resource["id"],), "_lastUpdated": (moment,)}[sort.removeprefix("-")]
        for name in names:
            rows[*first, resource["resourceType"], resource["id"], name.partition("#")[2]] = name
    return [rows[key] for key in sorted(rows, reverse=sort.startswith("-"))]


@pytest.mark.parametrize("sort", ["", "_id", "-_id", "_lastUpdated", "-_lastUpdated"])
@pytest.mark.parametrize("kind", ["container", "contained"])
@pytest.mark.parametrize("contained", ["true", "both"])
def test_pages_show_everything_once_in_its_order_there_and_back(
    library: tuple[Any, list[Json]], contained: str, kind: str, sort: str
) -> None:
    server, resources = library
    expected = expected_of(resources, contained, kind, sort)
    assert len(expected) > 8
    base = f"Medication?code=A&status=active&_contained={contained}&_containedType={kind}&_total=accurate"
    for count in (1, 3, 7, 100):
        bundle = get(server.client, f"{base}&_count={count}" + (f"&_sort={sort}" if sort else ""))
        seen: list[str] = []
        pages: list[list[str]] = []
        while True:
            assert bundle["total"] == len(expected)
            pages.append(urls(bundle))
            seen += pages[-1]
            links = {link["relation"]: link["url"] for link in bundle["link"]}
            if "next" not in links:
                break
            bundle = server.client.get(links["next"]).json()
        assert seen == expected
        for page in reversed(pages[:-1]):
            bundle = server.client.get(links["previous"]).json()
            assert urls(bundle) == page
            links = {link["relation"]: link["url"] for link in bundle["link"]}
        assert "previous" not in links


def test_contained_resources_are_seen_inside_a_transaction(data: Any) -> None:
    entry = {"request": {"method": "GET", "url": "Medication?code=A&_contained=both&_containedType=contained"}}
    created = {"resource": order("", medication("m", "A")), "request": {"method": "POST", "url": "MedicationRequest"}}
    del created["resource"]["id"]  # type: ignore[attr-defined]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [created, entry]}
    answer = data.client.post("", json=bundle).json()
    place = answer["entry"][0]["response"]["location"].partition("/_history")[0]
    assert f"{place}#m" in urls(answer["entry"][1]["resource"])
    data.client.delete(place)


def test_reindexing_finds_what_was_contained_before(data: Any, make_server: Callable[..., Any]) -> None:
    """A data folder of an earlier version has no rows of contained resources, and no note of who has any."""
    name = data.settings.mongodb_database
    old = {"_id": "old", "y": "Medication", "k": [], "x": {}}

    async def forget() -> None:
        async with AsyncMongoClient(data.settings.mongodb_uri.get_secret_value()) as mongo:
            collection = mongo[name]["MedicationRequest"]
            await collection.update_many({}, {"$unset": {"c": 1}})
            await collection.update_one({"_id": "r3"}, {"$set": {"c": [old]}})
            await mongo[name]["_containing"].delete_one({"_id": "MedicationRequest"})

    data.run(forget())
    server = make_server(mongodb_database=name, text_search="all")
    assert found(server.client, "Medication?code=A&_contained=true") == "MedicationStatement/s1"
    job = server.client.post("$reindex?type=MedicationRequest")
    address = job.headers["Content-Location"]
    for _ in range(200):
        if "completed" in server.client.get(address).text:
            break
        server.run(asyncio.sleep(0.1))
    assert found(server.client, "Medication?code=A&_contained=true") == CASES["Medication?code=A&_contained=true"]
    assert found(server.client, "Medication?_id=old&_contained=true") == ""
    assert found(server.client, "MedicationRequest?medication.code=B") == "MedicationRequest/r2"


def test_every_process_learns_within_moments_which_types_contain_others(make_server: Callable[..., Any]) -> None:
    one = make_server()
    other = make_server(mongodb_database=one.settings.mongodb_database)
    fill(one.client, [order("r", medication("m", "A"))])
    query = "MedicationRequest?medication.code=A"
    assert found(one.client, query) == "MedicationRequest/r"
    for _ in range(50):
        if found(other.client, query):
            break
        other.run(asyncio.sleep(0.1))
    assert found(other.client, query) == "MedicationRequest/r"
    assert found(other.client, "Medication?_contained=true") == "MedicationRequest/r"
