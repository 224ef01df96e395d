"""`python -m benchmarks.access`: what access control costs, with the audit trail on: the same requests in turns.

One server has neither access control nor trail, the other has both; each holds the same patients in a database of its
own. They are measured one after the other, round by round, and medians count. On the guarded one the requests are sent
by three callers: a system client, which may see everything that its scopes name; a clinician of many patients, and a
patient, whose policies go into every query.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.apart import apart
from benchmarks.audit import OBSERVATIONS, PATIENTS, bundle, caught_up, request
from benchmarks.generator import Measured, Plan, measure
from benchmarks.server import Server
from benchmarks.target import Target

#: Nobody is counted: it is not limits that are measured.
UNLIMITED = {"client_requests_per_minute": 0, "address_requests_per_minute": 0, "auth_requests_per_minute": 0}
DOCTOR = "Practitioner/bench"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.access", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each turn takes")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server")
    parser.add_argument("--concurrency", type=int, default=8, help="callers at once")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}, {options.concurrency} callers, {options.rounds} rounds", flush=True)
    errors = 0
    with tempfile.TemporaryDirectory(prefix="healthsphere-bench-") as scratch, ExitStack() as stack:
        plain = stack.enter_context(Server(Path(scratch) / "plain", audit="off"))
        guarded = stack.enter_context(Server(Path(scratch) / "guarded", auth="on", audit="on", **UNLIMITED))
        targets = {server: Target(server.port, server.mongodb_uri()) for server in (plain, guarded)}
        targets[guarded].token = (guarded.data_dir / "access-token").read_text().strip()
        for target in targets.values():
            stack.callback(target.close)
            target.store(bundle())
            target.store(panel())
        tokens = {
            "system client": guarded.token("system/*.rs"),
            "clinician": guarded.token("user/*.rs", "--user", DOCTOR),
            "patient": guarded.token("patient/*.rs", "--user", "Patient/p0", "--patient", "p0"),
        }
        for who, token in tokens.items():
            for name, paths in scenarios(patients=1 if who == "patient" else PATIENTS):
                rates: dict[Server, list[float]] = {plain: [], guarded: []}
                for _ in range(options.rounds):
                    for server, target in targets.items():
                        asked = [with_token(request("GET", path), token if server is guarded else "") for path in paths]
                        plan = Plan(target.port, asked, frozenset({200}), options.seconds, options.concurrency)
                        measured: Measured = apart(measure, plan)
                        errors += sum(measured.errors.values())
                        rates[server].append(measured.per_s)
                    caught_up(targets[guarded])
                off, on = (statistics.median(rates[server]) for server in (plain, guarded))
                print(f"{who}, {name}: {off:,.0f}/s without, {on:,.0f}/s with ({on / off:.2f})", flush=True)
    return 1 if errors else 0


def panel() -> bytes:
    """A batch that makes all patients those of one clinician."""
    rows = [{"resourceType": "Practitioner", "id": "bench", "active": True}] + [
        {
            "resourceType": "Patient",
            "id": f"p{number}",
            "name": [{"family": f"Bench{number}"}],
            "generalPractitioner": [{"reference": DOCTOR}],
        }
        for number in range(PATIENTS)
    ]
    entries = [{"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in rows]
    return json.dumps({"resourceType": "Bundle", "type": "batch", "entry": entries}).encode()


def scenarios(patients: int) -> list[tuple[str, list[str]]]:
    reads = [f"/fhir/Observation/o{n}-{turn}" for n in range(patients) for turn in range(OBSERVATIONS)]
    return [("read", reads), ("search of 10", [f"/fhir/Observation?patient=p{n}" for n in range(patients)])]


def with_token(sent: bytes, token: str) -> bytes:
    """The same request with an access token."""
    line, _, rest = sent.partition(b"\r\n")
    return line + b"\r\nAuthorization: Bearer " + token.encode() + b"\r\n" + rest if token else sent


if __name__ == "__main__":
    sys.exit(main())
