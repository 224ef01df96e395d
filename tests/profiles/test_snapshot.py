"""Snapshots made from differentials: like those that HL7's publisher made of US Core, and right in what it has not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fhir_server.validation.profile.constraints import base_invariants
from fhir_server.validation.profile.definition import structure_of
from profiles.branches import SnapshotError, code_of
from profiles.registry import registry
from profiles.snapshot import Snapshots
from tests.us_core import Package

Json = dict[str, Any]
TYPES = "http://hl7.org/fhir/StructureDefinition/"
US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/"
VALUES = ("fixed", "pattern", "minValue", "maxValue")
STRENGTHS = ("required", "extensible", "preferred")
BASE_KEYS = {key for key, _ in base_invariants(registry())}
EXTENSIONS_BY_URL = ((("value", "url"),), "open", False)

#: Where the publisher's snapshots say otherwise: versions, profile, elements, facts, and why ours is right as well.
JUDGED: list[tuple[str, str, str, str]] = [
    # Publishers before 2023 closed the types of a choice at the first that a differential spoke of, optional or not.
    # Those of 6.1.0 and later leave the others alone, and so do we.
    ("3.1.1", "head-occipital.*|pediatric-.*", r"Observation\.value\[x\]", "slicing|types"),
    ("3.1.1", "us-core-goal", r"Goal\.target\.due\[x\]", "slicing|types"),
    # The only type of a choice within a slice: a closed slice of one type then, the element itself since.
    ("3.1.1", "us-core-race", r"Extension\.extension:\w+\.value\[x\](:value\w+)?", "missing|slicing|binding"),
    # Members of extensions in extensions that nothing in the differential goes into.
    ("3.1.1", "us-core-(race|ethnicity)", r"Extension\.extension:\w+\.extension\.[\w\[\]]+", "missing"),
    # A binding on an Extension, which is not coded; the publisher of that time lost it.
    ("3.1.1", "us-core-patient", r"Patient\.extension:birthsex", "binding"),
    # A content reference to a slice, which repeats the element that is sliced.
    ("3.1.1", "us-core-provenance", r"Provenance\.entity\.agent", "content"),
    # An invariant of the extension's own definition, by which the extension is validated anyway.
    ("7.0.0|8.0.0", "us-core-patient", r"Patient\.extension:race", "constraints"),
    # The publisher of 2025 begins slices with the sliced element as the differential has changed it, those before it
    # with the element of the base. Items of a slice are held to the sliced element in any case.
    ("8.0.0", "us-core-average-blood-pressure", r"Observation\.component:\w+\.dataAbsentReason", "mustSupport"),
    ("8.0.0", "us-core-(organization|practitioner)", r"\w+\.identifier:\w+\.\w+", "missing"),
    ("8.0.0", "us-core-provenance", r"Provenance\.agent:\w+\.\w+", "binding|mustSupport|types"),
]

#: Profiles on one of another guide (structured data capture), which is not there.
WITHOUT_BASE = {version: {"us-core-questionnaireresponse"} for version in ("6.1.0", "7.0.0", "8.0.0")} | {
    "3.1.1": set()
}


def facts_of(row: Json) -> Json:
    """What validation reads of an element."""
    binding = row.get("binding") or {}
    slicing = row.get("slicing")
    by = tuple(sorted((d["type"], d["path"]) for d in slicing.get("discriminator", ()))) if slicing else ()
    found = {
        "min": row.get("min", 0),
        "max": row.get("max", "*"),
        "types": sorted(map(type_facts, row.get("type", ()))),
        "binding": (binding["strength"], binding.get("valueSet", "").partition("|")[0])
        if binding.get("strength") in STRENGTHS
        else None,
        # What base types say of themselves is repeated in published snapshots, and left out of ours.
        "constraints": sorted({c["key"] for c in row.get("constraint", ())} - BASE_KEYS),
        "slicing": (by, slicing.get("rules"), slicing.get("ordered", False)) if slicing else None,
        "mustSupport": row.get("mustSupport", False),
        "content": (row.get("contentReference") or "").partition("#")[2],
        **{key: value for key, value in row.items() if key.startswith(VALUES)},
    }
    if found["slicing"] == EXTENSIONS_BY_URL:
        found["slicing"] = None  # so are all extensions, where none are spoken of too
    return found


def type_facts(entry: Json) -> tuple[str, ...]:
    code = code_of(entry)
    # The id of a resource is told as `string` by R4 itself, as `id` by some publishers.
    return (
        "string" if code == "id" else code,
        *sorted(entry.get("profile", ())),
        *sorted(entry.get("targetProfile", ())),
    )


def differences(made: list[Json], published: list[Json]) -> Iterator[tuple[str, str]]:
    """Elements, and what is not the same of them."""
    ours, theirs = ({row["id"]: facts_of(row) for row in rows} for rows in (made, published))
    yield from ((name, "missing") for name in theirs.keys() - ours.keys())
    yield from ((name, "extra") for name in ours.keys() - theirs.keys())
    for name in ours.keys() & theirs.keys():
        yield from ((name, key) for key in ours[name] | theirs[name] if ours[name].get(key) != theirs[name].get(key))


@pytest.mark.parametrize("version", WITHOUT_BASE)
def test_snapshots_of_us_core_are_those_that_were_published_but_for_what_is_judged(
    us_core: Callable[[str], Package], version: str
) -> None:
    published = {d["url"]: d for d in us_core(version).definitions if d["resourceType"] == "StructureDefinition"}
    bare = {url: {key: value for key, value in d.items() if key != "snapshot"} for url, d in published.items()}
    snapshots = Snapshots(registry(), lambda url: bare.get(url) or registry().profiles.get(url))
    unjudged, used, compared = [], set(), 0
    for url, definition in bare.items():
        name = url.rpartition("/")[2]
        if name in WITHOUT_BASE[version]:
            with pytest.raises(SnapshotError, match="/uv/sdc/"):
                snapshots.elements_of(definition)
            continue
        made = snapshots.elements_of(definition)
        compared += len(made)
        for element, fact in differences(made, published[url]["snapshot"]["element"]):
            found = [row for row in JUDGED if is_judged(row, version, name, element, fact)]
            used.update(found)
            if not found:
                unjudged.append((name, element, fact))
    assert unjudged == []
    assert compared > 1400
    # A judgement of something that is no more would hide the next difference.
    assert used == {row for row in JUDGED if version in row[0]}


def is_judged(row: tuple[str, str, str, str], version: str, name: str, element: str, fact: str) -> bool:
    versions, names, elements, facts = row
    return (
        version in versions
        and re.fullmatch(names, name) is not None
        and re.fullmatch(elements, element) is not None
        and fact in facts.split("|")
    )


def profile(*rows: Json, base: str = TYPES + "Observation", url: str = "http://e/p") -> Json:
    kind = base.removeprefix(TYPES) if base.startswith(TYPES) else "Observation"
    return {
        "resourceType": "StructureDefinition",
        "url": url,
        "kind": "resource",
        "type": kind,
        "baseDefinition": base,
        "derivation": "constraint",
        "differential": {"element": list(rows)},
    }


def made_of(definition: Json, *others: Json) -> dict[str, Json]:
    held = {other["url"]: other for other in others} | registry().profiles
    return {row["id"]: row for row in Snapshots(registry(), held.get).elements_of(definition)}


def test_a_differential_without_ids_is_read_by_its_paths_and_slice_names() -> None:
    rows = made_of(
        profile(
            {"path": "Observation"},
            {"path": "Observation.category", "slicing": {"discriminator": [{"type": "pattern", "path": "$this"}]}},
            {"path": "Observation.category", "sliceName": "lab", "min": 1},
            {"path": "Observation.category.coding", "min": 1},
            {"path": "Observation.category.coding.code", "fixedCode": "laboratory"},
            {"path": "Observation.code.coding.code", "min": 1},
        )
    )
    assert rows["Observation.category:lab"]["min"] == 1
    assert rows["Observation.category:lab.coding.code"]["fixedCode"] == "laboratory"
    assert "Observation.category.coding" not in rows
    assert rows["Observation.code.coding.code"]["min"] == 1


def test_members_of_data_types_content_references_and_profiled_types_are_unfolded() -> None:
    rows = made_of(
        profile(
            {"id": "Questionnaire", "path": "Questionnaire"},
            {"id": "Questionnaire.item.item.linkId", "path": "Questionnaire.item.item.linkId", "maxLength": 5},
            {"id": "Questionnaire.item.item.item.code", "path": "Questionnaire.item.item.item.code", "max": "0"},
            base=TYPES + "Questionnaire",
        )
    )
    assert rows["Questionnaire.item.item.linkId"]["maxLength"] == 5
    assert "maxLength" not in rows["Questionnaire.item.linkId"]
    assert rows["Questionnaire.item.item.item.code"]["max"] == "0"
    extension = TYPES + "patient-birthPlace"
    rows = made_of(
        profile(
            {"id": "Patient.extension:place", "path": "Patient.extension", "sliceName": "place"}
            | {"type": [{"code": "Extension", "profile": [extension]}]},
            {"id": "Patient.extension:place.value[x].city", "path": "Patient.extension.value[x].city", "min": 1},
            base=TYPES + "Patient",
        )
    )
    assert rows["Patient.extension:place.url"]["fixedUri"] == extension
    assert rows["Patient.extension:place.value[x]"]["type"] == [{"code": "Address"}]
    assert rows["Patient.extension:place.value[x].city"]["min"] == 1
    assert rows["Patient.extension"]["slicing"]["rules"] == "open"


def test_a_slice_of_a_slice_begins_with_it() -> None:
    value = {"type": "value", "path": "code"}
    rows = made_of(
        profile(
            {"id": "Observation.component", "path": "Observation.component", "slicing": {"discriminator": [value]}},
            {"id": "Observation.component:a", "path": "Observation.component", "sliceName": "a", "max": "3"},
            {"id": "Observation.component:a.code", "path": "Observation.component.code", "patternCodeableConcept": {}},
            {"id": "Observation.component:a/b", "path": "Observation.component", "sliceName": "a/b", "max": "1"},
        )
    )
    names = list(rows)
    assert names.index("Observation.component:a/b") > names.index("Observation.component:a.code")
    root = structure_of({"url": "u", "type": "Observation", "snapshot": {"element": list(rows.values())}}).root
    component = root.child("component")
    assert component is not None
    (outer,) = component.slices
    assert [inner.slice_name for inner in outer.slices] == ["a/b"]


def test_types_of_a_choice_are_slices_and_others_stay_unless_one_must_be_there() -> None:
    quantity = {"id": "Observation.valueQuantity", "path": "Observation.valueQuantity"}
    text = {"id": "Observation.valueString", "path": "Observation.valueString", "maxLength": 9}
    rows = made_of(profile(quantity, text))
    assert rows["Observation.value[x]"]["slicing"]["rules"] == "open"
    assert len(rows["Observation.value[x]"]["type"]) == 11
    assert rows["Observation.value[x]:valueString"]["maxLength"] == 9
    assert rows["Observation.value[x]:valueString"]["type"] == [{"code": "string"}]
    rows = made_of(profile({**quantity, "min": 1}))
    assert rows["Observation.value[x]"]["slicing"]["rules"] == "closed"
    assert rows["Observation.value[x]"]["type"] == [{"code": "Quantity"}]
    assert rows["Observation.value[x]"]["min"] == 1


def test_a_profile_adds_to_what_its_base_profile_says() -> None:
    rule = {"key": "a-1", "severity": "error", "human": "x", "expression": "true"}
    base = profile(
        {"id": "Observation.code", "path": "Observation.code", "min": 1, "constraint": [rule]}, url="http://e/b"
    )
    derived = profile(
        {"id": "Observation.code", "path": "Observation.code", "constraint": [{**rule, "key": "a-2"}]},
        base="http://e/b|1",
    )
    versioned = {**base, "url": "http://e/b|1"}
    row = made_of(derived, versioned)["Observation.code"]
    assert [one["key"] for one in row["constraint"]] == ["a-1", "a-2"]
    pattern = {"id": "Observation.code", "path": "Observation.code", "patternCodeableConcept": {"text": "x"}}
    over = {"id": "Observation.code", "path": "Observation.code", "patternCodeableConcept": {"text": "y"}}
    row = made_of(profile(over, base="http://e/b"), profile(pattern, url="http://e/b"))["Observation.code"]
    assert row["patternCodeableConcept"] == {"text": "y"}


@pytest.mark.parametrize(
    ("definition", "others", "why"),
    [
        (profile({"path": "Observation.nothing"}), (), r"Observation\.nothing"),
        (profile({"path": "Patient.name"}), (), "none of Observation"),
        (profile({"path": "Observation.code.coding.system.system"}), (), "does not exist"),
        (profile({"path": "Observation"}, base="http://e/absent"), (), "http://e/absent is not held"),
        (profile({"path": "Observation.code", "max": "2"}), (), "1 at most"),
        (profile({"path": "Observation.category", "min": 3, "max": "2"}), (), "3 at least and 2 at most"),
        (
            profile({"path": "Observation"}, base="http://e/b"),
            (profile({"path": "Observation"}, base="http://e/p", url="http://e/b"),),
            "based on itself",
        ),
        ({"url": "http://e/n", "baseDefinition": TYPES + "Patient"}, (), "neither a snapshot nor"),
        ({**profile(), "derivation": "specialization"}, (), "a type of its own"),
    ],
)
def test_a_differential_that_makes_no_sense_says_why(definition: Json, others: tuple[Json, ...], why: str) -> None:
    held = {other["url"]: other for other in (definition, *others)}
    with pytest.raises(SnapshotError, match=why):
        Snapshots(registry(), held.get).elements_of(definition)


def test_no_snapshot_grows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiles.snapshot.MAX_ELEMENTS", 10)
    with pytest.raises(SnapshotError, match="elements"):
        Snapshots(registry(), lambda url: None).elements_of(profile({"path": "Observation"}))
