"""FHIRPath Patch beyond the cases of the test suite: choices, primitives with extensions, parts, types, links."""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model.errors import InvalidError, TooLargeError, UnprocessableError
from fhir_server.patching import fhirpath_patch
from fhir_server.patching.fhirpath_patch import FhirPathPatch, fhirpath_patch_of
from profiles.registry import registry

EXTENSION = {"url": "http://t.example/e", "valueString": "x"}


def operation(kind: str, path: str, **parts: Any) -> dict[str, Any]:
    """An operation; a part is given by its members without the name."""
    rows = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    return {"name": "operation", "part": [*rows, *({"name": name, **members} for name, members in parts.items())]}


def patch_of(resource_type: str, *operations: dict[str, Any]) -> FhirPathPatch:
    parameters = {"resourceType": "Parameters", "parameter": list(operations)}
    return fhirpath_patch_of(parameters, resource_type, registry())


def run(resource: dict[str, Any], *operations: dict[str, Any]) -> dict[str, Any]:
    """The resource, patched; it is proven that the patch can be applied again and that its input stays."""
    before = deepcopy(resource)
    patch = patch_of(resource["resourceType"], *operations)
    result = patch.apply(resource)
    assert resource == before
    assert patch.apply(resource) == result
    return {name: value for name, value in result.items() if name != "resourceType"}


def patient(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **members}


def add(path: str, name: str, **value: Any) -> dict[str, Any]:
    return operation("add", path, name={"valueString": name}, value=value)


def replace(path: str, **value: Any) -> dict[str, Any]:
    return operation("replace", path, value=value)


def insert(path: str, index: int, **value: Any) -> dict[str, Any]:
    return operation("insert", path, index={"valueInteger": index}, value=value)


def move(path: str, source: int, destination: int) -> dict[str, Any]:
    return operation("move", path, source={"valueInteger": source}, destination={"valueInteger": destination})


# --- choices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deceased", "deceasedBoolean"])
def test_a_choice_takes_the_name_of_the_type_that_is_given(name: str) -> None:
    assert run(patient(), add("Patient", name, valueBoolean=True)) == {"deceasedBoolean": True}


def test_a_choice_has_one_value_whatever_its_type() -> None:
    with pytest.raises(UnprocessableError):
        run(patient(deceasedBoolean=True), add("Patient", "deceased", valueDateTime="2020"))


def test_replacing_a_choice_can_change_its_type_at_the_same_place() -> None:
    before = patient(deceasedBoolean=True, _deceasedBoolean={"id": "a"}, gender="male")
    after = run(before, replace("Patient.deceased", valueDateTime="2020", _valueDateTime={"id": "b"}))
    assert list(after.items()) == [("deceasedDateTime", "2020"), ("_deceasedDateTime", {"id": "b"}), ("gender", "male")]


def test_a_choice_takes_only_its_types() -> None:
    with pytest.raises(UnprocessableError) as caught:
        run(patient(), add("Patient", "deceased", valueQuantity={"value": 1}))
    assert "expected boolean, dateTime" in caught.value.issues[0].diagnostics
    assert caught.value.issues[0].expression == "Parameters.parameter[0].part[3].valueQuantity"


def test_the_path_of_a_choice_can_name_a_type() -> None:
    observation = {"resourceType": "Observation", "valueQuantity": {"value": Decimal("1.10"), "unit": "g"}}
    after = run(observation, replace("Observation.value.ofType(Quantity).value", valueDecimal=Decimal("2.50")))
    assert str(after["valueQuantity"]["value"]) == "2.50"


