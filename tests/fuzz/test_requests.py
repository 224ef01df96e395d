"""Requests of any method, to any address, with any parameters and headers: never a fault of the server's own."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.registry import registry

pytestmark = pytest.mark.xdist_group("fuzz")
FUZZ = settings(settings.get_profile("fuzz"), max_examples=400)

METHODS = ["GET", "GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "FOO"]
SEGMENTS = [
    "Patient", "Observation", "Nothing", "patient", "x", "1", "_history", "_search", "metadata", "$everything",
    "$validate", "a" * 65, "a_b", "%00", "%ff", "%2F", "%252F", "..", ".", "%20", "%E2%80%AE", "*", "", "_tag",
    "_type", "Bundle", "Resource", "DomainResource", "Patient%3Fx", "%zz", "%", "hs_history", "system.users",
    "Patient.x", "$where",
]  # fmt: skip
MODIFIERS = [
    "", "", "", ":missing", ":exact", ":contains", ":not", ":text", ":in", ":not-in", ":below", ":above",
    ":identifier", ":of-type", ":Patient", ":foo", ":", "::", ":Patient.name", ".name", ":missing:exact", ":$where",
]  # fmt: skip
VALUES = [
    "", "a", "|", "||", "|||", "a|b|c", "$", "$$", "a$b", "\\", "\\,", ",", ",,", "a,b", "true", "false", "ge",
    "gt2020", "2020-99", "xx1", "1e999", "-1e-999", "1e400000000", "1e-400000000", "9" * 400, "0." + "0" * 400 + "1",
    "0", "-0", "+5", "é", "\x00", "\ud800", "\U0010ffff", "Patient/1", "Patient/", "/1", "http://x|y",
    "http://x/Patient/1/_history/2", "#x", "urn:uuid:", "5.4|http://unitsofmeasure.org|mg",
    "5|http://unitsofmeasure.org|((((", "1e6000|http://unitsofmeasure.org|mg",
    "1|http://unitsofmeasure.org|mg" + "2" * 30, "5||", "|||5", "http://loinc.org|8480-6$gt5", "8480-6$ge5||mg",
    "sa9999-12-31", "0000", "ap0001", "ap9999-12-31T23:59:59.999999999+14:00", "eb0001-01-01", "ne1", "(", "[",
    "a" * 5000, ".*", "^", "{$gt:1}", "http://hl7.org/fhir/ValueSet/administrative-gender",
    "http://terminology.hl7.org/CodeSystem/condition-clinical|active", "ValueSet/none",
]  # fmt: skip
CONTROLS = [
    "_count", "_sort", "_total", "_summary", "_elements", "_cursor", "_format", "_pretty", "_since", "_at", "_id",
    "_lastUpdated", "_tag", "_profile", "_security", "_source", "_type", "_list", "_has", "_filter", "_text",
    "_content", "_query", "_include", "_revinclude", "_contained", "mode", "_score", "nonsense",
]  # fmt: skip
CONTROL_VALUES = [
    "0", "1", "5", "-1", "1000000000000", "\u0661", "true", "text", "data", "count", "false", "none", "accurate",
    "estimate", "_id", "-_id", "_lastUpdated", "--x", "-", "name,-birthdate", "name", "json", "xml",
    "application/fhir+json", "application/xml", "*/*", "html/xml", "2020", "2020-01-01T00:00:00Z", "99999-01-01",
    "0001-01-01T00:00:00+14:00", "full", "terminology", "WyJhIl0", "e30", "====", "Patient:organization",
]  # fmt: skip
HEADERS: dict[str, list[bytes]] = {
    "if-match": [
        b'W/"1"', b'"1"', b"1", b"*", b"", b'W/"', b'W/"999999999999999999999"', b'W/"-1"', b'W/"1", W/"2"', b"\xff",
        b'W/"\xd9\xa1"',
    ],
    "if-none-match": [b'W/"1"', b"*", b"", b"x", b'W/"1",W/"2"', b"\xff"],
    "if-modified-since": [
        b"Sun, 06 Nov 1994 08:49:37 GMT", b"yesterday", b"", b"Sun, 06 Nov 99999 08:49:37 GMT", b"\xff",
        b"2020-01-01",
    ],
    "if-none-exist": [
        b"identifier=1", b"", b"?", b"x=1", b"identifier=http://x|1&", b"_id=1", b"Patient?identifier=1", b"\xff",
        b"birthdate=x",
    ],
    "prefer": [
        b"return=minimal", b"return=OperationOutcome", b"return=", b"handling=strict", b"handling=lenient", b";;;",
        b"=", b"\xff", b"return=x",
    ],
    "accept": [
        b"*/*", b"application/fhir+json", b"application/xml", b"", b"text/html", b"application/json;q=0", b"*/*;q=x",
        b";;", b"\xff", b"application/fhir+json; fhirVersion=5.0", b"*/*;q=nan", b"*/*;q=inf",
    ],
    "content-type": [
        b"application/fhir+json", b"application/json; charset=utf-16", b"text/plain", b"", b";",
        b"application/x-www-form-urlencoded", b"application/fhir+xml", b"multipart/form-data", b"\xff",
    ],
    "content-encoding": [b"gzip", b"identity", b"x"],
    "content-length": [b"0", b"-1", b"x", b"99999999999999999999", b"\xb2"],
    "x-request-id": [b"abc", b"\n", b"a" * 500, b"\xff"],
    "accept-encoding": [b"gzip", b"br", b"gzip;q=0", b"*"],
    "authorization": [b"Bearer x", b"Basic x", b""],
    "origin": [b"http://evil.example", b"null"],
}  # fmt: skip
BODIES = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b'{"resourceType":"Patient"}',
    b'{"resourceType":"Patient","id":"x"}',
    b"name=a&birthdate=x&%ff=%zz",
    b"\xff",
]


def encoded(text: str) -> bytes:
    return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="").encode()


paths = st.lists(st.sampled_from(SEGMENTS) | st.text(max_size=8).map(lambda t: encoded(t).decode()), max_size=5).map(
    "/".join
)
likely = st.sampled_from(
    [
        "Patient",
        "Patient/x",
        "Patient/x/_history",
        "Patient/x/_history/1",
        "_history",
        "Patient/_history",
        "Patient/_search",
        "",
        "metadata",
    ]
)
headers = st.dictionaries(st.sampled_from(list(HEADERS)), st.none(), max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({name: st.sampled_from(HEADERS[name]) for name in names})
)


@st.composite
def parameters(draw: st.DrawFn, resource_type: str) -> bytes:
    """A query with up to four parameters of a type, their modifiers and values as they come."""
    codes = sorted(registry().parameters_of(resource_type))
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()) and codes:
            name = draw(st.sampled_from(codes)) + draw(st.sampled_from(MODIFIERS))
            value = draw(st.sampled_from(VALUES) | st.text(max_size=10))
        else:
            name = draw(st.sampled_from(CONTROLS)) + draw(st.sampled_from(["", "", "", ":missing", ":x"]))
            value = draw(st.sampled_from(CONTROL_VALUES) | st.sampled_from(VALUES))
        parts.append(encoded(name) + b"=" + encoded(value))
    return b"&".join(parts)


@pytest.fixture(scope="module", autouse=True)
def something_to_find(fuzzed: Any) -> None:
    entries = [
        {"resource": resource, "request": {"method": "PUT", "url": f"{resource['resourceType']}/x"}}
        for resource in (
            {"resourceType": "Patient", "id": "x", "name": [{"family": "Fuzz"}], "birthDate": "1970"},
            {
                "resourceType": "Observation",
                "id": "x",
                "status": "final",
                "code": {"text": "x"},
                "valueQuantity": {"value": 1},
            },
        )
    ]
    answer = fuzzed.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200


@FUZZ
@given(
    st.sampled_from(METHODS),
    paths | likely,
    st.none() | parameters("Patient") | st.binary(max_size=20),
    headers,
    st.sampled_from(BODIES),
)
def test_any_request_is_answered(
    wire: Any, check: Any, method: str, path: str, query: bytes | None, headers: dict[str, bytes], body: bytes
) -> None:
    answer = wire(method, path.encode(), query or b"", headers, body)
    check(answer, method)
    if method == "HEAD":
        assert answer.body == b""


@settings(FUZZ, max_examples=600)
@given(st.data(), st.booleans(), st.booleans())
def test_any_search_is_answered(wire: Any, check: Any, data: st.DataObject, by_post: bool, strict: bool) -> None:
    resource_type = data.draw(st.sampled_from(["Patient", "Observation"]) | st.sampled_from(registry().resource_types))
    query = data.draw(parameters(resource_type))
    sent = {"prefer": b"handling=strict"} if strict else {}
    if by_post:
        form = {**sent, "content-type": b"application/x-www-form-urlencoded"}
        answer = wire("POST", f"{resource_type}/_search".encode(), headers=form, body=query)
    else:
        answer = wire("GET", resource_type.encode(), query, sent)
    check(answer)
    if answer.status == 200:
        bundle = json.loads(answer.body)
        assert bundle["type"] == "searchset"
        # What a link says leads to where it says.
        self_link = next(link["url"] for link in bundle["link"] if link["relation"] == "self")
        path, _, again = self_link.partition("/fhir/")[2].partition("?")
        repeated = wire("GET", path.encode(), again.encode())
        assert repeated.status == 200, self_link
        found = [e["resource"]["id"] for e in bundle.get("entry", []) if e["search"]["mode"] == "match"]
        once_more = [
            e["resource"]["id"] for e in json.loads(repeated.body).get("entry", []) if e["search"]["mode"] == "match"
        ]
        assert found == once_more


@pytest.mark.parametrize("resource_type", ["Patient", "Observation"])
def test_every_parameter_of_a_type_takes_every_odd_value(wire: Any, check: Any, resource_type: str) -> None:
    for code, definition in sorted(registry().parameters_of(resource_type).items()):
        odd = VALUES if definition.type not in ("token", "string") else VALUES[::4]
        for value in odd:
            check(wire("GET", resource_type.encode(), encoded(code) + b"=" + encoded(value)))


LONG = b"9" * 5000  # more digits than Python turns into a number
JSON_TYPE = {"content-type": b"application/fhir+json"}


def cursor(*place: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).rstrip(b"=")


@pytest.mark.parametrize(
    ("method", "path", "query", "headers"),
    [
        ("GET", b"_history", b"_count=" + LONG, {}),
        ("GET", b"Patient/x/_history", b"_count=" + LONG, {}),
        ("GET", b"Patient/x/_history/" + LONG, b"", {}),
        ("GET", b"Patient", b"_count=" + LONG, {}),
        ("GET", b"RiskAssessment", b"probability=" + LONG, {}),
        ("GET", b"_history", b"_cursor=" + cursor(2**63, "Patient", "x", 1), {}),
        ("GET", b"_history", b"_cursor=" + cursor(1, "Patient", "x", 10**30), {}),
        ("GET", b"_history", b"_cursor=" + cursor(1, "Patient\x00", "x", 1), {}),
        ("PUT", b"Patient/x", b"", {**JSON_TYPE, "if-match": b'W/"' + LONG + b'"'}),
        ("POST", b"Patient", b"", {**JSON_TYPE, "content-length": LONG}),
        ("POST", b"Patient", b"", {**JSON_TYPE, "content-length": b"\xb2"}),
        ("GET", b"Patient", b"name=" + b"a" * 200_000, {}),
        ("GET", b"Patient", b"name:contains=" + b"a" * 40_000, {}),
        ("GET", b"Observation", b"code:text=" + b"a" * 40_000, {}),
        ("GET", b"Patient", b"name=" + b"a," * 5000, {}),
        ("GET", b"Patient", b"&".join(b"birthdate=gt%d" % year for year in range(1000, 1900)), {}),
        ("GET", b"Patient", b"&".join(b"name=%d" % number for number in range(2000)), {}),
        ("GET", b"Observation", b"value-quantity=5%7Chttp://unitsofmeasure.org%7C10%5E99999999", {}),
        ("GET", b"Observation", b"value-quantity=5%7Chttp://unitsofmeasure.org%7C" + b"(" * 3000, {}),
    ],
    ids=lambda value: value[:30].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_a_number_or_text_beyond_all_measure_is_answered(
    wire: Any, check: Any, method: str, path: bytes, query: bytes, headers: dict[str, bytes]
) -> None:
    check(wire(method, path, query, headers, b'{"resourceType":"Patient","id":"x"}' if headers else b""))


@pytest.mark.parametrize("resource_type", ["Patient", "Observation", "StructureDefinition"])
def test_an_order_by_everything_at_once_is_answered(wire: Any, check: Any, resource_type: str) -> None:
    codes = sorted(code for code in registry().parameters_of(resource_type) if code != "_id")
    check(wire("GET", resource_type.encode(), b"_count=1&_sort=" + encoded(",".join(codes))))
    check(wire("GET", resource_type.encode(), b"&".join(encoded(f"{code}:missing") + b"=true" for code in codes)))


@pytest.mark.parametrize(
    "unit", ["m-99999999", "10*99999999", "(" * 5000, "m." * 5000 + "m", "m" + "9" * 5000, "/" * 1000]
)
def test_a_unit_beyond_all_measure_is_kept(wire: Any, check: Any, unit: str) -> None:
    quantity = {"value": 1.5, "system": "http://unitsofmeasure.org", "code": unit}
    resource = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueQuantity": quantity}
    answer = wire("POST", b"Observation", headers=JSON_TYPE, body=json.dumps(resource).encode())
    check(answer)
    assert answer.status == 400 or json.loads(answer.body)["valueQuantity"] == quantity


@pytest.mark.parametrize(
    "query", [b"", b"_count=1", b"_format=json", b"_summary=true", b"_sort=name", b"name=", b"_id=", b"nonsense=1"]
)
def test_criteria_that_ask_for_nothing_change_nothing(wire: Any, check: Any, query: bytes) -> None:
    body = b'{"resourceType":"Patient"}'
    before = wire("GET", b"Patient", b"_summary=count").body
    for answer in (
        wire("DELETE", b"Patient", query),
        wire("PUT", b"Patient", query, JSON_TYPE, body),
        wire("POST", b"Patient", b"", {**JSON_TYPE, "if-none-exist": query}, body),
    ):
        check(answer)
        assert answer.status in (400, 405, 412)
    assert json.loads(wire("GET", b"Patient", b"_summary=count").body)["total"] == json.loads(before)["total"]
    assert wire("GET", b"Patient/x").status == 200
