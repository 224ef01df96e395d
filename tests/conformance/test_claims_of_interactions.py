"""Every interaction that the CapabilityStatement claims, of every resource type and of the system, over HTTP.

A claim that is not known here fails: who adds one to the statement proves it here.

Spec: https://hl7.org/fhir/R4/capabilitystatement.html, https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.version import VERSION
from profiles.registry import registry
from tests.conformance.claims import PORTION_NAMES, Call, Claimant, Json, portion
from tests.minimal_resources import minimal

TAG = {"system": "http://example.org/claims", "code": "changed"}

portions = pytest.mark.parametrize("types", [portion(n) for n in range(len(PORTION_NAMES))], ids=PORTION_NAMES)


def claiming(claimant: Claimant, types: tuple[str, ...], name: str, value: Any) -> list[str]:
    """The types of which the statement claims something; all, since every type has the same."""
    found = [t for t in types if claimant.rows[t].get(name) == value]
    assert found == list(types), name
    return found


def resource(name: str, resource_id: str, **more: Any) -> Json:
    return {**minimal(name), "id": resource_id, **more}


def stored(claimant: Claimant, types: tuple[str, ...], resource_id: str) -> None:
    """One resource of each type under this id, all in one transaction."""
    claimant.expect(200, [Call("POST", "", bundle("transaction", *(put(t, resource_id) for t in types)))])


def put(name: str, resource_id: str) -> Json:
    request = {"method": "PUT", "url": f"{name}/{resource_id}"}
    return {"resource": resource(name, resource_id), "request": request}


def bundle(kind: str, *entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


# --- what each interaction code means ---------------------------------------------------------------------------------


def creates(claimant: Claimant, types: tuple[str, ...]) -> None:
    answers = claimant.expect(201, [Call("POST", t, minimal(t)) for t in types])
    for name, answer in zip(types, answers, strict=True):
        assert answer.json()["resourceType"] == name
        assert re.search(rf"/fhir/{name}/[^/]+/_history/1$", answer.headers["Location"])


def reads(claimant: Claimant, types: tuple[str, ...]) -> None:
    stored(claimant, types, "read")
    for name, answer in zip(types, claimant.expect(200, [Call("GET", f"{t}/read") for t in types]), strict=True):
        assert answer.json().items() >= minimal(name).items()


def reads_versions(claimant: Claimant, types: tuple[str, ...]) -> None:
    stored(claimant, types, "vread")
    for answer in claimant.expect(200, [Call("GET", f"{t}/vread/_history/1") for t in types]):
        assert answer.json()["meta"]["versionId"] == "1"


def updates(claimant: Claimant, types: tuple[str, ...], resource_id: str = "update") -> None:
    stored(claimant, types, resource_id)
    changed = [Call("PUT", f"{t}/{resource_id}", resource(t, resource_id, meta={"tag": [TAG]})) for t in types]
    for answer in claimant.expect(200, changed):
        assert answer.headers["ETag"] == 'W/"2"'


def patches(claimant: Claimant, types: tuple[str, ...]) -> None:
    stored(claimant, types, "patch")
    patch = '[{"op":"add","path":"/meta/tag","value":[{"system":"http://example.org/claims","code":"changed"}]}]'
    headers = (("Content-Type", "application/json-patch+json"),)
    for answer in claimant.expect(200, [Call("PATCH", f"{t}/patch", patch, headers) for t in types]):
        assert answer.json()["meta"]["tag"] == [TAG]


def deletes(claimant: Claimant, types: tuple[str, ...]) -> None:
    stored(claimant, types, "delete")
    claimant.expect(204, [Call("DELETE", f"{t}/delete") for t in types])
    claimant.expect(410, [Call("GET", f"{t}/delete") for t in types])


def tells_history(claimant: Claimant, types: tuple[str, ...]) -> None:
    stored(claimant, types, "history")
    for answer in claimant.expect(200, [Call("GET", f"{t}/history/_history") for t in types]):
        assert answer.json()["type"] == "history"
        assert answer.json()["total"] == len(answer.json()["entry"]) == 1


def tells_history_of_types(claimant: Claimant, types: tuple[str, ...]) -> None:
    stored(claimant, types, "type-history")
    for name, answer in zip(types, claimant.expect(200, [Call("GET", f"{t}/_history") for t in types]), strict=True):
        assert f"{name}/type-history" in {entry["request"]["url"] for entry in answer.json()["entry"]}


def searches(claimant: Claimant, types: tuple[str, ...]) -> None:
    stored(claimant, types, "search")
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    for calls in (
        [Call("GET", f"{t}?_id=search") for t in types],
        [Call("POST", f"{t}/_search", "_id=search", form) for t in types],
    ):
        for answer in claimant.expect(200, calls):
            assert [entry["resource"]["id"] for entry in answer.json()["entry"]] == ["search"]


INTERACTIONS: dict[str, Callable[[Claimant, tuple[str, ...]], None]] = {
    "create": creates,
    "read": reads,
    "vread": reads_versions,
    "update": updates,
    "patch": patches,
    "delete": deletes,
    "history-instance": tells_history,
    "history-type": tells_history_of_types,
    "search-type": searches,
}


@portions
def test_every_interaction_of_a_type_is_carried_out(claimant: Claimant, types: tuple[str, ...]) -> None:
    claimed: dict[str, list[str]] = {}
    for name in types:
        for interaction in claimant.rows[name]["interaction"]:
            claimed.setdefault(interaction["code"], []).append(name)
    for code, claiming_types in claimed.items():
        INTERACTIONS[code](claimant, tuple(claiming_types))


# --- what else a row of a type says -----------------------------------------------------------------------------------


def versions_are_kept_apart(claimant: Claimant, types: tuple[str, ...]) -> None:
    """`versioned-update`: an update can name the version that it is of."""
    claiming(claimant, types, "versioning", "versioned-update")
    stored(claimant, types, "versioning")

    def update(name: str) -> Call:
        return Call("PUT", f"{name}/versioning", resource(name, "versioning"), (("If-Match", 'W/"1"'),))

    claimant.expect(200, [update(t) for t in types])
    claimant.expect(412, [update(t) for t in types])


def earlier_versions_are_read(claimant: Claimant, types: tuple[str, ...]) -> None:
    claiming(claimant, types, "readHistory", True)
    updates(claimant, types, "earlier")
    for answer in claimant.expect(200, [Call("GET", f"{t}/earlier/_history/1") for t in types]):
        assert "tag" not in answer.json()["meta"]


def updates_create(claimant: Claimant, types: tuple[str, ...]) -> None:
    claiming(claimant, types, "updateCreate", True)
    claimant.expect(201, [Call("PUT", f"{t}/update-create", resource(t, "update-create")) for t in types])


def creates_are_conditional(claimant: Claimant, types: tuple[str, ...]) -> None:
    claiming(claimant, types, "conditionalCreate", True)
    stored(claimant, types, "conditional-create")
    headers = (("If-None-Exist", "_id=conditional-create"),)
    for answer in claimant.expect(200, [Call("POST", t, minimal(t), headers) for t in types]):
        assert answer.json()["id"] == "conditional-create"


def reads_are_conditional(claimant: Claimant, types: tuple[str, ...]) -> None:
    """`full-support`: by the version, and by its moment."""
    claiming(claimant, types, "conditionalRead", "full-support")
    stored(claimant, types, "conditional-read")
    answers = claimant.expect(200, [Call("GET", f"{t}/conditional-read") for t in types])
    for header, held in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")):
        calls = [
            Call("GET", f"{t}/conditional-read", headers=((header, a.headers[held]),))
            for t, a in zip(types, answers, strict=True)
        ]
        claimant.expect(304, calls)


def updates_are_conditional(claimant: Claimant, types: tuple[str, ...]) -> None:
    claiming(claimant, types, "conditionalUpdate", True)
    stored(claimant, types, "conditional-update")
    for answer in claimant.expect(200, [Call("PUT", f"{t}?_id=conditional-update", minimal(t)) for t in types]):
        assert answer.headers["ETag"] == 'W/"2"'


def deletes_are_conditional(claimant: Claimant, types: tuple[str, ...]) -> None:
    """`single`: one match is deleted, of several none."""
    claiming(claimant, types, "conditionalDelete", "single")
    stored(claimant, types, "one")
    stored(claimant, types, "other")
    claimant.expect(412, [Call("DELETE", f"{t}?_id=one,other") for t in types])
    claimant.expect(204, [Call("DELETE", f"{t}?_id=one") for t in types])
    claimant.expect(410, [Call("GET", f"{t}/one") for t in types])


def references_are_literal_and_logical(claimant: Claimant, types: tuple[str, ...]) -> None:
    """A reference may name what is not there, or somebody by an identifier; it is stored as it is."""
    claiming(claimant, types, "referencePolicy", ["literal", "logical"])
    extended = [t for t in types if registry().types[t].base == "DomainResource"]
    for reference in ({"reference": "Patient/never-was"}, {"identifier": {"system": "http://x", "value": "1"}}):
        extension = [{"url": "http://example.org/claims", "valueReference": reference}]
        calls = [Call("PUT", f"{t}/reference", resource(t, "reference", extension=extension)) for t in extended]
        for answer in claimant.expect((200, 201), calls):
            assert answer.json()["extension"] == extension


def profiles_are_the_types_own(claimant: Claimant, types: tuple[str, ...]) -> None:
    """What the profile of a row asks for, `$validate` with that profile says of the type's own resource."""
    calls = []
    for name in types:
        about = {"name": "profile", "valueUri": claimant.rows[name]["profile"]}
        given = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": minimal(name)}, about]}
        calls.append(Call("POST", f"{name}/$validate", given))
    for answer in claimant.expect(200, calls):
        assert "error" not in {issue["severity"] for issue in answer.json()["issue"]}, answer.text


