"""`healthsphere load` against a real HTTP server on loopback."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from starlette.responses import JSONResponse

from fhir_server.load import LoadOptions, LoadReport, run


def load(fhir: Any, tmp_path: Path, *paths: Path, **more: Any) -> LoadReport:
    options = LoadOptions(
        paths=tuple(str(path) for path in paths),
        base_url=fhir.base_url,
        state_dir=tmp_path / "state",
        rejects=tmp_path / "rejects.ndjson",
        **more,
    )
    return run(options, Console(file=io.StringIO()))


def rejects(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "rejects.ndjson").read_text().splitlines()]


def patient(number: int, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": f"p{number}", **more}


def written(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def lines(path: Path, resources: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(resource) + "\n" for resource in resources))
    return path


def transaction(*entries: dict[str, Any], kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def entry(resource: dict[str, Any], method: str = "POST", **request: str) -> dict[str, Any]:
    name = resource["resourceType"]
    url = f"{name}/{resource['id']}" if method == "PUT" else name
    return {"resource": resource, "request": {"method": method, "url": url, **request}}


def practitioner(number: int) -> dict[str, Any]:
    return entry(
        {"resourceType": "Practitioner", "identifier": [{"system": "s", "value": f"n{number}"}]},
        ifNoneExist=f"identifier=s|n{number}",
    )


def encounter(number: int) -> dict[str, Any]:
    reference = {"reference": f"Practitioner?identifier=s|n{number}"}
    return entry({"resourceType": "Encounter", "participant": [{"individual": reference}]})


def test_a_resource_with_an_id_is_put_and_one_without_is_posted(fhir: Any, tmp_path: Path) -> None:
    first = written(tmp_path / "a.json", patient(1))
    second = written(tmp_path / "b.json", {"resourceType": "Patient"})
    report = load(fhir, tmp_path, first, second)
    assert sorted(request[:2] for request in fhir.requests) == [("POST", "Patient"), ("PUT", "Patient/p1")]
    assert (report.created, report.files, report.exit_code, dict(report.by_type)) == (2, 2, 0, {"Patient": 2})
    assert not (tmp_path / "rejects.ndjson").exists()


def test_a_resource_is_sent_as_it_stands_in_the_file_without_its_byte_order_mark(fhir: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"resourceType": "Observation", "id": "o", "valueQuantity": {"value": 1.10}}')
    assert load(fhir, tmp_path, path).created == 1


def test_a_folder_is_loaded_with_what_is_below_it_but_nothing_hidden_or_of_another_kind(
    fhir: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    written(folder / "a" / "1.json", patient(1))
    written(folder / "2.json", patient(2))
    written(folder / ".hidden.json", patient(3))
    written(folder / ".git" / "4.json", patient(4))
    written(folder / "notes.txt", patient(5))
    load(fhir, tmp_path, folder)
    assert sorted(fhir.store) == ["Patient/p1", "Patient/p2"]


def test_ndjson_goes_in_batches_and_gzip_is_unpacked(fhir: Any, tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson.gz"
    path.write_bytes(gzip.compress("\n\n".join(json.dumps(patient(n)) for n in range(250)).encode()))
    report = load(fhir, tmp_path, path)
    assert (report.created, len(fhir.store)) == (250, 250)
    assert sorted(len(body["entry"]) for _, _, body in fhir.requests) == [50, 100, 100]
    assert all(body["type"] == "batch" for _, _, body in fhir.requests)


def test_foundations_go_first_whatever_their_names(fhir: Any, tmp_path: Path) -> None:
    written(tmp_path / "d" / "a-patient.json", transaction(encounter(1)))
    written(tmp_path / "d" / "z-practitioners.json", transaction(practitioner(1), kind="batch"))
    report = load(fhir, tmp_path, tmp_path / "d")
    assert [body["type"] for _, _, body in fhir.requests] == ["batch", "transaction"]
    assert (report.created, report.rejected) == (2, 0)


def test_a_bundle_that_came_too_early_is_tried_again_after_the_others(fhir: Any, tmp_path: Path) -> None:
    patients = [entry({"resourceType": "Patient"}) for _ in range(3)]
    written(tmp_path / "d" / "a.json", transaction(encounter(1)))
    written(tmp_path / "d" / "b.json", transaction(*patients, practitioner(1)))
    report = load(fhir, tmp_path, tmp_path / "d", jobs=1)
    assert (report.created, report.rejected, report.files) == (5, 0, 2)


def test_a_reference_that_never_resolves_is_a_reject_that_names_the_entry(fhir: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", transaction(entry({"resourceType": "Patient"}), encounter(1)))
    report = load(fhir, tmp_path, path)
    assert (report.created, report.rejected, report.exit_code) == (0, 2, 1)
    [row] = rejects(tmp_path)
    assert row["file"] == str(path)
    assert (row["place"], row["status"], row["resources"]) == ("entry[1]", 412, 2)
    assert "matches nothing" in row["issues"][0]["diagnostics"]
    assert report.rejects_file == tmp_path / "rejects.ndjson"


def test_conditional_bundles_loaded_twice_are_unchanged_the_second_time(fhir: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", transaction(practitioner(1), practitioner(2)))
    assert load(fhir, tmp_path, path).created == 2
    report = load(fhir, tmp_path, path)
    assert (report.created, report.unchanged, len(fhir.store)) == (0, 2, 2)


def test_a_bad_line_is_rejected_by_its_number_and_spoils_no_other(fhir: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    rows = [json.dumps(patient(1)), "{not json", json.dumps(patient(3, refuse=True)), json.dumps(patient(4)), '{"a":1}']
    path.write_text("\n".join(rows))
    report = load(fhir, tmp_path, path)
    assert (report.created, report.rejected) == (2, 3)
    assert {row["place"]: row.get("status", 0) for row in rejects(tmp_path)} == {
        "line 2": 0,
        "line 3": 422,
        "line 5": 0,
    }
    [refused] = [row for row in rejects(tmp_path) if row["place"] == "line 3"]
    assert refused["issues"][0]["expression"] == ["Patient.refuse"]


@pytest.mark.parametrize("kind", ["collection", "searchset", "history"])
def test_the_resources_of_a_bundle_that_is_no_request_are_stored_each(fhir: Any, tmp_path: Path, kind: str) -> None:
    outcome = {"resource": {"resourceType": "OperationOutcome"}, "search": {"mode": "outcome"}}
    entries = [{"resource": patient(1, active=True)}, {"resource": patient(2)}, {"request": {"method": "DELETE"}}]
    if kind == "searchset":
        entries.append(outcome)
    if kind == "history":
        entries.append({"resource": patient(1, active=False)})
    path = written(tmp_path / "a.json", {"resourceType": "Bundle", "type": kind, "entry": entries})
    assert load(fhir, tmp_path, path).created == 2
    assert fhir.store["Patient/p1"]["active"] is True


def test_a_collection_whose_entries_refer_to_each_other_by_urn_is_sent_as_one_transaction(
    fhir: Any, tmp_path: Path
) -> None:
    first = {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient"}}
    second = {
        "fullUrl": "urn:uuid:2",
        "resource": {"resourceType": "Encounter", "subject": {"reference": "urn:uuid:1"}},
    }
    document = {"resourceType": "Bundle", "type": "collection", "entry": [first, second]}
    assert load(fhir, tmp_path, written(tmp_path / "a.json", document)).created == 2
    [(_, _, body)] = fhir.requests
    assert (body["type"], [row["fullUrl"] for row in body["entry"]]) == ("transaction", ["urn:uuid:1", "urn:uuid:2"])


def test_a_document_is_stored_as_a_bundle(fhir: Any, tmp_path: Path) -> None:
    document = {"resourceType": "Bundle", "id": "doc", "type": "document", "entry": [{"resource": patient(1)}]}
    load(fhir, tmp_path, written(tmp_path / "a.json", document))
    assert list(fhir.store) == ["Bundle/doc"]


def test_write_conflicts_and_busy_answers_are_tried_again(fhir: Any, tmp_path: Path) -> None:
    fhir.faults = [
        JSONResponse({}, 409),
        JSONResponse({}, 503, headers={"Retry-After": "0"}),
        JSONResponse({}, 429),
    ]
    report = load(fhir, tmp_path, written(tmp_path / "a.json", transaction(entry({"resourceType": "Patient"}))))
    assert (report.created, report.rejected, len(fhir.requests)) == (1, 0, 4)


def test_the_entries_of_a_batch_that_met_a_conflict_are_sent_again_alone(fhir: Any, tmp_path: Path) -> None:
    rows = [{"response": {"status": status}} for status in ("201 Created", "409 Conflict", "201 Created")]
    fhir.faults = [JSONResponse({"resourceType": "Bundle", "type": "batch-response", "entry": rows})]
    report = load(fhir, tmp_path, lines(tmp_path / "a.ndjson", [patient(n) for n in range(3)]))
    assert (report.created, report.rejected) == (3, 0)
    assert [len(body["entry"]) for _, _, body in fhir.requests] == [3, 1]
    assert list(fhir.store) == ["Patient/p1"]


def test_no_more_requests_are_under_way_than_jobs(fhir: Any, tmp_path: Path) -> None:
    fhir.delay_s = 0.02
    for number in range(20):
        written(tmp_path / "d" / f"{number}.json", patient(number))
    load(fhir, tmp_path, tmp_path / "d", jobs=3)
    assert fhir.most_under_way == 3


def test_without_a_server_the_load_says_so_in_one_line(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    options = LoadOptions((str(written(tmp_path / "a.json", patient(1))),), "http://127.0.0.1:9/fhir", patience_s=0.1)
    report = run(options, console)
    assert report.failure
    assert "No FHIR server answers at http://127.0.0.1:9/fhir" in report.failure
    assert "\n" not in report.failure
    assert report.exit_code == 1


def test_a_401_says_how_to_pass_a_token_and_the_token_is_sent(fhir: Any, tmp_path: Path) -> None:
    fhir.token = "secret"
    path = written(tmp_path / "a.json", patient(1))
    report = load(fhir, tmp_path, path)
    assert "--token" in (report.failure or "")
    assert report.rejected == 0
    assert load(fhir, tmp_path, path, token="secret").created == 1


def test_a_missing_path_and_an_empty_folder_are_told(fhir: Any, tmp_path: Path) -> None:
    assert "does not exist" in (load(fhir, tmp_path, tmp_path / "none").failure or "")
    (tmp_path / "empty").mkdir()
    assert "nothing to load" in (load(fhir, tmp_path, tmp_path / "empty").failure or "")


def test_a_load_that_a_vanished_server_stopped_continues_where_it_was(fhir: Any, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.ndjson", [patient(n) for n in range(30)])
    fhir.token = "t"
    fhir.delay_s = 0.05
    changer = _changed_token_after(fhir, requests=3)
    first = load(fhir, tmp_path, path, token="t", jobs=1, batch_entries=5)
    changer.join()
    assert first.failure
    assert 0 < first.created < 30
    second = load(fhir, tmp_path, path, token="new", batch_entries=7)
    assert (second.already_loaded, second.created, second.exit_code) == (first.created, 30 - first.created, 0)
    third = load(fhir, tmp_path, path, token="new")
    assert (third.already_loaded, third.updated) == (0, 30)


def test_no_resume_begins_anew(fhir: Any, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.ndjson", [patient(n) for n in range(30)])
    fhir.token, fhir.delay_s = "t", 0.05
    changer = _changed_token_after(fhir, requests=3)
    load(fhir, tmp_path, path, token="t", jobs=1, batch_entries=5)
    changer.join()
    report = load(fhir, tmp_path, path, token="new", resume=False)
    assert (report.already_loaded, report.accepted) == (0, 30)


def test_creates_that_were_under_way_at_a_crash_are_reported_and_not_sent_twice(fhir: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", transaction(entry({"resourceType": "Patient"}), entry(patient(2), "PUT")))
    fhir.delay_s = 30
    program = (
        "from pathlib import Path; from fhir_server.load import *;"
        f"run(LoadOptions(({str(path)!r},), {fhir.base_url!r}, state_dir=Path({str(tmp_path / 'state')!r})))"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    _wait_for(lambda: len(fhir.requests) == 1)
    child.kill()
    child.wait()
    fhir.delay_s = 0
    report = load(fhir, tmp_path, path)
    assert (report.accepted, report.rejected, len(fhir.requests)) == (0, 2, 1)
    assert "not known" in rejects(tmp_path)[0]["issues"][0]["diagnostics"]
    assert load(fhir, tmp_path, path).accepted == 2


def test_a_create_whose_answer_was_lost_is_of_unknown_outcome_and_an_update_is_repeated(tmp_path: Path) -> None:
    with _Hanging() as server:
        created = written(tmp_path / "a.json", {"resourceType": "Patient"})
        report = load(server, tmp_path, created)
        assert (report.rejected, server.posts) == (1, 1)
        assert "not known whether" in rejects(tmp_path)[0]["issues"][0]["diagnostics"]
        updated = written(tmp_path / "b.json", patient(1))
        report = load(server, tmp_path, updated, patience_s=0.3)
        assert report.rejected == 1
        assert server.puts > 1


def test_an_interrupt_finishes_what_is_under_way_and_the_next_load_continues(fhir: Any, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.ndjson", [patient(n) for n in range(40)])
    fhir.delay_s = 0.1
    program = (
        "from pathlib import Path; from fhir_server.load import *; import sys;"
        f"r = run(LoadOptions(({str(path)!r},), {fhir.base_url!r}, jobs=1, batch_entries=5,"
        f"state_dir=Path({str(tmp_path / 'state')!r}))); print('code', r.exit_code, r.created)"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    _wait_for(lambda: len(fhir.requests) == 2)
    child.send_signal(2)
    text, _ = child.communicate(timeout=10)
    assert "code 1" in text
    stored = len(fhir.store)
    assert 0 < stored < 40
    assert text.strip().endswith(str(stored))
    report = load(fhir, tmp_path, path)
    assert (report.already_loaded, report.created) == (stored, 40 - stored)


def test_two_loads_of_the_same_files_do_not_run_at_once(fhir: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", patient(1))
    fhir.delay_s = 0.5
    reports: list[LoadReport] = []
    other = threading.Thread(target=lambda: reports.append(load(fhir, tmp_path, path)))
    other.start()
    _wait_for(lambda: len(fhir.requests) == 1)
    report = load(fhir, tmp_path, path)
    other.join()
    assert "Another load" in (report.failure or "")
    assert (reports[0].created, len(fhir.requests)) == (1, 1)
    assert list((tmp_path / "state").iterdir()) == []


def test_standard_input_is_read_as_lines_or_as_one_document(fhir: Any, tmp_path: Path) -> None:
    program = (
        "from fhir_server.load import *; from pathlib import Path;"
        f"run(LoadOptions(('-',), {fhir.base_url!r}, state_dir=Path({str(tmp_path)!r})))"
    )
    resources = "\n".join(json.dumps(patient(n)) for n in range(3))
    subprocess.run([sys.executable, "-c", program], input=resources.encode(), check=True, capture_output=True)
    pretty = json.dumps(patient(9), indent=2).encode()
    subprocess.run([sys.executable, "-c", program], input=gzip.compress(pretty), check=True, capture_output=True)
    assert sorted(fhir.store) == ["Patient/p0", "Patient/p1", "Patient/p2", "Patient/p9"]


def _changed_token_after(fhir: Any, *, requests: int) -> threading.Thread:
    """The server stops accepting the token once it has had some requests."""

    def change() -> None:
        _wait_for(lambda: len(fhir.requests) > requests)
        fhir.token = "new"

    thread = threading.Thread(target=change)
    thread.start()
    return thread


def _wait_for(condition: Any, timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class _Hanging:
    """A server that reads requests and closes the connection instead of answering."""

    def __init__(self) -> None:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                outer.posts += 1
                self.rfile.read(int(self.headers["Content-Length"]))
                self.close_connection = True

            def do_PUT(self) -> None:
                outer.puts += 1
                self.rfile.read(int(self.headers["Content-Length"]))
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                return

        self.posts = self.puts = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/fhir"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> _Hanging:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
