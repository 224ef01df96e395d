"""Binary: contents of any type and size, as they are and as a resource."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from benchmarks.server import Server
from fhir_server.repository.contents import INLINE_BYTES
from fhir_server.storage.blobs import PIECE
from fhir_server.storage.database import connect, database_of
from tests.conftest import InProcessServer

FHIR = {"Accept": "application/fhir+json"}
MEGABYTE = 2**20
LARGE = random.Random(7).randbytes(3 * PIECE + 1234)
SMALL = b"%PDF-1.7 a small one \x00\xff"


def upload(client: httpx.Client, data: bytes, content_type: str = "application/pdf", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("Binary", content=data, headers={"Content-Type": content_type, **named})


@pytest.mark.parametrize("data", [b"", SMALL, LARGE, LARGE[:INLINE_BYTES], LARGE[: INLINE_BYTES + 1], LARGE[:PIECE]])
def test_a_content_comes_back_as_it_was_sent(client: httpx.Client, data: bytes) -> None:
    made = upload(client, data)
    resource = made.json()
    assert made.status_code == 201
    assert made.headers["Location"] == f"{client.base_url}Binary/{resource['id']}/_history/1"
    assert resource["contentType"] == "application/pdf"
    answer = client.get(f"Binary/{resource['id']}", headers={"Accept": "*/*"})
    assert answer.content == data
    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.headers["Content-Length"] == str(len(data))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == "attachment"
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Last-Modified"]
    head = client.head(f"Binary/{resource['id']}")
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(data)))


@pytest.mark.parametrize("data", [SMALL, LARGE])
@pytest.mark.parametrize(
    "accept", ["application/fhir+json", "application/fhir+json;q=0.9, */*;q=0.1", "application/json"]
)
def test_a_client_that_likes_fhir_best_gets_the_resource(client: httpx.Client, data: bytes, accept: str) -> None:
    made = upload(client, data)
    answer = client.get(f"Binary/{made.json()['id']}", headers={"Accept": accept})
    assert "json;" in answer.headers["Content-Type"]
    assert answer.headers["ETag"] == 'W/"1"'
    assert answer.json()["data"] == b64encode(data).decode()
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_a_large_content_is_told_in_xml_and_indented_too(client: httpx.Client) -> None:
    where = f"Binary/{upload(client, LARGE).json()['id']}"
    text = b64encode(LARGE).decode()
    assert f'<data value="{text}"/>' in client.get(where, params={"_format": "xml"}).text
    assert client.get(where, params={"_pretty": "true", "_format": "json"}).json()["data"] == text
    assert "data" not in client.get(where, params={"_elements": "contentType"}).json()


@pytest.mark.parametrize(
    "accept", ["application/pdf", "text/html, */*;q=0.8", "image/png", "text/html,application/xml;q=0.9"]
)
def test_any_other_wish_gets_the_content(client: httpx.Client, accept: str) -> None:
    made = upload(client, SMALL)
    answer = client.get(f"Binary/{made.json()['id']}", headers={"Accept": accept})
    assert (answer.status_code, answer.content) == (200, SMALL)


def test_json_and_xml_that_are_no_binary_are_contents(client: httpx.Client) -> None:
    document = b'<?xml version="1.0"?>\n<!-- x --><ClinicalDocument xmlns="urn:hl7-org:v3"><id/></ClinicalDocument>'
    for content_type, data in [
        ("text/xml", document),
        ("application/json", b'{"anything": 1.10}'),
        ("application/fhir+json", b'{"resourceType":"Patient","active":true}'),
        ("application/fhir+xml", b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'),
    ]:
        made = upload(client, data, content_type)
        assert made.status_code == 201, made.text
        assert made.json()["contentType"] == content_type
        answer = client.get(f"Binary/{made.json()['id']}", headers={"Accept": "*/*"})
        assert (answer.headers["Content-Type"], answer.content) == (content_type, data)
    own = client.get(f"Binary/{made.json()['id']}", headers={"Accept": "application/fhir+xml"})
    assert own.text.startswith("<")
    assert "<Binary" in own.text


def test_a_binary_resource_is_a_resource_in_json_and_in_xml(client: httpx.Client) -> None:
    text = b64encode(SMALL).decode()
    as_json = client.post("Binary", json={"resourceType": "Binary", "contentType": "image/png", "data": text})
    xml = f'<Binary xmlns="http://hl7.org/fhir"><contentType value="image/png"/><data value="{text}"/></Binary>'
    as_xml = upload(client, xml.encode(), "application/fhir+xml")
    for made in (as_json, as_xml):
        assert made.json()["data"] == text
        answer = client.get(f"Binary/{made.json()['id']}", headers={"Accept": "*/*"})
        assert (answer.content, answer.headers["Content-Type"]) == (SMALL, "image/png")


def test_what_is_no_resource_and_calls_itself_fhir_is_refused(client: httpx.Client) -> None:
    assert upload(client, b'{"resourceType":', "application/fhir+json").status_code == 400
    assert upload(client, b"{}", "application/fhir+json").status_code == 400
    assert upload(client, b'{"resourceType":"Binary","data":"QQ=="}', "application/json").status_code == 400


def test_large_data_in_json_is_kept_beside_and_comes_back_equal(
    client: httpx.Client, server: InProcessServer, mongodb_uri: str
) -> None:
    sent = {
        "resourceType": "Binary",
        "id": "large-json",
        "contentType": "image/png",
        "securityContext": {"reference": "Patient/1"},
        "data": b64encode(LARGE).decode(),
    }
    made = client.put("Binary/large-json", json=sent)
    assert made.status_code == 201
    found = client.get("Binary/large-json", headers=FHIR).json()
    assert made.json() == found
    assert {name: value for name, value in found.items() if name != "meta"} == sent
    with MongoClient[dict[str, Any]](mongodb_uri) as mongo:
        document = mongo[server.settings.mongodb_database]["Binary"].find_one({"_id": "large-json"})
    assert document is not None
    assert len(document["r"]) < 1000
    assert document["b"]["s1"] == hashlib.sha1(LARGE).hexdigest()
    assert document["b"]["s256"] == hashlib.sha256(LARGE).hexdigest()
    assert client.get("Binary/large-json", headers={"Accept": "*/*"}).headers["X-Security-Context"] == "Patient/1"


def test_base64_with_white_space_comes_back_as_it_was_spelt(client: httpx.Client) -> None:
    text = "\n".join(b64encode(LARGE).decode()[i : i + 76] for i in range(0, 400_000, 76))
    made = client.post("Binary", json={"resourceType": "Binary", "contentType": "image/png", "data": text})
    assert made.status_code == 201
    assert client.get(f"Binary/{made.json()['id']}", headers=FHIR).json()["data"] == text


def test_the_security_context_of_a_content_comes_in_a_header(client: httpx.Client) -> None:
    made = upload(client, LARGE, X_Security_Context="Patient/77")
    assert made.json()["securityContext"] == {"reference": "Patient/77"}
    assert client.get(f"Binary/{made.json()['id']}").headers["X-Security-Context"] == "Patient/77"
    assert upload(client, SMALL, X_Security_Context="no reference").status_code == 400


@pytest.mark.parametrize("data", [LARGE, LARGE[:1000]])
@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=100-", 100, None),
        ("bytes=-5", -5, None),
        ("bytes=999-99999999999", 999, None),
        ("bytes=-99999999", 0, None),
    ],
)
def test_a_range_of_bytes(client: httpx.Client, data: bytes, header: str, start: int, end: int | None) -> None:
    where = f"Binary/{upload(client, data).json()['id']}"
    answer = client.get(where, headers={"Range": header})
    wanted = data[start:end]
    first = start if start >= 0 else len(data) + start
    assert answer.status_code == 206
    assert answer.content == wanted
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(data)}"
    assert answer.headers["Content-Length"] == str(len(wanted))


def test_every_range_over_the_seams_of_pieces(client: httpx.Client) -> None:
    where = f"Binary/{upload(client, LARGE).json()['id']}"
    for start, end in [(PIECE - 1, PIECE), (PIECE, PIECE), (PIECE - 1, 2 * PIECE + 1), (3 * PIECE, len(LARGE) - 1)]:
        answer = client.get(where, headers={"Range": f"bytes={start}-{end}"})
        assert answer.content == LARGE[start : end + 1]


def test_a_range_behind_the_end_cannot_be_satisfied(client: httpx.Client) -> None:
    where = f"Binary/{upload(client, SMALL).json()['id']}"
    for header in (f"bytes={len(SMALL)}-", "bytes=-0"):
        answer = client.get(where, headers={"Range": header})
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{len(SMALL)}"
        assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-HTTP-RANGE"
    for ignored in ("bytes=1-2,4-5", "lines=1-2", "bytes=5-2", "bytes=-", "bytes=a-b"):
        assert client.get(where, headers={"Range": ignored}).status_code == 200


def test_a_range_of_another_version_is_the_whole(client: httpx.Client) -> None:
    client.put("Binary/ranged", content=LARGE, headers={"Content-Type": "image/png"})
    before = client.get("Binary/ranged")

    def ranged(condition: str) -> int:
        return client.get("Binary/ranged", headers={"Range": "bytes=0-9", "If-Range": condition}).status_code

    assert ranged(before.headers["ETag"]) == 206
    assert ranged(before.headers["Last-Modified"]) == 206
    assert ranged('W/"1"') == 200
    client.put("Binary/ranged", content=LARGE[::-1], headers={"Content-Type": "image/png"})
    assert ranged(before.headers["ETag"]) == 200


def test_versions_history_and_deletion_are_those_of_any_resource(client: httpx.Client) -> None:
    kind = {"Content-Type": "image/png"}
    assert client.put("Binary/lived", content=LARGE, headers=kind).status_code == 201
    assert client.put("Binary/lived", content=SMALL, headers=kind | {"If-Match": 'W/"1"'}).status_code == 200
    assert client.put("Binary/lived", content=LARGE, headers=kind | {"If-Match": 'W/"1"'}).status_code == 412
    assert client.get("Binary/lived/_history/1").content == LARGE
    assert client.get("Binary/lived/_history/2").content == SMALL
    assert client.get("Binary/lived", headers={"If-None-Match": '"2"'}).status_code == 304
    entries = client.get("Binary/lived/_history").json()["entry"]
    assert [entry["resource"]["meta"]["versionId"] for entry in entries] == ["2", "1"]
    assert client.delete("Binary/lived").status_code == 204
    assert client.get("Binary/lived").status_code == 410
    assert client.get("Binary/lived/_history/1").content == LARGE
    assert client.put("Binary/no%20id", content=LARGE, headers=kind).status_code == 400


def test_a_patch_and_labels_keep_the_content(client: httpx.Client) -> None:
    client.put("Binary/patched", content=LARGE, headers={"Content-Type": "image/png"})
    patch = [{"op": "replace", "path": "/contentType", "value": "image/jpeg"}]
    changed = client.patch("Binary/patched", json=patch, headers={"Content-Type": "application/json-patch+json"})
    assert changed.status_code == 200, changed.text
    tag = {"name": "meta", "valueMeta": {"tag": [{"system": "urn:x", "code": "seen"}]}}
    labelled = client.post("Binary/patched/$meta-add", json={"resourceType": "Parameters", "parameter": [tag]})
    assert labelled.status_code == 200, labelled.text
    answer = client.get("Binary/patched")
    assert (answer.content, answer.headers["Content-Type"], answer.headers["ETag"]) == (LARGE, "image/jpeg", '"3"')


def test_a_conditional_create_keeps_nothing_where_a_match_exists(
    client: httpx.Client, server: InProcessServer, mongodb_uri: str
) -> None:
    tag = {"meta": {"tag": [{"system": "urn:binary", "code": "once"}]}}
    client.post("Binary", json={"resourceType": "Binary", "contentType": "image/png", **tag})
    with MongoClient[dict[str, Any]](mongodb_uri) as mongo:
        database = mongo[server.settings.mongodb_database]
        before = database["_blobs.files"].count_documents({})
        again = upload(client, LARGE, If_None_Exist="_tag=urn:binary|once")
        assert again.status_code == 200
        assert database["_blobs.files"].count_documents({}) == before
        assert database["_uploads"].count_documents({}) == 0


def test_a_bundle_has_the_resource_with_its_data(client: httpx.Client) -> None:
    text = b64encode(LARGE).decode()
    resource = {"resourceType": "Binary", "contentType": "image/png", "data": text}
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": {**resource, "id": "bundled"}, "request": {"method": "PUT", "url": "Binary/bundled"}},
            {"request": {"method": "GET", "url": "Binary/bundled"}},
        ],
    }
    answer = client.post("", json=bundle)
    assert answer.status_code == 200, answer.text
    assert answer.json()["entry"][1]["resource"]["data"] == text
    batch = {**bundle, "type": "batch", "entry": bundle["entry"][1:]}
    assert client.post("", json=batch).json()["entry"][0]["resource"]["data"] == text
    assert client.get("Binary/bundled").content == LARGE


def test_a_compressed_body_is_unpacked(client: httpx.Client) -> None:
    for data in (SMALL, LARGE):
        made = upload(client, gzip.compress(data), Content_Encoding="gzip")
        assert made.status_code == 201, made.text
        assert client.get(f"Binary/{made.json()['id']}").content == data
    assert upload(client, gzip.compress(LARGE)[:-100], Content_Encoding="gzip").status_code == 400
    assert upload(client, LARGE, Content_Encoding="br").status_code == 415


def test_a_content_above_the_limit_is_refused_and_leaves_nothing(
    make_server: Callable[..., InProcessServer], mongodb_uri: str
) -> None:
    server = make_server(max_binary_bytes=2 * MEGABYTE)
    for data, headers in [
        (bytes(2 * MEGABYTE + 1), {}),
        (gzip.compress(bytes(5 * MEGABYTE)), {"Content_Encoding": "gzip"}),
    ]:
        answer = upload(server.client, data, **headers)
        assert answer.status_code == 413
        assert "2,097,152" in answer.json()["issue"][0]["diagnostics"]
    with MongoClient[dict[str, Any]](mongodb_uri) as mongo:
        database = mongo[server.settings.mongodb_database]
        left = [database[name].count_documents({}) for name in ("_blobs.files", "_blobs.chunks", "_uploads")]
    assert left == [0, 0, 0]


def test_what_a_crash_has_left_is_removed_and_what_versions_name_is_not(
    client: httpx.Client, server: InProcessServer, mongodb_uri: str
) -> None:
    kept = upload(client, LARGE).json()["id"]
    past = upload(client, LARGE[::-1]).json()["id"]
    client.put(f"Binary/{past}", content=SMALL, headers={"Content-Type": "image/png"})
    old = datetime.now(UTC) - timedelta(hours=2)
    with MongoClient[dict[str, Any]](mongodb_uri) as mongo:
        database = mongo[server.settings.mongodb_database]
        now = database["Binary"].find_one({"_id": kept})
        before = database["_history"].find_one({"_id": f"Binary/{past}/1"})
        assert now is not None
        assert before is not None
        database["_uploads"].insert_many(
            [
                {"_id": now["b"]["i"], "t": old},  # the server died before it removed the row
                {"_id": before["b"]["i"], "t": old},
                {"_id": "orphan", "t": old},
                {"_id": "under-way", "t": datetime.now(UTC)},
            ]
        )
        database["_blobs.chunks"].insert_many([{"files_id": "orphan", "n": n, "data": b"x"} for n in range(3)])

        async def sweep() -> int:
            from fhir_server.storage.blobs import Blobs  # noqa: PLC0415

            connection = connect(mongodb_uri)
            try:
                return await Blobs(database_of(connection, server.settings.mongodb_database)).sweep()
            finally:
                await connection.close()

        assert server.run(sweep()) == 1
        assert [row["_id"] for row in database["_uploads"].find()] == ["under-way"]
        assert database["_blobs.chunks"].count_documents({"files_id": "orphan"}) == 0
        database["_uploads"].delete_many({})
    assert client.get(f"Binary/{kept}").content == LARGE
    assert client.get(f"Binary/{past}/_history/1").content == LARGE[::-1]


# --- real servers ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("binary") / "data") as server:
        yield server


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Watch:
    """The most memory that a process has while the block runs, above what it had before."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self.before = self.most = rss_bytes(self._pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.01):
            self.most = max(self.most, rss_bytes(self._pid))

    @property
    def growth(self) -> int:
        return self.most - self.before


