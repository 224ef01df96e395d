"""Every way to reach a resource, tried by somebody whom it does not concern: nothing comes, and nothing tells of it.

The ways are made from the server's own CapabilityStatement, so that a new interaction, parameter, include or operation
is tried without anybody thinking of it. Each is asked twice: about what is another person's, and about what does not
exist; the answers must not differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from profiles.registry import registry

OTHER, OWN, SECRET = "person-b", "person-a", "Zyxsecretb"
GHOST = "person-x"
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
CHUNKS = 8

pytestmark = pytest.mark.xdist_group("access")


@dataclass(frozen=True)
class Way:
    """One request; `{who}` stands for a person and `{id}` for the id of a resource, in the address and in the body."""

    method: str
    url: str
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def about(self, client: httpx.Client, resource_type: str, who: str) -> httpx.Response:
        names = {"{who}": who, "{id}": id_of(resource_type, who), "{mark}": SECRET if who == OTHER else "Nosuchmark"}
        url, body = self.url, self.body
        for name, value in names.items():
            url, body = url.replace(name, value), body.replace(name, value)
        headers = {"Content-Type": "application/fhir+json", **dict(self.headers)}
        return client.request(self.method, url, content=body.encode() or None, headers=headers if body else {})


def id_of(resource_type: str, who: str) -> str:
    return who if resource_type == "Patient" else f"{who}-{resource_type.lower()}"


def ways_to(name: str, row: dict[str, Any], rest: dict[str, Any]) -> Iterator[Way]:
    """All that the statement says about a type, as requests."""
    codes = {interaction["code"] for interaction in row["interaction"]}
    assert codes == {
        "read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"
    }, "an interaction without a way: add one"  # fmt: skip
    address = f"{name}/{{id}}"
    yield Way("GET", address)
    yield Way("HEAD", address)
    yield Way("GET", f"{address}/_history/1")
    yield Way("GET", f"{address}/_history/2")
    yield Way("GET", f"{address}/_history")
    yield Way("GET", f"{name}/_history?_count=50")
    yield Way("PUT", address, f'{{"resourceType":"{name}","id":"{{id}}"}}')
    yield Way("PATCH", address, '[{"op":"add","path":"/language","value":"de"}]', tuple(JSON_PATCH.items()))
    yield Way("DELETE", address)
    yield Way("DELETE", f"{address}?_cascade=delete")
    for query in (
        "_count=100",
        "_id={id}",
        "_tag={mark}",
        "_tag:not=nothing",
        "_summary=count",
        "_total=accurate&_count=1",
        "_count=1&_sort=_id",
        "_sort=-_lastUpdated",
        "_text={mark}",
        "_content={mark}",
        "_filter=_id eq {id}",
        "_elements=id",
        "_lastUpdated=gt2000",
        "_include=*&_include:iterate=*",
        "_revinclude=*&_revinclude:iterate=*",
        "_has:Provenance:target:_id:not=nothing",
        "_list={who}-list",
    ):
        yield Way("GET", f"{name}?{query}")
        yield Way("POST", f"{name}/_search", query, (("Content-Type", "application/x-www-form-urlencoded"),))
    yield Way("GET", f"Patient/{{who}}/{name}?_count=100")
    yield Way("PUT", f"{name}?_tag={{mark}}", f'{{"resourceType":"{name}"}}')
    yield Way("DELETE", f"{name}?_tag={{mark}}")
    yield Way(
        "PATCH", f"{name}?_tag={{mark}}", '[{"op":"add","path":"/language","value":"de"}]', tuple(JSON_PATCH.items())
    )
    for parameter in row["searchParam"]:
        if parameter["type"] == "reference":
            yield Way("GET", f"{name}?{parameter['name']}=Patient/{{who}}")
            yield Way("GET", f"{name}?{parameter['name']}:Patient.family={{mark}}")
            yield Way("GET", f"{name}?{parameter['name']}:Patient._tag:not=nothing&_id={{id}}")
            yield Way("GET", f"Patient?_has:{name}:{parameter['name']}:_tag={{mark}}")
            yield Way("GET", f"Patient?_has:{name}:{parameter['name']}:_id={{id}}")
    for include in row["searchInclude"]:
        yield Way("GET", f"{name}?_id={{id}}&_include={include}")
    for operation in row["operation"]:
        code = operation["name"]
        if code in ("purge", "expunge", "merge", "unmerge"):
            yield Way("POST", f"{address}/${code}", '{"resourceType":"Parameters"}')
            yield Way("POST", f"{name}/${code}", '{"resourceType":"Parameters"}')
        elif code in ("meta-add", "meta-delete"):
            label = '{"name":"meta","valueMeta":{"tag":[{"code":"x"}]}}'
            yield Way("POST", f"{address}/${code}", f'{{"resourceType":"Parameters","parameter":[{label}]}}')
        elif code == "graphql":
            yield Way("GET", f"{address}/$graphql?query=%7B%20id%20%7D")
            lists = f'{{ {name}List(_id: "{{id}}") {{ id }} b: {name}List(_tag: "{{mark}}") {{ id language }} }}'
            yield Way("POST", "$graphql", json.dumps({"query": lists}), (("Content-Type", "application/json"),))
            one = f'{{ {name}(id: "{{id}}") {{ id }} }}'
            yield Way("POST", "$graphql", json.dumps({"query": one}), (("Content-Type", "application/json"),))
        elif code == "match":
            patient = {"resourceType": "Patient", "name": [{"family": SECRET}], "birthDate": "1970-01-01"}
            given = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": patient}]}
            yield Way("POST", "Patient/$match", json.dumps(given))
        else:
            yield Way("GET", f"{address}/${code}")
            yield Way("GET", f"{name}/${code}?patient={{who}}&subject=Patient/{{who}}&id={{id}}&code=x&statistic=count")
    for method, url in (("GET", address), ("GET", f"{name}?_id={{id}}"), ("DELETE", address)):
        for kind in ("batch", "transaction"):
            bundle = {"resourceType": "Bundle", "type": kind, "entry": [{"request": {"method": method, "url": url}}]}
            yield Way("POST", "", json.dumps(bundle))
    create = {
        "request": {"method": "POST", "url": name, "ifNoneExist": "_tag={mark}"},
        "resource": {"resourceType": name},
    }
    yield Way("POST", "", json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [create]}))
    yield Way("GET", f"?_type={name}&_count=100")
    yield Way("GET", f"?_type={name},Patient&_tag={{mark}}&_total=accurate")


def plain(answer: httpx.Response) -> tuple[int, str]:
    """What an answer tells, without what differs from request to request, and without the names that were asked for."""
    text = answer.text
    for person in (OTHER, GHOST):
        text = text.replace(person, "who")
    text = re.sub(SECRET, "mark", text, flags=re.I).replace("Nosuchmark", "mark").replace("nosuchmark", "mark")
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "moment", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "uuid", text)
    text = re.sub(r"_cursor=[\w\-%]+", "cursor", text)
    return answer.status_code, text


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_what_is_not_ones_own_is_as_if_it_did_not_exist(world: Any, chunk: int) -> None:
    rest = world.server.client.get("metadata").json()["rest"][0]
    assert {row["code"] for row in rest["interaction"]} == {
        "transaction", "batch", "history-system", "search-system"
    }, "an interaction of the system without a way: add one"  # fmt: skip
    rows = [row for row in rest["resource"] if row["type"] in world.types]
    asked = 0
    with world.as_("a") as client, world.as_("operator") as operator:
        for row in rows[chunk::CHUNKS]:
            name = row["type"]
            before = operator.get(f"{name}/{id_of(name, OTHER)}").content
            for way in ways_to(name, row, rest):
                other, ghost = way.about(client, name, OTHER), way.about(client, name, GHOST)
                assert other.status_code < 500, (way, other.text)
                assert plain(other) == plain(ghost), (name, way)
                shown = other.text.replace(f"{SECRET}", "", 1) if "$match" in way.url else other.text
                for word in (f"{OTHER}-", SECRET, f'"id":"{OTHER}"'):
                    echoed = way.url + way.body
                    if not ("{id}" in echoed or "{who}" in echoed or "{mark}" in echoed):
                        assert word.lower() not in shown.lower(), (name, way)
                for member in resources_in(other):
                    assert OTHER not in json.dumps(member), (name, way)
                asked += 1
            assert operator.get(f"{name}/{id_of(name, OTHER)}").content == before, name
    assert asked > 100


def resources_in(answer: httpx.Response) -> Iterator[Any]:
    """All resources of an answer but outcomes, which may repeat what was asked."""
    if answer.content and "json" in answer.headers.get("content-type", ""):
        yield from within(answer.json())


def within(found: Any) -> Iterator[Any]:
    match found.get("resourceType"):
        case "Bundle":
            for entry in found.get("entry", []):
                yield from within(entry.get("resource", {}))
        case "OperationOutcome" | None:
            return
        case _:
            yield found


def test_one_reaches_all_of_ones_own(world: Any) -> None:
    """The other side of the matrix: a guard that hides everything would pass it."""
    with world.as_("a") as client:
        for name in world.types:
            assert client.get(f"{name}/{id_of(name, OWN)}").status_code == 200, name
            assert client.get(f"{name}/{id_of(name, OWN)}/_history").json()["entry"], name
            assert client.get(f"{name}/{id_of(name, OWN)}/_history/1").status_code == 200, name
            assert client.get(name, params={"_total": "accurate"}).json()["total"] >= 1, name
        everything = client.get(f"Patient/{OWN}/$everything", params={"_count": "500"}).json()
        unasked = {"Patient", "Person", "AuditEvent"}  # who saw what comes only when it is named
        assert {e["resource"]["resourceType"] for e in everything["entry"]} >= set(world.types) - unasked


def test_later_pages_and_totals_hold_to_the_policy(world: Any) -> None:
    with world.as_("a") as client:
        url: str | None = "?_count=7&_total=accurate"
        seen: list[str] = []
        totals: set[int] = set()
        while url:
            page = client.get(url).json()
            totals.add(page["total"])
            seen += [e["resource"]["id"] for e in page.get("entry", [])]
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
        assert totals == {len(seen)}
        assert all(not i.startswith(OTHER) for i in seen)
        assert len(seen) >= len(registry().compartments["Patient"].types) - 20


def test_the_matrix_notices_a_reader_who_sees_more(world: Any) -> None:
    """A check that could not fail would show nothing: the same questions, asked by somebody without limits."""
    rest = world.server.client.get("metadata").json()["rest"][0]
    row = next(row for row in rest["resource"] if row["type"] == "Observation")
    reading = [way for way in ways_to("Observation", row, rest) if way.method in ("GET", "HEAD")]
    with world.as_("operator") as operator:
        differing = [
            way
            for way in reading
            if "{id}" in way.url
            and plain(way.about(operator, "Observation", OTHER)) != plain(way.about(operator, "Observation", GHOST))
        ]
        shown = [w for w in reading if SECRET.lower() in w.about(operator, "Observation", OTHER).text.lower()]
    assert len(differing) > 20
    assert len(shown) > 20
