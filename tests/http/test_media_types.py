"""Every name that a format goes by, read and written, and the headers that go with an answer.

Spec: https://hl7.org/fhir/R4/http.html#mime-type
"""

from __future__ import annotations

import httpx
import pytest

from fhir_server.http.negotiate import FORMAT_CODES, JSON_TYPES, NDJSON_TYPES, XML_TYPES
from fhir_server.patching.formats import PATCH_FORMATS

JSON = b'{"resourceType":"Patient","active":true}'
XML = b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'

#: By the media type, how a resource looks in it.
BODIES = {
    "application/fhir+json": JSON,
    "application/json": JSON,
    "text/json": JSON,
    "application/fhir+xml": XML,
    "application/xml": XML,
    "text/xml": XML,
}
LINES = ("application/fhir+ndjson", "application/ndjson", "application/x-ndjson")


def test_every_media_type_is_among_these() -> None:
    assert BODIES.keys() == JSON_TYPES | XML_TYPES
    assert set(LINES) == NDJSON_TYPES
    assert FORMAT_CODES.keys() == {"json", "xml", "ndjson"}


@pytest.mark.parametrize("media_type", BODIES)
def test_a_resource_is_read_and_written_in_a_media_type_and_asked_for_by_it(
    client: httpx.Client, media_type: str
) -> None:
    headers = {"Content-Type": media_type, "Accept": media_type}
    made = client.post("Patient", content=BODIES[media_type], headers=headers)
    assert made.status_code == 201, made.text
    assert made.headers["Content-Type"].partition(";")[0] == media_type
    path = made.headers["Location"].partition("/fhir/")[2].partition("/_history")[0]
    for answer in (client.get(path, headers={"Accept": media_type}), client.get(path, params={"_format": media_type})):
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].partition(";")[0] == media_type
        assert answer.content == made.content


@pytest.mark.parametrize("media_type", LINES)
def test_a_search_is_written_in_lines_and_asked_for_by_it(client: httpx.Client, media_type: str) -> None:
    client.put("Basic/line", json={"resourceType": "Basic", "id": "line", "code": {"text": "x"}})
    for answer in (
        client.get("Basic?_id=line", headers={"Accept": media_type}),
        client.get("Basic", params={"_id": "line", "_format": media_type}),
    ):
        assert answer.headers["Content-Type"].partition(";")[0] == media_type
        assert answer.json()["id"] == "line"


@pytest.mark.parametrize(("code", "media_type"), FORMAT_CODES.items())
def test_a_short_name_asks_for_a_format(client: httpx.Client, code: str, media_type: str) -> None:
    answer = client.get("Basic", params={"_id": "none", "_format": code})
    assert answer.headers["Content-Type"].partition(";")[0] == media_type


def test_a_query_of_graphql_is_sent_as_it_is(client: httpx.Client) -> None:
    client.put("Basic/graph", json={"resourceType": "Basic", "id": "graph", "code": {"text": "x"}})
    headers = {"Content-Type": "application/graphql"}
    answer = client.post("Basic/graph/$graphql", content="{ id }", headers=headers)
    assert answer.json() == {"data": {"id": "graph"}}
    assert client.post("Basic", content="{ id }", headers=headers).status_code == 415


def test_a_body_without_a_type_is_taken_as_json(client: httpx.Client) -> None:
    assert client.post("Patient", content=JSON).status_code == 201


def test_an_answer_says_what_it_depends_on_and_how_long_it_may_be_kept(client: httpx.Client) -> None:
    client.put("Basic/kept", json={"resourceType": "Basic", "id": "kept", "code": {"text": "x"}})
    answer = client.get("Basic/kept")
    assert "accept" in answer.headers["Vary"].lower()
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert client.get("Basic/never-was").headers["Cache-Control"] == "no-store"
    assert "accept-encoding" in client.get("metadata").headers["Vary"].lower()


def test_a_patch_in_another_format_is_told_which_there_are(client: httpx.Client) -> None:
    client.put("Basic/patched", json={"resourceType": "Basic", "id": "patched", "code": {"text": "x"}})
    answer = client.patch("Basic/patched", content=b"x", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert answer.headers["Accept-Patch"] == ", ".join(PATCH_FORMATS)


def test_a_body_that_announces_more_than_is_read_is_refused_at_once(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/fhir+json", "Content-Length": str(2**40)}
    request = client.build_request("POST", "Patient", content=JSON, headers=headers)
    assert client.send(request).status_code == 413