# --- primitives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("Patient.gender", {"valueString": "female"}, {"gender": "female"}),
        ("Patient.birthDate", {"valueString": "1990"}, {"birthDate": "1990"}),
        ("Patient.active", {"valueBoolean": False}, {"active": False}),
    ],
)
def test_a_text_can_stand_for_any_primitive_that_is_text_in_json(
    path: str, value: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = patient(gender="male", birthDate="1980", active=True)
    assert patient(**run(before, replace(path, **value))) == {**before, **expected}


def test_an_integer_can_be_a_decimal_and_not_the_other_way() -> None:
    observation = {"resourceType": "Observation", "valueQuantity": {"value": 1}}
    assert run(observation, replace("Observation.value.value", valueInteger=2))["valueQuantity"] == {"value": 2}
    with pytest.raises(UnprocessableError):
        run(patient(multipleBirthInteger=1), replace("Patient.multipleBirth", valueDecimal=Decimal("1.5")))


def test_replacing_a_primitive_replaces_its_id_and_extensions() -> None:
    before = patient(birthDate="1980", _birthDate={"extension": [EXTENSION]})
    assert run(before, replace("Patient.birthDate", valueDate="1981")) == {"birthDate": "1981"}
    twin = {"extension": [EXTENSION]}
    assert run(before, replace("Patient.birthDate", _valueDate=twin)) == {"_birthDate": twin}


def test_a_primitive_that_has_only_extensions_is_there() -> None:
    before = patient(_birthDate={"extension": [EXTENSION]})
    with pytest.raises(UnprocessableError):
        run(before, add("Patient", "birthDate", valueDate="1981"))
    assert run(before, operation("delete", "Patient.birthDate")) == {}


def test_extensions_of_primitives_are_added_and_deleted() -> None:
    parts = {"part": [{"name": "url", "valueUri": "http://t.example/e"}, {"name": "value", "valueString": "x"}]}
    with_one = run(patient(birthDate="1980"), add("Patient.birthDate", "extension", **parts))
    assert with_one == {"birthDate": "1980", "_birthDate": {"extension": [EXTENSION]}}
    deleted = operation("delete", "Patient.birthDate.extension('http://t.example/e')")
    assert run(patient(**with_one), deleted) == {"birthDate": "1980"}
    given = patient(name=[{"given": ["a", "b"]}])
    after = run(given, add("Patient.name[0].given[1]", "extension", **parts))
    assert after["name"] == [{"given": ["a", "b"], "_given": [None, {"extension": [EXTENSION]}]}]


def test_lists_of_primitives_keep_their_extensions_beside_them() -> None:
    before = patient(name=[{"given": ["a", None, "c"], "_given": [None, {"id": "b"}, {"id": "c"}]}])

    def given(*operations: dict[str, Any]) -> dict[str, Any]:
        return dict(run(before, *operations)["name"][0])

    assert given(operation("delete", "Patient.name.given[0]")) == {
        "given": [None, "c"],
        "_given": [{"id": "b"}, {"id": "c"}],
    }
    assert given(move("Patient.name.given", 2, 0)) == {
        "given": ["c", "a", None],
        "_given": [{"id": "c"}, None, {"id": "b"}],
    }
    assert given(insert("Patient.name.given", 1, valueString="x")) == {
        "given": ["a", "x", None, "c"],
        "_given": [None, None, {"id": "b"}, {"id": "c"}],
    }
    gone = [operation("delete", "Patient.name.given[1]"), operation("delete", "Patient.name.given[1]")]
    assert given(*gone) == {"given": ["a"]}


def test_an_element_id_can_be_added() -> None:
    assert run(patient(name=[{"text": "a"}]), add("Patient.name[0]", "id", valueString="n1"))["name"] == [
        {"text": "a", "id": "n1"}
    ]


# --- values of other kinds ------------------------------------------------------------------------------------------


def test_parts_make_elements_without_a_type_of_their_own() -> None:
    value = {
        "part": [
            {"name": "relationship", "valueCodeableConcept": {"text": "a"}},
            {"name": "relationship", "valueCodeableConcept": {"text": "b"}},
            {"name": "gender", "valueCode": "male", "_valueCode": {"id": "g"}},
        ]
    }
    after = run(patient(), add("Patient", "contact", **value))
    assert after["contact"] == [
        {"relationship": [{"text": "a"}, {"text": "b"}], "gender": "male", "_gender": {"id": "g"}}
    ]


def test_parts_reach_to_any_depth_also_where_a_definition_repeats_itself() -> None:
    leaf = {
        "name": "item",
        "part": [{"name": "linkId", "valueString": "1.1"}, {"name": "required", "valueBoolean": True}],
    }
    value = {"part": [{"name": "linkId", "valueString": "1"}, leaf]}
    questionnaire = {"resourceType": "Questionnaire", "item": [{"linkId": "0"}]}
    after = run(questionnaire, add("Questionnaire.item[0]", "item", **value))
    inner = {"linkId": "1", "item": [{"linkId": "1.1", "required": True}]}
    assert after["item"] == [{"linkId": "0", "item": [inner]}]


def test_a_part_that_the_type_does_not_have_is_refused_with_its_place() -> None:
    with pytest.raises(UnprocessableError) as caught:
        run(patient(), add("Patient", "contact", part=[{"name": "nam", "valueString": "x"}]))
    assert caught.value.issues[0].expression == "Parameters.parameter[0].part[3].part[0].valueString"


def test_resources_can_be_values() -> None:
    contained = {"resourceType": "Organization", "id": "o", "name": "x"}
    after = run(patient(), add("Patient", "contained", resource=contained))
    assert after == {"contained": [contained]}
    renamed = run(patient(**after), replace("Patient.contained.where(id = 'o').name", valueString="y"))
    assert renamed["contained"] == [{**contained, "name": "y"}]


def test_a_quantity_can_stand_for_the_types_made_of_it() -> None:
    condition = {"resourceType": "Condition"}
    assert run(condition, add("Condition", "onset", valueQuantity={"value": 3})) == {"onsetAge": {"value": 3}}


# --- lists ----------------------------------------------------------------------------------------------------------


def test_insert_makes_a_list_that_is_not_there() -> None:
    assert run(patient(), insert("Patient.name", 0, valueHumanName={"text": "a"})) == {"name": [{"text": "a"}]}
    assert run(patient(), insert("name", 0, valueHumanName={"text": "a"})) == {"name": [{"text": "a"}]}


@pytest.mark.parametrize("path", ["Patient.name.where(text = 'a')", "Patient.name[0]", "Patient.contact.telecom"])
def test_a_list_is_named_by_its_element(path: str) -> None:
    before = patient(name=[{"text": "a"}], contact=[{"telecom": [{"value": "1"}]}, {"telecom": [{"value": "2"}]}])
    with pytest.raises((InvalidError, UnprocessableError)):
        run(before, insert(path, 0, valueHumanName={"text": "b"}))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.data())
