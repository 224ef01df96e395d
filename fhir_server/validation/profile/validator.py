"""Validation against profiles: those that are asked for, and those that a resource claims.

Spec: https://hl7.org/fhir/R4/resource-operation-validate.html, https://hl7.org/fhir/R4/profiling.html#resources
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.quantities import Units
from fhir_server.fhirpath.walk import walk
from fhir_server.model.errors import InvalidError, Issue
from fhir_server.validation.fault import UNREADABLE
from fhir_server.validation.profile.findings import path_of
from fhir_server.validation.profile.gather import Gathering, Json, declared_by, url_of
from fhir_server.validation.profile.run import Run
from fhir_server.validation.profile.shelf import Held, Shelf, rank_of_held
from fhir_server.validation.profile.source import CODE_SYSTEMS, STRUCTURES, VALUE_SETS, Source, Stamp
from profiles.digest import code_system_of, value_set_of
from profiles.registry import Registry
from profiles.terminology import Terminology

#: So many URLs are kept on one shelf before it is put up anew.
MAX_URLS = 5_000


class ProfileValidator:
    """Validates resources against profiles; what was compiled is kept for as long as no definition changes."""

    def __init__(self, registry: Registry, terminology: Terminology, units: Units | None, source: Source) -> None:
        self._registry = registry
        self._terminology = terminology
        self._units = units
        self._source = source
        self._turn = asyncio.Lock()
        self._shelf = Shelf(registry, terminology, units)
        #: What the shelf was made from: the URLs that were looked for, and what was found.
        self._urls: dict[str, set[str]] = {STRUCTURES: set(), VALUE_SETS: set(), CODE_SYSTEMS: set()}
        self._stamps: tuple[Stamp, ...] = ()
        self._held: dict[Stamp, Held] = {}

    async def issues_of(self, resource: Json, asked: Sequence[str] = ()) -> list[Issue]:
        """What profiles say of a resource that is valid by itself (`Validator.issues_of`).

        Args:
            resource: of right structure: no issue of it has a key of `UNREADABLE`
            asked: canonicals of profiles that it must conform to, beside those that it claims

        Raises:
            InvalidError: 400; a profile that is asked for is not held, or cannot be used.
        """
        # Bundles take long; other requests go on meanwhile.
        items = await asyncio.to_thread(self._resources_in, resource)
        canonicals = [*asked, *(canonical for item in items for canonical in declared_by(item.value))]
        if not canonicals:
            return []
        shelf = await self.shelf_for(canonicals)
        return await asyncio.to_thread(_validated, shelf, items, asked)

    async def require(self, asked: Sequence[str]) -> None:
        """Profiles that are asked for are there, and can be used.

        Raises:
            InvalidError: 400; one of them is not held, or cannot be used.
        """
        if asked:
            shelf = await self.shelf_for(asked)
            await asyncio.to_thread(_require, shelf, asked)

    def _resources_in(self, resource: Json) -> list[Item]:
        """The resource, and those in it: contained ones, and those of a Bundle."""
        return [item for item in walk(resource, self._registry) if item.kind.is_resource]

    async def shelf_for(self, canonicals: Iterable[str]) -> Shelf:
        """The shelf with some profiles, and all that they need, as stored now."""
        wanted = {url_of(canonical) for canonical in canonicals} - set(self._registry.profiles)
        wanted = {url for url in wanted if self._shelf.base_type(url) is None}
        if not wanted:  # those of the specification need nothing that is stored
            return self._shelf
        async with self._turn:
            known = wanted <= self._urls[STRUCTURES]
            if known and tuple(await self._current(self._urls)) == self._stamps:
                return self._shelf
            if not known and len(self._urls[STRUCTURES]) < MAX_URLS:
                wanted |= self._urls[STRUCTURES]
            await self._put_up(wanted)
            return self._shelf

    async def _current(self, urls: dict[str, set[str]]) -> list[Stamp]:
        found: list[Stamp] = []
        for resource_type, some in urls.items():
            if some:
                found += await self._source.stamps(resource_type, some)
        return sorted(found)

    async def _put_up(self, wanted: set[str]) -> None:
        """Read what is stored of some profiles and of all that they name, round by round."""
        gathering = Gathering(self._source, self._held, self._registry, self._terminology)
        await gathering.structures(wanted)
        await gathering.value_sets()
        self._urls, self._held = gathering.urls, gathering.held
        self._stamps = tuple(sorted(gathering.held))
        stored = list(gathering.held.values())
        self._shelf = await asyncio.to_thread(self._shelf_of, stored)

    def _shelf_of(self, stored: list[Held]) -> Shelf:
        of_type = {
            name: [held for held in stored if held.content["resourceType"] == name]
            for name in (STRUCTURES, VALUE_SETS, CODE_SYSTEMS)
        }
        terminology = self._terminology
        for held in of_type.values():
            held.sort(key=rank_of_held)  # of several versions the last one is meant where none is named
        if of_type[VALUE_SETS] or of_type[CODE_SYSTEMS]:
            terminology = terminology.with_own(
                [code_system_of(held.content) for held in of_type[CODE_SYSTEMS]],
                [value_set_of(held.content) for held in of_type[VALUE_SETS]],
            )
        return Shelf(self._registry, terminology, self._units, of_type[STRUCTURES])


def _validated(shelf: Shelf, items: Sequence[Item], asked: Sequence[str]) -> list[Issue]:
    _require(shelf, asked)
    run = Run(shelf)
    for canonical in asked:
        _validate(run, items[0], canonical)
    for item, at, canonical in _claims(items):
        if canonical not in asked and not _validate(run, item, canonical):
            path = f"{path_of(item)}.meta.profile[{at}]"
            text = f"The profile {canonical} is claimed and was not looked at: {shelf.why_not(canonical)}"
            run.findings.tell("HS-PROFILE-UNKNOWN", "not-found", path, text, None, severity="warning")
    if run.findings.left_out:
        text = f"{run.findings.left_out} further issues of profiles are not listed."
        return [*run.findings.issues(), Issue("too-long", text, path_of(items[0]), "HS-PROFILE-MORE", "information")]
    return run.findings.issues()


def _require(shelf: Shelf, asked: Sequence[str]) -> None:
    for canonical in asked:
        if shelf.check_of(canonical) is None:
            raise InvalidError(
                f"The profile {canonical[:200]!r} cannot be validated against: {shelf.why_not(canonical)}.",
                code="not-supported",
                key="HS-OP-PROFILE",
            )


def _claims(items: Iterable[Item]) -> Iterator[tuple[Item, int, str]]:
    for item in items:
        for at, canonical in enumerate(declared_by(item.value)):
            yield item, at, canonical


def _validate(run: Run, item: Item, canonical: str) -> bool:
    """Validate against a profile; False for one that is not held."""
    try:
        trial = run.trial(item, canonical)
    except RecursionError:
        text = f"Not checked against the profile {canonical}: the resource, or what the profile asks, is too deep"
        run.findings.tell("HS-PROFILE-UNCHECKED", "too-costly", path_of(item), text, None, severity="information")
        return True
    if trial is None:
        return False
    run.findings.add(trial.findings)
    return True


def is_readable(issues: Iterable[Issue]) -> bool:
    """Whether a resource with these issues is of right structure, so that profiles can be looked at."""
    found = list(issues)
    keys = {issue.key for issue in found}
    # Errors are listed first: where there is room for a warning, no error is missing.
    is_cut = "HS-VAL-MORE" in keys and not any(issue.severity == "warning" for issue in found)
    return not is_cut and "HS-VAL-DEPTH" not in keys and not keys & UNREADABLE
