"""Everything that the validation can say of a resource, said over HTTP: by `$validate`, and by the refusal of a write.

Spec: https://hl7.org/fhir/R4/validation.html, https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from profiles.registry import registry
from tests.docs.test_docs import keys_in_code
from tests.minimal_resources import minimal

Json = dict[str, Any]
PREFIX = "HS-VAL-"
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'

#: These never stop a write.
WARNINGS = frozenset(("BLANK", "NARRATIVE-EMPTY", "TARGET"))


def patient(**members: Any) -> Json:
    return {"resourceType": "Patient", **members}


def observation(**members: Any) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **members}


def narrative(inner: str, root: str = "div") -> Json:
    return patient(text={"status": "generated", "div": f"<{root} {XHTML}>{inner}</{root}>"})


def extended(**value: Any) -> Json:
    return patient(extension=[{"url": "http://example.org/x", **value}])


#: By what is said: a resource of which it is said.
CASES: dict[str, Json] = {
    "BASE64": patient(photo=[{"data": "QUJ"}]),
    "BINDING": patient(gender="f"),
    "BLANK": patient(name=[{"family": "  "}]),
    "CHARACTER": patient(name=[{"family": "a\u0001b"}]),
    "CHOICE": patient(deceasedBoolean=True, deceasedDateTime="2020"),
    "CODE": patient(gender=" female"),
    "CONDITIONAL": observation(subject={"reference": "Patient?identifier=1"}),
    "CONTAINED-ID": patient(contained=[{"resourceType": "Organization", "name": "x"}]),
    "CONTAINED-NESTED": patient(
        contained=[
            {"resourceType": "Group", "id": "g", "contained": [patient(id="p")], "type": "person", "actual": True}
        ]
    ),
    "DATE": patient(birthDate="1980-02-30"),
    "DATETIME": patient(deceasedDateTime="2020-01-01T24:00:00Z"),
    "DECIMAL": observation(valueQuantity={"value": float("inf")}),
    "ELEMENT-ID": patient(name=[{"id": "a b", "family": "x"}]),
    "EMPTY": patient(name=[]),
    "EXTENSION": extended(),
    "FRAGMENT": observation(subject={"reference": "#nobody"}),
    "ID": patient(id="a b"),
    "INSTANT": observation(issued="2020-01-01"),
    "INVARIANT": patient(contact=[{"gender": "male"}]),
    "INTEGER": patient(multipleBirthInteger=2**31),
    "JSON-TYPE": patient(active="true"),
    "MORE": patient(**{f"x{n}": 1 for n in range(1200)}),
    "NARRATIVE-ATTRIBUTE": narrative('<p onclick="x()">x</p>'),
    "NARRATIVE-ELEMENT": narrative("<script>x()</script>"),
    "NARRATIVE-EMPTY": narrative(" "),
    "NARRATIVE-LINK": narrative('<a href="javascript:x()">x</a>'),
    "NARRATIVE-ROOT": narrative("x", root="p"),
    "NARRATIVE-STYLE": narrative('<p style="background: url(http://example.org/x.png)">x</p>'),
    "NARRATIVE-XML": narrative("<p>not closed"),
    "NULL": patient(name=[None]),
    "OID": extended(valueOid="1.2.3"),
    "POSITIVE-INT": patient(telecom=[{"value": "1", "system": "phone", "rank": 0}]),
    "REFERENCE": observation(subject={"reference": "Doctor/1"}),
    "REFERENCE-TYPE": observation(subject={"reference": "Patient/1", "type": "Group"}),
    "REQUIRED": {"resourceType": "Observation", "status": "final"},
    "RESOURCE-TYPE": patient(contained=[{"resourceType": "Pacient", "id": "p"}]),
    "STRING": patient(name=[{"family": "x" * 1_048_577}]),
    "TARGET": observation(subject={"reference": "Practitioner/1"}),
    "TIME": observation(valueTime="25:00:00"),
    "TWIN-LENGTH": patient(name=[{"given": ["a"], "_given": [None, {"id": "x"}]}]),
    "UNKNOWN": patient(nmae=[{"family": "x"}]),
    "UNSIGNED-INT": patient(photo=[{"url": "http://example.org/x", "size": -1}]),
    "URI": patient(implicitRules="a b"),
    "UUID": extended(valueUuid="1"),
}


#: What is said by this server.
KEYS = sorted(key.removeprefix(PREFIX) for key in keys_in_code() if key.startswith(PREFIX))

#: Documents as deep as that are refused before they are resources (`HS-JSON-DEPTH`, `HS-XML-DEPTH`), and no invariant
#: of R4 is known that fails by itself.
UNHEARD = frozenset(("DEPTH", "INVARIANT-FAILED"))


def said(answer: httpx.Response) -> dict[str, str]:
    """The severities of what is said, by key without what all have in common."""
    return {
        coding["code"].removeprefix(PREFIX): issue["severity"]
        for issue in answer.json()["issue"]
        for coding in issue.get("details", {}).get("coding", ())
    }


@pytest.mark.parametrize("name", [name for name in KEYS if name not in UNHEARD])
def test_what_is_wrong_with_a_resource_is_told_by_its_key(client: httpx.Client, name: str) -> None:
    resource = CASES[name]
    body = json.dumps(resource).replace("Infinity", "1E+450").encode()
    headers = {"Content-Type": "application/fhir+json"}
    judged = client.post(f"{resource['resourceType']}/$validate", content=body, headers=headers)
    assert judged.status_code == 200, judged.text
    assert name in said(judged), judged.text[:600]
    written = client.post(
        resource["resourceType"], content=body, headers={**headers, "Prefer": "return=OperationOutcome"}
    )
    assert written.status_code == (201 if name in WARNINGS else 400), written.text[:600]
    assert said(written)[name] == ("warning" if name in WARNINGS else "information" if name == "MORE" else "error")


def test_each_key_of_the_validation_has_a_case() -> None:
    # What is nested so deeply is refused before it is a resource, by `HS-JSON-DEPTH` or `HS-XML-DEPTH`; and no resource
    # of right structure is known on which an invariant of R4 fails.
    assert {f"{PREFIX}{name}" for name in (*CASES, "DEPTH", "INVARIANT-FAILED")} == {
        key for key in keys_in_code() if key.startswith(PREFIX)
    }


def test_the_smallest_resource_of_each_type_is_valid(client: httpx.Client) -> None:
    for name in registry().resource_types:
        body = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": minimal(name)}]}
        answer = client.post(f"{name}/$validate", json=body)
        # That it has no narrative is advised against, and some of them have a name that is no identifier.
        assert {issue["severity"] for issue in answer.json()["issue"]} <= {"information", "warning"}, answer.text
