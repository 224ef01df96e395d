"""The formats over HTTP: XML in and out, newline-delimited JSON, and which of them an answer is in.

Spec: https://hl7.org/fhir/R4/http.html#mime-type, https://hl7.org/fhir/R4/xml.html, https://hl7.org/fhir/R4/nd-json.html
"""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from lxml import etree

XML = {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+xml"}
FHIR = {"f": "http://hl7.org/fhir", "h": "http://www.w3.org/1999/xhtml"}
NAMESPACE = 'xmlns="http://hl7.org/fhir"'
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">a <b>b</b><br/></div>'
OBSERVATION = (
    f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- from a lab --><Observation {NAMESPACE}>\n'
    f'  <text><status value="generated"/>{DIV}</text>\n'
    '  <status value="final"/>\n  <code><text value="K &amp; Na"/></code>\n'
    '  <effectiveDateTime id="e" value="2020-01-01"/>\n'
    '  <valueQuantity><value value="1.10"/><unit value="mmol/L"/></valueQuantity>\n</Observation>'
)


def values(answer: httpx.Response, path: str) -> list[str]:
    found = etree.fromstring(answer.content).xpath(path, namespaces=FHIR)
    return [str(one) for one in found]


def make(client: httpx.Client, family: str, count: int) -> list[str]:
    """Patients of one family name; their ids."""
    patient = {"resourceType": "Patient", "name": [{"family": family}]}
    return [client.post("Patient", json=patient).json()["id"] for _ in range(count)]


# --- XML ------------------------------------------------------------------------------------------------------------


def test_what_is_created_in_xml_is_read_in_both_formats(client: httpx.Client) -> None:
    made = client.post("Observation", content=OBSERVATION, headers=XML)
    assert made.status_code == 201
    assert made.headers["Content-Type"] == "application/fhir+xml;charset=utf-8"
    assert made.headers["ETag"] == 'W/"1"'
    (made_id,) = values(made, "/f:Observation/f:id/@value")
    assert f"/Observation/{made_id}/_history/1" in made.headers["Location"]

    as_json = client.get(f"Observation/{made_id}")
    assert as_json.headers["Content-Type"] == "application/fhir+json;charset=utf-8"
    found = as_json.json()
    assert found["_effectiveDateTime"] == {"id": "e"}
    assert found["code"] == {"text": "K & Na"}
    assert found["text"] == {"status": "generated", "div": DIV}
    assert '"value":1.10,' in as_json.text

    as_xml = client.get(f"Observation/{made_id}", headers={"Accept": "application/fhir+xml"})
    assert as_xml.content == made.content
    assert values(as_xml, "//f:valueQuantity/f:value/@value") == ["1.10"]
    assert values(as_xml, "//h:div/h:b/text()") == ["b"]
    assert "accept" in as_xml.headers["Vary"]
    assert int(as_xml.headers["Content-Length"]) == len(as_xml.content)


def test_what_xml_gave_can_be_sent_back_as_an_update(client: httpx.Client) -> None:
    made = client.post("Observation", content=OBSERVATION, headers=XML)
    (made_id,) = values(made, "/f:Observation/f:id/@value")
    changed = made.text.replace('"final"', '"amended"')
    answer = client.put(f"Observation/{made_id}", content=changed, headers={**XML, "If-Match": 'W/"1"'})
    assert answer.status_code == 200
    assert values(answer, "/f:Observation/f:meta/f:versionId/@value") == ["2"]
    assert values(answer, "/f:Observation/f:status/@value") == ["amended"]
    not_modified = client.get(f"Observation/{made_id}", headers={**XML, "If-None-Match": 'W/"2"'})
    assert (not_modified.status_code, not_modified.content) == (304, b"")


def test_a_body_in_xml_may_be_answered_in_json_and_the_other_way_round(client: httpx.Client) -> None:
    made = client.post("Observation", content=OBSERVATION, headers={"Content-Type": "text/xml; charset=utf-8"})
    assert made.json()["status"] == "final"
    other = client.post(
        "Patient", json={"resourceType": "Patient", "active": True}, headers={"Accept": "application/xml"}
    )
    assert other.headers["Content-Type"] == "application/xml;charset=utf-8"
    assert values(other, "/f:Patient/f:active/@value") == ["true"]


def test_a_transaction_in_xml_is_carried_out_and_answered_in_xml(client: httpx.Client) -> None:
    bundle = f"""<Bundle {NAMESPACE}><type value="transaction"/>
      <entry><fullUrl value="urn:uuid:05efabf0-4be2-4561-91ce-51548425acb9"/>
        <resource><Patient><name><family value="Xml-Transaction"/></name></Patient></resource>
        <request><method value="POST"/><url value="Patient"/></request></entry>
      <entry><resource><Observation><status value="final"/><code><text value="x"/></code>
          <subject><reference value="urn:uuid:05efabf0-4be2-4561-91ce-51548425acb9"/></subject></Observation></resource>
        <request><method value="POST"/><url value="Observation"/></request></entry>
    </Bundle>"""
    answer = client.post("", content=bundle, headers={**XML, "Prefer": "return=representation"})
    assert answer.status_code == 200
    assert values(answer, "/f:Bundle/f:type/@value") == ["transaction-response"]
    assert values(answer, "//f:response/f:status/@value") == ["201", "201"]
    (patient_id,) = values(answer, "//f:Patient/f:id/@value")
    assert values(answer, "//f:Observation/f:subject/f:reference/@value") == [f"Patient/{patient_id}"]


def test_a_fault_in_an_entry_is_told_in_xml_with_its_place(client: httpx.Client) -> None:
    request = '<request><method value="POST"/><url value="Patient"/></request>'
    entry = f"<entry><resource><Patient>{{}}</Patient></resource>{request}</entry>"
    bundle = f'<Bundle {NAMESPACE}><type value="batch"/>{{}}</Bundle>'
    answer = client.post("", content=bundle.format(entry.format('<gender value="f"/>')), headers=XML)
    assert values(answer, "//f:outcome/f:OperationOutcome/f:issue/f:code/@value") == ["code-invalid"]
    answer = client.post("", content=bundle.format(entry.format('<gander value="f"/>')), headers=XML)
    assert answer.status_code == 400
    assert values(answer, "//f:expression/@value") == ["Bundle.entry[0].resource.gander"]


def test_a_search_in_xml_has_links_that_stay_in_xml(client: httpx.Client) -> None:
    made = make(client, "Xmlsearch", 3)
    url: str | None = "Patient?family=xmlsearch&_count=2&_format=xml"
    found: list[str] = []
    while url is not None:
        page = client.get(url)
        assert page.headers["Content-Type"] == "application/fhir+xml;charset=utf-8"
        found += values(page, "/f:Bundle/f:entry/f:resource/f:Patient/f:id/@value")
        url = next(iter(values(page, "/f:Bundle/f:link[f:relation/@value='next']/f:url/@value")), None)
    assert sorted(found) == sorted(made)


def test_a_large_answer_in_xml_is_whole(client: httpx.Client) -> None:
    statement = client.get("metadata", headers={"Accept": "application/fhir+xml"})
    assert len(statement.content) > 64 * 1024
    assert len(values(statement, "/f:CapabilityStatement/f:rest/f:resource/f:type/@value")) == 146
    assert values(statement, "/f:CapabilityStatement/f:format/@value")[:4] == [
        "application/fhir+json",
        "json",
        "application/fhir+xml",
        "xml",
    ]


def test_a_large_body_in_xml_is_read(client: httpx.Client) -> None:
    contacts = "".join(f'<contact><name><family value="C{n}"/></name></contact>' for n in range(3000))
    answer = client.post("Patient", content=f"<Patient {NAMESPACE}>{contacts}</Patient>", headers=XML)
    assert answer.status_code == 201
    assert answer.content.count(b"<contact>") == 3000


def test_pretty_xml_is_the_same_document_indented(client: httpx.Client) -> None:
    (made_id,) = make(client, "Pretty", 1)
    pretty = client.get(f"Patient/{made_id}?_pretty=true&_format=xml").text
    assert '\n  <name>\n    <family value="Pretty"/>\n  </name>\n</Patient>' in pretty
    plain = client.get(f"Patient/{made_id}?_format=xml").text
    assert re.sub(r"\n *", "", pretty) == re.sub(r"\n *", "", plain)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "Patient/never-was", None, 404),
        ("GET", "Nonsense/1", None, 404),
        ("DELETE", "metadata", None, 405),
        ("GET", "Patient?birthdate=nonsense", None, 400),
        ("POST", "Patient", "<Patient", 400),
        ("POST", "Patient", f"<Patient {NAMESPACE}><x/></Patient>", 400),
        ("POST", "Patient", f"<!DOCTYPE Patient><Patient {NAMESPACE}/>", 400),
        ("POST", "Patient", f"<Observation {NAMESPACE}/>", 400),
        ("POST", "Patient", f'<Patient {NAMESPACE}><gender value="f"/></Patient>', 400),
        ("POST", "Patient", " ", 400),
    ],
)
def test_errors_are_outcomes_in_xml(
    client: httpx.Client, method: str, path: str, body: str | None, status: int
) -> None:
    answer = client.request(method, path, content=body, headers=XML)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/fhir+xml;charset=utf-8"
    assert values(answer, "/f:OperationOutcome/f:issue/f:severity/@value")[0] == "error"
    assert values(answer, "/f:OperationOutcome/f:issue/f:diagnostics/@value")[0]


