"""`python -m benchmarks`: measure, and write the report."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.access import comparisons as of_access
from benchmarks.access import text_of
from benchmarks.apart import apart
from benchmarks.data import DEFAULT_FOLDER, patients_folder
from benchmarks.driver_baseline import measure_driver
from benchmarks.generator import Measured, Plan, measure
from benchmarks.report import Comparison, LoadRow, Row, markdown
from benchmarks.scenarios import Scenario, Scenarios, Settings
from benchmarks.server import Server
from benchmarks.target import Target
from benchmarks.turns import Pace, Turned
from benchmarks.validation import Validated
from benchmarks.validation import measured as of_validation
from fhir_server.load import LoadOptions, run

#: The name, for `--only`, of what `benchmarks.access` measures.
ACCESS = "access"
#: The same of `benchmarks.validation`.
VALIDATION = "validation"

#: How often two scenarios that are compared take their turns.
TURNS = 5


def main() -> int:
    """Run the scenarios; the exit status is 1 when an answer was wrong."""
    options = _arguments()
    busy = os.getloadavg()[0]
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the `with` blocks clean up
    with tempfile.TemporaryDirectory(prefix="healthsphere-bench-") as scratch:
        folder = Path(scratch)
        with Server(folder / "server", workers=options.workers) as server:
            load = _load(server, options.data, folder) if not options.no_load else None
            target = Target(server.port, server.mongodb_uri())
            try:
                rows, comparisons = _measured(target, options)
                mongodb = target.version()
            finally:
                target.close()
    validated = _validated(options)
    guarded = _guarded(options)
    # Where the folders of the machine stand is nobody's business: their names are enough.
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    command = shlex.join(["python", "-m", "benchmarks", *words])
    text = markdown(
        rows,
        comparisons,
        load,
        command=command,
        concurrency=options.concurrency,
        mongodb=mongodb,
        busy=busy,
        guarded=guarded,
        validated=validated,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, "utf-8")
    print(text)
    wrong = any(row.errors for row in rows) or any(one.errors for one in guarded)
    return 1 if wrong or (load and load.rejected) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each scenario and each baseline runs")
    parser.add_argument("--concurrency", type=int, default=8, help="callers at once")
    parser.add_argument("--workers", type=int, default=1, help="server processes")
    parser.add_argument(
        "--only", action="append", default=[], help="names of scenarios, by commas; also access, validation"
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="folder with the archive, or with Bundles")
    parser.add_argument("--no-load", action="store_true", help="begin with few patients of our own making")
    parser.add_argument("--out", type=Path, default=Path("docs/performance.md"), help="where the report goes")
    return parser.parse_args()


def _load(server: Server, data: Path, scratch: Path) -> LoadRow:
    folder, what = patients_folder(data, scratch)
    options = LoadOptions(
        (str(folder),), server.base_url, rejects=scratch / "rejects.ndjson", state_dir=scratch / "load-state"
    )
    report = apart(run, options)
    if report.failure:
        raise RuntimeError(report.failure)
    return LoadRow(what, report.accepted, report.seconds, report.rejected)


def _measured(target: Target, options: argparse.Namespace) -> tuple[list[Row], list[Comparison]]:
    settings = Settings(options.seconds, options.concurrency)
    scenarios = Scenarios(target, settings)
    if options.no_load:
        scenarios.seed()
    makers = scenarios.makers()
    wanted = _wanted(options)
    known = (*makers, VALIDATION, ACCESS)
    if unknown := wanted - {*known}:
        raise SystemExit(f"No scenario is called {', '.join(sorted(unknown))}; there are: {', '.join(known)}.")
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    for name, make in makers.items():
        if wanted and name not in wanted:
            continue
        match make():
            case Scenario() as scenario:
                rows.append(_row(scenario, [_turn(scenario, target, settings, settings.seconds)]))
                print(_line(rows[-1]), flush=True)
            case first, second:
                pair, comparison = _compared(first, second, target, settings)
                comparisons.append(comparison)
                rows += pair
                print(*map(_line, pair), comparison.text(), sep="\n", flush=True)
    return rows, comparisons


def _wanted(options: argparse.Namespace) -> set[str]:
    return {name for text in options.only for name in text.split(",")}


def _validated(options: argparse.Namespace) -> list[Validated]:
    """What the validation of a resource takes, in a process of its own."""
    wanted = _wanted(options)
    if wanted and VALIDATION not in wanted:
        return []
    found = apart(of_validation, options.data)
    print(*map(str, found), sep="\n", flush=True)
    return found


def _guarded(options: argparse.Namespace) -> list[Turned]:
    """The same requests with access control and the trail, with the trail alone, and without both."""
    wanted = _wanted(options)
    if wanted and ACCESS not in wanted:
        return []
    found = []
    for turned in of_access(Pace(options.seconds / 2, TURNS, options.concurrency)):
        print(text_of(turned), flush=True)
        found.append(turned)
    return found


def _compared(first: Scenario, second: Scenario, target: Target, settings: Settings) -> tuple[list[Row], Comparison]:
    """Measure two scenarios by turns."""
    turns = [
        (
            _turn(first, target, settings, settings.seconds / TURNS),
            _turn(second, target, settings, settings.seconds / TURNS),
        )
        for _ in range(TURNS)
    ]
    comparison = Comparison(first.name, second.name, [(one.per_s, other.per_s) for one, other in turns])
    rows = [
        _row(first, [one for one, _ in turns]),
        _row(second, [other for _, other in turns]),
    ]
    return rows, comparison


def _turn(scenario: Scenario, target: Target, settings: Settings, seconds: float) -> Measured:
    plan = Plan(target.port, scenario.requests, scenario.statuses, seconds, settings.concurrency, cycle=scenario.cycle)
    return apart(measure, plan)


def _row(scenario: Scenario, turns: list[Measured]) -> Row:
    server, *further = turns
    for turn in further:
        server.add(turn)
    return Row(
        scenario.name, server, apart(measure_driver, scenario.driver()), _faults(scenario, server), scenario.resources
    )


def _faults(scenario: Scenario, server: Measured) -> list[str]:
    """What is wrong with the sampled answers."""
    faults = []
    for index, body in server.samples:
        try:
            fault = scenario.check(index, json.loads(body) if body else {})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            fault = f"an answer of another shape ({error!r})"
        if fault:
            faults.append(f"{fault}: {body[:200].decode(errors='replace')}")
    return faults


def _line(row: Row) -> str:
    return (
        f"{row.name}: {row.server.per_s:,.0f}/s, p50 {row.server.latency_ms(0.5):.1f} ms, "
        f"p99 {row.server.latency_ms(0.99):.1f} ms, {row.errors} errors, driver {row.driver.per_s:,.0f}/s, "
        f"ratio {row.ratio:.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
