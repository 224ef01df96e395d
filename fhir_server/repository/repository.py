"""The repository: every read and every change of a resource, whoever asks for it.

A create by POST, an entry of a transaction and an imported file all become `Change`s and end in `commit`: validate,
index, number, write. Nothing else writes.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import FhirError, GoneError, InvalidError, Issue, NotFoundError, PreconditionFailedError
from fhir_server.repository.history import HistoryPage, HistoryQuery, HistoryStore, history_page
from fhir_server.search.index import Indexer
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store, VersionConflictError
from fhir_server.storage.unit import Unit
from fhir_server.validation import Validator

Json = dict[str, Any]

#: How often a change without `If-Match` is tried again when other writers come in between.
ATTEMPTS = 60

#: The last version number of a resource that was never there.
ABSENT = 0


class ReadStore(HistoryStore, Protocol):
    """Where versions are read: the store itself, or a transaction under way."""

    async def get(self, resource_type: str, resource_id: str) -> Version | None: ...
    async def past(self, resource_type: str, resource_id: str, version: int) -> Version | None: ...


@dataclass(frozen=True, slots=True)
class Change:
    """One change that is wanted.

    Attributes:
        method: POST, PUT, PATCH or DELETE: what the history will show
        type: the resource type
        id: the logical id, which the caller has chosen or made
        resource: the new content, validated by `commit`; None for a deletion
        if_match: the version that must be current (`If-Match`)
        if_absent: nothing may be current (`If-None-Match: *`)
        fresh: the id was made for this change, so that nothing can stand there yet
    """

    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    type: str
    id: str
    resource: Json | None = None
    if_match: int | None = None
    if_absent: bool = False
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """What a change came to.

    Attributes:
        version: what is current now
        created: whether it is the first version, or the first after a deletion
        changed: whether there is anything to write
        warnings: what the validation found and let pass
    """

    version: Version
    created: bool
    changed: bool = True
    warnings: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """A change whose content is valid and indexed; only its version number is open."""

    change: Change
    entries: dict[str, Any]
    warnings: tuple[Issue, ...] = ()


class FailedChangeError(Exception):
    """One of several changes cannot be made: which, and why."""

    def __init__(self, position: int, cause: FhirError) -> None:
        super().__init__(str(cause))
        self.position = position
        self.cause = cause


class Repository:
    """Reads and commits. `within` gives the same view inside a transaction."""

    def __init__(self, store: Store, indexer: Indexer, validator: Validator) -> None:
        self._store = store
        self._reads: ReadStore = store
        self._indexer = indexer
        self._validator = validator

    @property
    def store(self) -> Store:
        return self._store

    def within(self, unit: Unit) -> Repository:
        """The same repository, reading what a transaction sees."""
        inner = Repository(self._store, self._indexer, self._validator)
        inner._reads = unit
        return inner

    # --- reading ----------------------------------------------------------------------------------------------------

    async def read(self, resource_type: str, resource_id: str) -> Version:
        """The current version.

        Raises:
            NotFoundError: 404; there never was one.
            GoneError: 410; it was deleted.
        """
        version = await self._reads.get(resource_type, resource_id)
        if version is None:
            raise not_found(resource_type, resource_id)
        if version.deleted:
            raise gone(version)
        return version

    async def current(self, resource_type: str, resource_id: str) -> Version | None:
        """The current version, which may be a deletion; None where nothing ever was."""
        return await self._reads.get(resource_type, resource_id)

    async def vread(self, resource_type: str, resource_id: str, version_id: str) -> Version:
        """One version by its number.

        Raises:
            NotFoundError: 404; no such resource or version.
            GoneError: 410; that version is a deletion.
        """
        current = await self._reads.get(resource_type, resource_id)
        if current is None:
            raise not_found(resource_type, resource_id)
        wanted = int(version_id) if version_id.isascii() and version_id.isdigit() and len(version_id) < 10 else -1
        version: Version | None = current
        if wanted != current.version:
            version = await self._reads.past(resource_type, resource_id, wanted) if wanted > 0 else None
        if version is None or version.version > current.version:
            raise NotFoundError(
                f"{resource_type}/{resource_id} has no version {version_id!r}; the current one is {current.version}.",
                key="HS-READ-VERSION",
            )
        if version.deleted:
            raise gone(version)
        return version

    async def history(self, query: HistoryQuery) -> HistoryPage:
        return await history_page(self._reads, query)

    # --- changing ---------------------------------------------------------------------------------------------------

    def check(self, change: Change) -> Checked:
        """Validate and index the content of a change.

        Raises:
            InvalidError: 400; every fault of the resource is an issue of its outcome.
        """
        if change.resource is None:
            return Checked(change, {})
        issues = self.issues_of(change.resource)
        if any(issue.severity in ("error", "fatal") for issue in issues):
            raise InvalidError(issues)
        return Checked(change, self._indexer.entries_of(change.resource), tuple(issues))

    def issues_of(self, resource: Json) -> list[Issue]:
        """All that the validation has to say of a resource."""
        return self._validator.issues_of(resource)

    async def commit(self, change: Change) -> Committed:
        """Carry out one change.

        Raises:
            InvalidError: 400; the resource is not valid.
            PreconditionFailedError: 412; `if_match` names another version.
            VersionConflictError: 409; other writers came first, time after time.
        """
        checked = self.check(change)
        if change.fresh:
            version = numbered(checked, None)
            await self._store.write(version, None)
            return Committed(version, created=True, warnings=checked.warnings)
        for attempt in range(ATTEMPTS):
            current = await self._store.get(change.type, change.id)
            outcome = decided(checked, current)
            if not outcome.changed:
                return outcome
            try:
                await self._store.write(outcome.version, current)
            except VersionConflictError:
                if change.if_match is not None or attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(random.random() * min(attempt, 10) * 0.005)
                continue
            return outcome
        raise AssertionError("unreachable")

    async def amend(
        self, find: Callable[[], Awaitable[Version]], alter: Callable[[Json], Json], *, if_match: int | None = None
    ) -> Committed:
        """Make a new version of what stands there now, which must not be a deletion.

        Other writers may come in between; then the version is looked for again and altered anew, so that nothing of
        theirs is lost.

        Args:
            find: gives the version to alter, each time it is asked
            alter: makes the new content of the current one, which it may keep or change
            if_match: the version that must be current (`If-Match`)

        Raises:
            InvalidError: 400; what comes out is not valid.
            PreconditionFailedError: 412; `if_match` names another version.
            VersionConflictError: 409; other writers came first, time after time.
        """
        for attempt in range(ATTEMPTS):
            current = await find()
            outcome = decided(self.check(amended(current, alter, if_match)), current)
            try:
                await self._store.write(outcome.version, current)
            except VersionConflictError:
                if attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(random.random() * min(attempt, 10) * 0.005)
                continue
            return outcome
        raise AssertionError("unreachable")

    async def commit_within(self, unit: Unit, changes: Sequence[Checked]) -> list[Committed]:
        """Carry out several changes of different resources inside a transaction; their types must be `ensure`d.

        Raises:
            FailedChangeError: a precondition of one of them does not hold; the transaction must be given up.
        """
        ids: dict[str, list[str]] = {}
        for checked in changes:
            if not checked.change.fresh:
                ids.setdefault(checked.change.type, []).append(checked.change.id)
        found = {name: await unit.get_many(name, wanted) for name, wanted in ids.items()}
        outcomes: list[Committed] = []
        writes: list[tuple[Version, Version | None]] = []
        for position, checked in enumerate(changes):
            change = checked.change
            current = None if change.fresh else found[change.type].get(change.id)
            try:
                outcome = decided(checked, current)
            except FhirError as error:
                raise FailedChangeError(position, error) from error
            outcomes.append(outcome)
            if outcome.changed:
                writes.append((outcome.version, current))
        await unit.write(writes)
        return outcomes


def amended(current: Version, alter: Callable[[Json], Json], if_match: int | None) -> Change:
    """The change that alters a version; it holds only while that version is current.

    Raises:
        PreconditionFailedError: 412; `if_match` names another version.
    """
    require_match(current.type, current.id, current, if_match)
    assert current.body is not None
    return Change("PATCH", current.type, current.id, alter(codec.decode(current.body)), if_match=current.version)


def decided(checked: Checked, current: Version | None) -> Committed:
    """The version that a change makes of what stands there now.

    Deleting what is deleted already, or never was, changes nothing: the outcome then holds the current version itself,
    or a version 0 where there is none.
    """
    change = checked.change
    require_match(change.type, change.id, current, change.if_match)
    if change.if_absent and current is not None and not current.deleted:
        raise PreconditionFailedError(
            f"If-None-Match asks that there is no {change.type}/{change.id}, but there is: version {current.version}.",
            key="HS-IF-NONE-MATCH",
        )
    if change.resource is None:
        if current is None:
            nothing = Version(change.type, change.id, ABSENT, now_us(), "DELETE", None)
            return Committed(nothing, created=False, changed=False)
        if current.deleted:
            return Committed(current, created=False, changed=False)
    created = change.resource is not None and (current is None or current.deleted)
    return Committed(numbered(checked, current), created, warnings=checked.warnings)


def require_match(resource_type: str, resource_id: str, current: Version | None, if_match: int | None) -> None:
    """What `If-Match` asks for: that version is current.

    Raises:
        PreconditionFailedError: 412; it is not.
    """
    if if_match is None or (current is not None and current.version == if_match):
        return
    found = "there is none" if current is None else f"the current version is {current.version}"
    named = f"version {if_match}" if if_match >= 0 else "a version that never was"
    raise PreconditionFailedError(
        f"If-Match names {named} of {resource_type}/{resource_id}, but {found}.", key="HS-IF-MATCH"
    )


def numbered(checked: Checked, current: Version | None) -> Version:
    """The next version: number and moment go into `meta`, which otherwise stays as the client wrote it."""
    change = checked.change
    number = current.version + 1 if current else 1
    moment = max(now_us(), current.moment_us) if current else now_us()
    body = None if change.resource is None else codec.encode(stamped(change.resource, change.id, number, moment))
    return Version(change.type, change.id, number, moment, change.method, body, secrets.token_bytes(8), checked.entries)


def stamped(resource: Json, resource_id: str, number: int, moment_us: int) -> Json:
    """The resource with its id and version; all else in the order and spelling of the client."""
    result: Json = {
        "resourceType": resource["resourceType"],
        "id": resource_id,
        "meta": {"versionId": str(number), "lastUpdated": instant_of(moment_us)},
    }
    if meta := resource.get("meta"):
        result["meta"] |= {k: v for k, v in meta.items() if k not in ("versionId", "lastUpdated")}
    for name, value in resource.items():
        if name not in result:
            result[name] = value
    return result


def not_found(resource_type: str, resource_id: str) -> NotFoundError:
    return NotFoundError(f"There is no {resource_type}/{resource_id} on this server.", key="HS-READ-NOT-FOUND")


def gone(version: Version) -> GoneError:
    return GoneError(
        [
            Issue(
                "deleted",
                f"{version.type}/{version.id} was deleted at {instant_of(version.moment_us)} "
                f"(version {version.version}).",
                key="HS-READ-GONE",
            )
        ],
        headers={"ETag": f'W/"{version.version}"'},
    )
