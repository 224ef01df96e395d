"""From an identity to its access policy: made in a moment, kept for a moment.

A policy that is asked for again within a second is a look in a dictionary. After that the relations, the Consents and
the broken glasses are looked at again; where they say the same, the same policy object comes out, so that what the
guard compiled of it stays good. So a change acts within two seconds on every process, and at once on the one that made
it (`noticed`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from fhir_server.model.access import BREAK_GLASS, FULL_ACCESS, AccessPolicy, Grant, Identity, Layer, Signed
from fhir_server.model.clock import now_us
from fhir_server.policies.consents.book import ConsentBook
from fhir_server.policies.consents.boxes import Boxes
from fhir_server.policies.consents.decide import Recipient, Tree
from fhir_server.policies.consents.provision import Provision
from fhir_server.policies.consents.verdict import Consents, Verdict
from fhir_server.policies.glass import BreakGlass
from fhir_server.policies.labels import label_layer
from fhir_server.policies.reach import Reach
from fhir_server.policies.readers import Reader, reader_of
from fhir_server.policies.relations import NOTHING, Relations, filled
from fhir_server.policies.roles import Line, RoleRules, RoleTable
from fhir_server.policies.scopes import scope_layer
from fhir_server.policies.walls import stamp_of, wall_of
from fhir_server.repository.search import Searcher
from fhir_server.storage.store import Store
from profiles.registry import Registry
from profiles.terminology import Terminology

#: How long a policy serves without a look at what it was made of.
FRESH_S = 1.0

#: Policies that are kept.
KEPT = 10_000

#: What policies are made of, beside the identity.
MADE_OF = frozenset(
    {
        *("Consent", "Patient", "RelatedPerson", "Practitioner", "PractitionerRole", "Organization", "Location"),
        *("CareTeam", "Group", "Appointment", "Encounter", "ServiceRequest", "Task", "MedicationRequest", "Schedule"),
    }
)

Key = tuple[Any, ...]


#: A line of a role, for which patients it is, and what stands for its placeholders and its relation.
_Filled = tuple[Line, frozenset[str], dict[str, tuple[str, ...]], dict[str, frozenset[str]] | None]


@dataclass(frozen=True, slots=True)
class _Roled:
    """What a role allows somebody, and what that was made of."""

    patients: frozenset[str]
    lines: Sequence[_Filled]
    layer: Layer


@dataclass(slots=True)
class _Kept:
    """A policy, and what it was made of."""

    identity: Identity
    policy: AccessPolicy
    made_at: float
    turn: int = 0
    roled: _Roled | None = None
    verdict: Verdict | None = None
    judged: tuple[Any, ...] = ()


class Policies:
    """Gives the policy of whoever asks. One for each process; all methods belong to its event loop."""

    def __init__(
        self,
        store: Store,
        searcher: Searcher,
        registry: Registry,
        terminology: Terminology,
        table: RoleTable,
        glass: BreakGlass,
        *,
        base_url: str,
        base_permits: bool = True,
    ) -> None:
        self.table = table
        self._reach = Reach(registry)
        self._relations = Relations(store, searcher, table)
        boxes = Boxes(registry, terminology, self._reach)

        def grown(rule: Provision) -> Tree:
            return Tree(rule, boxes, terminology)

        self._book = ConsentBook(store, grown, base_url, base_permits=base_permits)
        self._consents = Consents(self._book, self._reach, base_permits=base_permits)
        self._glass = glass
        self._free_types = frozenset(registry.resource_types) - self._reach.types | table.open_types
        self._kept: dict[Key, _Kept] = {}
        self._hot: dict[int, _Kept] = {}
        self._under_way: dict[Key, tuple[tuple[int, float], asyncio.Task[_Kept]]] = {}
        self._written_at: dict[str, float] = {}
        self._turn = 0
        glass.when_changed(self._renew)

    async def open(self) -> None:
        """Read the Consents in force, so that the first request does not wait for them."""
        await self._book.refresh()

    def noticed(self, resource_type: str, subject: str) -> None:
        """A user of this process wrote something of this type: what policies are made of it acts at once.

        A Consent acts at once on everybody; all else on the user, who goes on with what was just made.
        """
        if resource_type == "Consent":
            self._book.forget()
            self._renew()
        elif resource_type in MADE_OF:
            if len(self._written_at) >= KEPT:
                self._written_at.clear()
                self._renew()
            self._written_at[subject] = time.monotonic()

    def _renew(self) -> None:
        """Policies that were made before now are no longer fresh."""
        self._turn += 1

    def _is_fresh(self, kept: _Kept, identity: Identity) -> bool:
        return (
            kept.turn == self._turn
            and kept.made_at > time.monotonic() - FRESH_S
            and kept.made_at > self._written_at.get(identity.subject, 0.0)
        )

    async def of(self, identity: Identity) -> AccessPolicy:
        """What somebody may see and change now.

        Raises:
            UnavailableError: 503; what the policy is made of cannot be read. No older policy stands in for it.
        """
        kept = self._hot.get(id(identity))
        if kept is not None and kept.identity is identity and self._is_fresh(kept, identity):
            return kept.policy
        key = _key_of(identity)
        kept = self._kept.get(key)
        if kept is None or not self._is_fresh(kept, identity):
            kept = await self._renewed(key, identity, kept)
        if len(self._hot) >= KEPT:
            self._hot.clear()
        self._hot[id(identity)] = kept if kept.identity is identity else replace(kept, identity=identity)
        return kept.policy

    async def _renewed(self, key: Key, identity: Identity, old: _Kept | None) -> _Kept:
        """A policy made anew, by one for all who wait for it."""
        written_at = self._written_at.get(identity.subject, 0.0)
        sign = (self._turn, written_at)
        known = self._under_way.get(key)
        if known is None or known[0] != sign:
            task = asyncio.create_task(self._made(identity, old, written_at))
            known = self._under_way[key] = (sign, task)
            task.add_done_callback(lambda _: self._end(key, task))
        kept = await asyncio.shield(known[1])
        if key not in self._kept and len(self._kept) >= KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = kept
        return kept

    def _end(self, key: Key, task: asyncio.Task[_Kept]) -> None:
        known = self._under_way.get(key)
        if known is not None and known[1] is task:
            del self._under_way[key]

    # --- making -----------------------------------------------------------------------------------------------------

    async def _made(self, identity: Identity, old: _Kept | None, since: float) -> _Kept:
        began, turn = time.monotonic(), self._turn
        role = self.table.roles[identity.role]
        if role.name == "operator" and not identity.scopes and not identity.scope:
            return _Kept(identity, FULL_ACCESS, began, turn)
        await asyncio.gather(self._book.refresh(), self._glass.refresh())
        reader = await reader_of(identity, role, self._relations, since, identified=self._book.by_identifier)
        broken = self._broken(role, identity)
        layers: list[Layer] = [scope_layer(identity, self._reach, self.table.open_types)]
        roled = None
        if not role.everything:
            roled = await self._role_layer(role, reader, broken, since, old.roled if old else None)
            layers.append(roled.layer)
        others = self.table.roles[role.others] if role.others and reader.entrusted else None
        own = roled.patients if roled is not None else NOTHING
        labels = label_layer(role, reader.purpose, broken, self.table, self._reach, others, own)
        if labels is not None:
            layers.append(labels)
        denials: list[Grant] = list(wall_of(role, identity))
        verdict, judged = self._judged(role, reader, broken, old)
        if verdict is not None:
            denials += verdict.denials
            if not self._consents.base_permits:
                layers.append(self._consents.permitting_layer(verdict, broken, self._free_types))
        mark = " ".join((BREAK_GLASS, *sorted(broken))) if broken else ""
        signs = tuple(Signed(name, path, reader.selves) for name, path in role.signs)
        policy = AccessPolicy(
            tuple(layers), tuple(denials), role.operations, role.keeps, signs, stamp_of(role, identity), mark
        )
        kept_policy = old.policy if old is not None and _same(policy, old.policy) else _versioned(policy)
        return _Kept(identity, kept_policy, began, turn, roled, verdict, judged)

    def _broken(self, role: RoleRules, identity: Identity) -> frozenset[str]:
        """The patients for whom this user has broken the glass: by `$break-glass` alone, which is for a time and is
        reviewed; a token that says `BTG` opens nothing by itself."""
        if not role.break_glass:
            return NOTHING
        return frozenset(glass.patient for glass in self._glass.of(identity))

    async def _role_layer(
        self, role: RoleRules, reader: Reader, broken: frozenset[str], since: float, old: _Roled | None
    ) -> _Roled:
        """What the role allows this user; nothing where the user's own resource is not what the role needs."""
        user = reader.identity.fhir_user
        if role.user and (user is None or user.partition("/")[0] not in role.user):
            return _Roled(NOTHING, (), ())
        patients = NOTHING
        if role.patients:
            patients = await self._relations.union(role.patients, reader.values, since)
        patients = patients | broken if broken else patients
        if old is not None and old.patients == patients:
            patients = old.patients  # the same object: then all that follows compares by identity
        of = [(line, patients) for line in role.lines]
        if role.others and reader.entrusted:
            of += [(line, reader.entrusted) for line in self.table.roles[role.others].lines]
        lines: list[_Filled] = [
            (line, whose, await self._values_of(line, reader, since), await self._ids_of(line, reader, since))
            for line, whose in of
        ]
        if old is not None and old.patients is patients and old.lines == lines:
            return old
        grants: dict[Grant, None] = {}
        for line, whose, values, ids in lines:
            for criteria in filled(line.where, values):
                grants.update(dict.fromkeys(self._grants_of(line, whose, criteria, ids)))
        return _Roled(patients, lines, tuple(grants))

    async def _values_of(self, line: Line, reader: Reader, since: float) -> dict[str, tuple[str, ...]]:
        """What stands for the placeholders of a line, those of relations looked up."""
        values = dict(reader.values)
        for name in self.table.relations_in(line):
            values[name] = tuple(sorted(await self._relations.of(name, reader.values, since)))
        return values

    async def _ids_of(self, line: Line, reader: Reader, since: float) -> dict[str, frozenset[str]] | None:
        """The ids to which the relation of a line leads, by type."""
        if line.ids is None:
            return None
        found: dict[str, set[str]] = {}
        for reference in await self._relations.of(line.ids, reader.values, since):
            kind, _, resource_id = reference.partition("/")
            found.setdefault(kind, set()).add(resource_id)
        return {kind: frozenset(ids) for kind, ids in found.items()}

    def _grants_of(
        self, line: Line, patients: frozenset[str], criteria: Key, ids: dict[str, frozenset[str]] | None
    ) -> Iterator[Grant]:
        for name in line.types:
            own = None if ids is None else ids.get(name, NOTHING)
            if own is not None and not own:
                continue
            if line.of_patients:
                yield from self._reach.grants((name,), line.verbs, patients, criteria, own)
            else:
                yield Grant(name, line.verbs, None, criteria, own)

    def _judged(
        self, role: RoleRules, reader: Reader, broken: frozenset[str], old: _Kept | None
    ) -> tuple[Verdict | None, tuple[Any, ...]]:
        """What Consents say; the verdict of before where nothing of what it was made of has changed."""
        if not role.consents:
            return None, ()
        judged = (self._book.epoch, reader.names, broken)
        if old is not None and old.verdict is not None and old.judged == judged and now_us() < old.verdict.until_us:
            return old.verdict, judged
        recipient = Recipient(reader.names, reader.purpose, now_us(), reader.maybe)
        return self._consents.verdict(recipient, role.consents, broken), judged


