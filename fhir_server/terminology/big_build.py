"""Building a big code system: its concepts become rows under a new token, which is put in force when all are there.

Spec: https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fhir_server.model import codec
from fhir_server.model.clock import new_id, now_us
from fhir_server.storage.rows import Row
from fhir_server.terminology.big import BUILDING, FAILED, OLD, READY, BigHoldings
from fhir_server.terminology.concepts import PARENT, Concept, text_of
from fhir_server.terminology.system import About
from fhir_server.terminology.words import words_of

Json = dict[str, Any]

#: Rows that are written at once.
PORTION = 2_000

#: A code system that has more than this above one concept is broken.
MOST_ABOVE = 1_000


class TooDeepError(Exception):
    """More is above a concept than any code system has; the text says of which."""


#: What a building that was broken off has left is kept so long.
_LEFT_US = 24 * 3_600_000_000

#: Longer than the longest look-up.
GRACE_S = 12.0

#: Begins the names of origins that are no resources.
FILE = "file:"

Tell = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a big code system comes from: `CodeSystem/[id]` and when that was written, or a file (moment 0).

    Versions would not do: a resource that was removed for good is made again with the versions that it had.
    """

    name: str
    moment_us: int = 0


class Lineage:
    """What is above each code; parents that are no codes of the system do not count."""

    def __init__(self, parents: Mapping[str, tuple[str, ...]], codes: Callable[[str], bool]) -> None:
        self._parents = parents
        self._is_code = codes

    def above(self, code: str) -> list[str]:
        """The code itself first, then all above it.

        Raises:
            TooDeepError: that is more than any code system has.
        """
        seen = {code: None}
        waiting = [code]
        while waiting:
            if len(seen) > MOST_ABOVE:
                raise TooDeepError(f"more than {MOST_ABOVE} codes are above {code[:100]!r}")
            for parent in self._parents.get(waiting.pop(), ()):
                if parent not in seen and self._is_code(parent):
                    seen[parent] = None
                    waiting.append(parent)
        return list(seen)


def rows_of(token: str, concepts: Iterable[Concept], lineage: Lineage, parents: frozenset[str]) -> Iterator[Row]:
    """The rows of concepts; `parents` are the codes that have something below them."""
    for concept in concepts:
        above = lineage.above(concept.code)
        row: Row = {
            "_id": f"{token}|{concept.code}",
            "k": token,
            "n": concept.number,
            "c": concept.code,
            "f": concept.code.casefold(),
            "d": concept.display,
            "u": [code for code in concept.parents if code in above],
            "a": above,
            "p": [f"{one.get('code')}={text_of(one)}" for one in concept.properties if one.get("code") not in PARENT],
            "w": _words(concept),
        }
        if concept.code in parents:
            row["h"] = True
        if concept.abstract:
            row["b"] = True
        if concept.inactive:
            row["i"] = True
        told = {
            "definition": concept.definition,
            "designation": list(concept.designations),
            "property": list(concept.properties),
        }
        if told := {name: value for name, value in told.items() if value}:
            row["r"] = codec.encode(told)
        yield row


def _words(concept: Concept) -> list[str]:
    texts = (concept.code, concept.display, *(str(one.get("value") or "") for one in concept.designations))
    return list(dict.fromkeys(word for text in texts for word in words_of(text)))


class Builder:
    """Builds one version of a code system, and puts it in force.

    Args:
        token: names a building that was broken off, to go on with
        grace_s: for how long the concepts of what it takes the place of stay
    """

    def __init__(
        self, holdings: BigHoldings, about: About, origin: Origin, token: str = "", *, grace_s: float = GRACE_S
    ) -> None:
        self.grace_s = grace_s
        self._holdings = holdings
        self._about = about
        self._origin = origin
        self.token = token or new_id()

    async def begin(self) -> None:
        """Say that it is being built."""
        await self._holdings.systems.put(self.token, {**self._fields(), "state": BUILDING, "n": 0, "p": []})

    def _fields(self) -> Row:
        about = self._about
        told = {
            "name": about.name,
            "whole": about.whole,
            "case": about.case_sensitive,
            "hierarchy": about.hierarchy,
            "language": about.language,
            # Names of properties may have dots, which names of fields should not have.
            "properties": [[name, text] for name, text in about.properties.items()],
        }
        origin = {"o": self._origin.name, "ot": self._origin.moment_us}
        return {"u": about.url, "v": about.version, "about": told, "t": now_us(), **origin}

    async def write(self, rows: Iterator[Row], tell: Tell, done: int = 0) -> int:
        """Write rows, of which the first `done` are there already; how many there are then.

        What a building that was broken off wrote behind them is written anew.
        """
        await self._holdings.concepts.remove_all({"k": self.token, "n": {"$gte": done}})
        count = 0
        # To make them takes long; other requests go on meanwhile.
        while portion := await asyncio.to_thread(list, islice(rows, PORTION)):
            count += len(portion)
            if count > done:
                await self._holdings.concepts.add([row for row in portion if row["n"] >= done])
                await tell(count)
        return count

    async def fail(self) -> None:
        """Give it up: what is there of it goes, and that it failed is told."""
        await self._holdings.systems.put(self.token, {**self._fields(), "state": FAILED, "n": 0, "p": []})
        await self._holdings.concepts.remove_all({"k": self.token})

    async def finish(self, count: int, properties: Iterable[str]) -> None:
        """Put it in force, in place of what came from the same origin, or of the same version of it."""
        systems = self._holdings.systems
        fields = {**self._fields(), "state": READY, "n": count, "p": sorted(set(properties))}
        await systems.put(self.token, fields)
        here = {"u": self._about.url, "v": self._about.version, "o": {"$regex": f"^{FILE}"}}
        old = [
            row["_id"]
            # One of the same resource that was written later is not to be undone.
            for row in await systems.all({"_id": {"$ne": self.token}, "$or": [{"o": self._origin.name}, here]})
            if row["o"] != self._origin.name or row.get("ot", 0) <= self._origin.moment_us
        ]
        await systems.put_all({"_id": {"$in": old}}, {"state": OLD})
        if old:  # who has begun to read it reads it to the end
            await asyncio.sleep(self.grace_s)
        for token in old:
            await discard(self._holdings, token)


async def discard(holdings: BigHoldings, token: str) -> None:
    """Take a big code system out of force."""
    await holdings.systems.remove(token)
    await holdings.concepts.remove_all({"k": token})


async def sweep(holdings: BigHoldings) -> None:
    """Remove what was begun long ago and never finished, or never removed."""
    for row in await holdings.systems.all({"state": {"$in": [BUILDING, OLD]}, "t": {"$lt": now_us() - _LEFT_US}}):
        await discard(holdings, row["_id"])