def server_pid(port: int) -> int:
    """The process that listens on a port of the loopback address."""
    row = next(
        line.split()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if int(line.split()[1].split(":")[1], 16) == port and line.split()[3] == "0A"
    )
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                links = [os.readlink(link) for link in (entry / "fd").iterdir()]
            except OSError:
                continue
            if f"socket:[{row[9]}]" in links:
                return int(entry.name)
    raise AssertionError("nobody listens there")


def there_and_back(server: Server, megabytes: int) -> tuple[int, int]:
    """Send and fetch a content of some size; the growth of the server's memory in each direction, in bytes."""
    block = random.Random(megabytes).randbytes(MEGABYTE)
    sent, fetched = hashlib.sha256(), hashlib.sha256()

    def content() -> Iterator[bytes]:
        for _ in range(megabytes):
            sent.update(block)
            yield block

    pid = server_pid(server.port)
    with httpx.Client(base_url=server.base_url, timeout=600) as client:
        client.post("Binary", content=LARGE, headers={"Content-Type": "image/png"})  # what is made once is made
        with Watch(pid) as up:
            made = client.post("Binary", content=content(), headers={"Content-Type": "application/dicom"})
        assert made.status_code == 201, made.text
        with Watch(pid) as down, client.stream("GET", f"Binary/{made.json()['id']}") as answer:
            assert answer.headers["Content-Length"] == str(megabytes * MEGABYTE)
            for piece in answer.iter_bytes():
                fetched.update(piece)
    assert sent.digest() == fetched.digest()
    return up.growth, down.growth


