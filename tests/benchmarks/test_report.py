"""The report of a benchmark: what it shows, and how two scenarios are compared."""

from __future__ import annotations

from array import array
from typing import Any

from benchmarks.generator import Measured
from benchmarks.report import Comparison, Row, markdown
from benchmarks.scenarios import Scenarios, Settings

#: What the project's issue on search asks to be measured.
ASKED_FOR = {"count", "chained", "has", "include", "revinclude", "everything", "deep", "words"}


def measured(operations: int, seconds: float = 2.0) -> Measured:
    return Measured(operations, seconds, array("d", [0.001] * operations))


def page(rows: list[Row], comparisons: list[Comparison]) -> str:
    return markdown(rows, comparisons, None, command="x", concurrency=8, mongodb="6.0.5", busy=0.1)


def test_everything_that_the_issue_asks_for_is_measured() -> None:
    target: Any = object()  # nothing is asked of it before a scenario is made
    assert set(Scenarios(target, Settings(1.0, 8)).makers()) >= ASKED_FOR


def test_two_pages_are_shown_side_by_side_with_their_ratio() -> None:
    comparison = Comparison("first page", "100th page", [(1000.0, 900.0), (500.0, 600.0)])
    rows = [
        Row("first page", measured(1500), measured(3000), []),
        Row("100th page", measured(1500), measured(3000), []),
    ]
    text = page(rows, [comparison])
    assert "| first page | 750 |" in text
    assert "| 100th page | 750 |" in text
    assert "750/s and 750/s, a ratio of **1.00** (0.90 to 1.20 over 2 turns)." in text


def test_the_turns_of_a_scenario_are_added_up() -> None:
    first, second = measured(100), measured(300, 1.0)
    second.errors["status 500"] += 1
    second.samples.append((7, b"{}"))
    first.add(second)
    assert (first.operations, first.seconds, len(first.latencies_s)) == (400, 3.0, 400)
    assert (first.errors["status 500"], first.samples) == (1, [(7, b"{}")])
