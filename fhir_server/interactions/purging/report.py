"""What a removal has done: the proof that the client keeps.

Spec: http://hl7.org/fhir/6.0.0-snapshot1/patient-operation-purge.html
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_server.interactions.parameters import parameters_of
from fhir_server.interactions.purging.victims import Victims
from fhir_server.model.errors import Issue, outcome_of

Json = dict[str, Any]

#: Digests that a report shows.
MOST_HASHES = 1000


@dataclass(slots=True)
class Report:
    """Counts by type, and what a last look through everything found.

    Attributes:
        removed: resources
        versions: earlier versions of those resources
        redacted: resources that named one of them and lost the reference
        stripped: earlier versions of other resources, removed since they named one of them
        left: places that still name one of them; empty when all is well
    """

    removed: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    stripped: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, kept: Mapping[str, Mapping[str, int]]) -> Report:
        """A report as it was kept."""
        return cls(**{name: Counter(counts) for name, counts in kept.items()})

    def kept(self) -> dict[str, dict[str, int]]:
        """The report as it is kept while the removal goes on."""
        return {name: dict(getattr(self, name)) for name in self.__dataclass_fields__}

    def parameters(self, victims: Victims) -> Json:
        """The report as the client gets it."""
        if self.left:
            told = Issue(
                "incomplete", "The last look still found places; see `left`.", key="HS-PURGE-LEFT", severity="warning"
            )
        else:
            told = Issue("informational", "A look through all versions found nothing left.", severity="information")
        return parameters_of(
            {"name": "outcome", "resource": outcome_of([told])},
            *(row for name, counts in self.kept().items() for row in _counted(name, counts)),
            {"name": "verified", "valueBoolean": not self.left},
            *({"name": "sha256", "valueString": digest} for digest in digests_of(victims)[:MOST_HASHES]),
        )


def digest_of(address: str) -> str:
    """What proves that an address (`Patient/1`) was meant, to whoever knows it, and tells nobody else."""
    return hashlib.sha256(address.encode()).hexdigest()


def digests_of(victims: Victims) -> list[str]:
    return sorted(digest_of(f"{name}/{i}") for name, ids in victims.ids.items() for i in ids)


def _counted(name: str, counts: Mapping[str, int]) -> list[Json]:
    parts = [{"name": key, "valueInteger": number} for key, number in sorted(counts.items()) if number]
    return [{"name": name, "part": parts}] if parts else []
