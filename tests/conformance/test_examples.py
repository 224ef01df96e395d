"""The specification's own examples, written and read back: equal in value, in the digits of decimals and in order.

Spec: https://hl7.org/fhir/R4/json.html, https://hl7.org/fhir/R4/datatypes.html#decimal
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.official_examples import DEFINITIONAL

#: All these tests share one load: keep them in one process.
pytestmark = pytest.mark.xdist_group("examples")

CLINICAL = 719
EVERY = 20  # so many definitions stand behind one that is written

#: Examples that break the specification's own rules, looked at one by one in tests/validation/test_examples.py.
FAULTY = {"Questionnaire-qs1": {"HS-VAL-REQUIRED"}}

#: Examples with what a server may accept and should tell.
QUESTIONABLE = {
    "ActivityDefinition-blood-tubes-supply": "HS-VAL-NARRATIVE-EMPTY",
    "ActivityDefinition-heart-valve-replacement": "HS-VAL-NARRATIVE-EMPTY",
    "EventDefinition-example": "HS-VAL-NARRATIVE-EMPTY",
    "Questionnaire-zika-virus-exposure-assessment": "HS-VAL-NARRATIVE-EMPTY",
    "DeviceMetric-example": "HS-VAL-TARGET",
    "DeviceUseStatement-example": "HS-VAL-TARGET",
    "MedicationRequest-medrx0301": "HS-VAL-TARGET",
    "Observation-clinical-gender": "HS-VAL-TARGET",
}
FAULTY_DEFINITIONS = {
    **{f"StructureDefinition-{name}": {"HS-VAL-INVARIANT"} for name in ("Definition", "Event", "FiveWs", "Request")},
    "ImplementationGuide-fhir": {"HS-VAL-REQUIRED", "HS-VAL-REFERENCE"},
    "ig-r4": {"HS-VAL-REQUIRED", "HS-VAL-REFERENCE"},
    **{
        f"SearchParameter-{name.lower()}-extensions-{name}-{code}": {"HS-VAL-REQUIRED"}
        for name in ("CodeSystem", "ValueSet")
        for code in ("author", "effective", "end", "keyword", "workflow")
    },
}


@dataclass(frozen=True)
class Written:
    """What became of one example."""

    name: str
    source: Any
    write: httpx.Response
    read: httpx.Response
    found: httpx.Response


def write(client: httpx.Client, exact: Any, path: Path) -> Written:
    body = path.read_bytes()
    source = exact.tree(body)
    address = f"{source['resourceType']}/{source['id']}"
    # A few examples stand in two files: each file is read before the next is written.
    put = client.put(address, content=body, headers={"Content-Type": "application/fhir+json"})
    read = client.get(address, headers={"Accept": "application/fhir+json"})  # else a Binary is its content
    return Written(path.stem, source, put, read, client.get(source["resourceType"], params={"_id": source["id"]}))


def written(client: httpx.Client, exact: Any, paths: Iterable[Path]) -> list[Written]:
    """Write the examples, some at once, but those of one type one after another."""
    by_type: dict[str, list[Path]] = {}
    for path in paths:
        by_type.setdefault(path.name.partition("-")[0], []).append(path)
    with ThreadPoolExecutor(6) as pool:
        portions = pool.map(lambda group: list(map(partial(write, client, exact), group)), by_type.values())
        return [example for portion in portions for example in portion]


def paths_of(folder: Path, exact: Any) -> tuple[list[Path], list[Path]]:
    """The clinical examples, and the definitional ones."""
    clinical, definitional = [], []
    for path in sorted((folder / "r4-examples").glob("*.json")):
        # The type stands in front of nearly every file name; reading 90 MB to learn it would take seconds.
        named = path.name.partition("-")[0]
        kind = named if named in DEFINITIONAL else exact.tree(path.read_bytes()).get("resourceType")
        if kind is not None:
            (definitional if kind in DEFINITIONAL else clinical).append(path)
    return clinical, definitional


@pytest.fixture(scope="module")
def examples(server: Any, test_data: Path, exact: Any) -> dict[str, list[Written]]:
    clinical, definitional = paths_of(test_data, exact)
    wanted = definitional[::EVERY]
    wanted += [path for path in definitional if path.stem in FAULTY_DEFINITIONS and path not in wanted]
    return {
        "clinical": written(server.client, exact, clinical),
        "definitional": written(server.client, exact, wanted),
    }


def numbers(node: Any) -> Iterable[str]:
    if type(node) is tuple:
        yield node[1]
    elif type(node) is dict:
        for child in node.values():
            yield from numbers(child)
    elif type(node) is list:
        for child in node:
            yield from numbers(child)


def check_read_back(examples: list[Written], faulty: dict[str, set[str]], exact: Any) -> None:
    for example in examples:
        if example.name in faulty:
            continue
        assert example.write.status_code in (200, 201), f"{example.name}: {example.write.text[:2000]}"
        read = exact.tree(example.read.content)
        assert list(numbers(exact.without_server_marks(read))) == list(
            numbers(exact.without_server_marks(example.source))
        )
        sent = exact.text(exact.without_server_marks(example.source))
        assert exact.text(exact.without_server_marks(read)) == sent, example.name
        assert exact.tree(example.write.content) == read, example.name


def check_refused(examples: list[Written], faulty: dict[str, set[str]]) -> None:
    for example in examples:
        if example.name in faulty:
            outcome = example.write.json()
            assert example.write.status_code == 400, example.name
            assert outcome["resourceType"] == "OperationOutcome"
            found = {i["details"]["coding"][0]["code"] for i in outcome["issue"] if i["severity"] in ("error", "fatal")}
            assert found == faulty[example.name], example.name
            assert all(issue["diagnostics"] and issue["expression"] for issue in outcome["issue"])
            assert example.read.status_code == 404
            assert example.found.json()["total"] == 0


def check_found(examples: list[Written], faulty: dict[str, set[str]], exact: Any) -> None:
    for example in examples:
        if example.name not in faulty:
            bundle = exact.tree(example.found.content)
            (entry,) = bundle["entry"]
            assert exact.text(entry["resource"]) == exact.text(exact.tree(example.read.content)), example.name


def test_every_clinical_example_is_read_as_it_was_written(examples: dict[str, list[Written]], exact: Any) -> None:
    assert len(examples["clinical"]) == CLINICAL
    check_read_back(examples["clinical"], FAULTY, exact)


def test_the_faulty_clinical_examples_are_refused_for_their_faults_alone(examples: dict[str, list[Written]]) -> None:
    assert {example.name for example in examples["clinical"] if example.write.status_code == 400} == set(FAULTY)
    check_refused(examples["clinical"], FAULTY)


@pytest.mark.parametrize("name", QUESTIONABLE)
def test_what_is_questionable_is_kept_and_told_to_who_asks_for_an_outcome(
    server: Any, test_data: Path, exact: Any, name: str
) -> None:
    """https://hl7.org/fhir/R4/http.html#ops: an outcome holds hints and warnings about the operation."""
    body = (test_data / "r4-examples" / f"{name}.json").read_bytes()
    source = exact.tree(body)
    headers = {"Content-Type": "application/fhir+json", "Prefer": "return=OperationOutcome"}
    answer = server.client.put(f"{source['resourceType']}/{source['id']}", content=body, headers=headers)
    assert answer.status_code in (200, 201)
    told = {i["details"]["coding"][0]["code"] for i in answer.json()["issue"] if i["severity"] == "warning"}
    assert QUESTIONABLE[name] in told


def test_every_clinical_example_is_found_by_its_id(examples: dict[str, list[Written]], exact: Any) -> None:
    check_found(examples["clinical"], FAULTY, exact)


def test_a_sample_of_the_definitions_is_read_as_it_was_written(examples: dict[str, list[Written]], exact: Any) -> None:
    assert len(examples["definitional"]) > 220
    check_read_back(examples["definitional"], FAULTY_DEFINITIONS, exact)
    check_found(examples["definitional"], FAULTY_DEFINITIONS, exact)


def test_the_faulty_definitions_are_refused_for_their_faults_alone(examples: dict[str, list[Written]]) -> None:
    refused = {example.name for example in examples["definitional"] if example.write.status_code == 400}
    assert refused == set(FAULTY_DEFINITIONS)
    check_refused(examples["definitional"], FAULTY_DEFINITIONS)
