"""Whether a package can be used: each of its definitions is looked at, and snapshots that are missing are made.

What cannot be read refuses the package; what can be read and not used is told, since most guides have some of it.

Spec: https://hl7.org/fhir/R4/packages.html, https://hl7.org/fhir/R4/profiling.html#snapshot
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fhir_server.model.errors import Issue
from fhir_server.search.custom import packaged_definition
from fhir_server.search.ucum import canonical
from fhir_server.validation import Validator
from fhir_server.validation.profile.shelf import Held, Shelf
from fhir_server.validation.profile.validator import is_readable
from profiles.branches import SnapshotError
from profiles.package import Definition, Package, PackageError
from profiles.pinning import VersionOf, pinned
from profiles.registry import Registry, registry
from profiles.snapshot import Snapshots
from profiles.terminology import terminology

Json = dict[str, Any]

STRUCTURES = "StructureDefinition"
PARAMETERS = "SearchParameter"

#: Of the problems of a package so many are told and kept.
MAX_TOLD = 50


class Checker:
    """Looks at packages that come together.

    Args:
        packages: all that come
        held: the profiles that are here already
        version_of: what canonicals mean in a package
        known: the search parameters that are in force
    """

    def __init__(
        self,
        packages: Sequence[Package],
        held: Iterable[Held],
        version_of: Callable[[str], VersionOf],
        known: Registry,
    ) -> None:
        self._version_of = version_of
        self._validator = Validator(registry(), terminology(), canonical)
        new = [
            Held(f"{package.id}/{one.file}", 0, one.url, pinned(one.content, version_of(package.id)))
            for package in packages
            for one in package.definitions
            if one.type == STRUCTURES
        ]
        self._shelf = Shelf(registry(), terminology(), canonical, [*held, *new])
        self._snapshots = Snapshots(registry(), self._shelf.definition)
        self._known = known.copy()

    def contents_of(self, package: Package) -> tuple[list[tuple[Json, str]], list[str]]:
        """The definitions to install, each with the type that it supports, and what is to be told of the package.

        Raises:
            PackageError: a definition cannot be read.
        """
        contents: list[tuple[Json, str]] = []
        problems: list[str] = []
        for one in package.definitions:
            if not registry().is_resource_type(one.type):
                problems.append(f"{one.file}: {one.type} is no resource type of FHIR R4; it was left out.")
                continue
            problems += self._faults(one)
            content = one.content
            if one.type == STRUCTURES and is_profile(content):
                content, problem = self._whole(one, package)
                problems += problem
            elif one.type == PARAMETERS:
                problems += self._unusable(one)
            contents.append((content, supports(content)))
        left_out = len(problems) - MAX_TOLD
        return contents, [*problems[:MAX_TOLD], *([f"{left_out} further problems."] if left_out > 0 else [])]

    def _faults(self, definition: Definition) -> list[str]:
        issues = self._validator.issues_of(definition.content)
        errors = [issue for issue in issues if issue.severity == "error"]
        if not is_readable(issues):
            raise PackageError(f"Its file package/{definition.file} cannot be read: {_told(errors[0])}")
        return [f"{definition.file}: {_told(errors[0])}"] if errors else []

    def _whole(self, definition: Definition, package: Package) -> tuple[Json, list[str]]:
        """A profile with its snapshot, and why it cannot be validated against where that is so."""
        content = definition.content
        if not (content.get("snapshot") or {}).get("element"):
            try:
                elements = self._snapshots.elements_of(pinned(content, self._version_of(package.id)))
            except SnapshotError as error:
                return content, [f"{definition.file}: {error}"]
            content = {**content, "snapshot": {"element": elements}}
        of = f"{definition.url}|{definition.version}" if definition.version else definition.url
        if self._shelf.check_of(of) is None:
            return content, [f"{definition.file}: {self._shelf.why_not(of)}."]
        return content, []

    def _unusable(self, definition: Definition) -> list[str]:
        verdict = packaged_definition(definition.content, self._known)
        if verdict.parameter is not None:
            self._known.adopt((*self._known.own, verdict.parameter))
        return [f"{definition.file}: {verdict.fault}"] if verdict.fault else []


def is_profile(content: Json) -> bool:
    return content.get("derivation") == "constraint" and content.get("kind") != "logical"


def supports(content: Json) -> str:
    """The resource type that a definition is a profile of; empty for anything else."""
    name = str(content.get("type"))
    is_of_resource = is_profile(content) and content.get("kind") == "resource" and not content.get("abstract")
    return name if is_of_resource and registry().is_resource_type(name) else ""


def _told(issue: Issue) -> str:
    return f"{issue.expression}: {issue.diagnostics}"
