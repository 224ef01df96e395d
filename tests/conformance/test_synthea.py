"""120 generated patients of Synthea, as an EHR would send them: two batches, then a transaction for each patient.

What was sent is compared with what is read by this test's own reading of the rules: every `urn:uuid` has become the
address of the entry it names, and every conditional reference that of the one resource with that identifier.

Spec: https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

#: All tests of a parametrized load share one server: keep them in one process.
pytestmark = pytest.mark.xdist_group("synthea")

PATIENTS = 12
FILES = 122
RESOURCES = 92_114
LOCATION = re.compile(r"([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})/_history/1")


@dataclass
class Load:
    """What was sent and where it went, by the names that the Bundles use."""

    server: Any
    exact: Any
    sources: dict[str, Any] = field(default_factory=dict)  # by `Type/id` on the server
    full_urls: dict[str, str] = field(default_factory=dict)  # fullUrl to `Type/id`
    identifiers: dict[tuple[str, str], set[str]] = field(default_factory=dict)  # (Type, system|value) to `Type/id`
    statuses: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def send(self, path: Path) -> None:
        """POST one Bundle, and note what became of its entries."""
        bundle = self.exact.tree(path.read_bytes())
        answer = self.server.client.post(
            "", content=path.read_bytes(), headers={"Content-Type": "application/fhir+json"}
        )
        assert answer.status_code == 200, f"{path.name}: {answer.text[:1000]}"
        told = answer.json()
        assert told["type"] == f"{bundle['type']}-response"
        assert len(told["entry"]) == len(bundle["entry"])
        for sent, entry in zip(bundle["entry"], told["entry"], strict=True):
            response, resource = entry["response"], sent["resource"]
            place = LOCATION.search(response["location"])
            assert place is not None, response
            assert place.group(1) == resource["resourceType"], response
            assert response["etag"] == 'W/"1"'
            assert response["lastModified"]
            address = f"{place.group(1)}/{place.group(2)}"
            self.statuses[response["status"][:3]] += 1
            self.counts[place.group(1)] += 1
            assert address not in self.sources
            self.sources[address] = resource
            self.full_urls[sent["fullUrl"]] = address
            for identifier in resource.get("identifier", []) if type(resource.get("identifier")) is list else []:
                key = (place.group(1), f"{identifier.get('system', '')}|{identifier['value']}")
                self.identifiers.setdefault(key, set()).add(address)

    def expected(self, node: Any) -> Any:
        """What was sent, with each reference as it must be read."""
        if type(node) is list:
            return [self.expected(child) for child in node]
        if type(node) is not dict:
            return node
        return {
            name: self._followed(child) if name == "reference" and type(child) is str else self.expected(child)
            for name, child in node.items()
        }

    def _followed(self, reference: str) -> str:
        if reference.startswith("urn:uuid:"):
            return self.full_urls[reference]
        resource_type, conditional, criteria = reference.partition("?identifier=")
        if not conditional:
            return reference
        (found,) = self.identifiers[(resource_type, criteria)]
        return found


def files_of(folder: Path) -> tuple[list[Path], list[Path]]:
    """The two batches and the patients, smallest first."""
    paths = sorted((folder / "synthea-blaze").glob("*.json"), key=lambda path: (path.stat().st_size, path.name))
    return [p for p in paths if p.name.startswith("0-")], [p for p in paths if not p.name.startswith("0-")]


@pytest.fixture(scope="module")
def load(make_server: Callable[..., Any], test_data: Path, exact: Any) -> Load:
    batches, patients = files_of(test_data)
    smaller = patients[: len(patients) // 2 + 1]
    step = (len(smaller) - 1) / (PATIENTS - 1)
    loaded = Load(make_server(), exact)
    for path in [*batches, *(smaller[round(step * number)] for number in range(PATIENTS))]:
        loaded.send(path)
    return loaded


def total(client: httpx.Client, resource_type: str, **criteria: str) -> int:
    answer = client.get(resource_type, params={**criteria, "_summary": "count"})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["total"])


def references(node: Any) -> Iterator[str]:
    if type(node) is dict:
        if type(node.get("reference")) is str:
            yield node["reference"]
        for child in node.values():
            yield from references(child)
    elif type(node) is list:
        for child in node:
            yield from references(child)


def test_every_entry_is_created_and_counted(load: Load) -> None:
    assert set(load.statuses) == {"201"}
    assert len(load.sources) == sum(load.counts.values()) > 2000
    assert {name: total(load.server.client, name) for name in load.counts} == load.counts


def test_every_resource_is_read_as_it_was_sent_with_its_references_followed(
    load: Load, exact: Any, in_portions: Callable[..., list[httpx.Response]]
) -> None:
    followed: Counter[str] = Counter()
    addresses = list(load.sources)
    for address, answer in zip(addresses, in_portions(load.server, addresses), strict=True):
        assert answer.status_code == 200, address
        read = exact.tree(answer.content)
        assert f"{read['resourceType']}/{read['id']}" == address
        assert read["meta"]["versionId"] == "1"
        expected = {**load.expected(load.sources[address]), "id": read["id"]}
        assert exact.text(exact.without_server_marks(read)) == exact.text(exact.without_server_marks(expected)), address
        for reference in references(read):
            if not reference.startswith("#"):
                assert reference in load.sources, f"{address} refers to {reference}"
                followed[reference.partition("/")[0]] += 1
    assert {"Patient", "Encounter", "Practitioner", "Organization", "Location"} <= set(followed)


def test_no_name_that_only_the_bundle_knew_is_left(load: Load) -> None:
    for resource_type in load.counts:
        body = load.server.client.get(resource_type, params={"_count": "1000"}).text
        assert not re.search(r'"reference":"(urn:uuid:|[A-Z][A-Za-z]+\?)', body)


def test_the_batches_sent_again_create_nothing_where_they_are_conditional(load: Load, test_data: Path) -> None:
    client = load.server.client
    before = {name: total(client, name) for name in ("Organization", "Location", "Practitioner", "PractitionerRole")}
    conditional: Counter[str] = Counter()
    plain: Counter[str] = Counter()
    for path in files_of(test_data)[0]:
        bundle = load.exact.tree(path.read_bytes())
        answer = client.post("", content=path.read_bytes(), headers={"Content-Type": "application/fhir+json"}).json()
        for sent, entry in zip(bundle["entry"], answer["entry"], strict=True):
            response, resource_type = entry["response"], sent["resource"]["resourceType"]
            if "ifNoneExist" in sent["request"]:
                conditional[resource_type] += 1
                assert response["status"][:3] == "200", response
                assert response["location"].partition("/_history")[0] == load.full_urls[sent["fullUrl"]]
            else:
                plain[resource_type] += 1
                assert response["status"][:3] == "201", response
    assert set(conditional) == {"Organization", "Location", "Practitioner"}
    after = {name: total(client, name) for name in before}
    assert after == {name: before[name] + plain[name] for name in before}


@pytest.mark.slow
def test_all_the_files_are_loaded_without_one_reject(
    make_server: Callable[..., Any], test_data: Path, exact: Any, in_portions: Callable[..., list[httpx.Response]]
) -> None:
    batches, patients = files_of(test_data)
    whole = Load(make_server(), exact)
    sent: Counter[str] = Counter()
    for path in [*batches, *patients]:
        whole.send(path)
        sent.update(entry["resource"]["resourceType"] for entry in exact.tree(path.read_bytes())["entry"])
        whole.sources = dict.fromkeys(whole.sources)  # 216 MB as Python values would be too much to keep
    assert len(batches) + len(patients) == FILES
    assert sum(sent.values()) == len(whole.sources) == RESOURCES
    assert len(sent) == 24
    assert dict(whole.statuses) == {"201": RESOURCES}
    assert {name: total(whole.server.client, name) for name in sent} == sent
