"""Files to load, and a load of them without a terminal."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

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


def wait_for(condition: Any, timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