def test_faults_of_a_body_in_xml_are_told_in_json_to_who_accepts_json(client: httpx.Client) -> None:
    answer = client.post(
        "Patient", content=f"<Patient {NAMESPACE}>\n<x/></Patient>", headers={"Content-Type": "text/xml"}
    )
    (issue,) = answer.json()["issue"]
    assert issue["details"]["coding"][0]["code"] == "HS-XML-ELEMENT"
    assert issue["expression"] == ["Patient.x"]
    assert issue["diagnostics"].startswith("Line 2:")


def test_an_operation_takes_and_gives_xml(client: httpx.Client) -> None:
    resource = '<resource><Patient><gender value="f"/></Patient></resource>'
    parameters = f'<Parameters {NAMESPACE}><parameter><name value="resource"/>{resource}</parameter></Parameters>'
    answer = client.post("Patient/$validate", content=parameters, headers=XML)
    assert answer.status_code == 200
    assert "code-invalid" in values(answer, "/f:OperationOutcome/f:issue/f:code/@value")


def test_a_fhirpath_patch_in_xml_changes_the_resource(client: httpx.Client) -> None:
    (made_id,) = make(client, "Patched", 1)
    parts = "".join(
        f'<part><name value="{name}"/><value{kind} value="{value}"/></part>'
        for name, kind, value in (
            ("type", "Code", "add"),
            ("path", "String", "Patient"),
            ("name", "String", "gender"),
            ("value", "Code", "female"),
        )
    )
    patch = f'<Parameters {NAMESPACE}><parameter><name value="operation"/>{parts}</parameter></Parameters>'
    answer = client.patch(f"Patient/{made_id}", content=patch, headers=XML)
    assert answer.status_code == 200
    assert values(answer, "/f:Patient/f:gender/@value") == ["female"]


