"""Mutated real resources: nothing raises, and what is certainly wrong is always found."""

import copy
import os
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.model.codec import Json, decode
from fhir_server.model.errors import outcome_of
from fhir_server.validation import Validator
from profiles.registry import registry
from profiles.terminology import terminology

VALIDATOR = Validator(registry(), terminology())
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**400, max_value=10**500)
    | st.floats(allow_nan=True)
    | st.decimals()
    | st.text(st.characters(), max_size=20)  # lone surrogates among them
    | st.sampled_from(["", " ", "#", "#x", "Patient/1", "2024-02-30", "<div/>", "http://", "urn:uuid:", "`", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["id", "extension", "url", "resourceType"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@cache
def resources() -> list[Json]:
    """The samples, and with the test data 60 of the specification's examples that are not large."""
    found = list(decode((Path(__file__).parent / "samples.json").read_bytes()).values())
    if folder := os.environ.get("HEALTHSPHERE_TEST_DATA"):
        paths = [p for p in sorted((Path(folder) / "r4-examples").glob("*.json")) if p.stat().st_size < 8000]
        chosen = random.Random(4).sample([p for p in paths if not p.name.startswith(("Sear", "Value", "CodeS"))], 60)
        examples = [decode(path.read_bytes()) for path in chosen]
        found += [example for example in examples if not VALIDATOR.issues_of(example)]
    return found


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a document with each of its keys or indexes."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield node, key
        yield from places(node[key])


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A resource with one to three places replaced by any JSON value, or dropped, or an unfit member added."""
    resource = copy.deepcopy(draw(st.sampled_from(resources())))
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(resource))
        if not found:
            break
        container, key = draw(st.sampled_from(found))
        match draw(st.sampled_from(["replace", "replace", "drop", "add", "double"])):
            case "replace":
                container[key] = draw(JSON_VALUES)
            case "drop":
                del container[key]
            case "add" if isinstance(container, dict):
                container[draw(st.text(max_size=10) | st.sampled_from(["_" + str(key), "contained"]))] = draw(
                    JSON_VALUES
                )
            case "double" if isinstance(container, list):
                container.append(container[key])
    return resource


@FUZZ
@given(JSON_VALUES)
def test_any_json_value_gives_issues_and_no_exception(value: Any) -> None:
    issues = VALIDATOR.issues_of(value)
    assert issues or (isinstance(value, dict) and registry().is_resource_type(value["resourceType"]))


@FUZZ
@given(mutated())
def test_a_mutated_resource_never_raises_and_its_outcome_is_valid(resource: Any) -> None:
    issues = VALIDATOR.issues_of(resource)
    assert all(issue.key and issue.key.startswith("HS-VAL-") and issue.expression for issue in issues)
    if issues:
        assert VALIDATOR.issues_of(outcome_of(issues)) == []


@FUZZ
@given(st.sampled_from(range(len(resources()))), st.data())
def test_an_unknown_member_is_always_found(index: int, data: st.DataObject) -> None:
    resource = copy.deepcopy(resources()[index])
    objects = [resource, *(container[key] for container, key in places(resource) if isinstance(container[key], dict))]
    data.draw(st.sampled_from(objects))["xUnknown"] = data.draw(JSON_VALUES)
    assert any(issue.key == "HS-VAL-UNKNOWN" for issue in VALIDATOR.issues_of(resource))


@FUZZ
@given(st.sampled_from(range(len(resources()))), st.data())
def test_a_value_of_another_json_type_is_always_found(index: int, data: st.DataObject) -> None:
    resource = copy.deepcopy(resources()[index])
    # A null stands beside an Element in the twin array; a value may stand there as well.
    container, key = data.draw(st.sampled_from([place for place in places(resource) if place[0][place[1]] is not None]))
    value = container[key]
    others: list[Any] = [[[]], {}, [], {"xUnknown": 1}]
    if not isinstance(value, str):
        others += ["", "text"]
    if not isinstance(value, bool):
        others += [True]
    if isinstance(value, (str, bool, dict, list)):
        others += [5]
    container[key] = data.draw(st.sampled_from(others))
    assert [issue for issue in VALIDATOR.issues_of(resource) if issue.severity == "error"]


def required_places(name: str, node: Any, path: str) -> Iterator[tuple[Json, str]]:
    """Every required member of a resource, by the element table: found here by another way than the validator's."""
    definition = registry().types[name]
    for element in definition.children(path):
        value = node.get(element.name)
        if value is None:
            continue
        if element.min > 0:
            yield node, element.name
        kinds = {one.code for one in element.types}
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and kinds & {"BackboneElement", "Element"}:
                yield from required_places(name, item, element.path)
            elif isinstance(item, dict) and element.content:
                yield from required_places(name, item, element.content)
            elif isinstance(item, dict) and len(kinds) == 1 and not registry().types[kind := min(kinds)].abstract:
                yield from required_places(kind, item, kind)


@pytest.mark.parametrize("index", range(len(resources())), ids=[r["resourceType"] for r in resources()])
def test_each_missing_required_element_is_found(index: int) -> None:
    original = resources()[index]
    count = len(list(required_places(original["resourceType"], original, original["resourceType"])))
    for number in range(count):
        resource = copy.deepcopy(original)
        node, name = list(required_places(resource["resourceType"], resource, resource["resourceType"]))[number]
        del node[name]
        issues = VALIDATOR.issues_of(resource)
        # An object that is left empty is told as such.
        wanted = "HS-VAL-REQUIRED" if node else "HS-VAL-EMPTY"
        assert [i for i in issues if i.key == wanted and (i.expression or "").endswith(name if node else "")]