def profiles_are_validated_against(claimant: Claimant, types: tuple[str, ...]) -> None:
    named = [(t, one) for t in types for one in claimant.rows[t].get("supportedProfile", ())]
    for name, canonical in named:
        (found,) = claimant.expect(200, [Call("GET", f"StructureDefinition?url={canonical.partition('|')[0]}")])
        assert [entry["resource"]["type"] for entry in found.json()["entry"]] == [name]
        (judged,) = claimant.expect(200, [Call("POST", f"{name}/$validate?profile={canonical}", minimal(name))])
        assert judged.json()["resourceType"] == "OperationOutcome"


#: Other tests of this folder prove what is None here.
ROW: dict[str, Callable[[Claimant, tuple[str, ...]], None] | None] = {
    "type": None,
    "interaction": None,
    "searchInclude": None,
    "searchRevInclude": None,
    "searchParam": None,
    "operation": None,
    "profile": profiles_are_the_types_own,
    "supportedProfile": profiles_are_validated_against,
    "versioning": versions_are_kept_apart,
    "readHistory": earlier_versions_are_read,
    "updateCreate": updates_create,
    "conditionalCreate": creates_are_conditional,
    "conditionalRead": reads_are_conditional,
    "conditionalUpdate": updates_are_conditional,
    "conditionalDelete": deletes_are_conditional,
    "referencePolicy": references_are_literal_and_logical,
}