def _key_of(identity: Identity) -> Key:
    """All of an identity by which policies differ."""
    return (
        *(identity.subject, identity.client_id, identity.role, identity.scopes, bool(identity.scope)),
        *(identity.fhir_user, identity.organization, identity.patient, identity.patients),
        *(identity.purpose, bool(identity.reason.strip()), identity.grant_id),
    )


def _same(new: AccessPolicy, old: AccessPolicy) -> bool:
    """Whether a policy says what the old one says; its version is only a mark yet."""
    return replace(new, version="") == replace(old, version="") and new.version == old.version.partition(" ")[2]


def _versioned(policy: AccessPolicy) -> AccessPolicy:
    """The policy with its version: a digest of all that it says, and for whom the glass is broken."""
    digest = blake2b(digest_size=9)
    texts: dict[int, str] = {}  # the same sets stand in many grants
    for part in (*policy.layers, policy.denials):
        for grant in part:
            digest.update(_text_of(grant, texts).encode())
        digest.update(b"\n\n")
    digest.update(repr((sorted(policy.operations or ()), policy.operations is None, policy.stamp)).encode())
    if policy.keeps or policy.signs:
        digest.update(repr((policy.keeps, [(s.type, s.path, sorted(s.by)) for s in policy.signs])).encode())
    return replace(policy, version=" ".join(filter(None, (digest.hexdigest(), policy.version))))


def _text_of(grant: Grant, texts: dict[int, str]) -> str:
    """A grant as a text that is the same wherever it is made."""
    limits = [_text_of_set(some, texts) for some in (grant.compartments, grant.ids)]
    unless = [_text_of(inner, texts) for inner in grant.unless]
    return f"{grant.type} {grant.verbs} {limits} {grant.criteria} {unless}\n"


def _text_of_set(some: frozenset[str] | None, texts: dict[int, str]) -> str:
    if some is None:
        return ""
    text = texts.get(id(some))
    if text is None:
        text = texts[id(some)] = blake2b("\n".join(sorted(some)).encode(), digest_size=12).hexdigest()
    return text
