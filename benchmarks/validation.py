"""What validation takes, in this process, beside `fhir.resources` on the same resources.

Both get the same objects, decoded from JSON beforehand, and take turns round by round; the best round of each counts,
since all that a busy machine does is make a round longer. Processor time is measured.

`fhir.resources` builds typed objects (pydantic) of R4B, which differs from R4 in none of the types here but in details.
It looks at structure, formats and required elements; at neither invariants nor profiles.
"""

from __future__ import annotations

import asyncio
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from benchmarks.data import ARCHIVE, DEFAULT_FOLDER, Json, patients_folder
from fhir_server.model.codec import decode
from fhir_server.search.ucum import canonical
from fhir_server.validation import Validator
from fhir_server.validation.profile.shelf import Held
from fhir_server.validation.profile.source import Stamp
from fhir_server.validation.profile.validator import ProfileValidator
from profiles.registry import registry
from profiles.terminology import terminology

TYPES = ("Patient", "Observation", "Claim", "ExplanationOfBenefit")
#: So many resources of each type, and so many Bundles at most to find them in.
RESOURCES, BUNDLES = 100, 120
ROUNDS = 5
US_CORE = "hl7.fhir.us.core-6.1.0.tgz"
#: The definitions that were looked up this long ago still hold: nothing changes meanwhile.
SETTLED_S = 3600.0


@dataclass(frozen=True)
class Validated:
    """Microseconds for one resource of a type.

    Attributes:
        count: of so many resources
        base_us: structure, required codes, invariants
        profiles_us: the same and the profiles that the resources claim; None where they claim none that is held
        peer_us: `fhir.resources`; of those that it refuses, too
        wrong: resources in which validation found an error
        refused: resources that `fhir.resources` refused
    """

    type: str
    count: int
    base_us: float
    profiles_us: float | None
    peer_us: float
    wrong: int
    refused: int


class Definitions:
    """The definitions of a package in memory."""

    def __init__(self, package: Path) -> None:
        self._rows: dict[tuple[str, str], Json] = {}
        with tarfile.open(package) as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                is_definition = name.startswith(("StructureDefinition-", "ValueSet-", "CodeSystem-"))
                if folder == "package" and is_definition and (source := tar.extractfile(member)) is not None:
                    row = decode(source.read())
                    self._rows[row["resourceType"], row["id"]] = row

    async def stamps(self, resource_type: str, urls: Collection[str]) -> Sequence[Stamp]:
        rows = self._rows.items()
        return [Stamp(kind, key, 1) for (kind, key), row in rows if kind == resource_type and row.get("url") in urls]

    async def read(self, stamps: Collection[Stamp]) -> Sequence[Held]:
        rows = [(stamp, self._rows[stamp.type, stamp.id]) for stamp in stamps]
        return [Held(stamp.id, stamp.version, row["url"], row) for stamp, row in rows]


def measured(data: Path) -> list[Validated]:
    """Measure each type that the patients have; `data` as `patients_folder` has it."""
    base = Validator(registry(), terminology(), canonical)
    package = DEFAULT_FOLDER / "fhir-packages" / US_CORE
    definitions = Definitions(package) if package.is_file() else None
    with tempfile.TemporaryDirectory(prefix="healthsphere-bench-") as scratch:
        by_type = resources(bundles(data, Path(scratch)))
    return [_measured(base, definitions, name, by_type[name]) for name in TYPES if by_type[name]]


def bundles(data: Path, scratch: Path) -> Iterator[Json]:
    """The Bundles of the patients; the archive is read as far as it is asked for."""
    archive = data / ARCHIVE
    if archive.is_file():
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and (source := tar.extractfile(member)) is not None:
                    yield decode(source.read())
        return
    for path in sorted(patients_folder(data, scratch)[0].glob("*.json")):
        yield decode(path.read_bytes())


def resources(found: Iterator[Json]) -> dict[str, list[Json]]:
    """The first resources of each type, with conditional references as a transaction would have resolved them."""
    by_type: dict[str, list[Json]] = defaultdict(list)
    for _, bundle in zip(range(BUNDLES), found, strict=False):
        for entry in bundle["entry"]:
            kept = by_type[entry["resource"]["resourceType"]]
            if len(kept) < RESOURCES:
                kept.append(_settled(entry["resource"]))
        if all(len(by_type[name]) >= RESOURCES for name in TYPES):
            break
    return by_type


def _settled(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            name: f"{value.partition('?')[0]}/1" if name == "reference" and "?" in value else _settled(value)
            for name, value in node.items()
        }
    return [_settled(item) for item in node] if isinstance(node, list) else node


def _measured(base: Validator, definitions: Definitions | None, name: str, found: list[Json]) -> Validated:
    model = get_fhir_model_class(name)
    claiming = definitions is not None and any(map(_claims, found))

    def refused(resource: Json) -> bool:
        try:
            model.model_validate(resource)
        except ValidationError:
            return True
        return False

    def of_base() -> int:
        return sum(any(i.severity == "error" for i in base.issues_of(resource)) for resource in found)

    def of_peer() -> int:
        return sum(map(refused, found))

    with asyncio.Runner() as runner:
        validator = ProfileValidator(registry(), terminology(), canonical, definitions) if definitions else None

        async def claims() -> int:
            wrong = 0
            for resource in found:
                issues = base.issues_of(resource)
                if validator is not None:
                    issues += await validator.issues_of_claims(resource, at_most_s=SETTLED_S)
                wrong += any(issue.severity == "error" for issue in issues)
            return wrong

        def of_claims() -> int:
            return runner.run(claims())

        wrong, refusals = (of_claims if claiming else of_base)(), of_peer()  # and all is compiled by now
        looks: list[Callable[[], int]] = [of_base, of_peer, *([of_claims] if claiming else [])]
        rounds = [[_seconds(look) for look in looks] for _ in range(ROUNDS)]
    base_us, peer_us, *claims_us = (min(column) / len(found) * 1e6 for column in zip(*rounds, strict=True))
    return Validated(name, len(found), base_us, claims_us[0] if claims_us else None, peer_us, wrong, refusals)


def _claims(resource: Json) -> bool:
    return bool(resource.get("meta", {}).get("profile"))


def _seconds(look: Callable[[], int]) -> float:
    start = time.process_time()
    look()
    return time.process_time() - start