@portions
def test_all_else_that_is_said_of_a_type_is_true(claimant: Claimant, types: tuple[str, ...]) -> None:
    claims = {name for t in types for name in claimant.rows[t]}
    assert claims <= ROW.keys()
    for name, proof in ROW.items():
        if name in claims and proof is not None:
            proof(claimant, types)


# --- the system -------------------------------------------------------------------------------------------------------


def carries_out_transactions(claimant: Claimant) -> None:
    made = {"resource": minimal("Patient"), "request": {"method": "POST", "url": "Patient"}}
    (answer,) = claimant.expect(200, [Call("POST", "", bundle("transaction", made))])
    assert answer.json()["type"] == "transaction-response"
    wrong = {"resource": {"resourceType": "Patient", "gender": "f"}, "request": {"method": "POST", "url": "Patient"}}
    before = claimant.send([Call("GET", "Patient?_summary=count")])[0].json()["total"]
    claimant.expect(400, [Call("POST", "", bundle("transaction", made, wrong))])
    assert claimant.send([Call("GET", "Patient?_summary=count")])[0].json()["total"] == before


def carries_out_batches(claimant: Claimant) -> None:
    made = {"resource": minimal("Patient"), "request": {"method": "POST", "url": "Patient"}}
    missing = {"request": {"method": "GET", "url": "Patient/never-was"}}
    (answer,) = claimant.expect(200, [Call("POST", "", bundle("batch", made, missing))])
    assert answer.json()["type"] == "batch-response"
    assert [entry["response"]["status"][:3] for entry in answer.json()["entry"]] == ["201", "404"]