def test_the_body_limit_counts_for_xml_and_compression_works(make_server: Any) -> None:
    client = make_server(max_body_bytes=4096, gzip_min_bytes=1).client
    big = f"<Patient {NAMESPACE}>{' ' * 5000}</Patient>"
    assert client.post("Patient", content=big, headers=XML).status_code == 413
    answer = client.get("Patient/none", headers={**XML, "Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert values(answer, "/f:OperationOutcome/f:issue/f:code/@value") == ["not-found"]


# --- which format ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/fhir+xml", "application/fhir+xml"),
        ("application/xml", "application/xml"),
        ("text/xml", "text/xml"),
        ("application/fhir+xml;fhirVersion=4.0", "application/fhir+xml"),
        ("application/fhir+xml;q=0.9, application/fhir+json;q=0.8", "application/fhir+xml"),
        ("application/fhir+json;q=0.5, application/fhir+xml;q=0.7", "application/fhir+xml"),
        ("application/fhir+xml;q=0.2, */*;q=0.1", "application/fhir+xml"),
        ("application/fhir+xml;q=0.2, */*", "application/fhir+json"),
        ("application/xml, application/json", "application/xml"),
        ("application/json, application/xml", "application/json"),
        ("application/fhir+json;q=0, */*", "application/fhir+xml"),
        ("application/fhir+xml;q=0, application/*;q=0.5", "application/fhir+json"),
        ("application/fhir+xml;fhirVersion=3.0, application/json;q=0.1", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/xml"),
    ],
)
def test_the_highest_quality_chooses_the_format(client: httpx.Client, accept: str, media_type: str) -> None:
    answer = client.get("Patient/none", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == f"{media_type};charset=utf-8"
    assert (b"<OperationOutcome" in answer.content) == ("xml" in media_type)


@pytest.mark.parametrize(
    "wanted", ["xml", "text/xml", "application/xml", "application/fhir%2Bxml", "application/fhir+xml"]
)
def test_the_format_parameter_asks_for_xml(client: httpx.Client, wanted: str) -> None:
    answer = client.get(f"Patient/none?_format={wanted}", headers={"Accept": "application/fhir+json"})
    assert "xml" in answer.headers["Content-Type"]
    assert values(answer, "/f:OperationOutcome/f:issue/f:code/@value") == ["not-found"]


def test_a_search_by_post_takes_the_format_from_its_form_or_its_address(client: httpx.Client) -> None:
    (made_id,) = make(client, "Formformat", 1)
    by_form = client.post("Patient/_search", data={"family": "formformat", "_format": "xml"})
    by_address = client.post("Patient/_search?_format=xml", data={"family": "formformat"})
    for answer in (by_form, by_address):
        assert values(answer, "//f:Patient/f:id/@value") == [made_id]


# --- newline-delimited JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"_format": "ndjson"}, {"_format": "application/fhir+ndjson"}, {}])
def test_a_search_gives_one_resource_per_line_and_the_next_page_in_a_header(
    client: httpx.Client, how: dict[str, str]
) -> None:
    family = f"{how.get('_format', 'accept').replace('/', '').replace('+', '')}-lines"
    made = make(client, family, 5)
    headers = {} if how else {"Accept": "application/fhir+ndjson"}
    answer = client.get("Patient", params={"family": family, "_count": "2", **how}, headers=headers)
    found: list[str] = []
    pages = 1
    while True:
        assert answer.headers["Content-Type"] == "application/fhir+ndjson;charset=utf-8"
        assert answer.text.endswith("\n")
        found += [json.loads(line)["id"] for line in answer.text.splitlines()]
        following = answer.links.get("next")
        if following is None:
            break
        answer, pages = client.get(following["url"], headers=headers), pages + 1
    assert sorted(found) == sorted(made)
    assert pages == 3


def test_a_history_gives_one_version_per_line_without_deletions(client: httpx.Client) -> None:
    (made_id,) = make(client, "Ndhistory", 1)
    client.put(f"Patient/{made_id}", json={"resourceType": "Patient", "id": made_id, "active": True})
    client.delete(f"Patient/{made_id}")
    answer = client.get(f"Patient/{made_id}/_history", headers={"Accept": "application/fhir+ndjson"})
    assert [json.loads(line)["meta"]["versionId"] for line in answer.text.splitlines()] == ["2", "1"]


def test_an_empty_page_is_no_line_at_all(client: httpx.Client) -> None:
    answer = client.get("Patient?family=nobody-has-this&_format=ndjson")
    assert (answer.status_code, answer.content) == (200, b"")
    assert "self" in answer.links


def test_an_error_is_one_line(client: httpx.Client) -> None:
    answer = client.get("Patient?birthdate=nonsense&_format=ndjson")
    assert answer.status_code == 400
    (line,) = answer.text.splitlines()
    assert json.loads(line)["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("path", ["metadata", "Patient/1", "Patient/1/_history/1", "Patient/$validate"])
def test_other_answers_than_lists_are_never_newline_delimited(client: httpx.Client, path: str) -> None:
    for answer in (
        client.get(path, headers={"Accept": "application/fhir+ndjson"}),
        client.get(f"{path}?_format=ndjson"),
    ):
        assert answer.status_code == 406
        assert "searches and histories" in answer.json()["issue"][0]["diagnostics"]
