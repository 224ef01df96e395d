"""What the validation of a resource takes, by type, on generated patients.

Run as a script, it measures: `python -m tests.validation.cost FOLDER_OF_BUNDLES [NUMBER_OF_BUNDLES] [PACKAGE.tgz]`.
With a package, also what the profiles take that resources claim, and what their contents take.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from fhir_server.model.codec import Json, decode
from fhir_server.validation import Validator
from fhir_server.validation.profile.validator import ProfileValidator
from profiles.registry import registry
from profiles.terminology import terminology
from tests.us_core import Package
from tests.validation.profile.holding import validator_of

ROUNDS = 15


def settled(node: Any) -> Any:
    """The same with conditional references as a transaction would have resolved them."""
    if isinstance(node, dict):
        return {
            key: f"{value.partition('?')[0]}/1" if key == "reference" and "?" in value else settled(value)
            for key, value in node.items()
        }
    return [settled(item) for item in node] if isinstance(node, list) else node


def resources(folder: Path, bundles: int) -> dict[str, list[Json]]:
    """The resources of the smallest Bundles, by type."""
    found: dict[str, list[Json]] = defaultdict(list)
    for path in sorted(folder.glob("*.json"), key=lambda p: p.stat().st_size)[:bundles]:
        for entry in decode(path.read_bytes())["entry"]:
            found[entry["resource"]["resourceType"]].append(settled(entry["resource"]))
    return found


def main(folder: Path, bundles: int = 40, package: Path | None = None) -> None:
    """Print the microseconds per resource of each type, the best of several rounds, and of all together."""
    validator = Validator(registry(), terminology())
    by_type = resources(folder, bundles)
    total_s, count = 0.0, 0
    for name, found in sorted(by_type.items(), key=lambda row: -len(row[1])):
        assert not any(i.severity == "error" for r in found for i in validator.issues_of(r)), name
        best_s = min(_timed(validator, found) for _ in range(ROUNDS))
        total_s, count = total_s + best_s, count + len(found)
        print(f"{best_s / len(found) * 1e6:8.1f} µs  {len(found):6} times  {name}")
    print(f"{total_s / count * 1e6:8.1f} µs  {count:6} times  all")
    if package is not None:
        asyncio.run(_profiles(by_type, validator_of(*Package(package).definitions)))


async def _profiles(by_type: dict[str, list[Json]], validator: ProfileValidator) -> None:
    async def claims(found: list[Json]) -> None:
        for resource in found:
            await validator.issues_of_claims(resource, at_most_s=3600)

    async def contents(found: list[Json]) -> None:
        for resource in found:
            await validator.contents_of(resource, at_most_s=3600)

    for name, every in sorted(by_type.items(), key=lambda row: -len(row[1])):
        found, best_s = every[:200], []
        for look in (claims, contents):
            rounds = []
            for _ in range(5):
                start = time.process_time()
                await look(found)
                rounds.append(time.process_time() - start)
            best_s.append(min(rounds))
        told = "  ".join(
            f"{s / len(found) * 1e6:8.1f} µs {what}" for s, what in zip(best_s, ("claims", "contents"), strict=True)
        )
        print(f"{told}  {len(found):4} times  {name}")


def _timed(validator: Validator, found: list[Json]) -> float:
    start = time.process_time()
    for resource in found:
        validator.issues_of(resource)
    return time.process_time() - start


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]), *map(Path, sys.argv[3:4]))
