"""What follows the feed, and what it is told."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from fhir_server.storage.document import Version


@dataclass(frozen=True, slots=True)
class Changed:
    """A version of a resource that was made.

    Attributes:
        type, id, version: name it
        deleted: whether it is a deletion
        at_us: `meta.lastUpdated`, microseconds since 1970 UTC
        body: the resource's JSON; None of a deletion
        before: the JSON of the version before; of deletions, and of all changes where the follower asks for it. None
            where there is none, or it was a deletion or is erased.
    """

    type: str
    id: str
    version: int
    deleted: bool
    at_us: int
    body: bytes | None
    before: bytes | None = None


def itself(changed: Changed) -> str:
    """The subject of a change where nothing else is: the resource."""
    return f"{changed.type}/{changed.id}"


@dataclass(frozen=True, slots=True)
class Follower:
    """Who is told of changes, each at least once, those of a subject in their order.

    Attributes:
        name: under which is kept how far it is; a new name begins with what is written from then on
        types: the resource types that it wants to know of; all when empty
        handle: is given what changed, in order; what it was given before may come again after a failure or a crash
        subject: what a change is about. Where there are several `parts`, it must be the same for all versions of a
            resource, as far as their order matters; a deletion has the body `before` it.
        parts: into how many parts the changes are shared out, by their subjects, for several processes to handle
        from_start: a new name begins with all versions that are there, the oldest first
        before: whether each change comes with the version before it, and not deletions alone
        everywhere: each process handles all changes, from when it started, and remembers nothing afterwards: for what
            is connected to this process, such as the web sockets of browsers
    """

    name: str
    types: frozenset[str]
    handle: Callable[[Sequence[Changed]], Awaitable[None]]
    subject: Callable[[Changed], str] = itself
    parts: int = 1
    from_start: bool = False
    before: bool = False
    everywhere: bool = False

    def part_of(self, changed: Changed, subject: Callable[[Changed], str] | None = None) -> int:
        """Which part a change belongs to; the same in all processes, today and tomorrow."""
        if self.parts == 1:
            return 0
        return zlib.crc32((subject or self.subject)(changed).encode()) % self.parts


def changed_of(version: Version, before: Version | None) -> Changed:
    return Changed(
        version.type,
        version.id,
        version.version,
        version.deleted,
        version.moment_us,
        version.body,
        None if before is None else before.body,
    )
