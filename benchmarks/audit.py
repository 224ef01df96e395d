"""`python -m benchmarks.audit`: what the audit trail costs: the same requests with it and without it, in turns.

Two servers hold the same few patients, each with a database of its own; `benchmarks.turns` says how they are measured.
What it takes to make AuditEvents, when there is time, is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.apart import apart
from benchmarks.generator import Plan, measure
from benchmarks.server import Server
from benchmarks.target import Target
from benchmarks.turns import CREATED, OK, Pace, Side, bundle, caught_up, in_turns, observation, reads, request, searches
from benchmarks.turns import transaction as transaction_of

ENTRIES = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each turn takes")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server")
    parser.add_argument("--concurrency", type=int, default=8, help="callers at once")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}, {options.concurrency} callers, {options.rounds} rounds", flush=True)
    errors = 0
    with tempfile.TemporaryDirectory(prefix="healthsphere-bench-") as scratch, ExitStack() as stack:
        sides = []
        for audit in ("off", "on"):
            server = stack.enter_context(Server(Path(scratch) / audit, audit=audit))
            target = Target(server.port, server.mongodb_uri())
            stack.callback(target.close)
            target.store(bundle())
            sides.append(Side(server, target, audited=audit == "on"))
        off, on = sides
        caught_up(on.target)
        pace = Pace(options.seconds, options.rounds, options.concurrency)
        for name, requests, statuses in scenarios():
            turned = in_turns(name, (off, on), lambda _, sent=requests: sent, statuses, pace)
            errors += turned.errors
            print(turned.compared(0, 1).text(), flush=True)
        print(materializing(on.target), flush=True)
    return 1 if errors else 0


def scenarios() -> Iterator[tuple[str, list[bytes], frozenset[int]]]:
    yield "read", reads(), OK
    yield "search of 10", searches(), OK
    yield "create", [request("POST", "/fhir/Observation", json.dumps(observation(None, 1)).encode())], CREATED
    yield f"transaction of {ENTRIES}", [request("POST", "/fhir", transaction_of(ENTRIES))], OK


def materializing(target: Target) -> str:
    """How long it takes to make AuditEvents of what a burst of reads has left."""
    before = int(target.database["AuditEvent"].estimated_document_count())
    plan = Plan(target.port, reads(), OK, 3.0, 8)
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


if __name__ == "__main__":
    sys.exit(main())
