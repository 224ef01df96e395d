"""The definitions that one moment holds: profiles, compiled when they are first asked for, and value sets.

Nothing on a shelf changes. When a definition does, the shelf is taken down, and another one put up.

Spec: https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import RLock
from typing import Any

from fhir_server.fhirpath.kinds import Kinds, kinds_of
from fhir_server.fhirpath.quantities import Units
from fhir_server.validation.profile.compile import compiled, of_type
from fhir_server.validation.profile.definition import Structure, UnusableError, structure_of
from fhir_server.validation.profile.run import Check
from profiles.branches import SnapshotError
from profiles.registry import Registry
from profiles.snapshot import Snapshots
from profiles.terminology import Terminology
from profiles.versions import Rank, rank_of

Json = dict[str, Any]

TYPES = "http://hl7.org/fhir/StructureDefinition/"

#: Canonicals come from clients, each with a version that they think of: so many that name no profile are remembered.
_MOST_NAMES = 2000


@dataclass(frozen=True, slots=True)
class Held:
    """One stored definition: its id and version here, its canonical URL, its content.

    `preferred` is what its URL means where no version is named, whatever other versions there are. `write` names the
    write that made the version.
    """

    id: str
    version: int
    url: str
    content: Json
    preferred: bool = False
    write: bytes = b""


class Shelf:
    """Profiles of the specification and of this server's own; canonicals may carry `|version`."""

    def __init__(
        self, registry: Registry, terminology: Terminology, units: Units | None, stored: Iterable[Held] = ()
    ) -> None:
        self.kinds: Kinds = kinds_of(registry)
        self.units = units
        self.terminology = terminology
        self._registry = registry
        self._stored: dict[str, list[Held]] = {}
        for held in stored:
            self._stored.setdefault(held.url, []).append(held)
        self._structures: dict[str, Structure | UnusableError | None] = {}
        self._checks: dict[tuple[str, bool], Check | None] = {}
        self._snapshots = Snapshots(registry, self.definition)
        self._compiling = RLock()

    def structure(self, canonical: str) -> Structure | None:
        """The tree of a profile; None for one that is not held or not usable."""
        found = self._structure(canonical)
        return found if isinstance(found, Structure) else None

    def _structure(self, canonical: str) -> Structure | UnusableError | None:
        if canonical in self._structures:
            return self._structures[canonical]
        with self._compiling:
            found = self._read(canonical)
            if found is not None or len(self._structures) < _MOST_NAMES:
                self._structures[canonical] = found
        return found

    def _read(self, canonical: str) -> Structure | UnusableError | None:
        definition = self.definition(canonical)
        if definition is None:
            return None
        if definition.get("kind") == "logical":
            return UnusableError(f"The StructureDefinition {canonical} is a logical model, no profile of a FHIR type.")
        try:
            return structure_of(definition, self._snapshots.elements_of(definition))
        except UnusableError as error:
            return error
        except SnapshotError as error:
            return UnusableError(str(error))
        except RecursionError:
            return UnusableError(f"The profile {canonical} is nested too deeply.")

    def definition(self, canonical: str) -> Json | None:
        """The StructureDefinition of a profile as it stands; of several versions the highest, unless one is named."""
        url, _, version = canonical.partition("|")
        known = self._registry.profiles.get(url)
        if known is not None and version in ("", known.get("version")):
            return known
        return chosen(self._stored.get(url, ()), version)

    def versions(self, url: str) -> list[tuple[str, Json]]:
        """All definitions of a URL with their canonicals, the one that is meant where no version is named first."""
        known = self._registry.profiles.get(url)
        stored = sorted(self._stored.get(url, ()), key=rank_of_held, reverse=True)
        found = [*([known] if known is not None else []), *(held.content for held in stored)]
        return [(f"{url}|{one['version']}" if one.get("version") else url, one) for one in found]

    def inherit(self, before: Shelf) -> None:
        """Take over what an earlier shelf has compiled, all of whose definitions are on this one unchanged."""
        self._checks |= {key: check for key, check in dict(before._checks).items() if check is not None}
        self._structures |= {
            canonical: found for canonical, found in dict(before._structures).items() if isinstance(found, Structure)
        }

    def is_compiled(self, canonical: str) -> bool:
        return (canonical, False) in self._checks

    def check_of(self, canonical: str, *, support: bool = False) -> Check | None:
        """The compiled check of a profile; None for one that is not held or not usable.

        With `support`, it tells also of what must be supported and is not there.
        """
        key = canonical, support
        if key in self._checks:
            return self._checks[key]
        with self._compiling:
            if key in self._checks:
                return self._checks[key]
            check = self._compiled(canonical, support=support)
            if self._structures.get(canonical) is not None or len(self._checks) < _MOST_NAMES:
                self._checks[key] = check
        return check

    def _compiled(self, canonical: str, *, support: bool) -> Check | None:
        base = self.base_type(canonical)
        if base is not None:
            return of_type(base)
        structure = self.structure(canonical)
        if structure is None:
            return None
        try:
            return compiled(structure, self, support=support)
        except UnusableError as error:
            self._structures[canonical] = error
        except RecursionError:
            self._structures[canonical] = UnusableError(f"The profile {canonical} is nested too deeply.")
        return None

    def why_not(self, canonical: str) -> str:
        """Why a profile cannot be validated against."""
        found = self._structure(canonical)
        return str(found).rstrip(".") if isinstance(found, UnusableError) else "it is not held on this server"

    def base_type(self, canonical: str) -> str | None:
        """The type of FHIR that a canonical names; None for a profile."""
        name = canonical.partition("|")[0].removeprefix(TYPES)
        return name if name in self._registry.types else None

    def type_of(self, canonical: str) -> str | None:
        """The type that a canonical is of or constrains; None for one that is not held."""
        base = self.base_type(canonical)
        if base is not None:
            return base
        definition = self.definition(canonical)
        return None if definition is None else definition.get("type")


def chosen(held: Iterable[Held], version: str) -> Json | None:
    """The definition of a version, or of the highest one that is not retired; the last one stored of equal ones."""
    found = [one for one in held if version in ("", one.content.get("version"))]
    return max(found, key=rank_of_held).content if found else None


def rank_of_held(held: Held) -> tuple[bool, bool, Rank, str]:
    """What several versions of a definition are ordered by, the one that is meant where none is named last."""
    content = held.content
    last_updated = str((content.get("meta") or {}).get("lastUpdated") or "")
    return content.get("status") != "retired", held.preferred, rank_of(str(content.get("version") or "")), last_updated
