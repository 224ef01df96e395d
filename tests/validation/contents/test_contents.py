"""Contents: units, attachments, Bundles and extensions are what they say of themselves."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from typing import Any

import pytest

from fhir_server.model.errors import Issue
from tests.validation.profile.holding import BASE, STRUCTURE, Json, profile, validator_of

UCUM = "http://unitsofmeasure.org"
DATA = b"Hello"
OBSERVATION: Json = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}


def contents_of(resource: Json, *definitions: Json) -> list[Issue]:
    """What is found in a resource that is valid by itself."""
    broken = [issue for issue in STRUCTURE.issues_of(resource) if issue.severity == "error"]
    assert not broken, broken
    return asyncio.run(validator_of(*definitions).contents_of(resource))


def told(issues: list[Issue]) -> list[tuple[str | None, str, str | None]]:
    return [(issue.key, issue.severity, issue.expression) for issue in issues]


def measured(code: str, system: str = UCUM) -> Json:
    return {**OBSERVATION, "valueQuantity": {"value": 1, "unit": "x", "system": system, "code": code}}


@pytest.mark.parametrize(
    "code", ["mg/dL", "mm[Hg]", "10*3/uL", "{score}", "1", "%", "[iU]/mL", "mL/min/{1.73_m2}", "Cel"]
)
def test_a_unit_of_ucum_is_one(code: str) -> None:
    assert contents_of(measured(code)) == []


@pytest.mark.parametrize("code", ["mcg", "tbl", "mg/dl/", "{urine specific gravity}", "MM[HG]"])
def test_what_is_no_unit_of_ucum_is_told(code: str) -> None:
    (issue,) = contents_of(measured(code))
    assert told([issue]) == [("HS-CONTENT-UNIT", "error", "Observation.value.code")]
    assert code in issue.diagnostics
    assert "mg/dL" in issue.diagnostics
    assert contents_of(measured(code, "http://other")) == []


def attached(**more: Any) -> Json:
    document = {"contentType": "text/plain", "data": b64encode(DATA).decode(), **more}
    return {"resourceType": "DocumentReference", "status": "current", "content": [{"attachment": document}]}


def test_size_and_hash_of_an_attachment_are_those_of_its_data() -> None:
    digest = b64encode(hashlib.sha1(DATA).digest()).decode()
    assert contents_of(attached(size=5, hash=digest)) == []
    size, digested = contents_of(attached(size=6, hash=b64encode(b"x" * 20).decode()))
    assert told([size, digested]) == [
        ("HS-CONTENT-ATTACHMENT", "error", "DocumentReference.content[0].attachment.size"),
        ("HS-CONTENT-ATTACHMENT", "error", "DocumentReference.content[0].attachment.hash"),
    ]
    assert "Found the size 6; expected 5" in size.diagnostics
    assert digest in digested.diagnostics


def test_without_data_nothing_is_said_of_its_size() -> None:
    document = {"url": "http://a/b", "size": 7, "hash": b64encode(b"x" * 20).decode()}
    resource = {"resourceType": "DocumentReference", "status": "current", "content": [{"attachment": document}]}
    assert contents_of(resource) == []


def bundle(kind: str, *entries: Json, **more: Any) -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries), **more}


def entry(name: str, own: str, url: str | None = None, **more: Any) -> Json:
    resource = {"resourceType": name, "id": own, **more}
    return {"fullUrl": url or f"http://a/{name}/{own}", "resource": resource}


PATIENT = {"resourceType": "Patient", "id": "a"}


@pytest.mark.parametrize(
    ("resource", "found"),
    [
        (bundle("collection", entry("Patient", "a")), []),
        (bundle("collection", entry("Patient", "a", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520")), []),
        (bundle("collection", entry("Patient", "a", "http://a/Patient/b")), [("error", "Bundle.entry[0].fullUrl")]),
        (bundle("collection", entry("Patient", "a", "http://a/Group/a")), [("error", "Bundle.entry[0].fullUrl")]),
        (bundle("batch", {"request": {"method": "PUT", "url": "Patient/a"}, "resource": PATIENT}), []),
        (bundle("batch", {"request": {"method": "PUT", "url": "Patient?name=x"}, "resource": PATIENT}), []),
        (
            bundle("batch", {"request": {"method": "PUT", "url": "Patient/b"}, "resource": PATIENT}),
            [("error", "Bundle.entry[0].request.url")],
        ),
        (
            bundle("transaction", {"request": {"method": "POST", "url": "Group"}, "resource": PATIENT}),
            [("error", "Bundle.entry[0].request.url")],
        ),
        (
            bundle(
                "transaction",
                {"request": {"method": "PUT", "url": "Patient/a"}, "resource": PATIENT},
                {"request": {"method": "DELETE", "url": "Patient/a"}},
            ),
            [("error", "Bundle.entry[1].request.url")],
        ),
        (
            bundle(
                "batch",  # whose entries stand for themselves
                {"request": {"method": "PUT", "url": "Patient/a"}, "resource": PATIENT},
                {"request": {"method": "DELETE", "url": "Patient/a"}},
            ),
            [],
        ),
    ],
)
def test_entries_are_what_their_addresses_say(resource: Json, found: list[tuple[str, str]]) -> None:
    issues = contents_of(resource)
    assert [(issue.severity, issue.expression) for issue in issues] == found
    assert {issue.key for issue in issues} <= {"HS-CONTENT-BUNDLE"}


def document(*entries: Json, **more: Any) -> Json:
    composition = {
        **{"status": "final", "type": {"text": "x"}, "date": "2026-01-02", "title": "x"},
        "author": [{"reference": "Practitioner/p"}],
        **more,
    }
    stamp = {"identifier": {"system": "http://a", "value": "1"}, "timestamp": "2026-01-02T03:04:05Z"}
    return bundle("document", entry("Composition", "c", **composition), *entries, **stamp)


def test_a_document_holds_what_its_composition_refers_to_and_nothing_else() -> None:
    author, patient = (
        entry("Practitioner", "p"),
        entry("Patient", "a", managingOrganization={"reference": "Organization/o"}),
    )
    whole = document(
        author,
        patient,
        entry("Organization", "o", alias=["x"], identifier=[{"value": "x"}]),
        subject={"reference": "http://a/Patient/a"},
    )
    assert contents_of(whole) == []
    issues = contents_of(document(patient))
    assert told(issues) == [
        ("HS-CONTENT-BUNDLE", "warning", "Bundle.entry[0].resource"),
        ("HS-CONTENT-BUNDLE", "warning", "Bundle.entry[1]"),
    ]
    assert "Practitioner/p" in issues[0].diagnostics
    by_number = {
        "fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
        "resource": {"resourceType": "Practitioner"},
    }
    named = document(by_number, author=[{"reference": by_number["fullUrl"]}])
    assert contents_of(named) == []


def extension(*contexts: tuple[str, str], modifies: bool = False, invariant: str = "") -> Json:
    definition = profile("Extension", {"path": "url", "fixedUri": f"{BASE}e"}, {"path": "value[x]", "min": 1}, name="e")
    definition["context"] = [{"type": kind, "expression": expression} for kind, expression in contexts]
    if invariant:
        definition["contextInvariant"] = [invariant]
    if modifies:
        definition["snapshot"]["element"][0]["isModifier"] = True
    return definition


FLAG = {"url": f"{BASE}e", "valueBoolean": True}
NAMED = {"resourceType": "Patient", "name": [{"family": "x", "extension": [FLAG]}]}


@pytest.mark.parametrize(
    ("resource", "context", "fits"),
    [
        ({"resourceType": "Patient", "extension": [FLAG]}, ("element", "Patient"), True),
        ({"resourceType": "Patient", "extension": [FLAG]}, ("element", "DomainResource"), True),
        ({"resourceType": "Patient", "extension": [FLAG]}, ("element", "Element"), True),
        ({"resourceType": "Patient", "extension": [FLAG]}, ("element", "Observation"), False),
        ({"resourceType": "Patient", "extension": [FLAG]}, ("element", "Patient.name"), False),
        (NAMED, ("element", "Patient.name"), True),
        (NAMED, ("element", "HumanName"), True),
        (NAMED, ("element", "http://hl7.org/fhir/StructureDefinition/HumanName"), True),
        (NAMED, ("element", "Patient"), False),
        (
            {"resourceType": "Patient", "birthDate": "1970", "_birthDate": {"extension": [FLAG]}},
            ("element", "date"),
            True,
        ),
        (
            {"resourceType": "Patient", "birthDate": "1970", "_birthDate": {"extension": [FLAG]}},
            ("element", "Patient.birthDate"),
            True,
        ),
        (NAMED, ("fhirpath", "Patient.name.where(family = 'x')"), True),
        (NAMED, ("fhirpath", "Patient.name.where(family = 'y')"), False),
        (
            {"resourceType": "Patient", "extension": [{"url": "http://outer", "extension": [FLAG]}]},
            ("extension", "http://outer"),
            True,
        ),
        ({"resourceType": "Patient", "extension": [FLAG]}, ("extension", "http://outer"), False),
    ],
)
def test_an_extension_stands_where_its_definition_allows_it(
    resource: Json, context: tuple[str, str], fits: bool
) -> None:
    issues = [issue for issue in contents_of(resource, extension(context)) if issue.severity == "error"]
    assert [issue.key for issue in issues] == ([] if fits else ["HS-CONTENT-EXTENSION-CONTEXT"])
    assert all(context[1] in issue.diagnostics and BASE in issue.diagnostics for issue in issues)


def test_what_an_extension_stands_in_meets_its_context_invariant() -> None:
    definition = extension(("element", "Patient.name"), invariant="family.exists()")
    assert contents_of(NAMED, definition) == []
    (issue,) = contents_of({"resourceType": "Patient", "name": [{"text": "x", "extension": [FLAG]}]}, definition)
    assert issue.key == "HS-CONTENT-EXTENSION-CONTEXT"
    assert "family.exists()" in issue.diagnostics


def test_an_extension_conforms_to_its_definition_wherever_it_is() -> None:
    faulty = {"url": f"{BASE}e", "extension": [{"url": "x", "valueCode": "y"}]}
    resource = {"resourceType": "Patient", "contact": [{"extension": [faulty], "name": {"text": "x"}}]}
    (issue,) = contents_of(resource, extension(("element", "Element")))
    assert (issue.key, issue.expression) == ("HS-PROFILE-REQUIRED", "Patient.contact[0].extension[0].value")


@pytest.mark.parametrize(("modifies", "member"), [(True, "extension"), (False, "modifierExtension")])
def test_only_what_modifies_is_a_modifier_extension(modifies: bool, member: str) -> None:
    definition = extension(("element", "Element"), modifies=modifies)
    (issue,) = contents_of({"resourceType": "Patient", member: [FLAG]}, definition)
    assert told([issue]) == [("HS-CONTENT-EXTENSION-MODIFIER", "error", f"Patient.{member}[0]")]
    other = "modifierExtension" if modifies else "extension"
    assert contents_of({"resourceType": "Patient", other: [FLAG]}, definition) == []


def test_of_several_versions_of_an_extension_one_fits() -> None:
    def version(number: str, kind: str) -> Json:
        value = {"path": "value[x]", "min": 1, "type": [{"code": kind}]}
        definition = profile("Extension", {"path": "url", "fixedUri": f"{BASE}e"}, value, name="e", version=number)
        return {**definition, "id": f"e{number}", "context": [{"type": "element", "expression": "Patient"}]}

    versions = (version("1", "boolean"), version("2", "code"))
    assert contents_of({"resourceType": "Patient", "extension": [FLAG]}, *versions) == []
    assert (
        contents_of({"resourceType": "Patient", "extension": [{"url": FLAG["url"], "valueCode": "x"}]}, *versions) == []
    )
    (issue,) = contents_of(
        {"resourceType": "Patient", "extension": [{"url": FLAG["url"], "valueDate": "1970"}]}, *versions
    )
    assert issue.rule == (f"{BASE}e|2", "Extension.value[x]")


def test_an_unknown_extension_is_told_once_and_a_modifier_is_a_warning() -> None:
    unknown = {"url": "http://e.example/unknown", "valueBoolean": True}
    resource = {
        "resourceType": "Patient",
        "extension": [unknown, unknown],
        "modifierExtension": [{**FLAG, "url": "http://m"}],
    }
    assert told(contents_of(resource)) == [
        ("HS-CONTENT-EXTENSION-UNKNOWN", "information", "Patient.extension[0]"),
        ("HS-CONTENT-EXTENSION-UNKNOWN", "warning", "Patient.modifierExtension[0]"),
    ]
