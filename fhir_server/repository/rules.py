"""Rules: what a resource type means on this server, beyond its definition, held for every write of it.

A rule looks at one write before it is numbered, and may complete the resource or refuse the write. Where what a
resource has to say follows from others, it is completed inside the transaction, which sees these. A companion writes
what belongs together with it (the lock of a slot) in the same transaction. All hold for plain FHIR writes, entries of
Bundles, imports and operations alike. The packages in `resources` have them; `app` joins them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from fhir_server.model import codec
from fhir_server.model.access import Caller
from fhir_server.repository.changes import Change, Checked, Json
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit

if TYPE_CHECKING:
    from fhir_server.repository.repository import Repository

T = TypeVar("T")

#: Operations that move records as they are, whatever state these are in.
MAINTENANCE = frozenset({"merge", "unmerge"})


@dataclass(frozen=True, slots=True)
class Write:
    """A write that is about to be made.

    Attributes:
        old: what is current; None where nothing is, or what was is deleted
        new: the new content; None for a deletion
        caller: in whose name
        by: the operation that makes it; empty for a plain write
    """

    type: str
    id: str
    old: Json | None
    new: Json | None
    caller: Caller
    by: str = ""

    @property
    def reference(self) -> str:
        return f"{self.type}/{self.id}"


#: Gives the content that is written: `new`, or a completed copy of it. Doing it twice must change nothing more.
#: Raises a FhirError where the write must not be made.
Rule: TypeAlias = Callable[[Write], Json | None]

#: Is told of the writes of its type in a transaction, all of which hold their new content already.
#: Raises a FhirError to have the transaction given up. May be called again, when the database has it tried again.
Companion: TypeAlias = Callable[[Unit, "Repository", Sequence[Write]], Awaitable[None]]


#: Completes changes of its type by what the transaction sees of other resources: is given all that are written
#: together, as the rules left them, and gives the contents that it has completed, each with its position. Doing it
#: twice must change nothing more. May be called again, when the database has the transaction tried again.
Completing: TypeAlias = Callable[[Unit, Sequence[Checked]], Awaitable[Mapping[int, Json]]]


@dataclass(frozen=True, slots=True)
class Sometimes:
    """A companion of some writes of a type, so that the others, which are many, need no transaction.

    Attributes:
        concerns: whether it has anything to do for a change by somebody, before it is known what that replaces
    """

    companion: Companion
    concerns: Callable[[Change, Caller], bool]

    async def __call__(self, unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
        await self.companion(unit, repository, writes)


def _by_type(rows: Iterable[tuple[str, T]]) -> dict[str, tuple[T, ...]]:
    """What stands with a resource type, by that, in the order in which it is given."""
    found: dict[str, tuple[T, ...]] = {}
    for resource_type, one in rows:
        found[resource_type] = (*found.get(resource_type, ()), one)
    return found


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules and companions, and what completes by others, by resource type."""

    rules: Mapping[str, tuple[Rule, ...]]
    companions: Mapping[str, tuple[Companion, ...]]
    completing: Mapping[str, tuple[Completing, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rules: Iterable[tuple[str, Rule]],
        companions: Iterable[tuple[str, Companion]],
        completing: Iterable[tuple[str, Completing]] = (),
    ) -> Rules:
        return cls(_by_type(rules), _by_type(companions), _by_type(completing))

    def joined(self, change: Change, caller: Caller) -> bool:
        """Whether something else is looked at or written along with a change, so that it takes a transaction."""
        if change.resource is not None and change.type in self.completing:
            return True
        return any(
            not isinstance(companion, Sometimes) or companion.concerns(change, caller)
            for companion in self.companions.get(change.type, ())
        )

    def applied(self, change: Change, current: Version | None, caller: Caller) -> Change:
        """The change as the rules of its type complete it.

        Raises:
            FhirError: a rule refuses it.
        """
        rules = self.rules.get(change.type)
        if rules is None or change.by in MAINTENANCE:
            return change
        resource, old = change.resource, content(current)
        for rule in rules:
            resource = rule(Write(change.type, change.id, old, resource, caller, change.by))
        return change if resource is change.resource else replace(change, resource=resource)

    async def completed(self, unit: Unit, changes: Sequence[Checked]) -> dict[int, Json]:
        """The contents of changes that say something else by what is there of others, each with its position."""
        found: dict[int, Json] = {}
        for resource_type in sorted({one.change.type for one in changes} & self.completing.keys()):
            for complete in self.completing[resource_type]:
                found |= await complete(unit.unguarded, changes)
        return found

    async def along(
        self, unit: Unit, repository: Repository, writes: Sequence[tuple[Change, Version | None]], caller: Caller
    ) -> None:
        """Have the companions write what belongs to these changes, each with what it replaces."""
        by_type: dict[str, list[Write]] = {}
        for change, before in writes:
            if change.type in self.companions:
                write = Write(change.type, change.id, content(before), change.resource, caller, change.by)
                by_type.setdefault(change.type, []).append(write)
        for resource_type, rows in by_type.items():
            for companion in self.companions[resource_type]:
                await companion(unit.unguarded, repository, rows)


#: Where no resource type means more than its definition says.
NO_RULES = Rules({}, {})


def content(version: Version | None) -> Json | None:
    """What a version holds; None of a deletion."""
    return None if version is None or version.body is None else codec.decode(version.body)