def tells_history_of_the_system(claimant: Claimant) -> None:
    stored(claimant, ("Patient", "Basic"), "system-history")
    (answer,) = claimant.expect(200, [Call("GET", "_history?_count=2")])
    assert {entry["request"]["url"] for entry in answer.json()["entry"]} == {
        "Patient/system-history",
        "Basic/system-history",
    }


def searches_the_system(claimant: Claimant) -> None:
    stored(claimant, ("Patient", "Basic"), "system-search")
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    for call in (Call("GET", "?_id=system-search"), Call("POST", "_search", "_id=system-search", form)):
        (answer,) = claimant.expect(200, [call])
        assert {entry["resource"]["resourceType"] for entry in answer.json()["entry"]} == {"Patient", "Basic"}


SYSTEM_INTERACTIONS = {
    "transaction": carries_out_transactions,
    "batch": carries_out_batches,
    "history-system": tells_history_of_the_system,
    "search-system": searches_the_system,
}


def test_every_interaction_of_the_system_is_carried_out(claimant: Claimant) -> None:
    for interaction in claimant.rest["interaction"]:
        SYSTEM_INTERACTIONS[interaction["code"]](claimant)


def test_every_compartment_is_searched_for_every_type_that_it_has(claimant: Claimant) -> None:
    known = {compartment.url: compartment for compartment in registry().compartments.values()}
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    for url in claimant.rest["compartment"]:
        compartment = known[url]
        stored(claimant, (compartment.code,), "compartment")
        place = f"{compartment.code}/compartment"
        members = [*(name for name, codes in compartment.types.items() if codes), "*"]
        answers = claimant.expect(200, [Call("GET", f"{place}/{m}?_id=nobody") for m in members])
        for member, answer in zip(members, answers, strict=True):
            assert answer.json()["link"][0]["url"].endswith(f"/{place}/{member}?_id=nobody")
        claimant.expect(200, [Call("POST", f"{place}/{m}/_search", "_id=nobody", form) for m in members])
        claimant.expect(200, [Call("POST", f"{place}/_search", "_id=nobody", form)])


#: By compartment, something that belongs to its resource, and to no other of these.
BELONGINGS: dict[str, Json] = {
    "Patient": {"resourceType": "Condition", "subject": {"reference": "Patient/belonging"}},
    "Encounter": {
        "resourceType": "Condition",
        "subject": {"reference": "Group/x"},
        "encounter": {"reference": "Encounter/belonging"},
    },
    "Practitioner": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "performer": [{"reference": "Practitioner/belonging"}],
    },
    "RelatedPerson": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "performer": [{"reference": "RelatedPerson/belonging"}],
    },
    "Device": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "device": {"reference": "Device/belonging"},
    },
}


def test_a_compartment_has_what_refers_to_its_resource_and_nothing_else(claimant: Claimant) -> None:
    assert BELONGINGS.keys() == registry().compartments.keys()
    for name, resource in BELONGINGS.items():
        kind = resource["resourceType"]
        claimant.expect((200, 201), [Call("PUT", f"{kind}/of-{name}", {**resource, "id": f"of-{name}"})])
    for name, resource in BELONGINGS.items():
        (answer,) = claimant.expect(200, [Call("GET", f"{name}/belonging/{resource['resourceType']}")])
        assert [entry["resource"]["id"] for entry in answer.json()["entry"]] == [f"of-{name}"]


