"""Loads that are interrupted: by Ctrl-C, a crash, a server that vanishes, an answer that is lost."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from fhir_server.load import LoadReport
from tests.load.files import (
    entry,
    lines,
    load,
    patient,
    rejects,
    transaction,
    wait_for,
    written,
)


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
    wait_for(lambda: len(fhir.requests) == 1)
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
    wait_for(lambda: len(fhir.requests) == 2)
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
    wait_for(lambda: len(fhir.requests) == 1)
    report = load(fhir, tmp_path, path)
    other.join()
    assert "Another load" in (report.failure or "")
    assert (reports[0].created, len(fhir.requests)) == (1, 1)
    assert list((tmp_path / "state").iterdir()) == []


def _changed_token_after(fhir: Any, *, requests: int) -> threading.Thread:
    """The server stops accepting the token once it has had some requests."""

    def change() -> None:
        wait_for(lambda: len(fhir.requests) > requests)
        fhir.token = "new"

    thread = threading.Thread(target=change)
    thread.start()
    return thread


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
