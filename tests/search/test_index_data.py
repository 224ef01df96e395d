"""Index entries of real resources: all are made, and look as the query side expects them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from fhir_server.model.codec import decode
from fhir_server.search.components import components_of
from fhir_server.search.index import Indexer
from fhir_server.search.parameters import table_of
from profiles.registry import SearchParameter, registry
from profiles.terminology import terminology

#: Definitions rather than records of care; a few of each are enough.
DEFINITIONS = ("StructureDefinition", "SearchParameter", "ValueSet", "CodeSystem", "ConceptMap", "OperationDefinition")


def files_of(name: str) -> list[Path]:
    """The files of an unpacked archive of the test data; skips when there is none."""
    folder = os.environ.get("HEALTHSPHERE_TEST_DATA")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"HEALTHSPHERE_TEST_DATA names no folder with the unpacked archive {name}")
    return sorted((Path(folder) / name).glob("*.json"))


@cache
def indexer() -> Indexer:
    return Indexer(registry(), terminology(), "http://localhost:8000/fhir")


def examples() -> Iterator[dict[str, Any]]:
    seen = dict.fromkeys(DEFINITIONS, 0)
    for path in files_of("r4-examples"):
        kind = path.name.partition("-")[0]
        if kind in seen:
            seen[kind] += 1
            if seen[kind] > 15:
                continue
        resource = decode(path.read_bytes())
        if "resourceType" in resource:
            yield resource


def synthea() -> Iterator[dict[str, Any]]:
    for path in sorted(files_of("synthea-blaze"), key=lambda p: p.stat().st_size)[40:43]:
        yield from (entry["resource"] for entry in decode(path.read_bytes())["entry"])


def is_plausible(parameter: SearchParameter, entry: Any) -> bool:
    match parameter.type:
        case "token":
            return isinstance(entry, str) and (entry.startswith("=") or "|" in entry)
        case "reference":
            return isinstance(entry, str) and bool(entry) and not entry.startswith("#")
        case "string" | "uri":
            return isinstance(entry, str) and bool(entry)
        case "date":
            return bool(entry["s"] <= entry["e"])
        case "number":
            return bool(entry.keys() == {"l", "h"} and entry["l"] <= entry["h"])
        case "quantity":
            in_base_units = {"cl", "ch", "cu"} & entry.keys()
            numbers = {type(entry[name]) for name in ("l", "h", "cl", "ch") if name in entry}
            return len(in_base_units) in (0, 3) and numbers == {Decimal}
        case "composite":
            parts = [definition for definition, _ in components_of(registry(), parameter)]
            return list(entry) == [str(i) for i in range(len(parts))] and all(
                is_plausible(part, e) for part, es in zip(parts, entry.values(), strict=True) for e in es
            )
    return False


def check(resource: dict[str, Any]) -> int:
    parameters = registry().parameters_of(resource["resourceType"])
    entries = indexer().entries_of(resource)
    for name, found in entries.items():
        code, _, suffix = name.partition(":")
        assert suffix in ("", "present", "text", "exact", "of-type", "identifier", "inside")
        if suffix == "present":
            assert found is True
            continue
        if parameters[code].type == "special":
            assert found["type"] == "Point"
            continue
        if not suffix and table_of(resource["resourceType"], registry()).parameters[code].bare:
            assert is_plausible(parameters[code], found)
            continue
        assert isinstance(found, list)
        assert found
        assert len({repr(e) for e in found}) == len(found)
        if not suffix:
            bad = [e for e in found if not is_plausible(parameters[code], e)]
            assert not bad, (resource["resourceType"], resource.get("id"), name, bad[:3])
    check_contained(resource, entries)
    return len(entries)


def check_contained(resource: dict[str, Any], entries: dict[str, Any]) -> None:
    """What is contained leaves what it would leave by itself, and each reference to it a key."""
    rows = indexer().indexed(resource).contained
    inside = {one["id"]: one for one in resource.get("contained", ())}
    assert {row["_id"]: row["x"] for row in rows} == {i: indexer().entries_of(one) for i, one in inside.items()}
    keys = {(row["_id"], key) for row in rows for key in row["k"]}
    for name, ids in entries.items() if rows else ():
        if name.endswith(":inside"):
            code = name.removesuffix(":inside")
            assert all((i, f"{inside[i]['resourceType']}<{code}") in keys for i in ids)
    for one in inside.values():
        check(one)


def test_every_clinical_example_and_a_sample_of_the_definitions_leave_plausible_entries() -> None:
    counts = [check(resource) for resource in examples()]
    assert len(counts) > 720
    assert sum(counts) > 7000


def test_resources_of_synthea_bundles_leave_plausible_entries() -> None:
    counts = [check(resource) for resource in islice(synthea(), 2000)]
    assert len(counts) > 300
    assert min(counts) >= 1
