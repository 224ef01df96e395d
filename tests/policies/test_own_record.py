"""What patients and proxies change in their own records, over HTTP, with tokens and the built-in table of roles."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import httpx
import pytest

from fhir_server.authorization import authorization_server_of
from fhir_server.cli.authorization import NobodyThere
from fhir_server.model import codec
from smart_auth.access_token import Claims
from smart_auth.authorization_server import AuthorizationServer
from smart_auth.store import AuthStore
from smart_auth.vault import Vault, load_or_create
from tests.conftest import BASE_URL, InProcessServer

Json = dict[str, Any]

RESTRICTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
#: A label that hides nothing from anybody.
TEST = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
PROFILE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"

#: The patient as staff have entered her.
ANN: Json = {
    "resourceType": "Patient",
    "id": "ann",
    "meta": {"profile": [PROFILE]},
    "identifier": [{"system": "urn:mrn", "value": "1"}],
    "active": True,
    "name": [{"family": "Berg"}],
    "telecom": [{"system": "phone", "value": "1"}],
    "deceasedBoolean": False,
    "generalPractitioner": [{"reference": "Practitioner/gp"}],
    "managingOrganization": {"reference": "Organization/clinic"},
    "link": [{"other": {"reference": "Patient/old"}, "type": "replaces"}],
}

#: A change of each element that is not a patient's to change, and how the issue names it.
FORBIDDEN: dict[str, tuple[Json, str]] = {
    "another identifier": ({"identifier": [{"system": "urn:mrn", "value": "2"}]}, "Patient.identifier"),
    "one more identifier": (
        {"identifier": [*ANN["identifier"], {"use": "secondary", "system": "urn:own", "value": "x"}]},
        "Patient.identifier",
    ),
    "no identifier": ({"identifier": None}, "Patient.identifier"),
    "not active": ({"active": False}, "Patient.active"),
    "an extension of active": ({"_active": {"extension": [{"url": "urn:x", "valueString": "y"}]}}, "Patient.active"),
    "dead": ({"deceasedBoolean": True}, "Patient.deceased"),
    "dead since": ({"deceasedBoolean": None, "deceasedDateTime": "2026-01-01"}, "Patient.deceased"),
    "another doctor": ({"generalPractitioner": [{"reference": "Practitioner/b"}]}, "Patient.generalPractitioner"),
    "no organization": ({"managingOrganization": None}, "Patient.managingOrganization"),
    "linked": ({"link": [{"other": {"reference": "Patient/bob"}, "type": "seealso"}]}, "Patient.link"),
    "restricted": ({"meta": {"profile": [PROFILE], "security": [TEST]}}, "Patient.meta.security"),
    "of no profile": ({"meta": None}, "Patient.meta.profile"),
    "modified": ({"modifierExtension": [{"url": "urn:not", "valueBoolean": True}]}, "Patient.modifierExtension"),
}


def altered(resource: Json, change: Json) -> Json:
    """The resource with members put in the place of those that it has; None takes one away."""
    return {name: value for name, value in {**resource, **change}.items() if value is not None}


class Ward:
    """A server with access control, and clients with tokens of its own."""

    def __init__(self, server: InProcessServer) -> None:
        self._server = server
        settings = server.settings
        assert settings.mongodb_uri is not None
        self._rows = AuthStore.connect(settings.mongodb_uri.get_secret_value(), settings.mongodb_database)
        vault = Vault(load_or_create(settings.vault_key_file))
        self._authorization: AuthorizationServer = authorization_server_of(settings, self._rows, vault, NobodyThere())
        self._authorization.open()
        self.operator = self._client(settings.access_token_file.read_text().strip())

    def close(self) -> None:
        self._rows.close()

    def as_(self, role: Any, user: str, **claims: Any) -> httpx.Client:
        given = {"subject": user, "client_id": "app", "scope": "user/*.cruds", **claims}
        issued = self._authorization.access_tokens.issue(Claims(role=role, fhir_user=user, **given), 600)
        return self._client(issued.text)

    def _client(self, token: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json"}
        return httpx.Client(transport=self._server.client._transport, base_url=BASE_URL, headers=headers)

    def put(self, resource: Json) -> None:
        answer = self.operator.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.status_code in (200, 201), answer.text


@pytest.fixture(scope="module")
def ward(make_server: Callable[..., InProcessServer]) -> Iterator[Ward]:
    made = Ward(make_server(auth="on"))
    for name in ("gp", "b"):
        made.put({"resourceType": "Practitioner", "id": name})
    made.put({"resourceType": "Organization", "id": "clinic", "name": "Clinic"})
    for name in ("bob", "old", "cleo", "dora"):
        made.put({"resourceType": "Patient", "id": name, "active": True})
    made.put({"resourceType": "RelatedPerson", "id": "mother", "active": True, "patient": {"reference": "Patient/ann"}})
    yield made
    made.close()


@pytest.fixture(params=["patient", "proxy"])
def writer(ward: Ward, request: pytest.FixtureRequest) -> httpx.Client:
    """Ann herself, and her mother; the record is as staff have entered it."""
    ward.put(ANN)
    user = "Patient/ann" if request.param == "patient" else "RelatedPerson/mother"
    return ward.as_(request.param, user)


def assert_refused(answer: httpx.Response, element: str) -> None:
    assert answer.status_code == 403, answer.text
    (issue,) = answer.json()["issue"]
    # The rules of logs are asked before the table of roles.
    key = "HS-LOG-PERFORMER" if element == "Observation.performer" else "HS-ACCESS-ELEMENT"
    assert (issue["code"], issue["details"]["coding"][0]["code"]) == ("forbidden", key)
    assert issue["expression"] == [element]


def stored(ward: Ward) -> Json:
    resource: Json = ward.operator.get("Patient/ann").json()
    resource["meta"] = {name: v for name, v in resource["meta"].items() if name not in ("versionId", "lastUpdated")}
    return resource


@pytest.mark.parametrize("case", FORBIDDEN)
def test_what_says_who_somebody_is_and_whose_record_it_is_cannot_be_changed(
    ward: Ward, writer: httpx.Client, case: str
) -> None:
    change, element = FORBIDDEN[case]
    assert_refused(writer.put("Patient/ann", json=altered(ANN, change)), element)
    assert stored(ward) == ANN


def entry(method: str, url: str, resource: Json) -> Json:
    return {"resource": resource, "request": {"method": method, "url": url}}


def bundle(kind: str, *entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def fhirpath_patch(value: str) -> Json:
    part = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "Patient.identifier[0].value"},
        {"name": "value", "valueString": value},
    ]
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}


JSON_PATCH = [{"op": "replace", "path": "/identifier/0/value", "value": "2"}]
XML_PATCH = (
    '<diff xmlns:f="http://hl7.org/fhir"><replace sel="f:Patient/f:identifier/f:value/@value">2</replace></diff>'
)


def patched(client: httpx.Client, address: str, body: object, media: str) -> httpx.Response:
    content = body if isinstance(body, str) else json.dumps(body)
    return client.patch(address, content=content, headers={"Content-Type": media})


def test_every_form_of_writing_is_held_to_it(ward: Ward, writer: httpx.Client) -> None:
    other = altered(ANN, {"identifier": [{"system": "urn:mrn", "value": "2"}]})
    binary = {"resourceType": "Binary", "contentType": "application/json-patch+json"}
    binary["data"] = base64.b64encode(json.dumps(JSON_PATCH).encode()).decode()
    answers = [
        patched(writer, "Patient/ann", JSON_PATCH, "application/json-patch+json"),
        patched(writer, "Patient/ann", XML_PATCH, "application/xml-patch+xml"),
        patched(writer, "Patient/ann", fhirpath_patch("2"), "application/fhir+json"),
        patched(writer, "Patient?_id=ann", JSON_PATCH, "application/json-patch+json"),
        writer.put("Patient?_id=ann", json=other),
        writer.post("", json=bundle("transaction", entry("PUT", "Patient/ann", other))),
        writer.post("", json=bundle("transaction", entry("PUT", "Patient?_id=ann", other))),
        writer.post("", json=bundle("transaction", entry("PATCH", "Patient/ann", fhirpath_patch("2")))),
        writer.post("", json=bundle("transaction", entry("PATCH", "Patient/ann", binary))),
    ]
    for answer in answers:
        assert answer.status_code == 403, answer.text
        (issue,) = answer.json()["issue"]
        assert issue["details"]["coding"][0]["code"] == "HS-ACCESS-ELEMENT"
        assert any("identifier" in place for place in issue["expression"]), issue
    batch = writer.post("", json=bundle("batch", entry("PUT", "Patient/ann", other))).json()
    assert batch["entry"][0]["response"]["status"].startswith("403")
    labels = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"security": [TEST]}}]}
    assert_refused(writer.post("Patient/ann/$meta-add", json=labels), "Patient.meta.security")
    assert stored(ward) == ANN


def test_what_they_know_best_is_theirs_to_change(ward: Ward, writer: httpx.Client) -> None:
    moved = altered(ANN, {"telecom": [{"system": "phone", "value": "2"}], "address": [{"city": "Bern"}]})
    answer = writer.put("Patient/ann", json=moved)
    assert answer.status_code == 200, answer.text
    patch = [{"op": "replace", "path": "/telecom/0/value", "value": "3"}]
    assert patched(writer, "Patient/ann", patch, "application/json-patch+json").status_code == 200
    assert stored(ward)["telecom"][0]["value"] == "3"


def test_staff_are_not_held_to_what_patients_are(ward: Ward) -> None:
    ward.put(ANN)
    with ward.as_("practitioner", "Practitioner/gp") as doctor:
        answer = doctor.put("Patient/ann", json=altered(ANN, {"active": False}))
        assert answer.status_code == 200, answer.text


# --- what they make themselves ----------------------------------------------------------------------------------------


#: An entry of a log says when; two at one moment would be one.
DAYS = cycle(range(1, 10))


def observation(*performers: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "weight"},
        "subject": {"reference": "Patient/ann"},
        "effectiveDateTime": f"2026-11-0{next(DAYS)}",
        "performer": [{"reference": one} for one in performers],
        **more,
    }


def document(*authors: str, **more: Any) -> Json:
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": "Patient/ann"},
        "author": [{"reference": one} for one in authors],
        "content": [{"attachment": {"contentType": "text/plain", "data": "eA=="}}],
        **more,
    }


def test_what_a_patient_makes_is_signed_by_the_patient_alone(ward: Ward) -> None:
    ward.put(ANN)
    with ward.as_("patient", "Patient/ann") as ann:
        assert ann.post("Observation", json=observation("Patient/ann")).status_code == 201
        assert ann.post("Observation", json=observation(f"{BASE_URL}/Patient/ann")).status_code == 201
        with_doctor = observation("Patient/ann", "Practitioner/gp")
        assert_refused(ann.post("Observation", json=with_doctor), "Observation.performer")
        named = observation("Patient/ann")
        named["performer"].append({"display": "Dr. Gruber"})
        assert_refused(ann.post("Observation", json=named), "Observation.performer")
        assert ann.post("Observation", json=observation("Practitioner/gp")).status_code == 403
        assert ann.post("DocumentReference", json=document("Patient/ann")).status_code == 201
        assert_refused(
            ann.post("DocumentReference", json=document("Patient/ann", "Practitioner/gp")), "DocumentReference.author"
        )
        vouched = document("Patient/ann", authenticator={"reference": "Practitioner/gp"})
        assert_refused(ann.post("DocumentReference", json=vouched), "DocumentReference.authenticator")


@pytest.mark.parametrize("make", [observation, document])
def test_what_staff_made_is_not_a_patients_to_change_though_it_names_the_patient_beside_them(
    ward: Ward, make: Callable[..., Json]
) -> None:
    ward.put(ANN)
    signed_in = {"Observation": "performer", "DocumentReference": "author"}
    theirs = make("Practitioner/gp", "Patient/ann", id="theirs")
    ward.put(theirs)
    name = theirs["resourceType"]
    with ward.as_("patient", "Patient/ann") as ann:
        taken_over = make("Patient/ann", id="theirs")
        answer = ann.put(f"{name}/theirs", json=taken_over)
        assert answer.status_code == 403
        key = {"Observation": "HS-LOG-STANDS", "DocumentReference": "HS-ACCESS-ELEMENT"}[name]
        assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == key
        patch = [{"op": "replace", "path": "/status", "value": "entered-in-error"}]
        assert patched(ann, f"{name}/theirs", patch, "application/json-patch+json").status_code == 403
        ward.put(make("Practitioner/gp", id="theirs"))
        assert ann.put(f"{name}/theirs", json=taken_over).status_code == 404
        assert ann.get(f"{name}/theirs").json()[signed_in[name]] == [{"reference": "Practitioner/gp"}]


# --- an account for several patients ----------------------------------------------------------------------------------


def seen(client: httpx.Client, address: str) -> set[str]:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return {e["resource"]["id"] for e in codec.decode(answer.content).get("entry", [])}


@pytest.fixture
def children(ward: Ward) -> Ward:
    """An Observation of each patient, and a restricted one."""
    ward.put(ANN)
    for name in ("ann", "bob", "cleo", "dora"):
        subject = {"subject": {"reference": f"Patient/{name}"}, "performer": None}
        ward.put(altered(observation(id=f"weight-{name}"), subject))
        ward.put(altered(observation(id=f"secret-{name}", meta={"security": [RESTRICTED]}), subject))
    return ward


def test_one_account_of_a_proxy_acts_for_several_patients_and_a_context_picks_one(children: Ward) -> None:
    both = {"patients": ("Patient/ann", "Patient/bob")}
    with children.as_("proxy", "RelatedPerson/mother", **both) as mother:
        assert seen(mother, "Patient") == {"ann", "bob"}
        assert seen(mother, "Observation") & {"weight-ann", "weight-bob", "weight-cleo"} == {"weight-ann", "weight-bob"}
        assert not {name for name in seen(mother, "Observation") if name.startswith("secret")}
        assert mother.get("Patient/cleo").status_code == 404
    for one, other in (("ann", "bob"), ("bob", "ann")):
        picked = {"scope": "patient/*.rs", "patient": f"Patient/{one}", **both}
        with children.as_("proxy", "RelatedPerson/mother", **picked) as mother:
            assert seen(mother, "Patient") == {one}
            assert mother.get(f"Observation/weight-{one}").status_code == 200
            assert mother.get(f"Observation/weight-{other}").status_code == 404
    stranger = {"scope": "patient/*.rs", "patient": "Patient/cleo", **both}
    with children.as_("proxy", "RelatedPerson/mother", **stranger) as mother:
        assert seen(mother, "Patient") == set()


def test_of_whom_a_related_person_names_that_alone_decides(children: Ward) -> None:
    related = {"resourceType": "RelatedPerson", "id": "aunt", "patient": {"reference": "Patient/cleo"}}
    children.put({**related, "active": True})
    both = {"patients": ("Patient/cleo", "Patient/dora")}
    with children.as_("proxy", "RelatedPerson/aunt", **both, subject="aunt-1") as aunt:
        assert seen(aunt, "Patient") == {"cleo", "dora"}
    children.put({**related, "active": False})
    with children.as_("proxy", "RelatedPerson/aunt", **both, subject="aunt-2") as aunt:
        deadline = time.monotonic() + 30
        while seen(aunt, "Patient") != {"dora"}:  # a relation that ended is noticed within two seconds
            assert time.monotonic() < deadline, seen(aunt, "Patient")
            time.sleep(0.2)
    with children.as_("proxy", "RelatedPerson/nobody", **both) as nobody:
        assert seen(nobody, "Patient") == set()


def test_a_patient_who_acts_for_others_is_a_proxy_for_them(children: Ward) -> None:
    with children.as_("patient", "Patient/ann", patients=("Patient/bob",)) as ann:
        assert seen(ann, "Patient") == {"ann", "bob"}
        found = seen(ann, "Observation")
        assert {"weight-ann", "secret-ann", "weight-bob"} <= found
        assert "secret-bob" not in found
        assert ann.get("Observation/secret-bob").status_code == 404
        # A proxy appoints nobody else.
        aunt = {"resourceType": "RelatedPerson", "patient": {"reference": "Patient/bob"}}
        assert ann.post("RelatedPerson", json=aunt).status_code == 403
        aunt["patient"]["reference"] = "Patient/ann"
        assert ann.post("RelatedPerson", json=aunt).status_code == 201
        for_bob = observation("Patient/ann", subject={"reference": "Patient/bob"})
        assert ann.post("Observation", json=for_bob).status_code == 201
        bob = children.operator.get("Patient/bob").json()
        assert_refused(ann.put("Patient/bob", json={**bob, "active": False}), "Patient.active")
    with children.as_("patient", "Patient/ann") as ann:
        assert seen(ann, "Patient") == {"ann"}


def test_a_proxy_who_is_known_here_as_a_patient_acts_for_whom_the_account_says(children: Ward) -> None:
    # Somebody else's RelatedPerson has the id of that Patient by chance.
    children.put(
        {"resourceType": "RelatedPerson", "id": "bob", "active": True, "patient": {"reference": "Patient/dora"}}
    )
    with children.as_("proxy", "Patient/bob", patients=("Patient/cleo",)) as bob:
        assert seen(bob, "Patient") == {"cleo"}
