"""A guard: what one policy lets through, asked by the guarded store for every document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fhir_server.access.attachments import BINARY
from fhir_server.access.compiled import ANYTHING, NOTHING, Compiler
from fhir_server.access.implied import Remainder
from fhir_server.model import codec
from fhir_server.model.access import AccessPolicy, Verb
from fhir_server.model.errors import ForbiddenError
from fhir_server.search.compartment import PATIENT, owner_of
from fhir_server.search.index import Indexer
from fhir_server.search.matching import Predicate, fields_of, predicate_of
from fhir_server.search.types.conditions import Filter
from fhir_server.storage.document import Version

#: What a document that is read has beside its index entries, by which a filter can judge it.
OWN_FIELDS = frozenset({"_id", "v", "t", "d"})

_ACTS = {"c": "create", "r": "read", "u": "change", "d": "delete", "s": "search"}


class Reads(Protocol):
    """Where versions are read: a store, or a transaction."""

    async def get(self, resource_type: str, resource_id: str, verb: Verb = "r") -> Version | None: ...


@dataclass(frozen=True, slots=True)
class Judge:
    """Tells of a document that was read whether it meets a filter.

    Attributes:
        entries: the fields of index entries (`x.subject`) that must be read for that
        admits: asks the document
    """

    entries: tuple[str, ...]
    admits: Predicate


class Guard:
    """The filters of one policy, each compiled when it is first needed."""

    def __init__(self, policy: AccessPolicy, compiler: Compiler, indexer: Indexer) -> None:
        self.policy = policy
        self._compiler = compiler
        self._indexer = indexer
        self._filters: dict[tuple[str, Verb], Filter] = {}
        self._known: dict[str, Filter] = {}
        self._known_tests: dict[str, Predicate] = {}
        self._judges: dict[tuple[str, Verb], Judge | None] = {}
        self._tests: dict[tuple[str, Verb], Predicate] = {}
        self._rests: dict[str, Remainder] = {}

    async def filter_of(self, resource_type: str, verb: Verb) -> Filter:
        """What a document must meet; empty where the policy does not limit this verb for this type."""
        key = (resource_type, verb)
        found = self._filters.get(key)
        if found is None:
            found = await self._compiler.filter_of(self.policy, resource_type, verb)
            if found is ANYTHING and resource_type == BINARY and any(verb in d.verbs for d in self.policy.denials):
                found = NOTHING  # a Binary is in no compartment: what hides its security context hides it, one by one
            self._filters[key] = found
        return found

    async def hides_some_binaries(self, verb: Verb) -> bool:
        """Whether no layer limits Binaries, and only denials can hide some."""
        layers = AccessPolicy(self.policy.layers)
        return await self._compiler.filter_of(layers, BINARY, verb) is ANYTHING

    async def known(self, resource_type: str) -> Filter:
        """What a caller may know to be there, who may write it and need not be allowed to read it.

        A layer that says nothing of reading the type, such as the scopes of an app that only writes, hides nothing.
        """
        found = self._known.get(resource_type)
        if found is None:
            speaking = [
                layer for layer in self.policy.layers if any(grant.covers(resource_type, "r") for grant in layer)
            ]
            policy = AccessPolicy(tuple(speaking), self.policy.denials)
            found = self._known[resource_type] = await self._compiler.filter_of(policy, resource_type, "r")
        return found

    async def knows(self, version: Version) -> bool:
        """Whether a version is one that the caller may know to be there."""
        condition = await self.known(version.type)
        if condition is ANYTHING:
            return True
        if version.body is None:
            return False
        test = self._known_tests.get(version.type)
        if test is None:
            test = self._known_tests[version.type] = predicate_of(condition)
        return test(self._document_of(version))

    def owners_in(self, version: Version) -> set[str]:
        """The ids of the patients to whom a version says that it belongs."""
        code = owner_of(version.type, self._indexer.registry)
        if code is None or version.body is None:
            return set()
        found = self.entries_of(version).get(code, ())
        references = [found] if isinstance(found, str) else found
        return {r.partition("/")[2] for r in references if isinstance(r, str) and r.startswith(f"{PATIENT}/")}

    async def judged_by(self, resource_type: str, verb: Verb) -> Judge | None:
        """The filter as a function of a document, with the index entries that it looks at; None where it looks at more
        than a read fetches, so that only the database can tell."""
        key = (resource_type, verb)
        if key not in self._judges:
            self._judges[key] = judge_of(await self.filter_of(resource_type, verb))
        return self._judges[key]

    async def beside(self, resource_type: str, filter: Mapping[str, Any]) -> Filter:
        """What the documents that meet a search's filter must meet, too, to be found."""
        rest = self._rests.get(resource_type)
        if rest is None:
            condition = await self.filter_of(resource_type, "s")
            rest = self._rests[resource_type] = Remainder(condition)
        return rest.beside(filter)

    async def limits(self, resource_type: str, verb: Verb) -> bool:
        """Whether there can be documents of the type that the policy hides from this verb."""
        return await self.filter_of(resource_type, verb) is not ANYTHING

    async def allows(self, version: Version, verb: Verb) -> bool:
        """Whether a version, whatever is stored, is one that the policy lets through; a deletion never is."""
        condition = await self.filter_of(version.type, verb)
        if condition is ANYTHING:
            return True
        if version.body is None:
            return False
        key = (version.type, verb)
        test = self._tests.get(key)
        if test is None:
            test = self._tests[key] = predicate_of(condition)
        return test(self._document_of(version))

    def _document_of(self, version: Version) -> Mapping[str, Any]:
        return {"_id": version.id, "v": version.version, "t": version.moment_us, "x": self.entries_of(version)}

    def entries_of(self, version: Version) -> Mapping[str, Any]:
        """The index entries of a version, made anew where it was read without them."""
        assert version.body is not None
        return version.entries or self._indexer.entries_of(codec.decode(version.body))

    async def require(self, version: Version, previous: Version | None) -> None:
        """A write is allowed: what stands there now, and what would stand there then.

        Raises:
            ForbiddenError: 403; it is not.
        """
        if previous is None or previous.deleted:
            verb: Verb = "c"
        elif version.deleted:
            verb = "d"
        else:
            verb = "u"
        if previous is not None and not previous.deleted and not await self.allows(previous, verb):
            raise forbidden(version.type, verb)
        if not version.deleted and not await self.allows(version, verb):
            raise forbidden(version.type, verb)
        if previous is not None and previous.deleted and await self.limits(version.type, "u"):
            raise forbidden(version.type, "u")

    async def require_known_patients(
        self, new: Version, previous: Version | None, reads: Reads, beside: frozenset[str]
    ) -> None:
        """Nobody adds to the record of a patient who is hidden from them: it would tell that there is one.

        Args:
            reads: where Patients are read as they are, whoever may see them
            beside: ids of Patients that are written together with it

        Raises:
            ForbiddenError: 403; as for a patient who does not exist.
        """
        if await self.known(PATIENT) is ANYTHING:
            return
        owners = self.owners_in(new) - beside
        if owners and previous is not None:
            owners -= self.owners_in(previous)
        for owner in sorted(owners):
            found = await reads.get(PATIENT, owner)
            if found is not None and not found.deleted and not await self.knows(found):
                raise forbidden(new.type, "c" if previous is None or previous.deleted else "u")


def judge_of(condition: Filter) -> Judge | None:
    fields = fields_of(condition)
    entries = sorted(name for name in fields if name.startswith("x."))
    if not fields <= OWN_FIELDS.union(entries):
        return None
    # Of `x.a` and `x.a.b` the database takes the wider one alone.
    wanted = tuple(name for name in entries if not any(name.startswith(f"{other}.") for other in entries))
    return Judge(wanted, predicate_of(condition))


def forbidden(resource_type: str, verb: Verb) -> ForbiddenError:
    return ForbiddenError(
        f"Your access does not allow to {_ACTS[verb]} this {resource_type}: it reaches only what the granted scopes "
        "and your role cover, before and after the change.",
        key="HS-ACCESS-WRITE",
        expression=resource_type,
    )
