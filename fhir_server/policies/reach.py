"""Grants that reach what belongs to some patients, whatever the type.

What may be **seen** of a patient is the patient's compartment. A few types that speak of patients are in no compartment
of R4 (`Device`, `Task` …); their parameter `patient` speaks for them.

What may be **written** is narrower. A compartment is wide: an Observation is in that of its performer, too. Somebody
who may write into the compartment of A could name A as performer and B as subject, and so write into the record of B.
So a write must also say by its `patient` or `subject` that it belongs to one of the patients.

Spec: https://hl7.org/fhir/R4/compartmentdefinition-patient.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from fhir_server.model.access import Grant, verbs_of
from fhir_server.search.compartment import PATIENT, owner_of
from profiles.registry import Registry

BINARY = "Binary"

#: Values in one search parameter; a search refuses more than 500.
PORTION = 400

WRITING = frozenset("cud")

Pairs = tuple[tuple[str, str], ...]


class Reach:
    """Knows by which parameters the resources of each type belong to patients."""

    def __init__(self, registry: Registry) -> None:
        compartment = registry.compartments[PATIENT].types
        self.inside = frozenset(name for name, codes in compartment.items() if codes)
        self.owners = {name: owner for name in registry.resource_types if (owner := owner_of(name, registry))}
        #: The types that no compartment has, with the parameter that says whose they are.
        self.beside = {name: code for name, code in self.owners.items() if name not in self.inside}
        self.types = frozenset({*self.inside, *self.owners, PATIENT, BINARY})
        self._portions = lru_cache(maxsize=256)(lambda patients: tuple(portions_of(patients)))

    def can_belong(self, resource_type: str) -> bool:
        """Whether resources of the type can belong to a patient."""
        return resource_type in self.types

    def grants(
        self,
        types: Iterable[str],
        verbs: str,
        patients: frozenset[str],
        criteria: Pairs = (),
        ids: frozenset[str] | None = None,
    ) -> Iterator[Grant]:
        """Grants of these types, as far as they belong to one of the patients.

        Where there is no patient they allow nothing, and say of each type that it is one which the reader may ask for:
        a clinician without patients finds none, rather than being refused.
        """
        if not patients:
            yield from (Grant(name, verbs, patients, criteria, ids) for name in types)
            return
        reading = verbs_of(set(verbs) - WRITING)
        writing = verbs_of(set(verbs) & WRITING)
        portions = self._portions(patients)
        for name in types:
            owner = self.owners.get(name)
            if owner is None:
                yield Grant(name, verbs, patients, criteria, ids)
                continue
            if name in self.beside:
                for portion in portions:
                    yield Grant(name, verbs, None, (*criteria, (owner, portion)), ids)
                continue
            if reading:
                yield Grant(name, reading, patients, criteria, ids)
            if writing:
                for portion in portions:
                    yield Grant(name, writing, None, (*criteria, (owner, portion)), ids)

    def whole(
        self,
        verbs: str,
        patients: frozenset[str],
        criteria: Pairs = (),
        unless: tuple[Grant, ...] = (),
    ) -> Iterator[Grant]:
        """Grants of everything that is seen as belonging to the patients: for denials."""
        if not patients:
            return
        yield Grant("*", verbs, patients, criteria, unless=unless)
        for name in sorted(self.beside):
            for portion in self._portions(patients):
                yield Grant(name, verbs, None, (*criteria, (self.beside[name], portion)), unless=unless)

    def seen(
        self,
        name: str,
        verbs: str,
        patients: frozenset[str],
        criteria: Pairs = (),
        ids: frozenset[str] | None = None,
        unless: tuple[Grant, ...] = (),
    ) -> Iterator[Grant]:
        """Grants of what is seen of one type as belonging to the patients: for denials."""
        if name not in self.beside:
            if patients:
                yield Grant(name, verbs, patients, criteria, ids, unless)
            return
        for portion in self._portions(patients):
            yield Grant(name, verbs, None, (*criteria, (self.beside[name], portion)), ids, unless)


def portions_of(references: Iterable[str]) -> Iterator[str]:
    """References as values of a search parameter, not too many at once."""
    ordered = sorted(references)
    for start in range(0, len(ordered), PORTION):
        yield ",".join(ordered[start : start + PORTION])
