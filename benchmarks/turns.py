"""The same requests to several servers in turns: what something costs that one of them has and another has not.

The machine is never the same for long, so they are measured one right after the other, round by round, and the
median of the rounds' ratios counts. Beside requests a second stands the processor time of server and mongod for each
request, which says the same on a machine that others use, too. After its turn the server that keeps a trail makes all
its AuditEvents, so that nobody pays in a turn for what an earlier one has left to do.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.apart import apart
from benchmarks.generator import Measured, Plan, measure
from benchmarks.server import Server
from benchmarks.target import Target

PATIENTS = 200
OBSERVATIONS = 10
#: For each server before it is measured.
WARM_UP_S = 1.0
OK, CREATED = frozenset({200}), frozenset({201})


@dataclass(frozen=True)
class Side:
    """One of the servers.

    Attributes:
        audited: whether it keeps a trail
        guarded: whether it asks who sends a request
    """

    server: Server
    target: Target
    audited: bool
    guarded: bool = False


@dataclass(frozen=True)
class Pace:
    """How long each turn takes, how many each server has, and how many callers there are at once."""

    seconds: float
    rounds: int
    concurrency: int


@dataclass(frozen=True)
class Compared:
    """Two servers, turn by turn: without and with what is measured.

    Attributes:
        rates: requests a second
        costs_us: microseconds of processor for each request
    """

    name: str
    rates: tuple[list[float], list[float]]
    costs_us: tuple[list[float], list[float]]

    @property
    def medians(self) -> tuple[float, float]:
        """Requests a second without and with it."""
        without, with_it = self.rates
        return statistics.median(without), statistics.median(with_it)

    @property
    def ratio(self) -> float:
        """Which share of its rate a server keeps."""
        return statistics.median(on / off for off, on in zip(*self.rates, strict=True) if off)

    @property
    def kept(self) -> float:
        """The processor time of a request without it, as a share of that with it."""
        cheap, dear = map(statistics.median, self.costs_us)
        return cheap / dear if dear else 0.0

    def text(self) -> str:
        off, on = self.medians
        cheap, dear = map(statistics.median, self.costs_us)
        return (
            f"{self.name}: {off:,.0f}/s without, {on:,.0f}/s with ({self.ratio:.2f}); "
            f"{cheap:,.0f} µs of processor without, {dear:,.0f} with ({self.kept:.2f})"
        )


@dataclass(frozen=True)
class Turned:
    """What came of a scenario, turn by turn, for each of the servers in their order.

    Attributes:
        rates, costs_us: as `Compared` has them
        errors: answers that were wrong
    """

    name: str
    rates: list[list[float]]
    costs_us: list[list[float]]
    errors: int

    def compared(self, without: int, with_it: int) -> Compared:
        """Two of the servers, by their places."""
        rates, costs = self.rates, self.costs_us
        return Compared(self.name, (rates[without], rates[with_it]), (costs[without], costs[with_it]))


def in_turns(
    name: str,
    sides: Sequence[Side],
    requests: Callable[[Side], Sequence[bytes]],
    statuses: frozenset[int],
    pace: Pace,
) -> Turned:
    """Measure a scenario.

    Args:
        requests: what is sent to each
    """
    all_rates: list[list[float]] = [[] for _ in sides]
    all_costs: list[list[float]] = [[] for _ in sides]
    errors = 0
    for side in sides:  # what is there for the first time (plans, connections, policies) is nobody's cost
        apart(
            measure, Plan(side.target.port, list(requests(side)), statuses, WARM_UP_S, pace.concurrency, warm_up_s=0.0)
        )
        if side.audited:
            caught_up(side.target)
    for _ in range(pace.rounds):
        for side, rates, costs in zip(sides, all_rates, all_costs, strict=True):
            asked = list(requests(side))
            plan = Plan(side.target.port, asked, statuses, pace.seconds, pace.concurrency, warm_up_s=0.0)
            used = side.server.processor_s()
            measured: Measured = apart(measure, plan)
            used = side.server.processor_s() - used
            rates.append(measured.per_s)
            costs.append(used / max(measured.operations, 1) * 1e6)
            errors += sum(measured.errors.values())
            if side.audited:
                caught_up(side.target)
    return Turned(name, all_rates, all_costs, errors)


def caught_up(target: Target) -> None:
    """Wait until all AuditEvents are made."""
    while target.request("GET", "/AuditEvent?_summary=count&date=1900")[0] != 200:
        time.sleep(0.1)


# --- what is asked ----------------------------------------------------------------------------------------------------


def bundle() -> bytes:
    """A batch of patients, each with some Observations."""
    entries = []
    for number in range(PATIENTS):
        patient = {"resourceType": "Patient", "id": f"p{number}", "name": [{"family": f"Bench{number}"}]}
        entries.append({"resource": patient, "request": {"method": "PUT", "url": f"Patient/p{number}"}})
        for turn in range(OBSERVATIONS):
            name = f"o{number}-{turn}"
            put = {"method": "PUT", "url": f"Observation/{name}"}
            entries.append({"resource": observation(name, number), "request": put})
    return json.dumps({"resourceType": "Bundle", "type": "batch", "entry": entries}).encode()


def transaction(entries: int) -> bytes:
    """A transaction that makes some Observations."""
    made = {"resource": observation(None, 1), "request": {"method": "POST", "url": "Observation"}}
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [made] * entries}).encode()


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


def reads(patients: int = PATIENTS) -> list[bytes]:
    """Reads of Observations, in the order of their patients."""
    return [request("GET", f"/fhir/Observation/o{n}-{turn}") for n in range(patients) for turn in range(OBSERVATIONS)]


def searches(patients: int = PATIENTS) -> list[bytes]:
    """Searches for all Observations of a patient."""
    return [request("GET", f"/fhir/Observation?patient=p{number}") for number in range(patients)]


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body:
        head += f"Content-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body
