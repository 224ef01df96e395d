"""What a policy lets through of resources that are seen with others: Binaries, and Provenances."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.access import AccessPolicy, Grant
from tests.access.people import as_, created, observation, within

pytestmark = pytest.mark.xdist_group("access")


def test_a_binary_is_seen_by_who_sees_its_security_context(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    with world.as_("operator") as operator:
        headers = {"Content-Type": "text/plain", "X-Security-Context": f"Patient/{mine}"}
        made = operator.post("Binary", content=b"secret" * 100_000, headers=headers).headers["location"]
        bare = operator.post("Binary", content=b"none", headers={"Content-Type": "text/plain"}).headers["location"]
    with as_(world, within(mine)) as client, as_(world, within(other)) as stranger:
        assert client.get(made.rpartition("/_history")[0]).content == b"secret" * 100_000
        assert client.get(made).status_code == 200
        ghost = stranger.get("Binary/not-there")
        for url in (made.rpartition("/_history")[0], bare.rpartition("/_history")[0]):
            answer = stranger.get(url)
            assert answer.status_code == ghost.status_code == 404
        assert stranger.get(made).status_code == 404
        assert client.get("Binary").json().get("total") == 0


def test_nobody_opens_a_binary_by_pointing_to_it(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    with world.as_("operator") as operator:
        headers = {"Content-Type": "text/plain"}
        made = operator.post("Binary", content=b"theirs", headers=headers).headers["location"]
    binary = made.rpartition("/_history")[0].rpartition("/")[2]

    def pointer(patient: str, target: str) -> dict[str, Any]:
        attachment = {"contentType": "text/plain", "url": f"Binary/{target}"}
        return {
            "resourceType": "DocumentReference",
            "status": "current",
            "subject": {"reference": f"Patient/{patient}"},
            "content": [{"attachment": attachment}],
        }

    with as_(world, within(mine)) as client:
        refused = [client.post("DocumentReference", json=pointer(mine, name)) for name in (binary, "not-there")]
        assert [answer.status_code for answer in refused] == [403, 403]
        assert client.get(f"Binary/{binary}").status_code == 404
    created(world, pointer(other, binary))  # who sees everything may point to it: now it is the other's
    with as_(world, within(other)) as client:
        assert client.get(f"Binary/{binary}").content == b"theirs"


def test_a_binary_of_a_limited_writer_gets_the_patient_in_context_as_its_own(
    world: Any, people: tuple[str, str]
) -> None:
    mine, other = people
    with as_(world, within(mine), patient=f"Patient/{mine}") as client:
        made = client.post("Binary", content=b"photo", headers={"Content-Type": "image/jpeg"})
        assert made.status_code == 201
        assert client.get(made.headers["location"]).headers["x-security-context"] == f"Patient/{mine}"
        foreign = {"Content-Type": "image/jpeg", "X-Security-Context": f"Patient/{other}"}
        assert client.post("Binary", content=b"photo", headers=foreign).status_code == 403
    with as_(world, within(mine)) as client:  # no patient in context
        answer = client.post("Binary", content=b"photo", headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 403
        assert "X-Security-Context" in answer.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize("together", [False, True])
def test_where_ones_data_come_from_is_seen_with_them_and_by_nobody_else(
    world: Any, people: tuple[str, str], together: bool
) -> None:
    """US Core asks for `_revinclude=Provenance:target`; the Provenance itself names no patient."""
    mine, other = people

    def provenance(*targets: str) -> dict[str, Any]:
        agent = {"who": {"display": "a lab"}}
        references = [{"reference": target} for target in targets]
        return {
            "resourceType": "Provenance",
            "target": references,
            "recorded": "2026-01-01T00:00:00Z",
            "agent": [agent],
        }

    if together:
        entries = [
            {"resource": provenance("urn:uuid:1"), "request": {"method": "POST", "url": "Provenance"}},
            {
                "fullUrl": "urn:uuid:1",
                "resource": observation(mine),
                "request": {"method": "POST", "url": "Observation"},
            },
        ]
        with world.as_("operator") as operator:
            answer = operator.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).json()
        told, name = (e["response"]["location"].split("/")[1] for e in answer["entry"])
    else:
        name = created(world, observation(mine))
        told = created(world, provenance(f"Observation/{name}"))
    theirs = created(world, observation(other))
    both = created(world, provenance(f"Observation/{name}", f"Observation/{theirs}"))
    with as_(world, within(mine)) as client, as_(world, within(other)) as stranger:
        found = client.get(f"Observation?_id={name}&_revinclude=Provenance:target").json()["entry"]
        assert [e["resource"]["id"] for e in found if e["search"]["mode"] == "include"] == [told]
        assert client.get(f"Provenance/{told}").status_code == 200
        assert client.get(f"Provenance/{both}").status_code == 404
        assert stranger.get(f"Provenance/{told}").status_code == 404
        made = client.post("Provenance", json=provenance(f"Observation/{name}"))
        assert made.status_code == 201
        assert client.post("Provenance", json=provenance(f"Observation/{theirs}")).status_code == 403


# --- what is in no compartment, or in several -------------------------------------------------------------------------


def denied(patient: str) -> AccessPolicy:
    """A program that may do anything, but see what belongs to one patient."""
    return AccessPolicy(
        layers=((Grant("*", "cruds"),),), denials=(Grant("*", "rs", frozenset({f"Patient/{patient}"})),)
    )


@pytest.mark.parametrize("pointed", ["by its context", "by a document", "by nobody"])
def test_a_denial_hides_the_binaries_of_what_it_hides_and_no_others(
    world: Any, people: tuple[str, str], pointed: str
) -> None:
    mine, other = people
    names = []
    for patient in (mine, other):
        context = {"securityContext": {"reference": f"Patient/{patient}"}} if pointed == "by its context" else {}
        name = created(world, {"resourceType": "Binary", "contentType": "text/plain", "data": "QQ==", **context})
        names.append(name)
        if pointed == "by a document":
            attachment = {"contentType": "text/plain", "url": f"Binary/{name}"}
            subject = {"reference": f"Patient/{patient}"}
            document = {"resourceType": "DocumentReference", "status": "current", "subject": subject}
            created(world, {**document, "content": [{"attachment": attachment}]})
    expected = [200, 200] if pointed == "by nobody" else [404, 200]
    with as_(world, denied(mine)) as client:
        for form in ("", "/_history/1", "/_history"):
            assert [client.get(f"Binary/{name}{form}").status_code for name in names] == expected, form
        for kind in ("batch", "transaction"):
            entries = [{"request": {"method": "GET", "url": f"Binary/{names[0]}"}}]
            answer = client.post("", json={"resourceType": "Bundle", "type": kind, "entry": entries})
            status = answer.json()["entry"][0]["response"]["status"][:3] if answer.status_code == 200 else "404"
            assert status == str(expected[0])
        assert names[0] not in client.get("Binary", params={"_count": "1000"}).text
        assert (names[0] in client.get("Binary/_history", params={"_count": "1000"}).text) is (pointed == "by nobody")


def provenance_of(*targets: str) -> dict[str, Any]:
    return {
        "resourceType": "Provenance",
        "target": [{"reference": target} for target in targets],
        "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": {"display": "a lab"}}],
    }


def test_a_denial_hides_what_tells_of_it_even_in_part_or_perhaps(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    secret, plain = created(world, observation(mine)), created(world, observation(other))
    hidden = [
        created(world, provenance_of(f"Observation/{secret}")),
        created(world, provenance_of(f"Observation/{secret}", f"Observation/{plain}")),
        created(world, provenance_of("Observation/is-not-there-yet")),
    ]
    shown = created(world, provenance_of(f"Observation/{plain}"))
    with as_(world, denied(mine)) as client:
        for name in hidden:
            assert client.get(f"Provenance/{name}").status_code == 404
            entry = {"request": {"method": "GET", "url": f"Provenance/{name}"}}
            answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
            assert answer.status_code == 404
        assert client.get(f"Provenance/{shown}").status_code == 200
        found = client.get(f"Observation?_id={plain}&_revinclude=Provenance:target").json()["entry"]
        assert [e["resource"]["id"] for e in found if e["search"]["mode"] == "include"] == [shown]


def test_a_provenance_is_seen_in_a_transaction_and_in_its_history_as_it_is_seen_alone(
    world: Any, people: tuple[str, str]
) -> None:
    mine, other = people
    name = created(world, provenance_of(f"Observation/{created(world, observation(mine))}"))
    theirs = created(world, observation(other))
    with as_(world, within(mine)) as client:
        entry = {"request": {"method": "GET", "url": f"Provenance/{name}"}}
        answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
        assert answer.json()["entry"][0]["resource"]["id"] == name
        assert len(client.get(f"Provenance/{name}/_history").json()["entry"]) == 1
        with world.as_("operator") as operator:
            moved = {**provenance_of(f"Observation/{theirs}"), "id": name}
            assert operator.put(f"Provenance/{name}", json=moved).status_code == 200
        assert client.get(f"Provenance/{name}/_history/1").status_code == 404
    with as_(world, within(other)) as stranger:
        assert stranger.get(f"Provenance/{name}").status_code == 200
        assert stranger.get(f"Provenance/{name}/_history/1").status_code == 404
        versions = stranger.get(f"Provenance/{name}/_history").json()["entry"]
        assert [e["resource"]["meta"]["versionId"] for e in versions] == ["2"]


@pytest.mark.parametrize("scopes", [(Grant("*", "cruds"),), (Grant("Observation", "c"), Grant("Binary", "c"))])
def test_nobody_adds_to_the_record_of_somebody_who_is_hidden_from_them(
    world: Any, people: tuple[str, str], scopes: tuple[Grant, ...]
) -> None:
    """Else a guess at an id would tell whether there is such a patient."""
    mine, other = people
    theirs = created(world, observation(other))
    both = Grant("*", "cruds", frozenset({f"Patient/{mine}", f"Patient/{other}"}))
    denial = Grant("*", "ruds", frozenset({f"Patient/{other}"}))
    with as_(world, AccessPolicy(layers=(scopes, (both,)), denials=(denial,))) as client:
        ghost = client.post("Observation", json=observation("nobody-at-all"))
        answer = client.post("Observation", json=observation(other))
        assert (answer.status_code, answer.json()) == (ghost.status_code, ghost.json())
        assert answer.status_code == 403
        binary = {"resourceType": "Binary", "contentType": "text/plain", "data": "QQ=="}
        for hidden in (f"Patient/{other}", f"Observation/{theirs}", "Patient/nobody-at-all"):
            body = {**binary, "securityContext": {"reference": hidden}}
            assert client.post("Binary", json=body).status_code == 403
        entry = {"resource": observation(other), "request": {"method": "POST", "url": "Observation"}}
        assert (
            client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]}).status_code == 403
        )
        assert client.post("Observation", json=observation(mine)).status_code == 201
        own = {**binary, "securityContext": {"reference": f"Patient/{mine}"}}
        assert client.post("Binary", json=own).status_code == (201 if len(scopes) == 1 else 403)
