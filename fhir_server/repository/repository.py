"""The repository: every read and every change of a resource, whoever asks for it.

A create by POST, an entry of a transaction and an imported file all become `Change`s and end in `commit`: validate,
index, number, write. Nothing else writes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from fhir_server.model.access import NOBODY, Caller, Verb
from fhir_server.model.errors import (
    FhirError,
    InvalidError,
    Issue,
    PreconditionFailedError,
)
from fhir_server.repository.changes import (
    ABSENT,
    Change,
    Checked,
    Committed,
    FailedChangeError,
    Json,
    amended,
    decided,
    not_found,
    numbered,
    require_known,
    verb_of,
)
from fhir_server.repository.conformance import Conformance
from fhir_server.repository.containing import Containing
from fhir_server.repository.contents import fitting, goes_beside, kept, put_beside
from fhir_server.repository.definitions import TYPE as SEARCH_PARAMETER
from fhir_server.repository.definitions import Definitions
from fhir_server.repository.integrity import Integrity
from fhir_server.repository.lineage import Lineage
from fhir_server.repository.ownership import marked, still_marked
from fhir_server.repository.reading import Reading
from fhir_server.repository.rules import MAINTENANCE, NO_RULES, Rules
from fhir_server.search.index import Indexer
from fhir_server.search.lineage import PROVENANCE
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit
from fhir_server.storage.writes import VersionConflictError
from fhir_server.validation import Validator

__all__ = [
    "ABSENT",
    "Change",
    "Checked",
    "Committed",
    "FailedChangeError",
    "Repository",
    "amended",
    "decided",
    "not_found",
]

#: How often a change without `If-Match` is tried again when other writers come in between.
ATTEMPTS = 60

#: The largest resource, as JSON, where no other limit is given: MongoDB's own, less what is indexed of it.
MAX_RESOURCE_BYTES = 14 * 2**20


class Repository(Reading):
    """Reads and commits. `within` gives the same view inside a transaction."""

    def __init__(
        self,
        store: Store,
        indexer: Indexer,
        validator: Validator,
        integrity: Integrity,
        *,
        max_resource_bytes: int = MAX_RESOURCE_BYTES,
        definitions: Definitions | None = None,
        containing: Containing | None = None,
        rules: Rules = NO_RULES,
        conformance: Conformance | None = None,
        most_messages: int = 0,
    ) -> None:
        self._store = store
        super().__init__(store)
        self._indexer = indexer
        self._validator = validator
        self._max_resource_bytes = max_resource_bytes
        self._definitions = definitions
        self._caller = NOBODY
        self._lineage = Lineage(indexer.registry)
        self._containing = containing
        self._rules = rules
        self._conformance = conformance
        self.integrity = integrity
        self.most_messages = most_messages  # of one person within a minute; 0: any number

    @property
    def store(self) -> Store:
        return self._store

    @property
    def indexer(self) -> Indexer:
        return self._indexer

    @property
    def containing(self) -> Containing | None:
        return self._containing

    def within(self, unit: Unit) -> Repository:
        """The same repository, reading what a transaction sees."""
        inner = copy(self)
        inner._reads = unit
        return inner

    def unawaited(self) -> Repository:
        """The same repository for who makes a record durable behind each change before it answers."""
        inner = copy(self)
        inner._store = inner._reads = self._store.unawaited()
        return inner

    def under(self, store: Store, caller: Caller) -> Repository:
        """The same repository as somebody sees it, through the store that holds to their policy."""
        inner = copy(self)
        inner._store = inner._reads = store
        inner._caller = caller
        return inner

    def speaking_for(self, caller: Caller) -> Repository:
        """The same repository, that writes in the name of somebody to whose policy it does not hold."""
        inner = copy(self)
        inner._caller = caller
        return inner

    # --- changing ---------------------------------------------------------------------------------------------------

    def check(self, change: Change) -> Checked:
        """Validate and index the content of a change.

        Raises:
            InvalidError: 400; every fault of the resource is an issue of its outcome.
            UnprocessableError: 422; an active search parameter that cannot be searched by.
        """
        if change.resource is None:
            return Checked(change)
        change = marked(change, self._caller)
        if change.fresh:
            change = self._rules.applied(change, None, self._caller)
        assert change.resource is not None
        issues = self.issues_of(change.resource)
        if self._conformance is not None:
            issues = self._conformance.softened(issues, change.type, self._caller)
        if any(issue.severity in ("error", "fatal") for issue in issues):
            raise InvalidError(issues)
        if change.type == SEARCH_PARAMETER and self._definitions is not None:
            self._definitions.require_usable(change.resource)
        return Checked(change, self._indexer.indexed(change.resource), tuple(issues))

    def issues_of(self, resource: Json, *, advice: bool = False) -> list[Issue]:
        """All that the validation has to say of a resource; what is best practice and no duty only as `advice`."""
        validator = self._validator.advising if advice else self._validator
        return validator.issues_of(resource)

    async def commit(self, change: Change) -> Committed:
        """Carry out one change.

        Raises:
            InvalidError: 400; the resource is not valid.
            PreconditionFailedError: 412; `if_match` names another version.
            VersionConflictError: 409; other writers came first, time after time.
        """
        checked = self.check(change)
        if change.type == SEARCH_PARAMETER:
            return await self._in_force(await self._commit(checked))
        if change.type != "Binary":
            return await self._commit(checked)
        placed = await self._placed(checked)
        async with kept(self._store.blobs, None if placed is checked else placed.change.blob):
            return await self._commit(placed)

    async def _commit(self, checked: Checked) -> Committed:
        change = checked.change
        if self._takes_transaction(change):
            return await self._commit_alone(checked)
        checked = await self._told(self._store.unguarded, checked, {})
        if change.fresh:
            checked = await self._satisfying(checked)
            version = self._fitting(numbered(checked, None))
            await self._noted([version])
            await self._store.write(version, None)
            return Committed(version, created=True, warnings=checked.warnings)
        for attempt in range(ATTEMPTS):
            current = await self._store.get(change.type, change.id, verb_of(change))
            await require_known(self._store, change, current)
            outcome = decided(await self._satisfying(self._ruled(checked, current)), current)
            if not outcome.changed:
                return outcome
            await self._noted([outcome.version])
            try:
                await self._store.write(self._fitting(outcome.version), current)
            except VersionConflictError:
                if change.if_match is not None or attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(random.random() * min(attempt, 10) * 0.005)
                continue
            return outcome
        raise AssertionError("unreachable")

    async def amend(
        self,
        find: Callable[[], Awaitable[Version]],
        alter: Callable[[Json], Json],
        *,
        if_match: int | None = None,
        by: str = "",
    ) -> Committed:
        """Make a new version of what stands there now, which must not be a deletion.

        Other writers may come in between; then the version is looked for again and altered anew, so that nothing of
        theirs is lost.

        Args:
            find: gives the version to alter, each time it is asked
            alter: makes the new content of the current one, which it may keep or change
            if_match: the version that must be current (`If-Match`)
            by: the operation that changes it

        Raises:
            InvalidError: 400; what comes out is not valid.
            PreconditionFailedError: 412; `if_match` names another version.
            VersionConflictError: 409; other writers came first, time after time.
        """
        for attempt in range(ATTEMPTS):
            current = await find()
            change = amended(current, alter, if_match, by)
            try:
                return await self._commit_on(change, current)
            except (PreconditionFailedError, VersionConflictError):  # what was altered is no longer current
                if attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(random.random() * min(attempt, 10) * 0.005)
        raise AssertionError("unreachable")

    async def _commit_on(self, change: Change, current: Version) -> Committed:
        """Carry out a change of a version that was just read."""
        if change.type in ("Binary", PROVENANCE) or self.integrity.enforced or self._rules.joined(change, self._caller):
            return await self.commit(change)
        outcome = decided(await self._satisfying(self._ruled(self.check(change), current)), current)
        await self._noted([outcome.version])
        await self._store.write(self._fitting(outcome.version), current)
        return await self._in_force(outcome) if change.type == SEARCH_PARAMETER else outcome

    def _takes_transaction(self, change: Change) -> bool:
        """Whether other things have to be looked at, or written along, in the same moment."""
        if self._rules.joined(change, self._caller):
            return True
        return self.integrity.enforced and (change.resource is None or bool(self.integrity.targets_of(change.resource)))

    def _ruled(self, checked: Checked, current: Version | None) -> Checked:
        """The same change of what stands there: as the rules of its type complete it, and still marked as that of the
        organization whose staff made it."""
        given = change = checked.change
        if change.resource is not None and current is not None:
            change = replace(change, resource=still_marked(change.resource, current.body))
        change = self._rules.applied(change, current, self._caller)
        return checked if change.resource is given.resource else self.check(change)

    async def _satisfying(self, checked: Checked) -> Checked:
        """The same change, which satisfies what this server asks beyond FHIR R4, with what is told of it.

        Raises:
            UnprocessableError: 422; it does not.
        """
        change, asked = checked.change, self._conformance
        if asked is None or change.resource is None or not asked.looks_at(change.type, self._caller):
            return checked
        if change.by in MAINTENANCE:
            return checked
        told = await asked.issues_of(change.resource, self._caller)
        return replace(checked, warnings=(*checked.warnings, *told)) if told else checked

    async def _told(self, reads: Store | Unit, checked: Checked, beside: Mapping[str, Mapping[str, Any]]) -> Checked:
        """The same change; that of a Provenance with whose data it tells about among its entries."""
        if checked.change.type != PROVENANCE or checked.change.resource is None:
            return checked
        about = await self._lineage.about(reads, checked.indexed.entries, beside)
        return replace(checked, indexed=replace(checked.indexed, entries=about))

    async def _noted(self, versions: Iterable[Version]) -> None:
        """Have it known of their types that there are resources which contain others."""
        types = {version.type for version in versions if version.contained}
        if types and self._containing is not None:
            await self._containing.note(types)

    async def _in_force(self, outcome: Committed) -> Committed:
        """Put in force at once what was said of a search parameter."""
        if self._definitions is not None:
            await self._definitions.refresh(at_once=True)
        return outcome

    async def _commit_alone(self, checked: Checked) -> Committed:
        """Carry out one change in a transaction of its own, where references are looked at."""
        await self._store.ensure(checked.change.type)

        async def work(unit: Unit) -> Committed:
            return await self.commit_one_within(unit, checked)

        return await self._store.transact(work)

    async def _placed(self, checked: Checked) -> Checked:
        """The same change, with data that is large for a Binary in a blob of its own."""
        change = checked.change
        if change.resource is None or not goes_beside(change.resource, self._store.blobs):
            return checked
        beside = await put_beside(change.resource, change.id, self._store.blobs)
        if beside is None:
            return checked
        resource, blob = beside
        return replace(checked, change=replace(change, resource=resource, blob=blob))

    def _fitting(self, version: Version) -> Version:
        return fitting(version, self._max_resource_bytes)

    async def commit_one_within(self, unit: Unit, checked: Checked) -> Committed:
        """Carry out one change inside a transaction; its type must be `ensure`d.

        Raises:
            FhirError: a precondition does not hold; the transaction must be given up.
        """
        try:
            return (await self.commit_within(unit, [checked]))[0]
        except FailedChangeError as failed:
            raise failed.cause from failed

    async def commit_within(self, unit: Unit, changes: Sequence[Checked]) -> list[Committed]:
        """Carry out several changes of different resources inside a transaction; their types must be `ensure`d.

        Raises:
            FailedChangeError: a precondition of one of them does not hold; the transaction must be given up.
        """
        changes = [await self._placed_within(unit, c) if c.change.type == "Binary" else c for c in changes]
        if any(c.change.type == PROVENANCE for c in changes):
            beside = {f"{c.change.type}/{c.change.id}": c.indexed.entries for c in changes}
            changes = [await self._told(unit.unguarded, c, beside) for c in changes]
        ids: dict[tuple[str, Verb], list[str]] = {}
        for change in (one.change for one in changes if not one.change.fresh):
            ids.setdefault((change.type, verb_of(change)), []).append(change.id)
        found = {key: await unit.get_many(key[0], wanted, key[1]) for key, wanted in ids.items()}
        before = [None if (c := one.change).fresh else found[c.type, verb_of(c)].get(c.id) for one in changes]
        changes = await self._completed(unit, changes, before)
        outcomes: list[Committed] = []
        done: list[tuple[Change, Version | None]] = []
        writes: list[tuple[Version, Version | None]] = []
        for position, (checked, current) in enumerate(zip(changes, before, strict=True)):
            try:
                outcome = decided(await self._satisfying(checked), current)
                self._fitting(outcome.version)
            except FhirError as error:
                raise FailedChangeError(position, error) from error
            outcomes.append(outcome)
            if outcome.changed:
                writes.append((outcome.version, current))
                done.append((checked.change, outcome.before))
        await self._noted([new for new, _ in writes])
        await unit.write(writes)
        await self._rules.along(unit, self, done, self._caller)
        if self.integrity.enforced:
            self.integrity.note(unit, changes, outcomes)
        return outcomes

    async def _completed(
        self, unit: Unit, changes: Sequence[Checked], before: Sequence[Version | None]
    ) -> list[Checked]:
        """The same changes, each as the rules of its type complete it: by itself, then by what is there of others."""
        ruled: list[Checked] = []
        for position, (checked, current) in enumerate(zip(changes, before, strict=True)):
            try:
                if not checked.change.fresh:
                    await require_known(unit, checked.change, current)
                ruled.append(checked if checked.change.fresh else self._ruled(checked, current))
            except FhirError as error:
                raise FailedChangeError(position, error) from error
        for position, resource in (await self._rules.completed(unit, ruled)).items():
            ruled[position] = self.check(replace(ruled[position].change, resource=resource))
        return ruled

    async def _placed_within(self, unit: Unit, checked: Checked) -> Checked:
        """As `_placed`; the blob stays when the transaction commits. One of a transaction that fails is litter."""
        placed = await self._placed(checked)
        if placed is not checked and placed.change.blob is not None:
            await unit.settle([placed.change.blob])
        return placed
