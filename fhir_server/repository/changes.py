"""Changes: what is wanted of a resource, and the version that this makes of what stands there now.

Pure: nothing here reads or writes.

Spec: https://hl7.org/fhir/R4/http.html#versioning
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fhir_server.model import codec
from fhir_server.model.access import Verb
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import FhirError, GoneError, Issue, NotFoundError, PreconditionFailedError
from fhir_server.repository.records import require_not_of_trail
from fhir_server.search.index import Indexed
from fhir_server.storage.document import Blob, Version

Json = dict[str, Any]

#: What a deletion leaves in the index.
NOTHING = Indexed()

#: The last version number of a resource that was never there.
ABSENT = 0


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
        blob: of a Binary, where its data is, which `resource` then lacks
        by: the code of the operation that makes it (`book`, `merge` …), which rules may ask for; empty for plain writes
    """

    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    type: str
    id: str
    resource: Json | None = None
    if_match: int | None = None
    if_absent: bool = False
    fresh: bool = False
    blob: Blob | None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a change came to.

    Attributes:
        version: what is current now
        created: whether it is the first version, or the first after a deletion
        changed: whether there is anything to write
        warnings: what the validation found and let pass
        before: what was current until then
    """

    version: Version
    created: bool
    changed: bool = True
    warnings: tuple[Issue, ...] = ()
    before: Version | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A change whose content is valid and indexed; only its version number is open."""

    change: Change
    indexed: Indexed = NOTHING
    warnings: tuple[Issue, ...] = ()


class FailedChangeError(Exception):
    """One of several changes cannot be made: which, and why."""

    def __init__(self, position: int, cause: FhirError) -> None:
        super().__init__(str(cause))
        self.position = position
        self.cause = cause


class Limits(Protocol):
    """What tells whether something is hidden from a caller: a store, or a transaction."""

    async def limits(self, resource_type: str, verb: Verb) -> bool: ...


def verb_of(change: Change) -> Verb:
    """What a change of something that stands there is, in the words of access policies."""
    return "d" if change.resource is None else "u"


async def require_known(reads: Limits, change: Change, current: Version | None) -> None:
    """Whoever does not see everything cannot choose ids: what they do not see is not there, whatever the reason.

    Raises:
        NotFoundError: 404; the same for an id that was never used and for one that is somebody else's.
    """
    if current is None and change.resource is not None and await reads.limits(change.type, "u"):
        raise NotFoundError(
            f"There is no {change.type}/{change.id} that you may change, and your access does not let you choose the "
            f"id of a new one: create it by POST.",
            key="HS-ACCESS-UPSERT",
        )


def amended(current: Version, alter: Callable[[Json], Json], if_match: int | None, by: str = "") -> Change:
    """The change that alters a version; it holds only while that version is current.

    Raises:
        PreconditionFailedError: 412; `if_match` names another version.
    """
    require_match(current.type, current.id, current, if_match)
    assert current.body is not None
    resource = alter(codec.decode(current.body))
    blob = None if "data" in resource else current.blob
    return Change("PATCH", current.type, current.id, resource, if_match=current.version, blob=blob, by=by)


def decided(checked: Checked, current: Version | None) -> Committed:
    """The version that a change makes of what stands there now; raises where it must not be made.

    Deleting what is deleted already, or never was, changes nothing: the outcome then holds the current version itself,
    or a version 0 where there is none.
    """
    change = checked.change
    require_not_of_trail(change.type, change.id)
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
    return Committed(numbered(checked, current), created, warnings=checked.warnings, before=current)


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
    token = secrets.token_bytes(8)
    return Version(
        change.type,
        change.id,
        number,
        moment,
        change.method,
        body,
        token,
        checked.indexed.entries,
        change.blob,
        checked.indexed.contained,
    )


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
