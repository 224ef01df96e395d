"""`healthsphere load` against a real HTTP server on loopback."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from starlette.responses import JSONResponse

from fhir_server.load import LoadOptions, run
from tests.load.files import (
    encounter,
    entry,
    lines,
    load,
    patient,
    practitioner,
    rejects,
    transaction,
    written,
)


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


def test_a_collection_that_holds_a_resource_twice_is_no_transaction(fhir: Any, tmp_path: Path) -> None:
    twice = [{"fullUrl": f"urn:uuid:{n}", "resource": patient(1, active=bool(n))} for n in (0, 1)]
    document = {"resourceType": "Bundle", "type": "collection", "entry": twice}
    report = load(fhir, tmp_path, written(tmp_path / "a.json", document))
    assert (report.created, report.updated, fhir.requests[0][2]["type"]) == (1, 1, "batch")


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
