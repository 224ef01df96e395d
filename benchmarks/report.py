"""The report: a table for `docs/performance.md`, with the machine, the versions and the command that made it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.access import GUARDED, OPEN, TRAILED
from benchmarks.generator import Measured
from benchmarks.turns import Turned
from benchmarks.validation import US_CORE, Validated


@dataclass(frozen=True)
class Row:
    """A scenario as measured, beside its baseline. `resources`: how many one operation carries."""

    name: str
    server: Measured
    driver: Measured
    faults: list[str]
    resources: int = 1

    @property
    def ratio(self) -> float:
        return self.server.per_s / self.driver.per_s if self.driver.per_s else 0.0

    @property
    def errors(self) -> int:
        return sum(self.server.errors.values()) + len(self.faults)


@dataclass(frozen=True)
class Comparison:
    """Two scenarios that were measured by turns, so that a change of the machine's mood hits both alike.

    Attributes:
        turns: the rates of the first and of the second, turn by turn
    """

    first: str
    second: str
    turns: list[tuple[float, float]]

    def text(self) -> str:
        ratios = [second / first for first, second in self.turns if first]
        rates = [sum(rates) / len(self.turns) for rates in zip(*self.turns, strict=True)]
        return (
            f"**{self.first} and {self.second}** of one search, by turns in one run: {rates[0]:,.0f}/s and "
            f"{rates[1]:,.0f}/s, a ratio of **{rates[1] / rates[0] if rates[0] else 0:.2f}** "
            f"({min(ratios, default=0):.2f} to {max(ratios, default=0):.2f} over {len(self.turns)} turns)."
        )


@dataclass(frozen=True)
class LoadRow:
    """The load of the patients: resources, seconds, rejects."""

    what: str
    resources: int
    seconds: float
    rejected: int


def machine() -> str:
    """Processor, cores and memory."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB memory, {platform.system()} {platform.release()}"


def markdown(
    rows: list[Row],
    comparisons: list[Comparison],
    load: LoadRow | None,
    *,
    command: str,
    concurrency: int,
    mongodb: str,
    busy: float,
    guarded: Sequence[Turned] = (),
    validated: Sequence[Validated] = (),
) -> str:
    """The whole page.

    Args:
        busy: the machine's load average when the run began; it should have been idle
        guarded: the same requests with access control and the audit trail, and without both
        validated: what the validation of a resource takes, by type
    """
    packages = ", ".join(f"{name} {version(name)}" for name in ("pymongo", "uvicorn", "uvloop", "msgspec", "starlette"))
    lines = [
        "# Performance",
        "",
        "Made by `make bench`; do not edit. Server, its embedded MongoDB and the load generator share one machine.",
        "",
        f"- Machine: {machine()}; load average when the run began: {busy:.1f}",
        f"- Versions: Python {platform.python_version()}, MongoDB {mongodb}, {packages}",
        f"- Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- Command: `{command}`",
        f"- {concurrency} callers at once, each sending its next request when it has its answer; validation on; writes",
        "  acknowledged by a majority and journalled.",
        "",
    ]
    if load is not None:
        lines += [
            f"**Load** of {load.what} by `healthsphere load`: {load.resources:,} resources in {load.seconds:.1f} s, "
            f"**{load.resources / load.seconds:,.0f} resources/s**, {load.rejected} rejected.",
            "",
        ]
    lines += [
        "| scenario | requests/s | p50 ms | p99 ms | errors | the driver alone /s | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        rate = f"{row.server.per_s:,.0f}"
        if row.resources > 1:
            rate += f" ({row.server.per_s * row.resources:,.0f} resources/s)"
        lines.append(
            f"| {row.name} | {rate} | {row.server.latency_ms(0.5):.1f} | {row.server.latency_ms(0.99):.1f} "
            f"| {row.errors} | {row.driver.per_s:,.0f} | {row.ratio:.2f} |"
        )
    for comparison in comparisons:
        lines += ["", comparison.text()]
    faults = [f"- {row.name}: {dict(row.server.errors)} {row.faults[:3]}" for row in rows if row.errors]
    if faults:
        lines += ["", "Errors:", "", *faults]
    lines += [
        "",
        "*The driver alone* is PyMongo's asynchronous client in a process of its own, at the same concurrency,",
        "right after the scenario: the same documents, collections with the same indexes, the same durability,",
        "one command after the other; for searches and counts the very commands that the server was seen to send,",
        "replayed. It does no HTTP, no JSON, no validation, no indexing. A ratio above 1 is what gathering the",
        "commands of concurrent requests gains.",
        "",
    ]
    if validated:
        lines += validation_lines(validated)
    if guarded:
        lines += guarded_lines(guarded)
    return "\n".join(lines)


def guarded_lines(guarded: Sequence[Turned]) -> list[str]:
    """What access control costs, and what it costs together with the audit trail."""

    def row(one: Turned) -> str:
        control, both = one.compared(TRAILED, GUARDED), one.compared(OPEN, GUARDED)
        opened, with_both = both.medians
        return (
            f"| {one.name} | {opened:,.0f} | {control.medians[0]:,.0f} | {with_both:,.0f} | {control.ratio:.2f} "
            f"({control.kept:.2f}) | {both.ratio:.2f} ({both.kept:.2f}) |"
        )

    return [
        "## Access control and the audit trail",
        "",
        "| caller, request | open, requests/s | open, with the trail | guarded, with the trail "
        "| kept of the rate with the trail | kept of the open rate |",
        "|---|---:|---:|---:|---:|---:|",
        *map(row, guarded),
        "",
        "Three servers, each with a database of its own and the same 200 patients, asked in turns; medians of all",
        "turns. The clinician has all patients, the patient one. In brackets the same of the processor time of server",
        "and database for each request (1: as cheap as without).",
        "",
    ]


def validation_lines(validated: Sequence[Validated]) -> list[str]:
    """Microseconds for the validation of a resource, beside `fhir.resources`."""

    def row(one: Validated) -> str:
        profiles = "(claims none)" if one.profiles_us is None else f"{one.profiles_us:,.0f}"
        return (
            f"| {one.type} | {one.count} | {one.base_us:,.0f} | {profiles} | {one.peer_us:,.0f} "
            f"| {one.peer_us / one.base_us:.1f} | {one.wrong} | {one.refused} |"
        )

    guide = US_CORE.removesuffix(".tgz")
    return [
        "## Validation",
        "",
        "| type | resources | base, µs | and claimed profiles, µs | fhir.resources, µs | fhir.resources / base "
        "| with errors | refused by fhir.resources |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *map(row, validated),
        "",
        "Microseconds of processor time for a resource of generated patients, the best of rounds taken in turns with",
        f"fhir.resources {version('fhir.resources')} (R4B) on the same decoded resources. *Base* is structure,",
        "required codes and the invariants of R4; the profiles are those that the resources claim, as",
        f"{guide} has them (it may ask for more than the patients were made for: *with errors*).",
        "fhir.resources builds typed objects, and looks at neither invariants nor profiles.",
        "",
    ]