MEDIA_TYPES = {
    "json": "application/fhir+json",
    "xml": "application/fhir+xml",
    "application/fhir+json": "application/fhir+json",
    "application/fhir+xml": "application/fhir+xml",
}


def test_every_format_is_written_and_read(claimant: Claimant) -> None:
    stored(claimant, ("Patient",), "format")
    for name in claimant.statement["format"]:
        media_type = MEDIA_TYPES[name]
        (answer,) = claimant.expect(200, [Call("GET", f"Patient/format?_format={name}")])
        assert answer.headers["Content-Type"].startswith(media_type)
        (accepted,) = claimant.expect(200, [Call("GET", "Patient/format", headers=(("Accept", media_type),))])
        assert accepted.headers["Content-Type"].startswith(media_type)
        again = Call("PUT", "Patient/format", answer.content, (("Content-Type", media_type),))
        claimant.expect(200, [again])


PATCHES: dict[str, str] = {
    "application/json-patch+json": '[{"op":"add","path":"/active","value":true}]',
    "application/merge-patch+json": '{"active":true}',
    "application/fhir+json": (
        '{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"add"},'
        '{"name":"path","valueString":"Patient"},{"name":"name","valueString":"active"},'
        '{"name":"value","valueBoolean":true}]}]}'
    ),
    "application/fhir+xml": (
        '<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="operation"/>'
        '<part><name value="type"/><valueCode value="add"/></part>'
        '<part><name value="path"/><valueString value="Patient"/></part>'
        '<part><name value="name"/><valueString value="active"/></part>'
        '<part><name value="value"/><valueBoolean value="true"/></part></parameter></Parameters>'
    ),
    "application/xml-patch+xml": (
        '<diff xmlns="http://hl7.org/fhir"><add sel="Patient/meta" pos="after"><active value="true"/></add></diff>'
    ),
}


def test_every_patch_format_patches(claimant: Claimant) -> None:
    for number, name in enumerate(claimant.statement["patchFormat"]):
        stored(claimant, ("Patient",), f"patch-{number}")
        patch = Call("PATCH", f"Patient/patch-{number}", PATCHES[name], (("Content-Type", name),))
        (answer,) = claimant.expect(200, [patch])
        assert answer.json()["active"] is True


#: What the statement says of itself; the rest is proved by tests of their own, here and in this folder.
ABOUT = {
    "resourceType": "CapabilityStatement",
    "status": "active",
    "kind": "instance",
    "fhirVersion": "4.0.1",
    "software": {"name": "HealthSphere", "version": VERSION},
}
TOLD = frozenset(("id", "url", "version", "name", "title", "date", "publisher", "description", "implementation"))
PROVED = frozenset(("format", "patchFormat", "rest"))
REST = frozenset(("mode", "resource", "interaction", "searchParam", "operation", "compartment"))


def test_the_statement_is_valid_and_says_nothing_that_is_not_proved(claimant: Claimant) -> None:
    assert claimant.statement.keys() <= ABOUT.keys() | TOLD | PROVED
    assert claimant.rest.keys() <= REST
    assert ABOUT.items() <= claimant.statement.items()
    assert claimant.statement["implementation"]["url"] == claimant.server.base_url
    assert claimant.rest["mode"] == "server"
    assert tuple(claimant.rows) == registry().resource_types
    (answer,) = claimant.expect(200, [Call("POST", "CapabilityStatement/$validate", claimant.statement)])
    assert "error" not in {issue["severity"] for issue in answer.json()["issue"]}, answer.text
    (again,) = claimant.expect(
        200, [Call("GET", claimant.statement["url"].removeprefix(f"{claimant.server.base_url}/"))]
    )
    assert again.json() == claimant.statement
