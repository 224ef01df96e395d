"""Every operation that the CapabilityStatement claims, at every level that its definition names, over HTTP.

A definition is one of this server's own, which is read from it, or one that others publish, which is known here by its
facts. One that is not supported in full must be of the first kind (CapabilityStatement.rest.resource.operation).

Spec: https://hl7.org/fhir/R4/operations.html,
https://hl7.org/fhir/R4/capabilitystatement-definitions.html#CapabilityStatement.rest.resource.operation.definition
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from fhir_server.interactions.operations import US_CORE
from profiles.operations import OWN, operations, own_definitions
from profiles.registry import registry
from resources.parts import OPERATIONS
from tests.access.operations import LABELLING
from tests.conformance.claims import PORTION_NAMES, Call, Claimant, Json, portion
from tests.minimal_resources import minimal

#: The one resource of each type.
ID = "claimed"

GENDERS = "http://hl7.org/fhir/administrative-gender"

#: The least that an operation needs for a meaningful answer, as parameters; the rest needs nothing.
NEEDED: dict[str, Json] = {
    "validate": {"resource": "minimal"},
    "meta-add": {"meta": {"tag": [{"code": "x"}]}},
    "meta-delete": {"meta": {"tag": [{"code": "x"}]}},
    "match": {"resource": {"resourceType": "Patient", "name": [{"family": "Kim"}], "birthDate": "1970-01-01"}},
    "graphql": {"query": "{PatientList(_count: 1) {id}}"},
    "lastn": {"patient": ID},
    "stats": {"subject": f"Patient/{ID}", "code": "http://loinc.org|8867-4", "statistic": "count"},
    "document": {"id": ID},
    "docref": {"patient": ID},
    "convert": {"input": "minimal"},
    "diff": {"from": "1", "to": "1"},
    "series": {"patient": ID, "code": "http://loinc.org|8867-4"},
    "lookup": {"system": GENDERS, "code": "male"},
    "subsumes": {"system": GENDERS, "codeA": "male", "codeB": "female"},
    "expand": {"url": "http://hl7.org/fhir/ValueSet/administrative-gender"},
    "CodeSystem/$validate-code": {"url": GENDERS, "code": "male"},
    "ValueSet/$validate-code": {"url": "http://hl7.org/fhir/ValueSet/administrative-gender", "code": "male"},
    "translate": {"system": GENDERS, "code": "male"},
    "closure": {"name": "table"},
}
#: At the level of an instance, another query, or less.
AT_INSTANCE: dict[str, Json] = {
    "graphql": {"query": "{id}"},
    "document": {},
    "validate-code": {"code": "male"},
    "subsumes": {"codeA": "male", "codeB": "female"},
    "expand": {},
}

#: The one Appointment is a wish, which has no time.
SCHEDULING = {"HS-SCHED-STATE", "HS-SCHED-START", "HS-OP-PARAMETER"}

#: These ask for a confirmation, for what a fresh server does not have, or for a caller from whom something is hidden,
#: and refuse; their own tests prove the rest.
REFUSING = {
    "expunge": {"HS-PURGE-CONFIRM"},
    "purge": {"HS-PURGE-CONFIRM"},
    "purge-status": {"HS-OP-PARAMETER"},
    "merge": {"HS-OP-PARAMETER"},
    "break-glass": {"HS-GLASS-OPEN"},
    "mend-glass": {"HS-GLASS-OPEN"},
    "unmerge": {"HS-OP-PARAMETER"},
    "back-test": {"HS-MONITOR-NONE"},
    "progress": {"HS-MONITOR-GOAL", "HS-MONITOR-PLAN"},
    # The one CodeSystem has no URL, the one ValueSet no codes.
    "subsumes": {"HS-OP-PARAMETER"},
    "expand": {"HS-TERM-UNLISTED"},
    "upload": {"HS-DOCUMENT-NONE"},
    "review": {"HS-OP-PARAMETER"},
    "release": {"HS-OP-PARAMETER"},
    "preview": {"HS-DOCUMENT-CONTENT"},
    "verify-signature": {"HS-DOCUMENT-CONTENT"},
    "summary-pdf": {"HS-DOCUMENT-VISIT", "HS-READ-NOT-FOUND"},
    "certificate": {"HS-OP-PARAMETER"},
    "export-status": {"HS-OP-PARAMETER"},
    "export-file": {"HS-OP-PARAMETER"},
    "approve-erasure": {"HS-ERASURE-NONE"},
    "refuse-erasure": {"HS-OP-PARAMETER"},
    "legal-hold": {"HS-OP-PARAMETER"},
    "check": {"HS-OP-PARAMETER"},
    "sign": {"HS-OP-PARAMETER", "HS-RX-INCOMPLETE", "HS-RX-NO-DRAFT"},
    "accept": {"HS-OP-PARAMETER"},
    "reject": {"HS-OP-PARAMETER"},
    "transfer": {"HS-RX-NOT-SIGNED"},
    "dispense": {"HS-OP-PARAMETER"},
    "close": {"HS-OP-PARAMETER"},
    "withdraw": {"HS-OP-PARAMETER"},
    "answer-withdrawal": {"HS-OP-PARAMETER"},
    "stock": {"HS-OP-PARAMETER"},
    "changes": {"HS-OP-PARAMETER"},
    "find": {"HS-SCHED-WHOM"},
    "hold": {"HS-OP-PARAMETER"},
    "book": {"HS-OP-PARAMETER"},
    "book-series": {"HS-OP-PARAMETER"},
    "ical": {"HS-SCHED-NO-TIME"},
    **dict.fromkeys(("confirm", "decline", "accept", "no-show", "reschedule", "check-in"), SCHEDULING),
    **dict.fromkeys(("propose", "counter", "join"), SCHEDULING),
    # The one Communication is no thread, the one Task no ticket; a server without access control asks in whose name.
    **{
        code: {"HS-CHAT-SENDER"}
        for code in ("open-thread", "unread", "send", "mark-read", "acknowledge", "open-ticket")
    },
    **{code: {"HS-CHAT-NO-THREAD"} for code in ("close-thread", "reopen-thread", "participants", "read-state")},
    "edit": {"HS-CHAT-NO-MESSAGE"},
    "retract": {"HS-CHAT-NO-MESSAGE"},
    "unhide": {"HS-CHAT-NO-MESSAGE"},
    **{code: {"HS-OP-PARAMETER"} for code in ("report", "hide", "assign", "reroute", "resolve", "reopen")},
    "claim": {"HS-CHAT-SENDER"},
    # The one VerificationResult is none of this server's process; asked again, it has been done.
    "apply": {"HS-VERIFY-NOTHING"},
    "approve": {"HS-VERIFY-NONE", "HS-VERIFY-APART", "HS-VERIFY-STATE"},
    "refuse": {"HS-OP-PARAMETER"},
    "revalidate": {"HS-OP-PARAMETER"},
    **{code: {"HS-NOTIFY-PERSON"} for code in ("notification-preferences", "deliveries")},
}


@dataclass(frozen=True)
class Claimed:
    """An operation at one place of the statement: of the system, or of a type."""

    place: str
    code: str
    definition: str

    @property
    def levels(self) -> Iterator[str]:
        """Where its definition says that it can be called from this place: the address before the `$`."""
        known = definition_of(self.definition)
        if self.place == "":
            assert known.system, self
            yield ""
            return
        assert known.type or known.instance, self
        assert set(known.resource) & {"Resource", "DomainResource", self.place}, self
        if known.type:
            yield f"{self.place}/"
        if known.instance:
            yield f"{self.place}/{ID}/"


def definition_of(url: str) -> Any:
    """What is known of the definition that a statement names."""
    own, _, name = url.partition("/fhir/OperationDefinition/")
    return operations()[f"{OWN}{name}" if own == "http://test" else url]


def kind_of(url: str) -> str:
    """`operation`, or `query` of a definition that a search names by `_query`."""
    return str(own_definitions().get(url.rpartition("/OperationDefinition/")[2], {}).get("kind", "operation"))


def claimed_of(claimant: Claimant, place: str, kind: str = "operation") -> list[Claimed]:
    rows = claimant.rest["operation"] if place == "" else claimant.rows[place]["operation"]
    return [Claimed(place, row["name"], row["definition"]) for row in rows if kind_of(row["definition"]) == kind]


def all_claimed(claimant: Claimant, kind: str = "operation") -> list[Claimed]:
    return [one for place in ("", *claimant.rows) for one in claimed_of(claimant, place, kind)]


def rows_of(code: str, place: str, level: str) -> list[Json]:
    """The parameters of a call, as rows of Parameters."""
    at_type = NEEDED.get(f"{place}/${code}", NEEDED.get(code, {}))
    given = (AT_INSTANCE if level.count("/") == 2 else {}).get(code, at_type)
    rows: list[Json] = []
    for name, value in given.items():
        if value == "minimal":
            rows.append({"name": name, "resource": minimal(place or "Patient")})
        elif isinstance(value, str):
            rows.append({"name": name, "valueString": value})
        elif "resourceType" in value:
            rows.append({"name": name, "resource": value})
        else:
            rows.append({"name": name, "valueMeta": value})
    return rows


def calls_of(one: Claimed) -> list[tuple[str, Call]]:
    """By POST at each level, and by GET where that is possible and a query can say all that is needed."""
    calls: list[tuple[str, Call]] = []
    for level in one.levels:
        rows = rows_of(one.code, one.place, level)
        body = {"resourceType": "Parameters", "parameter": rows} if rows else {"resourceType": "Parameters"}
        calls.append((one.code, Call("POST", f"{level}${one.code}", body)))
        changes = definition_of(one.definition).affects_state or one.code in LABELLING
        if not changes and all("valueString" in row for row in rows):
            pairs = {row["name"]: row["valueString"] for row in rows}
            calls.append((one.code, Call("GET", f"{level}${one.code}{query_of(pairs)}")))
    return calls


def query_of(pairs: dict[str, str]) -> str:
    return f"?{urlencode(pairs)}" if pairs else ""


def key_of(answer: Any) -> str:
    (first, *_) = answer.json()["issue"]
    return str(first["details"]["coding"][0]["code"])


def require_answers(claimant: Claimant, calls: list[tuple[str, Call]]) -> None:
    for (code, call), answer in zip(calls, claimant.send([call for _, call in calls]), strict=True):
        if code in REFUSING and answer.status_code >= 400:
            assert key_of(answer) in REFUSING[code], (str(call), answer.text[:400])
        else:
            assert answer.status_code in (200, 201, 202), (str(call), answer.status_code, answer.text[:400])


@pytest.mark.parametrize("types", [portion(n) for n in range(len(PORTION_NAMES))], ids=PORTION_NAMES)
def test_every_operation_of_a_type_is_answered_at_every_level_that_it_has(
    claimant: Claimant, types: tuple[str, ...]
) -> None:
    made = {t: {**minimal(t), "id": ID} for t in types}
    if "SearchParameter" in made:  # one that is in force can be indexed by
        made["SearchParameter"] |= {
            "status": "active",
            "code": "claimed",
            "expression": "Patient.active",
            "type": "token",
        }
        made["SearchParameter"] |= {"base": ["Patient"]}
    claimant.expect((200, 201), [Call("PUT", f"{t}/{ID}", resource) for t, resource in made.items()])
    if "Composition" in made:  # what it refers to
        claimant.expect((200, 201), [Call("PUT", "Practitioner/x", {**minimal("Practitioner"), "id": "x"})])
    require_answers(claimant, [call for t in types for one in claimed_of(claimant, t) for call in calls_of(one)])


def test_every_operation_of_the_system_is_answered(claimant: Claimant) -> None:
    require_answers(claimant, [call for one in claimed_of(claimant, "") for call in calls_of(one)])


def test_every_named_query_is_understood_by_searches(claimant: Claimant) -> None:
    for one in all_claimed(claimant, "query"):
        taken = [row["name"] for row in definition_of(one.definition).parameter if row["use"] == "in" and row["min"]]
        call = Call("GET", f"{one.place}{query_of({'_query': one.code} | dict.fromkeys(taken, ID))}")
        claimant.expect(200, [call])


def test_every_operation_that_is_registered_is_claimed_with_its_levels_and_no_other(claimant: Claimant) -> None:
    registered = {
        (place, operation.code, level)
        for operation in OPERATIONS
        for place in ("", *(operation.types or registry().resource_types))
        for level, there in {
            "": place == "" and operation.system,
            f"{place}/": place != "" and operation.type,
            f"{place}/{ID}/": place != "" and operation.instance,
        }.items()
        if there
    }
    assert {(one.place, one.code, level) for one in all_claimed(claimant) for level in one.levels} == registered
    for operation in OPERATIONS:
        known = operations()[operation.definition]
        assert known.code == operation.code
        # R4 says of `$meta-add` that it changes nothing, where it means that it does: then we offer less by GET.
        assert operation.affects_state or not known.affects_state


def test_every_definition_is_read_here_or_is_published_by_others(claimant: Claimant) -> None:
    base = f"{claimant.server.base_url}/"
    claimed = {one.definition: one for kind in ("operation", "query") for one in all_claimed(claimant, kind)}
    own = {url for url in claimed if url.startswith(base)}
    assert {url.rsplit("/", 1)[-1] for url in own} == own_definitions().keys(), "a definition that nothing names"
    for url in own:
        (answer,) = claimant.expect(200, [Call("GET", url.removeprefix(base))])
        definition = answer.json()
        assert definition["resourceType"] == "OperationDefinition"
        assert (definition["url"], definition["code"]) == (url, claimed[url].code)
        assert definition.get("base") is None or definition["base"] in registry().operations
        (judged,) = claimant.expect(200, [Call("POST", "OperationDefinition/$validate", definition)])
        assert "error" not in {issue["severity"] for issue in judged.json()["issue"]}, judged.text
    others = claimed.keys() - own
    assert {url for url in others if url not in registry().operations} == {f"{US_CORE}/docref"}


def test_a_parameter_that_a_definition_names_is_known_to_its_operation(claimant: Claimant) -> None:
    claimant.expect(
        (200, 201), [Call("PUT", f"{t}/{ID}", {**minimal(t), "id": ID}) for t in ("Patient", "Composition")]
    )
    claimant.expect((200, 201), [Call("PUT", f"Encounter/{ID}", {**minimal("Encounter"), "id": ID})])
    calls = []
    for one in dict.fromkeys(all_claimed(claimant)):
        if one.place not in ("", *definition_of(one.definition).resource):
            continue
        for parameter in definition_of(one.definition).parameter:
            if parameter["use"] == "in" and parameter["name"] != "confirm":
                given = {"resourceType": "Parameters", "parameter": [{"name": parameter["name"], "valueString": "1"}]}
                calls += [Call("POST", f"{level}${one.code}", given) for level in one.levels]
    assert len(calls) > 20
    for call, answer in zip(calls, claimant.send(calls), strict=True):
        assert answer.status_code < 500, str(call)
        assert "HS-OP-UNKNOWN" not in answer.text, str(call)


def test_a_definition_is_no_stored_resource_and_a_stored_one_goes_before(claimant: Claimant) -> None:
    (part,) = claimant.expect(200, [Call("GET", "OperationDefinition/diff?_elements=code")])
    assert part.json()["code"] == "diff"
    assert "description" not in part.json()
    assert claimant.send([Call("GET", "OperationDefinition?code=diff")])[0].json()["total"] == 0
    claimant.expect(404, [Call("GET", "OperationDefinition/diff/_history"), Call("GET", "OperationDefinition/none")])
    mine = {**minimal("OperationDefinition"), "id": "diff"}
    claimant.expect(201, [Call("PUT", "OperationDefinition/diff", mine)])
    (read,) = claimant.expect(200, [Call("GET", "OperationDefinition/diff")])
    assert read.json()["name"] == mine["name"]
    claimant.expect(204, [Call("DELETE", "OperationDefinition/diff")])
    claimant.expect(410, [Call("GET", "OperationDefinition/diff")])


def test_what_is_known_of_us_core_is_what_its_package_says(test_data: Path) -> None:
    package = Path(__file__).parents[2].parent / "shared" / "data" / "fhir-packages" / "hl7.fhir.us.core-8.0.0.tgz"
    if not package.is_file():
        pytest.skip("the packages of US Core are not there")
    with tarfile.open(package) as tar:
        source = tar.extractfile("package/OperationDefinition-docref.json")
        assert source is not None
        published = json.load(source)
    known = operations()[f"{US_CORE}/docref"]
    assert (known.url, known.code, list(known.resource)) == (
        published["url"],
        published["code"],
        published["resource"],
    )
    assert (known.system, known.type, known.instance) == (
        published["system"],
        published["type"],
        published["instance"],
    )
    facts = ("name", "use", "min", "max", "type")
    assert list(known.parameter) == [{fact: row[fact] for fact in facts} for row in published["parameter"]]
