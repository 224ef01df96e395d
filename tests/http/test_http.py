"""The HTTP edge: formats, headers, compression, addresses, errors."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import httpx
import pytest

JSON = {"Content-Type": "application/fhir+json"}
PATIENT = b'{"resourceType":"Patient"}'


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/fhir+json"),
        ("*/*", "application/fhir+json"),
        ("application/json", "application/json"),
        ("application/fhir+xml;q=0.9, application/fhir+json", "application/fhir+json"),
        ("application/fhir+turtle, application/json;q=0.5", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/fhir+json"),
        ("application/fhir+ndjson, application/json;q=0.1", "application/json"),
        ("application/fhir+json; fhirVersion=4.0", "application/fhir+json"),
    ],
)
def test_the_answer_is_in_the_format_that_the_client_accepts_best(
    client: httpx.Client, accept: str, media_type: str
) -> None:
    answer = client.get("metadata", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == f"{media_type};charset=utf-8"


@pytest.mark.parametrize(
    "request_of",
    [
        {"headers": {"Accept": "text/turtle"}},
        {"headers": {"Accept": "application/fhir+ndjson"}},
        {"headers": {"Accept": "application/fhir+json; fhirVersion=3.0"}},
        {"headers": {"Accept": "application/json;q=0"}},
        {"params": {"_format": "ttl"}},
        {"params": {"_format": "ndjson"}},
        {"params": {"_format": "application/fhir+turtle"}},
    ],
)
def test_a_format_that_is_not_spoken_is_406(client: httpx.Client, request_of: dict[str, Any]) -> None:
    answer = client.get("metadata", **request_of)
    assert answer.status_code == 406
    assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("form", ["json", "application/json", "application/fhir+json", "application/fhir%2Bjson"])
def test_format_wins_over_accept(client: httpx.Client, form: str) -> None:
    assert client.get(f"metadata?_format={form}", headers={"Accept": "application/fhir+xml"}).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "application/fhir+turtle",
        "application/fhir+ndjson",
        "text/plain",
        "application/fhir+json; charset=latin-1",
        "application/fhir+json; fhirVersion=3.0",
    ],
)
def test_a_body_in_a_format_that_is_not_spoken_is_415(client: httpx.Client, content_type: str) -> None:
    answer = client.post("Patient", content=PATIENT, headers={"Content-Type": content_type})
    assert answer.status_code == 415
    assert answer.json()["issue"][0]["code"] == "not-supported"


def test_pretty_is_the_same_document_indented(client: httpx.Client) -> None:
    made = client.post("Patient", content=PATIENT, headers=JSON).json()
    answer = client.get(f"Patient/{made['id']}?_pretty=true")
    assert answer.json() == made
    assert answer.text.startswith('{\n  "resourceType"')


def test_head_is_get_without_the_body(client: httpx.Client) -> None:
    made = client.post("Patient", content=PATIENT, headers=JSON).json()
    get, head = client.get(f"Patient/{made['id']}"), client.head(f"Patient/{made['id']}")
    assert head.content == b""
    skip = {"date", "x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in skip} == {
        k: v for k, v in get.headers.items() if k not in skip
    }
    assert client.head("Patient/never-was").status_code == 404


def test_a_large_answer_is_compressed_for_who_accepts_it(client: httpx.Client) -> None:
    plain = client.get("metadata", headers={"Accept-Encoding": "identity"})
    packed = client.get("metadata", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 5


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_unpacked(client: httpx.Client, encoding: str, pack: Any) -> None:
    answer = client.post("Patient", content=pack(PATIENT), headers={**JSON, "Content-Encoding": encoding})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [(b"no gzip", "gzip", 400), (gzip.compress(PATIENT, mtime=0)[:-9], "gzip", 400), (PATIENT, "br", 415)],
)
def test_a_broken_or_unknown_compression_is_refused(
    client: httpx.Client, body: bytes, encoding: str, status: int
) -> None:
    answer = client.post("Patient", content=body, headers={**JSON, "Content-Encoding": encoding})
    assert answer.status_code == status


def test_a_body_above_the_limit_is_refused_packed_or_not(make_server: Any) -> None:
    server = make_server(max_body_bytes=4096)
    bomb = b'{"resourceType":"Patient"' + b" " * 1_000_000 + b"}"
    assert server.client.post("Patient", content=bomb, headers=JSON).status_code == 413
    packed = server.client.post("Patient", content=gzip.compress(bomb), headers={**JSON, "Content-Encoding": "gzip"})
    assert packed.status_code == 413
    assert "4,096" in packed.json()["issue"][0]["diagnostics"]

    def pieces() -> Any:
        yield from (b" " * 1000 for _ in range(10))

    assert server.client.post("Patient", content=pieces(), headers=JSON).status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b"[1,2]",
        b'"text"',
        b"null",
        b"\xef\xbb\xbf{}",
        b'{"resourceType":"Patient","active":true,"active":false}',
        b'{"resourceType":"Patient","multipleBirthInteger":NaN}',
        b'{"resourceType":"Patient","name":[{"family":"\\ud800"}]}',
        b'{"resourceType":"Patient","name":[{"family":"\xff"}]}',
        b'{"resourceType":"Patient","extension":' + b'[{"extension":' * 400 + b"[]" + b"}]" * 400 + b"}",
        b"[" * 100_000,
        b'{"resourceType":17}',
        b'{"no":"type"}',
    ],
)
def test_what_is_no_resource_is_refused_with_an_outcome(client: httpx.Client, body: bytes) -> None:
    answer = client.post("Patient", content=body, headers=JSON)
    assert answer.status_code == 400
    issue = answer.json()["issue"][0]
    assert issue["severity"] == "error"
    assert issue["diagnostics"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "Nonsense/1", 404),
        ("GET", "patient/1", 404),
        ("GET", "Patient/1/2/3/4", 404),
        ("GET", "Patient/$nonsense", 404),
        ("GET", "$nonsense", 404),
        ("PATCH", "metadata", 405),
        ("POST", "Patient/1", 405),
        ("DELETE", "metadata", 405),
        ("PUT", "", 405),
        ("TRACE", "Patient/1", 405),
    ],
)
def test_an_address_or_method_that_is_none_is_told(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert ("Allow" in answer.headers) == (status == 405)


def test_a_misspelt_type_gets_a_hint(client: httpx.Client) -> None:
    assert "did you mean Patient?" in client.get("Patiant/1").json()["issue"][0]["diagnostics"]


def test_a_request_id_is_given_or_made(client: httpx.Client) -> None:
    assert client.get("metadata", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    made = [client.get("metadata", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"] for _ in range(2)]
    assert len(set(made)) == 2


def test_a_web_page_of_another_origin_may_call_and_read_the_headers(make_server: Any) -> None:
    client = make_server(auth="on").client
    origin = {"Origin": "https://app.example"}
    answer = client.get("metadata", headers=origin)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
    preflight = client.options(
        "Patient",
        headers={**origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "If-Match"},
    )
    assert preflight.status_code == 200
    assert "PUT" in preflight.headers["Access-Control-Allow-Methods"]


def test_without_access_control_only_pages_of_this_machine_may_call(client: httpx.Client) -> None:
    allowed = client.get("metadata", headers={"Origin": "http://localhost:3000"})
    assert allowed.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    for origin in ("https://evil.example", "http://localhost.evil.example", "null"):
        assert "Access-Control-Allow-Origin" not in client.get("metadata", headers={"Origin": origin}).headers


def test_only_listed_origins_may_call_when_there_is_a_list(make_server: Any) -> None:
    client = make_server(cors_origins=("https://app.example",)).client
    allowed = client.get("metadata", headers={"Origin": "https://app.example"})
    refused = client.get("metadata", headers={"Origin": "https://evil.example"})
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_with_access_control_only_the_token_opens_the_door(make_server: Any) -> None:
    server = make_server(auth="on")
    client, token = server.client, server.settings.access_token_file.read_text().strip()
    assert client.get("metadata").status_code == 200
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {token}"},
        {"Authorization": token},
    ):
        refused = client.get("Patient", headers=headers)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        assert refused.json()["issue"][0]["code"] == "login"
        assert client.get("Patient/1", headers=headers).status_code == 401
        assert client.post("", json={"resourceType": "Bundle", "type": "batch"}, headers=headers).status_code == 401
    assert client.get("Patient", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_health_metrics_and_front_page_answer(server: Any) -> None:
    root = server.base_url.removesuffix("/fhir")
    client = server.client
    client.get("Patient/never-was")
    assert client.get(f"{root}/health/live").json() == {"status": "up"}
    assert client.get(f"{root}/health/ready").json() == {"status": "up", "database": "up"}
    metrics = client.get(f"{root}/metrics").text
    assert 'healthsphere_http_request_duration_seconds_count{method="GET"' in metrics
    assert "never-was" not in metrics
    assert "CapabilityStatement" in client.get(f"{root}/").text


def test_while_the_database_is_away_the_server_says_so(make_server: Any) -> None:
    server = make_server()
    server.client.post("Patient", json={"resourceType": "Patient"})
    store = server.context.repository.store

    async def away() -> None:
        await store._client.close()

    server.run(away())
    answer = server.client.get("Patient/1")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert server.client.get(server.base_url.removesuffix("/fhir") + "/health/ready").status_code == 503
    server.close()  # it would go on to say that its database is away, into the output of other tests


def test_the_capability_statement_tells_what_the_table_of_interactions_holds(client: httpx.Client) -> None:
    statement = client.get("metadata").json()
    (rest,) = statement["rest"]
    assert statement["fhirVersion"] == "4.0.1"
    assert len(rest["resource"]) == 146
    assert {i["code"] for i in rest["interaction"]} == {"transaction", "batch", "history-system", "search-system"}
    patient = next(r for r in rest["resource"] if r["type"] == "Patient")
    assert {i["code"] for i in patient["interaction"]} == {
        "read",
        "vread",
        "update",
        "patch",
        "delete",
        "history-instance",
        "history-type",
        "create",
        "search-type",
    }
    assert {"_id", "identifier", "birthdate", "general-practitioner"} <= {p["name"] for p in patient["searchParam"]}
    assert client.get("metadata?mode=normative").json()["rest"][0]["resource"][0]["type"] == "Binary"
    assert client.get("metadata?mode=terminology").json()["resourceType"] == "TerminologyCapabilities"
    assert client.get("metadata?mode=nonsense").status_code == 400
