"""Validation against profiles: those that are asked for, and those that a resource claims; and of contents.

Spec: https://hl7.org/fhir/R4/resource-operation-validate.html, https://hl7.org/fhir/R4/profiling.html#resources
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from fhir_server.fhirpath.items import Item, children, root_item
from fhir_server.fhirpath.quantities import Units
from fhir_server.fhirpath.walk import walk
from fhir_server.model.errors import Issue
from fhir_server.validation.contents.rules import canonicals_in, contents_found, questionnaires_of
from fhir_server.validation.fault import UNREADABLE
from fhir_server.validation.profile.findings import Findings, path_of
from fhir_server.validation.profile.gather import Gathering, Json, url_of
from fhir_server.validation.profile.members import Asked
from fhir_server.validation.profile.run import Known, declared_by, require_held, validated
from fhir_server.validation.profile.shelf import Held, Shelf, chosen, rank_of_held
from fhir_server.validation.profile.source import (
    CODE_SYSTEMS,
    QUESTIONNAIRES,
    STRUCTURES,
    VALUE_SETS,
    Membership,
    Source,
    Stamp,
)
from profiles.digest import code_system_of, value_set_of
from profiles.registry import Registry
from profiles.terminology import Terminology

#: So many URLs are kept on one shelf before it is put up anew.
MAX_URLS = 5_000

#: One answer may lead an expression to the next question; no expression asks for so many one after the other.
MAX_LOOKS = 5

#: Types that have resources in them, anywhere.
_HOLDERS = frozenset({"Bundle", "Parameters"})


class ProfileValidator:
    """Validates resources against profiles; what was compiled is kept for as long as no definition changes."""

    def __init__(
        self,
        registry: Registry,
        terminology: Terminology,
        units: Units | None,
        source: Source,
        membership: Membership | None = None,
    ) -> None:
        self._registry = registry
        self._terminology = terminology
        self._units = units
        self._source = source
        self._membership = membership
        self._turn = asyncio.Lock()
        self._shelf = Shelf(registry, terminology, units)
        #: What the shelf was made from: the URLs that were looked for, and what was found.
        self._urls: dict[str, set[str]] = {STRUCTURES: set(), VALUE_SETS: set(), CODE_SYSTEMS: set()}
        self._sets: set[str] = set()
        self._stamps: tuple[Stamp, ...] = ()
        self._held: dict[Stamp, Held] = {}
        self._looked_s = 0.0

    async def issues_of(self, resource: Json, asked: Sequence[str] = (), *, support: bool = False) -> list[Issue]:
        """What profiles say of a resource that is valid by itself (`Validator.issues_of`).

        Args:
            resource: of right structure: no issue of it has a key of `UNREADABLE`
            asked: canonicals of profiles that it must conform to, beside those that it claims
            support: tell also of elements that must be supported and are not there

        Raises:
            InvalidError: 400; a profile that is asked for is not held, or cannot be used.
        """
        # Bundles take long; other requests go on meanwhile.
        items = await asyncio.to_thread(self._resources_in, resource)
        canonicals = [*asked, *(canonical for item in items for canonical in declared_by(item.value))]
        if not canonicals:
            return []
        shelf = await self.shelf_for(canonicals)
        look = partial(validated, shelf, items, asked, support=support)
        return await self._settled(await self._found(look, aside=True), items[0])

    async def issues_against(self, resource: Json, canonicals: Sequence[str], *, at_most_s: float = 0) -> list[Issue]:
        """What some profiles alone say of a resource, by definitions that were looked up so long ago at most.

        Raises:
            InvalidError: 400; one of them is not held, or cannot be used.
        """
        shelf = await self.shelf_for(canonicals, at_most_s=at_most_s)
        await self._compiled(shelf, canonicals)
        root = root_item(resource, shelf.kinds)
        look = partial(validated, shelf, [root], canonicals, claims=False)
        return await self._settled(await self._found(look), root)

    async def issues_of_claims(self, resource: Json, *, at_most_s: float = 0) -> list[Issue]:
        """What the profiles say that a resource claims, and those that are in it; as `issues_against`."""
        if resource.get("resourceType") in _HOLDERS:
            return await self.issues_of(resource)
        root = root_item(resource, self._shelf.kinds)
        contained = [item for item in self._contained_in(root) if declared_by(item.value)]
        canonicals = [canonical for item in (root, *contained) for canonical in declared_by(item.value)]
        if not canonicals:
            return []
        shelf = await self.shelf_for(canonicals, at_most_s=at_most_s)
        await self._compiled(shelf, canonicals)
        return await self._settled(await self._found(partial(validated, shelf, [root, *contained], ())), root)

    async def contents_of(self, resource: Json, *, at_most_s: float = 0) -> list[Issue]:
        """What a resource says of itself that is not so: see `validation.contents`."""
        items = await asyncio.to_thread(lambda: list(walk(resource, self._registry)))
        asked = {canonical: await self._questionnaire(canonical) for canonical in questionnaires_of(items)}
        structures, sets = canonicals_in(items, asked.values())
        shelf = await self.shelf_for(structures, sets, at_most_s=at_most_s)
        findings = await self._found(partial(contents_found, shelf, items, asked), aside=True)
        return await self._settled(findings, items[0])

    async def require(self, asked: Sequence[str]) -> None:
        """Profiles that are asked for are there, and can be used.

        Raises:
            InvalidError: 400; one of them is not held, or cannot be used.
        """
        if asked:
            shelf = await self.shelf_for(asked)
            await asyncio.to_thread(require_held, shelf, asked)

    def _resources_in(self, resource: Json) -> list[Item]:
        """The resource, and those in it: contained ones, and those of a Bundle."""
        return [item for item in walk(resource, self._registry) if item.kind.is_resource]

    @staticmethod
    def _contained_in(root: Item) -> list[Item]:
        return children(root, "contained") if "contained" in root.value else []

    @staticmethod
    async def _compiled(shelf: Shelf, canonicals: Iterable[str]) -> None:
        """Compile what is asked for the first time, while other requests go on."""
        new = [canonical for canonical in canonicals if not shelf.is_compiled(canonical)]
        if new:
            await asyncio.to_thread(lambda: [shelf.check_of(canonical) for canonical in new])

    async def _found(self, look: Callable[[Known], Findings], *, aside: bool = False) -> Findings:
        """What a validation finds when all that its expressions ask for is known, as far as anybody knows it.

        Args:
            aside: it takes long, and other requests go on meanwhile
        """
        answers: dict[Asked, bool | None] = {}
        for _ in range(MAX_LOOKS):
            known = Known(answers)
            findings = await asyncio.to_thread(look, known) if aside else look(known)
            if not known.members.asked:
                break
            for question in known.members.asked:
                answers[question] = await self._member_of(*question)
        return findings

    async def _settled(self, findings: Findings, root: Item) -> list[Issue]:
        """The issues, with those of questions that could only be asked elsewhere."""
        for question in findings.questions:
            verdicts = [await self._member_of(question.value_set, *coding) for coding in question.codings]
            findings.answer(question, True if True in verdicts else None if None in verdicts else False)
        issues = findings.issues()
        if findings.left_out:
            text = f"{findings.left_out} further issues of profiles are not listed."
            issues.append(Issue("too-long", text, path_of(root), "HS-PROFILE-MORE", "information"))
        return issues

    async def _member_of(self, value_set: str, system: str | None, code: str) -> bool | None:
        return None if self._membership is None else await self._membership.member_of(value_set, system, code)

    async def _questionnaire(self, canonical: str) -> Json | None:
        url, _, version = canonical.partition("|")
        stamps = await self._source.stamps(QUESTIONNAIRES, {url})
        return chosen(await self._source.read(stamps), version) if stamps else None

    async def shelf_for(
        self, canonicals: Iterable[str], value_sets: Iterable[str] = (), *, at_most_s: float = 0
    ) -> Shelf:
        """The shelf with some profiles and value sets, and all that they need, as stored so long ago at most."""
        known = self._registry.profiles
        wanted = {url for one in canonicals if (url := url_of(one)) not in known and not self._shelf.base_type(url)}
        sets = {url_of(one) for one in value_sets} - self._terminology.value_sets
        if not wanted and not sets:  # those of the specification need nothing that is stored
            return self._shelf
        if self._knows(wanted, sets) and at_most_s and time.monotonic() - self._looked_s < at_most_s:
            return self._shelf
        async with self._turn:
            is_known = self._knows(wanted, sets)
            looked_s = time.monotonic()
            is_same = tuple(await self._current(self._urls)) == self._stamps
            if not (is_known and is_same):
                if not is_known and len(self._urls[STRUCTURES]) < MAX_URLS:
                    wanted |= self._urls[STRUCTURES]
                    sets |= self._sets
                else:
                    is_same = False
                await self._put_up(wanted, sets, is_same=is_same)
            self._looked_s = looked_s
            return self._shelf

    def _knows(self, structures: Collection[str], value_sets: Collection[str]) -> bool:
        return self._urls[STRUCTURES].issuperset(structures) and self._urls[VALUE_SETS].issuperset(value_sets)

    async def _current(self, urls: dict[str, set[str]]) -> list[Stamp]:
        found: list[Stamp] = []
        for resource_type, some in urls.items():
            if some:
                found += [stamp for stamp in await self._source.stamps(resource_type, some) if not stamp.is_big]
        return sorted(found)

    async def _put_up(self, wanted: set[str], sets: set[str], *, is_same: bool) -> None:
        """Read what is stored of some profiles and of all that they name, round by round.

        Where nothing has changed of what was there before (`is_same`), what was compiled of it stays.
        """
        gathering = Gathering(self._source, self._held, self._registry, self._terminology)
        await gathering.structures(wanted)
        await gathering.value_sets(sets)
        stamps = tuple(sorted(gathering.held))
        if not is_same or stamps != self._stamps:  # a name of nothing changes nothing
            shelf = await asyncio.to_thread(self._shelf_of, list(gathering.held.values()))
            if is_same:
                shelf.inherit(self._shelf)
            self._shelf = shelf
        self._urls, self._held, self._sets, self._stamps = gathering.urls, gathering.held, sets, stamps

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


def is_readable(issues: Iterable[Issue]) -> bool:
    """Whether a resource with these issues is of right structure, so that profiles can be looked at."""
    found = list(issues)
    keys = {issue.key for issue in found}
    # Errors are listed first: where there is room for a warning, no error is missing.
    is_cut = "HS-VAL-MORE" in keys and not any(issue.severity == "warning" for issue in found)
    return not is_cut and "HS-VAL-DEPTH" not in keys and not keys & UNREADABLE