def test_moving_is_taking_out_and_putting_in_and_can_be_undone(values: list[int], data: st.DataObject) -> None:
    source, destination = (data.draw(st.integers(0, len(values) - 1)) for _ in range(2))
    before = patient(name=[{"text": str(value), "id": str(n)} for n, value in enumerate(values)])
    expected = list(before["name"])
    expected.insert(destination, expected.pop(source))
    after = run(before, move("Patient.name", source, destination))
    assert after["name"] == expected
    assert run(patient(**after), move("Patient.name", destination, source))["name"] == before["name"]


@given(st.lists(st.integers(0, 9), max_size=6), st.data())
def test_inserting_and_deleting_is_no_change(values: list[int], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(values)))
    before = patient(telecom=[{"value": str(v)} for v in values]) if values else patient()
    inserted = insert("Patient.telecom", index, valueContactPoint={"value": "new"})
    assert run(before, inserted)["telecom"][index] == {"value": "new"}
    after = run(before, inserted, operation("delete", f"Patient.telecom[{index}]"))
    assert {"resourceType": "Patient", **after} == before


# --- order, limits, links -------------------------------------------------------------------------------------------


def test_operations_see_what_earlier_ones_have_made_even_what_they_emptied() -> None:
    after = run(
        patient(contact=[{"name": {"text": "a"}}]),
        operation("delete", "Patient.contact[0].name.text"),
        add("Patient.contact[0].name", "family", valueString="b"),
        add("Patient", "name", valueHumanName={"text": "c"}),
        replace("Patient.name.where(text = 'c').text", valueString="d"),
    )
    assert after == {"contact": [{"name": {"family": "b"}}], "name": [{"text": "d"}]}


def test_deleting_what_is_not_there_is_fine() -> None:
    assert run(patient(active=True), operation("delete", "Patient.name[3].given")) == {"active": True}


def test_a_failure_tells_the_operation_the_path_and_the_place() -> None:
    with pytest.raises(UnprocessableError) as caught:
        run(patient(), operation("delete", "Patient.name"), replace("Patient.name[1]", valueHumanName={}))
    (issue,) = caught.value.issues
    assert (issue.key, issue.expression) == ("HS-PATCH-PATH", "Parameters.parameter[1]")
    assert issue.diagnostics.startswith("Operation 1 (replace Patient.name[1]): the path finds nothing")


def test_a_patch_has_at_most_a_thousand_operations() -> None:
    with pytest.raises(TooLargeError):
        patch_of("Patient", *[operation("delete", "Patient.active")] * 1001)


def test_a_patch_whose_paths_take_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhirpath_patch, "LONGEST_S", -1.0)
    with pytest.raises(UnprocessableError) as caught:
        run(patient(active=True), operation("delete", "Patient.active"))
    assert caught.value.issues[0].key == "HS-PATCH-COST"


def test_a_resource_within_a_resource_can_be_replaced() -> None:
    bundle = {"resourceType": "Bundle", "entry": [{"resource": patient(id="a")}, {"resource": patient(id="b")}]}
    other = {"resourceType": "Group", "id": "c"}
    after = run(bundle, replace("Bundle.entry[1].resource", resource=other))
    assert [row["resource"]["id"] for row in after["entry"]] == ["a", "c"]
    with pytest.raises(UnprocessableError):
        run(bundle, replace("Bundle.entry[1]", resource=other))


def test_links_are_rewritten_where_the_element_holds_links() -> None:
    def rewrite(node: dict[str, Any]) -> bool:
        for name, value in node.items():
            if value == "urn:x" and name in ("reference", "valueUri", "system"):
                node[name] = "Patient/1"
            elif type(value) is dict:
                rewrite(value)
        return False

    identified = patient(identifier=[{"value": "a", "system": "b"}], managingOrganization={"reference": "c"})
    patch = patch_of(
        "Patient",
        replace("Patient.identifier[0].value", valueString="urn:x"),
        replace("Patient.identifier[0].system", valueUri="urn:x"),
        replace("Patient.managingOrganization", valueReference={"reference": "urn:x"}),
        add("Patient", "extension", part=[{"name": "url", "valueUri": "u"}, {"name": "value", "valueUri": "urn:x"}]),
    )
    after = patch.linked(rewrite).apply(identified)
    assert after["identifier"] == [{"value": "urn:x", "system": "Patient/1"}]
    assert after["managingOrganization"] == {"reference": "Patient/1"}
    assert after["extension"] == [{"url": "u", "valueUri": "Patient/1"}]
    assert patch.apply(identified)["managingOrganization"] == {"reference": "urn:x"}
