"""`python -m benchmarks.access`: what access control costs, and what it costs with the audit trail: requests in turns.

One server is open, one open with a trail, one has access control and a trail. Each holds the same patients in a
database of its own; `benchmarks.turns` says how they are measured. To the guarded one the requests are sent by three
callers: a system client, which may see everything that its scopes name; a clinician of many patients, and a patient,
whose policies go into every query.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.server import Server
from benchmarks.target import Target
from benchmarks.turns import OK, PATIENTS, Pace, Side, Turned, bundle, in_turns, reads, searches

#: Nobody is counted: it is not limits that are measured.
UNLIMITED = {"client_requests_per_minute": 0, "address_requests_per_minute": 0, "auth_requests_per_minute": 0}
DOCTOR = "Practitioner/bench"

#: The places of the servers in what is measured.
OPEN, TRAILED, GUARDED = range(3)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.access", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each turn takes")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server")
    parser.add_argument("--concurrency", type=int, default=8, help="callers at once")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}, {options.concurrency} callers, {options.rounds} rounds", flush=True)
    errors = 0
    for turned in comparisons(Pace(options.seconds, options.rounds, options.concurrency)):
        errors += turned.errors
        print(text_of(turned), flush=True)
    return 1 if errors else 0


def text_of(turned: Turned) -> str:
    """Both comparisons, a line each."""
    control, both = turned.compared(TRAILED, GUARDED), turned.compared(OPEN, GUARDED)
    return f"access control: {control.text()}\nwith the trail: {both.text()}"


def comparisons(pace: Pace) -> Iterator[Turned]:
    """Each scenario of each caller, measured on servers of their own."""
    with tempfile.TemporaryDirectory(prefix="healthsphere-bench-") as scratch, ExitStack() as stack:
        plain = stack.enter_context(Server(Path(scratch) / "plain", audit="off"))
        trailed = stack.enter_context(Server(Path(scratch) / "trailed", audit="on"))
        guarded = stack.enter_context(Server(Path(scratch) / "guarded", auth="on", audit="on", **UNLIMITED))
        sides = [
            Side(
                server,
                Target(server.port, server.mongodb_uri()),
                audited=server is not plain,
                guarded=server is guarded,
            )
            for server in (plain, trailed, guarded)
        ]
        sides[GUARDED].target.token = (guarded.data_dir / "access-token").read_text().strip()
        for side in sides:
            stack.callback(side.target.close)
            side.target.store(bundle())
            side.target.store(panel())
        tokens = {
            "system client": guarded.token("system/*.rs"),
            "clinician": guarded.token("user/*.rs", "--user", DOCTOR),
            "patient": guarded.token("patient/*.rs", "--user", "Patient/p0", "--patient", "p0"),
        }
        for who, token in tokens.items():
            patients = 1 if who == "patient" else PATIENTS
            for name, sent in (("read", reads(patients)), ("search of 10", searches(patients))):
                yield in_turns(f"{who}, {name}", sides, sender(sent, token), OK, pace)


def sender(sent: list[bytes], token: str) -> Callable[[Side], list[bytes]]:
    """Gives each server its requests: the guarded one those with a token."""
    with_it = [with_token(one, token) for one in sent]
    return lambda side: with_it if side.guarded else sent


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


def with_token(sent: bytes, token: str) -> bytes:
    """The same request with an access token."""
    line, _, rest = sent.partition(b"\r\n")
    return line + b"\r\nAuthorization: Bearer " + token.encode() + b"\r\n" + rest


if __name__ == "__main__":
    sys.exit(main())