@pytest.mark.server
def test_twenty_megabytes_pass_through_without_being_in_memory(running: Server) -> None:
    up, down = there_and_back(running, 20)
    assert up < 40 * MEGABYTE
    assert down < 40 * MEGABYTE


@pytest.mark.server
@pytest.mark.slow
def test_two_hundred_megabytes_pass_through_with_less_than_a_hundred_of_memory(running: Server) -> None:
    up, down = there_and_back(running, 200)
    print(f"200 MB: memory grew by {up / MEGABYTE:.1f} MB up, {down / MEGABYTE:.1f} MB down")
    assert up < 100 * MEGABYTE
    assert down < 100 * MEGABYTE


def rows_of(server: Server) -> dict[str, int]:
    with MongoClient[dict[str, Any]](server.mongodb_uri()) as mongo:
        database = mongo["healthsphere"]
        names = ("_blobs.files", "_blobs.chunks", "_uploads", "Binary")
        return {name: database[name].count_documents({}) for name in names}


def begun_upload(server: Server, megabytes: int) -> HTTPConnection:
    """An upload that stops before its end, when at least one piece of it is stored."""
    pieces = rows_of(server)["_blobs.chunks"]
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", "/fhir/Binary")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", str(2 * megabytes * MEGABYTE))
    connection.endheaders()
    for _ in range(megabytes):
        connection.send(bytes(MEGABYTE))
    deadline = time.monotonic() + 30
    while rows_of(server)["_blobs.chunks"] == pieces:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return connection


@pytest.mark.server
def test_a_client_that_goes_away_leaves_nothing(running: Server) -> None:
    before = rows_of(running)
    begun_upload(running, 9).close()
    deadline = time.monotonic() + 30
    while rows_of(running) != before:
        assert time.monotonic() < deadline, rows_of(running)
        time.sleep(0.1)


@pytest.mark.server
def test_a_kill_in_the_middle_leaves_no_resource_and_what_it_leaves_is_removed_later(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        connection = begun_upload(server, 9)
        server.kill()
        connection.close()
        server.start()
        left = rows_of(server)
        assert left["Binary"] == 0
        assert left["_uploads"] == 1  # not an hour old: it could be under way in another process
        with MongoClient[dict[str, Any]](server.mongodb_uri()) as mongo:
            old = datetime.now(UTC) - timedelta(hours=2)
            mongo["healthsphere"]["_uploads"].update_many({}, {"$set": {"t": old}})
        server.stop()
        server.start()
        assert rows_of(server) == {"_blobs.files": 0, "_blobs.chunks": 0, "_uploads": 0, "Binary": 0}
