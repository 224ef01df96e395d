"""A guard: what one policy lets through, asked by the guarded store for every document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_server.access.compiled import ANYTHING, Compiler
from fhir_server.model import codec
from fhir_server.model.access import AccessPolicy, Verb
from fhir_server.model.errors import ForbiddenError
from fhir_server.search.index import Indexer
from fhir_server.search.matching import meets
from fhir_server.search.types.conditions import Filter
from fhir_server.storage.document import Version

#: Values in a filter above which a read by id is judged in this process, by the entries of the one resource.
LONG = 300

_ACTS = {"c": "create", "r": "read", "u": "change", "d": "delete", "s": "search"}


class Guard:
    """The filters of one policy, each compiled when it is first needed."""

    def __init__(self, policy: AccessPolicy, compiler: Compiler, indexer: Indexer) -> None:
        self.policy = policy
        self._compiler = compiler
        self._indexer = indexer
        self._filters: dict[tuple[str, Verb], Filter] = {}
        self._long: dict[tuple[str, Verb], bool] = {}

    async def filter_of(self, resource_type: str, verb: Verb) -> Filter:
        """What a document must meet; empty where the policy does not limit this verb for this type."""
        key = (resource_type, verb)
        found = self._filters.get(key)
        if found is None:
            found = self._filters[key] = await self._compiler.filter_of(self.policy, resource_type, verb)
        return found

    async def is_long(self, resource_type: str, verb: Verb) -> bool:
        """Whether a filter names so much (thousands of patients) that sending it costs more than judging here."""
        key = (resource_type, verb)
        found = self._long.get(key)
        if found is None:
            found = self._long[key] = length_of(await self.filter_of(resource_type, verb)) > LONG
        return found

    async def limits(self, resource_type: str, verb: Verb) -> bool:
        """Whether there can be documents of the type that the policy hides from this verb."""
        return await self.filter_of(resource_type, verb) is not ANYTHING

    async def allows(self, version: Version, verb: Verb) -> bool:
        """Whether a version, whatever is stored, is one that the policy lets through; a deletion never is."""
        condition = await self.filter_of(version.type, verb)
        if condition is ANYTHING:
            return True
        return version.body is not None and meets(condition, self._document_of(version))

    def _document_of(self, version: Version) -> Mapping[str, Any]:
        assert version.body is not None
        entries = version.entries or self._indexer.entries_of(codec.decode(version.body))
        return {"_id": version.id, "v": version.version, "t": version.moment_us, "x": entries}

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


def length_of(condition: Any) -> int:
    """How many values a filter names."""
    if isinstance(condition, Mapping):
        return sum(map(length_of, condition.values()))
    if isinstance(condition, list):
        return sum(map(length_of, condition))
    return 1


def forbidden(resource_type: str, verb: Verb) -> ForbiddenError:
    return ForbiddenError(
        f"Your access does not allow to {_ACTS[verb]} this {resource_type}: it reaches only what the granted scopes "
        "and your role cover, before and after the change.",
        key="HS-ACCESS-WRITE",
        expression=resource_type,
    )
