"""`python -m benchmarks.audit`: what the audit trail costs: the same requests with it and without it, in turns.

Two servers hold the same few patients, each with a database of its own. They are measured one after the other, round by
round, and medians count, since the machine is never the same for long. Beside requests a second stands the processor
time of server and mongod for each request, which says the same on a machine that others use, too. Before the other's
turn all AuditEvents are made, so that neither pays for what the other has left to do; what that takes is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.apart import apart
from benchmarks.generator import Measured, Plan, measure
from benchmarks.server import Server
from benchmarks.target import Target

PATIENTS = 200
OBSERVATIONS = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each turn takes")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server")
    parser.add_argument("--concurrency", type=int, default=8, help="callers at once")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}, {options.concurrency} callers, {options.rounds} rounds", flush=True)
    errors = 0
    with tempfile.TemporaryDirectory(prefix="healthsphere-bench-") as scratch, ExitStack() as stack:
        servers = {audit: stack.enter_context(Server(Path(scratch) / audit, audit=audit)) for audit in ("off", "on")}
        targets = {audit: Target(server.port, server.mongodb_uri()) for audit, server in servers.items()}
        for target in targets.values():
            stack.callback(target.close)
            target.store(bundle())
        caught_up(targets["on"])
        for name, requests, statuses in scenarios():
            rates: dict[str, list[float]] = {"off": [], "on": []}
            costs: dict[str, list[float]] = {"off": [], "on": []}
            for _ in range(options.rounds):
                for audit, target in targets.items():
                    plan = Plan(target.port, requests, statuses, options.seconds, options.concurrency, warm_up_s=0.0)
                    used = servers[audit].processor_s()
                    measured: Measured = apart(measure, plan)
                    used = servers[audit].processor_s() - used
                    costs[audit].append(used / max(measured.operations, 1) * 1e6)
                    errors += sum(measured.errors.values())
                    rates[audit].append(measured.per_s)
                    if audit == "on":
                        caught_up(target)
            (off, on), (cheap, dear) = (
                [statistics.median(of[audit]) for audit in ("off", "on")] for of in (rates, costs)
            )
            print(
                f"{name}: {off:,.0f}/s without, {on:,.0f}/s with ({on / off:.2f}); "
                f"{cheap:,.0f} µs of processor without, {dear:,.0f} with ({cheap / dear:.2f})",
                flush=True,
            )
        print(materializing(targets["on"]), flush=True)
    return 1 if errors else 0


def caught_up(target: Target) -> None:
    """Wait until all AuditEvents are made."""
    while target.request("GET", "/AuditEvent?_summary=count&date=1900")[0] != 200:
        time.sleep(0.1)


def materializing(target: Target) -> str:
    """How long it takes to make AuditEvents of what a burst of reads has left."""
    before = int(target.database["AuditEvent"].estimated_document_count())
    plan = Plan(target.port, list(reads()), frozenset({200}), 3.0, 8)
    apart(measure, plan)
    began, there = time.perf_counter(), int(target.database["AuditEvent"].estimated_document_count())
    caught_up(target)
    seconds = time.perf_counter() - began
    made = int(target.database["AuditEvent"].estimated_document_count()) - there
    rows = target.database.command("collStats", "_audit")
    events = sum(row["c"] for row in target.database["_audit"].find({}, {"c": 1}))
    return (
        f"materialized: {there - before:,} AuditEvents during the burst, then {made:,} in {seconds:.1f} s: "
        f"{seconds / max(made, 1) * 1e6:,.0f} µs each; {rows['size'] / events:.0f} bytes an event in the chain"
    )


def bundle() -> bytes:
    """A batch of patients, each with some Observations."""
    entries = []
    for number in range(PATIENTS):
        patient = {"resourceType": "Patient", "id": f"p{number}", "name": [{"family": f"Bench{number}"}]}
        entries.append({"resource": patient, "request": {"method": "PUT", "url": f"Patient/p{number}"}})
        for turn in range(OBSERVATIONS):
            entries.append({"resource": observation(f"o{number}-{turn}", number), "request": put(number, turn)})
    return json.dumps({"resourceType": "Bundle", "type": "batch", "entry": entries}).encode()


def put(number: int, turn: int) -> dict[str, str]:
    return {"method": "PUT", "url": f"Observation/o{number}-{turn}"}


def observation(name: str | None, number: int) -> dict[str, object]:
    return {
        "resourceType": "Observation",
        **({"id": name} if name else {}),
        "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7", "display": "Body weight"}]},
        "subject": {"reference": f"Patient/p{number}"},
        "effectiveDateTime": "2026-11-20T09:30:00+01:00",
        "valueQuantity": {"value": 71.5, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
        "note": [{"text": "measured at home, in the morning, before breakfast " * 8}],
    }


def reads() -> Iterator[bytes]:
    for number in range(PATIENTS):
        for turn in range(OBSERVATIONS):
            yield request("GET", f"/fhir/Observation/o{number}-{turn}")


def scenarios() -> Iterator[tuple[str, list[bytes], frozenset[int]]]:
    yield "read", list(reads()), frozenset({200})
    searches = [request("GET", f"/fhir/Observation?patient=p{number}") for number in range(PATIENTS)]
    yield "search of 10", searches, frozenset({200})
    body = json.dumps(observation(None, 1)).encode()
    yield "create", [request("POST", "/fhir/Observation", body)], frozenset({201})


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body:
        head += f"Content-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


if __name__ == "__main__":
    sys.exit(main())
