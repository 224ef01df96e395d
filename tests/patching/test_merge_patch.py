"""JSON Merge Patch: https://www.rfc-editor.org/rfc/rfc7396."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.model.errors import InvalidError, UnprocessableError
from fhir_server.patching.merge_patch import merge_patch_of, merged

#: The test cases of RFC 7396, appendix A: original, patch, result.
CASES = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(("original", "patch", "result"), CASES)
def test_the_examples_of_the_standard_come_out(original: str, patch: str, result: str) -> None:
    assert merged(json.loads(original), json.loads(patch)) == json.loads(result)


@given(VALUES, VALUES)
@settings(max_examples=60, deadline=None)
def test_a_patch_that_was_made_changes_nothing_the_second_time_and_its_arguments_never(target: Any, patch: Any) -> None:
    before = json.dumps([target, patch])
    once = merged(target, patch)
    assert merged(once, patch) == once
    assert json.dumps([target, patch]) == before


@pytest.mark.parametrize("document", [[], ["a"], "x", None, 1])
def test_what_is_no_object_is_no_patch_of_a_resource(document: Any) -> None:
    with pytest.raises(InvalidError, match="Merge Patch is an object"):
        merge_patch_of(document)


@pytest.mark.parametrize("patch", [{"resourceType": "Group"}, {"id": "other"}, {"id": None}, {"resourceType": None}])
def test_a_resource_stays_the_one_that_it_is(patch: Any) -> None:
    with pytest.raises(UnprocessableError):
        merge_patch_of(patch).apply({"resourceType": "Patient", "id": "one", "active": True})


def test_what_is_left_empty_is_gone() -> None:
    patient = {"resourceType": "Patient", "id": "one", "maritalStatus": {"text": "?"}, "name": [{"family": "A"}]}
    patch = {"maritalStatus": {"text": None}, "name": []}
    assert merge_patch_of(patch).apply(patient) == {"resourceType": "Patient", "id": "one"}
