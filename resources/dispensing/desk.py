"""Where the work on one prescription is done: one transaction, alone with it and all that belongs to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.access import FULL_ACCESS
from fhir_server.model.clock import instant_of, new_id, now_us
from fhir_server.model.errors import NotFoundError
from fhir_server.model.exchange import Answer, Touched
from fhir_server.repository.changes import Change, FailedChangeError, gone, not_found
from fhir_server.repository.repository import Repository
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit
from resources.dispensing import feed
from resources.dispensing.codes import SIGNED, is_marked, ref
from resources.dispensing.papers import both, status_of, tell
from resources.dispensing.rows import Supply, keep, not_signed, supply_of
from resources.notification import tell_all_within

Json = dict[str, Any]
T = TypeVar("T")

ORDER = "MedicationRequest"

#: What the operations write.
TYPES = (
    ORDER,
    "Task",
    "MedicationDispense",
    "Communication",
    "DetectedIssue",
    "Provenance",
    "DocumentReference",
    "Binary",
)


@dataclass
class Desk:
    """The work on one prescription.

    Attributes:
        by: the operation
        order: the MedicationRequest, as it is now
        supply: what the server knows of it
        made: the versions that were made here
    """

    context: Context
    unit: Unit
    by: str
    id: str
    order: Json
    supply: Supply
    made: list[Version] = field(default_factory=list)

    @property
    def repository(self) -> Repository:
        return self.context.repository

    @property
    def reference(self) -> str:
        return f"{ORDER}/{self.id}"

    async def write(self, *resources: Json) -> list[Version]:
        """Make new resources, and new versions of those with an id."""
        changes = [
            Change("PUT", one["resourceType"], one["id"], one, by=self.by)
            if "id" in one
            else Change("POST", one["resourceType"], new_id(), one, fresh=True, by=self.by)
            for one in resources
        ]
        outcomes = await self.repository.commit_within(self.unit, [self.repository.check(c) for c in changes])
        versions = [outcome.version for outcome in outcomes]
        self.made += versions
        return versions

    async def task(self) -> Json:
        """The Task that is the work now."""
        task: Json = codec.decode((await self.repository.read("Task", self.supply.task)).body or b"")
        return task

    async def move(self, state: str, *, reason: str | None = None, **known: Any) -> Version:
        """Bring the work into a state; `known` are fields of the row that change along.

        The pharmacy from which it goes is told, and the one to which it comes.
        """
        before = self.supply
        self.supply = replace(before, state=state, **known)
        task = await self.task()
        task |= {**status_of(state), "lastModified": instant_of(now_us())}
        task.pop("statusReason", None)
        task.pop("owner", None)
        if reason is not None:
            task["statusReason"] = {"text": reason}
        if self.supply.owner is not None:
            task["owner"] = ref(self.supply.owner)
        (version,) = await self.write(task)
        await keep(self.unit, self.supply)
        await self.tell_pharmacies(version, before.owner)
        return version

    async def keep(self) -> None:
        """Keep the row as it is now."""
        await keep(self.unit, self.supply)

    async def tell_pharmacies(self, version: Version, *others: str | None) -> None:
        """Tell the pharmacy that has it, and others, of a version."""
        pharmacies = sorted({one for one in (self.supply.owner, *others) if one is not None})
        await feed.add(self.unit, [(one, version) for one in pharmacies])

    async def tell(
        self,
        matter: str,
        *,
        sender: str | None = None,
        code: Json | None = None,
        text: str | None = None,
        key: str = "",
    ) -> None:
        """Tell the patient and the prescriber: a Communication with the words, and a notification without them.

        Args:
            key: names the occasion, where it can be told again; else each is one of its own
        """
        people = both(self.order)
        (version,) = await self.write(tell(matter, self.order, self.id, people, sender=sender, code=code, text=text))
        await self.notify(people, f"prescription-{matter}", key or f"{version.type}/{version.id}")

    async def notify(self, people: Iterable[str | None], kind: str, key: str) -> None:
        """Have people look at the prescription."""
        await tell_all_within(self.context, self.unit, people, kind, self.reference, key=key)

    async def become(self, status: str, reason: str | None = None) -> None:
        """Give the prescription another status."""
        order = {**self.order, "status": status}
        order.pop("statusReason", None)
        if reason is not None:
            order["statusReason"] = {"text": reason}
        (version,) = await self.write(order)
        self.order = codec.decode(version.body or b"")


def named(context: Context) -> Context:
    """The same server; what is written is the caller's doing, without the mark of their organization that hides it."""
    caller = replace(context.caller, policy=FULL_ACCESS)
    return replace(context, repository=context.repository.speaking_for(caller))


async def at_desk(context: Context, order_id: str, by: str, work: Callable[[Desk], Awaitable[T]]) -> T:
    """Do something with a prescription that was signed here, alone with it.

    Raises:
        NotFoundError: 404; there is no such MedicationRequest.
        UnprocessableError: 422; it was not signed here.
    """

    async def within(unit: Unit) -> T:
        inner = named(context).within(unit)
        await unit.lock([f"prescription:{order_id}"])
        version = await unit.get(ORDER, order_id)
        if version is None:
            raise not_found(ORDER, order_id)
        supply = await supply_of(unit, order_id)
        if version.body is None or supply is None:
            await require_seen(context, order_id)
        if version.body is None:
            raise gone(version)
        order = codec.decode(version.body)
        if supply is None or not is_marked(order, SIGNED):
            raise not_signed(f"{ORDER}/{order_id}")
        return await work(Desk(inner, unit, by, order_id, order, supply))

    return await transacted(context, within)


async def transacted(context: Context, work: Callable[[Unit], Awaitable[T]]) -> T:
    """One transaction in which all types that go with prescriptions may be written."""
    store = context.repository.store
    for name in TYPES:
        await store.ensure(name)
    try:
        return await store.transact(work)
    except FailedChangeError as failed:
        raise failed.cause from failed


async def require_seen(context: Context, order_id: str) -> None:
    """What the caller does not see does not exist.

    Raises:
        NotFoundError: 404; no such MedicationRequest, as far as the caller may know.
    """
    try:
        await context.seen.repository.read(ORDER, order_id)
    except NotFoundError:
        raise not_found(ORDER, order_id) from None


async def require_concerned(context: Context, desk: Desk, pharmacy: str) -> None:
    """A pharmacy has the prescription, or sees it.

    Raises:
        NotFoundError: 404; neither.
    """
    if desk.supply.owner != pharmacy:
        await require_seen(context, desk.id)


def told(body: Json, versions: list[Version], status: int = 200) -> Answer:
    """An answer, with the versions that were made for the audit trail."""
    touched = tuple(Touched(f"{v.type}/{v.id}/_history/{v.version}", v.body) for v in versions)
    return Answer(status, codec.encode(body), touched=touched)
