"""Whatever is sent as a patch, it is carried out or refused with an outcome; nothing else can happen."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model.errors import FhirError
from fhir_server.patching.formats import FHIR_JSON, JSON_PATCH, XML_PATCH, patch_of
from profiles.registry import registry

PATIENT = {
    "resourceType": "Patient",
    "id": "1",
    "birthDate": "1980",
    "_birthDate": {"extension": [{"url": "u", "valueInteger": 1}]},
    "name": [{"given": ["a", None], "_given": [None, {"id": "x"}]}, {"family": "b"}],
    "contact": [{"name": {"text": "c"}}],
    "deceasedBoolean": False,
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5),
    st.sampled_from(["", "x", "-", "add", "move", "Patient", "Patient.name", "given", "deceased", "1980", "name"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "part", "valueString", "valueCode", "_valueCode", "valueHumanName", "resource"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)
PATHS = st.sampled_from(
    [
        *("Patient", "Patient.name", "Patient.name[0]", "Patient.name.given", "Patient.name[0].given[1]", "$this"),
        *(
            "Patient.birthDate",
            "Patient.birthDate.extension",
            "Patient.birthDate.extension[0].value",
            "Patient.deceased",
        ),
        *(
            "Patient.contact",
            "Patient.contact.name",
            "Patient.id",
            "Patient.meta",
            "Patient.name.count()",
            "1",
            "name.",
        ),
        *("Patient.name.where(family = 'b')", "Patient.name | Patient.contact.name", "%resource", "Patient.children()"),
        *("Patient.descendants()", "Patient.contained", "(Patient.name)", "Patient.birthDate.id", "true", "{}"),
    ]
)
VALUES = st.sampled_from(
    [
        *({"valueHumanName": {"text": "x"}}, {"valueString": "x"}, {"valueBoolean": True}, {"valueInteger": 3}),
        *({"_valueDate": {"id": "y"}}, {"valueDate": "2020"}, {"part": [{"name": "text", "valueString": "x"}]}),
        *({"valueHumanName": "x"}, {"valueHumanName": []}, {"valueString": {}}, {"resource": {"resourceType": "List"}}),
        *({"part": [{"name": "url", "valueUri": "u"}]}, {"valueExtension": {"url": "u"}}, {"resource": 7}, {}),
    ]
)


@st.composite
def operations(draw: st.DrawFn) -> Any:
    """Operations that are right in form, with anything in them."""
    parts: list[dict[str, Any]] = [
        {"name": "type", "valueCode": draw(st.sampled_from(["add", "insert", "delete", "replace", "move"]))},
        {"name": "path", "valueString": draw(PATHS)},
        {
            "name": "name",
            "valueString": draw(st.sampled_from(["name", "birthDate", "extension", "deceased", "id", "x"])),
        },
        {"name": "value", **draw(VALUES)},
        *({"name": name, "valueInteger": draw(st.integers(0, 3))} for name in ("index", "source", "destination")),
    ]
    return {"name": "operation", "part": parts}


def tried(body: bytes, content_type: str) -> None:
    before = json.dumps(PATIENT)
    refused: FhirError | None = None
    try:
        after = patch_of(body, content_type, "Patient", registry()).apply(PATIENT)
        assert (after["resourceType"], after["id"]) == ("Patient", "1")
        assert "[]" not in json.dumps(after)
        assert "{}" not in json.dumps(after)
    except FhirError as error:
        refused = error
    if refused is not None:
        assert refused.status in (400, 413, 415, 422)
        assert refused.issues[0].diagnostics
    assert json.dumps(PATIENT) == before


@given(st.lists(operations(), min_size=1, max_size=4))
def test_fhirpath_patches_with_anything_in_them(rows: list[Any]) -> None:
    tried(json.dumps({"resourceType": "Parameters", "parameter": rows}).encode(), FHIR_JSON)


@given(ANYTHING)
def test_parameters_of_any_form(anything: Any) -> None:
    tried(json.dumps({"resourceType": "Parameters", "parameter": anything}).encode(), FHIR_JSON)
    tried(json.dumps({"resourceType": "Parameters", "parameter": [anything]}).encode(), FHIR_JSON)
    operation = {"name": "operation", "part": anything}
    tried(json.dumps({"resourceType": "Parameters", "parameter": [operation]}).encode(), FHIR_JSON)


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]) | SCALARS,
                "path": st.sampled_from(["", "/name/0/given/-", "/name/-", "/name", "/birthDate", "/contact/0/name"])
                | SCALARS,
                "from": st.sampled_from(["", "/name", "/contact/0"]) | SCALARS,
                "value": ANYTHING,
            },
        ),
        max_size=4,
    )
    | ANYTHING
)
def test_json_patches_of_any_form(document: Any) -> None:
    tried(json.dumps(document).encode(), JSON_PATCH)


SELECTORS = st.sampled_from(
    [
        *(
            "f:Patient",
            "f:Patient/f:name",
            "f:Patient/f:name[1]",
            "f:Patient/f:name[1]/f:given[1]/@value",
            "*",
            "*/*[1]",
        ),
        *("f:Patient/f:birthDate", "f:Patient/f:birthDate/@value", "f:Patient/f:id", "f:Patient/text()", "comment()"),
        *("f:Patient/f:contact/f:name/f:text", "f:Patient/namespace::f", "f:Patient/f:name[last()]", "x", "/"),
    ]
)
CONTENTS = st.sampled_from(
    [
        *("", "x", "true", "<!--c-->", "<f:active value='true'/>", "<f:name><f:text value='x'/></f:name>", "<x/>"),
        *("<f:family value='x'/>", "<f:Patient/>", "<f:Person/>", "<?a b?>", "x<f:a/>y", "<f:text value='y'/>"),
    ]
)


@st.composite
def xml_operations(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(["add", "replace", "remove"]))
    attributes = draw(
        st.sampled_from(
            [
                *("", " pos='before'", " pos='after'", " pos='prepend'", " type='@value'", " type='@id'", " ws='both'"),
                *(" type='namespace::q'", " type='@q:r'", " type='@1'", " type='namespace::1'", " type='@'"),
            ]
        )
    )
    return f'<{name} sel="{draw(SELECTORS)}"{attributes}>{draw(CONTENTS)}</{name}>'


@given(st.lists(xml_operations(), max_size=4))
def test_xml_patches_of_any_form(rows: list[str]) -> None:
    tried(f"<diff xmlns:f='http://hl7.org/fhir'>{''.join(rows)}</diff>".encode(), XML_PATCH)


@given(st.binary(max_size=40), st.sampled_from([JSON_PATCH, FHIR_JSON, XML_PATCH, "text/plain", ""]))
def test_bytes_of_any_kind(body: bytes, content_type: str) -> None:
    tried(body, content_type)
