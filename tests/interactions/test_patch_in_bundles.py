"""Patches in batches and transactions: https://hl7.org/fhir/R4/http.html#transaction."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.interactions.patches import (
    binary,
    bundle,
    created,
    entry,
    identified,
    operation,
    parameters,
    set_gender,
)

CHANGES = [
    binary("application/json-patch+json", '[{"op":"add","path":"/gender","value":"other"}]'),
    set_gender("other"),
    binary(
        "application/xml-patch+xml",
        '<diff xmlns="http://hl7.org/fhir"><add sel="Patient/active" pos="after"><gender value="other"/></add></diff>',
    ),
    binary("application/merge-patch+json", '{"gender":"other"}'),
]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_entries_can_be_patches_in_each_format(client: httpx.Client, kind: str) -> None:
    addresses = [created(client) for _ in CHANGES]
    criteria, member = identified()
    conditional = created(client, **member)
    answer = client.post(
        "",
        json=bundle(
            kind,
            *map(entry, addresses, CHANGES),
            entry(f"Patient?{criteria}", CHANGES[1], ifMatch='W/"1"'),
        ),
    )
    assert answer.status_code == 200, answer.text
    responses = [row["response"] for row in answer.json()["entry"]]
    assert [(r["status"], r["etag"]) for r in responses] == [("200", 'W/"2"')] * 5
    for address in (*addresses, conditional):
        assert client.get(address).json()["gender"] == "other"
    assert client.get(f"{conditional}/_history").json()["entry"][0]["request"]["method"] == "PATCH"


@pytest.mark.parametrize(
    ("url", "resource", "more", "status"),
    [
        ("Patient/never-was", CHANGES[1], {}, "404"),
        ("Patient?identifier=never-was", CHANGES[1], {}, "404"),
        ("{address}", CHANGES[1], {"ifMatch": 'W/"9"'}, "412"),
        ("{address}", binary("application/json-patch+json", '[{"op":"test","path":"/active","value":1}]'), {}, "422"),
        ("{address}", binary("text/plain", "x"), {}, "415"),
        ("{address}", {"resourceType": "Binary", "contentType": "application/json-patch+json"}, {}, "400"),
        ("{address}", {**CHANGES[0], "data": "***"}, {}, "400"),
        ("{address}", {"resourceType": "Patient"}, {}, "400"),
    ],
)
def test_a_patch_that_fails_fails_its_entry_or_the_whole_transaction(
    client: httpx.Client, url: str, resource: dict[str, Any], more: dict[str, str], status: str
) -> None:
    address = created(client)
    criteria, member = identified()
    url = url.replace("{address}", address)
    other = entry("Patient", {"resourceType": "Patient", **member}, "POST")
    whole = client.post("", json=bundle("transaction", other, entry(url, resource, **more)))
    assert whole.status_code == int(status), whole.text
    assert whole.json()["issue"][0]["diagnostics"].startswith("Entry 1: ")
    assert client.get(f"Patient?{criteria}").json()["total"] == 0
    each = client.post("", json=bundle("batch", other, entry(url, resource, **more)))
    assert [row["response"]["status"] for row in each.json()["entry"]] == ["201", status]
    assert client.get(address).headers["ETag"] == 'W/"1"'


@pytest.mark.parametrize("form", ["fhirpath", "fhirpath whole", "json", "json whole", "xml", "xml whole", "merge"])
def test_links_in_a_patch_follow_to_other_entries(client: httpx.Client, form: str) -> None:
    urn = f"urn:uuid:{uuid.uuid4()}"
    whole = form.endswith("whole")
    path = "Patient.managingOrganization"
    match form.removesuffix(" whole"):
        case "fhirpath":
            value = ("valueReference", {"reference": urn}) if whole else ("valueString", urn)
            change = parameters(operation("replace", path if whole else f"{path}.reference", value=value))
        case "json":
            row = {"op": "replace", "path": "/managingOrganization", "value": {"reference": urn}}
            if not whole:
                row |= {"path": "/managingOrganization/reference", "value": urn}
            change = binary("application/json-patch+json", json.dumps([row]))
        case "merge":
            row = {"managingOrganization": {"reference": urn}}
            change = binary("application/merge-patch+json", json.dumps(row))
        case _:
            selector = "Patient/managingOrganization/reference" + ("" if whole else "/@value")
            content = f'<reference value="{urn}"/>' if whole else urn
            step = f'<replace sel="{selector}">{content}</replace>'
            change = binary("application/xml-patch+xml", f'<diff xmlns="http://hl7.org/fhir">{step}</diff>')
    address = created(client, managingOrganization={"reference": "Organization/none"})
    answer = client.post(
        "",
        json=bundle(
            "transaction",
            entry(address, change),
            entry("Organization", {"resourceType": "Organization", "name": "o"}, "POST", fullUrl=urn),
        ),
    )
    assert answer.status_code == 200, answer.text
    location = "/".join(answer.json()["entry"][1]["response"]["location"].split("/")[:2])
    assert client.get(address).json()["managingOrganization"]["reference"] == location


def test_a_link_in_a_patch_that_leads_nowhere_is_refused(client: httpx.Client) -> None:
    value = ("valueReference", {"reference": f"urn:uuid:{uuid.uuid4()}"})
    change = parameters(operation("add", "Patient", name=("valueString", "managingOrganization"), value=value))
    answer = client.post("", json=bundle("transaction", entry(created(client), change)))
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-TXN-DANGLING"


def test_conditional_references_in_a_patch_are_resolved(client: httpx.Client) -> None:
    value = str(uuid.uuid4())
    made = client.post("Organization", json={"resourceType": "Organization", "identifier": [{"value": value}]}).json()
    reference = {"reference": f"Organization?identifier={value}"}
    for change in (
        parameters(
            operation(
                "add",
                "Patient",
                name=("valueString", "managingOrganization"),
                value=("valueReference", reference),
            )
        ),
        binary(
            "application/json-patch+json",
            json.dumps([{"op": "add", "path": "/managingOrganization", "value": reference}]),
        ),
    ):
        address = created(client)
        assert client.post("", json=bundle("transaction", entry(address, change))).status_code == 200
        assert client.get(address).json()["managingOrganization"]["reference"] == f"Organization/{made['id']}"


def test_a_transaction_changes_each_resource_once(client: httpx.Client) -> None:
    criteria, member = identified()
    address = created(client, **member)
    change = set_gender("other")
    for first in (entry(address, change), entry(f"Patient?{criteria}", change)):
        answer = client.post("", json=bundle("transaction", first, entry(address, change)))
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-TXN-DUPLICATE"


def test_a_patch_is_carried_out_after_the_creates_whatever_the_order(client: httpx.Client) -> None:
    criteria, member = identified()
    answer = client.post(
        "",
        json=bundle(
            "transaction",
            entry(f"Patient?{criteria}", set_gender("other")),
            entry("Patient", {"resourceType": "Patient", **member}, "POST"),
        ),
    )
    # The match is looked for before anything is created, as for conditional updates.
    assert answer.status_code == 404
