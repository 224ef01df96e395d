"""The clinical examples of the specification, and every invariant of severity `error` on them.

Run as a script, it measures: `python -m tests.fhirpath.clinical FOLDER_OF_EXAMPLES`.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from fhir_server.fhirpath.expression import Expression, compile_expression
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.walk import definitions_of, walk
from fhir_server.model.codec import decode
from fhir_server.search.ucum import canonical
from profiles.registry import Element, Invariant, registry
from tests.official_examples import DEFINITIONAL


@dataclass(frozen=True)
class Asked:
    """One invariant on one item of an example; `answer` is None where the expression is empty."""

    example: str
    path: str
    invariant: Invariant
    answer: bool | None
    took_s: float


def clinical_examples(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """File names (without `.json`) and resources."""
    for path in sorted(folder.glob("*.json")):
        if path.name.partition("-")[0] in DEFINITIONAL:
            continue
        resource = decode(path.read_bytes())
        if "resourceType" in resource and resource["resourceType"] not in DEFINITIONAL:
            yield path.stem, resource


@cache
def compiled(expression: str, root_type: str | None) -> Expression:
    return compile_expression(expression, registry=registry(), root_type=root_type)


def _expression(invariant: Invariant, element: Element, item: Item) -> Expression:
    # An invariant of a choice speaks of all its types at once (`ras-1` of Range): names that one lacks are no fault.
    return compiled(invariant.expression, None if element.is_choice else item.definition)


def asked(folder: Path) -> Iterator[Asked]:
    """Every invariant of severity `error`, of elements and of their types, on every item."""
    for name, resource in clinical_examples(folder):
        for item in walk(resource, registry()):
            for element in definitions_of(item):
                for invariant in element.invariants:
                    if invariant.severity == "error":
                        yield _asked(name, item, element, invariant)


def _asked(name: str, item: Item, element: Element, invariant: Invariant) -> Asked:
    expression = _expression(invariant, element, item)
    start = time.perf_counter()
    answer = expression.holds(item, units=canonical)
    return Asked(name, item.path, invariant, answer, time.perf_counter() - start)


def main(folder: Path) -> None:
    """Print what an evaluation takes, and the invariants that take longest."""
    for _ in asked(folder):
        pass  # the first round compiles
    took: dict[Invariant, list[float]] = defaultdict(list)
    for one in asked(folder):
        took[one.invariant].append(one.took_s)
    count = sum(map(len, took.values()))
    means = {invariant: sum(times) / len(times) * 1e6 for invariant, times in took.items()}
    print(f"{count} evaluations of {len(took)} invariants: {sum(map(sum, took.values())) / count * 1e6:.1f} µs each")
    print(f"median of the invariants' means: {median(means.values()):.1f} µs")
    print(f"below 10 µs: {sum(mean < 10 for mean in means.values())} of {len(means)}")
    for invariant, mean in sorted(means.items(), key=lambda row: -row[1])[:15]:
        print(f"{mean:8.1f} µs  {len(took[invariant]):7} times  {invariant.key:8} {invariant.expression[:90]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
