"""What both validators are asked about: R4's own examples, our own examples, and the battery of single faults."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir_server.model.codec import decode, encode
from fhir_server.model.errors import Issue
from fhir_server.validation.profile.validator import ProfileValidator, is_readable
from profiles.registry import STRUCTURES, own_definitions, registry
from profiles.snapshot import Snapshots
from tests.official_examples import DEFINITIONAL
from tests.profiles.own import bad, good, merged, of_ours
from tests.validation.battery.mutators import rows
from tests.validation.profile.holding import STRUCTURE, validator_of

Json = dict[str, Any]

BATTERY = Path(__file__).parents[1] / "validation" / "battery" / "examples.json"


@dataclass(frozen=True, slots=True)
class Case:
    """A resource, what it shows, and the errors that this server tells of it."""

    name: str
    about: str
    raw: bytes
    errors: tuple[str, ...]


def cases(examples: Path | None) -> Iterator[Case]:
    """All of them; `examples` is the folder of R4's own, where it is there."""
    validator = validator_of()
    for path in sorted(examples.glob("*.json")) if examples is not None else ():
        resource = decode(path.read_bytes())
        if resource.get("resourceType", "StructureDefinition") not in DEFINITIONAL:
            yield _case(validator, f"r4.{path.stem}", "an example of R4", resource)
    for name, resource in good().items():
        yield _case(validator, f"good.{name}", "valid", of_ours(resource))
    for name, faults in bad().items():
        for number, fault in enumerate(faults):
            changed = of_ours(merged(good()[name], fault["change"]))
            yield _case(validator, f"bad.{name}.{number}", fault["fault"], changed)
    whole_ones: dict[str, Json] = decode(BATTERY.read_bytes())
    for name, resource in whole_ones.items():
        yield _case(validator, f"whole.{name}", "valid", resource)
    for row in rows():
        about = f"{row.type}: {row.mutator} at {row.place or 'the root'}"
        yield _case(validator, f"fault.{row.line:04}", about, row.applied_to(whole_ones[row.type]))


def _case(validator: ProfileValidator, name: str, about: str, resource: Json) -> Case:
    issues: list[Issue] = list(STRUCTURE.issues_of(resource))
    if is_readable(issues):
        issues += asyncio.run(validator.issues_of(resource))
        issues += asyncio.run(validator.contents_of(resource))
    errors = dict.fromkeys(
        f"{one.expression}: {one.key} {one.diagnostics}" for one in issues if one.severity == "error"
    )
    return Case(name, about, encode(resource), tuple(errors))


def definitions() -> Iterator[tuple[str, bytes]]:
    """Our own definitions by the names of their files, with the snapshots that the other validator wants."""
    snapshots = Snapshots(registry(), lambda url: registry().profiles.get(url.partition("|")[0]))
    for one in own_definitions(STRUCTURES):
        whole = {**one, "snapshot": {"element": snapshots.elements_of(one)}}
        yield f"{STRUCTURES}-{one['id']}.json", encode(whole)
    for kind in ("CodeSystem", "ValueSet"):
        for one in own_definitions(kind):
            yield f"{kind}-{one['id']}.json", encode(one)
