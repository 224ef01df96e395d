"""JSON Patch and JSON Pointer: RFC 6902, RFC 6901."""

from __future__ import annotations

import json
from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model import codec
from fhir_server.model.errors import FhirError, InvalidError, UnprocessableError
from fhir_server.patching.document import equal
from fhir_server.patching.json_patch import json_patch_of, patched
from fhir_server.patching.pointer import pointer_of, text_of


def run(document: Any, *operations: dict[str, Any]) -> Any:
    return patched(document, json_patch_of(list(operations)).operations)


# --- a reference, as plain as can be --------------------------------------------------------------------------------


class Refused(Exception):
    pass


def at(node: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part in [str(n) for n in range(len(node))]:
            node = node[int(part)]
        else:
            raise Refused
    return node


def put(document: Any, parts: list[str], value: Any) -> Any:
    if not parts:
        return value
    holder, last = at(document, parts[:-1]), parts[-1]
    if isinstance(holder, dict):
        holder[last] = value
    elif isinstance(holder, list) and last in [*(str(n) for n in range(len(holder) + 1)), "-"]:
        holder.insert(len(holder) if last == "-" else int(last), value)
    else:
        raise Refused
    return document


def take(document: Any, parts: list[str]) -> Any:
    if not parts:
        raise Refused
    holder = at(document, parts[:-1])
    at(document, parts)
    del holder[parts[-1] if isinstance(holder, dict) else int(parts[-1])]
    return document


def naive(document: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902, section 4, sentence by sentence."""
    document = deepcopy(document)
    for row in operations:
        parts = [p.replace("~1", "/").replace("~0", "~") for p in row["path"].split("/")[1:]]
        source = [p.replace("~1", "/").replace("~0", "~") for p in row.get("from", "").split("/")[1:]]
        match row["op"]:
            case "add":
                document = put(document, parts, deepcopy(row["value"]))
            case "remove":
                document = take(document, parts)
            case "replace":
                at(document, parts)
                # A member keeps its place: order is no matter of the RFC, but of who reads the resource.
                holder = at(document, parts[:-1]) if parts else None
                if isinstance(holder, dict):
                    holder[parts[-1]] = deepcopy(row["value"])
                else:
                    document = put(take(document, parts) if parts else None, parts, deepcopy(row["value"]))
            case "copy":
                document = put(document, parts, deepcopy(at(document, source)))
            case "move":
                if source != parts[: len(source)] or source == parts:
                    value = at(document, source)
                    if source != parts:
                        document = put(take(document, source), parts, value)
                else:
                    raise Refused
            case "test":
                if json.dumps(at(document, parts), sort_keys=True) != json.dumps(row["value"], sort_keys=True):
                    raise Refused
    return document


NAMES = st.sampled_from(["a", "b", "~", "/", "~1", "", "0", "-"])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "x", "1"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)
POINTERS = st.lists(st.one_of(NAMES, st.integers(0, 4).map(str), st.sampled_from(["01", "-1", "1e0"])), max_size=3).map(
    lambda parts: text_of(tuple(parts))
)


def paths_in(node: Any, path: tuple[str, ...] = ()) -> list[str]:
    rows = [text_of(path)]
    if isinstance(node, dict):
        for name, child in node.items():
            rows += paths_in(child, (*path, name))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            rows += paths_in(child, (*path, str(index)))
        rows.append(text_of((*path, "-")))
    return rows


@st.composite
def documents_and_patches(draw: st.DrawFn) -> tuple[Any, list[dict[str, Any]]]:
    document = draw(VALUES)
    pointers = st.one_of(st.sampled_from(paths_in(document)), POINTERS)
    operations = []
    for _ in range(draw(st.integers(1, 4))):
        row: dict[str, Any] = {
            "op": draw(st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])),
            "path": draw(pointers),
        }
        if row["op"] in ("move", "copy"):
            row["from"] = draw(pointers)
        elif row["op"] != "remove":
            row["value"] = draw(VALUES)
        operations.append(row)
    return document, operations


@given(documents_and_patches())
def test_it_does_what_a_naive_reference_does(case: tuple[Any, list[dict[str, Any]]]) -> None:
    document, operations = case
    before = json.dumps(document)
    try:
        expected = naive(document, operations)
    except Refused:
        with pytest.raises(FhirError):
            run(document, *operations)
    else:
        assert json.dumps(run(document, *operations)) == json.dumps(expected)
    assert json.dumps(document) == before, "the document itself was changed"


@given(st.dictionaries(st.sampled_from("ab"), VALUES, min_size=1), VALUES, st.data())
def test_a_patch_and_then_its_inverse_is_no_change(document: Any, value: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([p for p in paths_in(document) if p and not p.endswith("/-")]))
    old = at(document, list(pointer_of(path)))
    once = run(document, {"op": "replace", "path": path, "value": value})
    assert equal(run(once, {"op": "replace", "path": path, "value": old}), document)
    gone = run(document, {"op": "test", "path": path, "value": old}, {"op": "remove", "path": path})
    assert equal(run(gone, {"op": "add", "path": path, "value": old}), document)


@given(st.lists(st.text()).map(tuple))
def test_pointers_are_read_as_they_are_written(parts: tuple[str, ...]) -> None:
    assert pointer_of(text_of(parts)) == parts


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("1.10", "1.1", True),
        ("1E3", "1000", True),
        ("100000000000000000000001", "100000000000000000000001.0", True),
        ("0.1", "0.10000000000000000001", False),
        ("1", "true", False),
        ("0", "false", False),
        ("null", "false", False),
        ("null", "0", False),
        ('"1"', "1", False),
        ("[1,2]", "[2,1]", False),
        ('{"a":1,"b":[1.0]}', '{"b":[1],"a":1.00}', True),
        ('{"a":null}', "{}", False),
    ],
)
def test_values_are_compared_as_the_rfc_says(left: str, right: str, same: bool) -> None:
    a, b = codec.decode(left.encode()), codec.decode(right.encode())
    assert equal(a, b) is same
    assert equal(b, a) is same
    if same:
        assert run({"v": a}, {"op": "test", "path": "/v", "value": b}) == {"v": a}
    else:
        with pytest.raises(UnprocessableError):
            run({"v": a}, {"op": "test", "path": "/v", "value": b})


def test_a_failure_tells_the_operation_and_the_path() -> None:
    with pytest.raises(UnprocessableError) as caught:
        run({"a": [1]}, {"op": "add", "path": "/a/1", "value": 2}, {"op": "replace", "path": "/a/5", "value": 3})
    (issue,) = caught.value.issues
    assert issue.key == "HS-PATCH-PATH"
    assert issue.diagnostics == (
        "Operation 1 (replace '/a/5'): /a/5 is beyond the end of the array, which has 2 values."
    )


def test_a_part_cannot_be_moved_into_itself() -> None:
    with pytest.raises(InvalidError):
        run({"a": {"b": 1}}, {"op": "move", "from": "/a", "path": "/a/b"})


def test_numbers_keep_the_spelling_that_they_were_sent_in() -> None:
    document = codec.decode(b'{"a":1e3,"b":0.00000001}')
    patch = codec.decode(b'[{"op":"copy","from":"/a","path":"/c"},{"op":"add","path":"/d","value":1.500}]')
    assert codec.encode(run(document, *patch)) == b'{"a":1e3,"b":0.00000001,"c":1e3,"d":1.500}'
    assert type(run(document, *patch)["d"]) is Decimal


def test_the_resource_remains_the_resource() -> None:
    patient = {"resourceType": "Patient", "id": "1", "name": [{"given": ["a"]}]}
    with pytest.raises(UnprocessableError) as caught:
        json_patch_of([{"op": "replace", "path": "/id", "value": "2"}]).apply(patient)
    assert caught.value.issues[0].key == "HS-PATCH-IDENTITY"
    patch = json_patch_of([{"op": "remove", "path": "/name/0/given/0"}])
    assert patch.apply(patient) == {"resourceType": "Patient", "id": "1"}
    assert patient["name"] == [{"given": ["a"]}]
