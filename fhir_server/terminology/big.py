"""A code system of any size, whose concepts are rows of the database: one for each, in the order of the code system.

Its rows are under a token and never change; another version of it is built beside, and takes its place when it is
whole. Each row has the codes above it, so that what is below a code is one look into an index, and the beginnings of
its words.

Spec: https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.model import codec
from fhir_server.storage.rows import Row, Rows
from fhir_server.storage.store import Store
from fhir_server.terminology.big_filters import Asked, filter_of, open_question, reasons
from fhir_server.terminology.concepts import Concept
from fhir_server.terminology.conditions import Condition, Everything, Leaf, Listed, Unknown, judged, leaves
from fhir_server.terminology.kept import Kept
from fhir_server.terminology.system import About, Wanted
from profiles.versions import rank_of

Json = dict[str, Any]

SYSTEMS = "_code_systems"
CONCEPTS = "_concepts"

READY = "ready"
BUILDING = "building"
OLD = "old"
FAILED = "failed"

_SHOWN = ("c", "d", "n", "u", "b", "i", "r")

#: For what may be looked for among many.
MAX_TIME_MS = 10_000

#: A word that so many concepts have is none to look them up by.
_MANY = 5_000

_MOST_COUNTS = 2_000
_MOST_SYSTEMS = 1_000


class BigSystem:
    """One version of a big code system."""

    is_big = True

    def __init__(self, row: Row, concepts: Rows, counts: Kept[tuple[str, Condition, tuple[str, ...]], int]) -> None:
        self.token: str = row["_id"]
        self.origin: str = row["o"]
        self.since_us: int = row["t"]
        self._size: int = row["n"]
        self._properties = frozenset(row["p"])
        self._about = about_in(row)
        self._concepts = concepts
        self._counts = counts

    @property
    def about(self) -> About:
        return self._about

    async def concept(self, code: str) -> Concept | None:
        row = await self._row(code)
        return None if row is None else concept_in(row)

    async def _row(self, code: str, shown: Sequence[str] = _SHOWN) -> Row | None:
        rows = await self._find({"c": code}, 0, 1, shown)
        if not rows and not self._about.case_sensitive:
            rows = await self._find({"f": code.casefold()}, 0, 1, shown)
        return rows[0] if rows else None

    async def _find(
        self,
        filter: Mapping[str, Any],
        skip: int,
        limit: int,
        shown: Sequence[str] = _SHOWN,
        hint: str | None = None,
    ) -> list[Row]:
        return await self._concepts.page(
            {"k": self.token, **filter}, "n", skip=skip, limit=limit, shown=shown, max_time_ms=MAX_TIME_MS, hint=hint
        )

    async def has(self, code: str, condition: Condition) -> bool | None:
        row = await self._row(code, ("c",))
        if row is None:
            if self._about.whole:
                return False
            return judged(condition, lambda leaf: code in leaf.codes if isinstance(leaf, Listed) else None)
        verdicts = {leaf: await self._leaf(row["c"], leaf) for leaf in dict.fromkeys(leaves(condition))}
        return judged(condition, verdicts.__getitem__)

    async def _leaf(self, code: str, leaf: Leaf) -> bool | None:
        if isinstance(leaf, Everything):
            return True
        if isinstance(leaf, Listed):
            return code in leaf.codes
        if isinstance(leaf, Unknown) or reasons(leaf, self._properties, self._about.url):
            return None
        asked = await filter_of(leaf, self._asked)
        return bool(await self._find({"$and": [{"c": code}, asked]}, 0, 1, ("c",)))

    async def _asked(self, code: str) -> Asked | None:
        """A concept's own row, as filters that go upwards need it."""
        row = await self._row(code, ("c", "a", "u"))
        return None if row is None else Asked(row["c"], row["a"], row["u"])

    async def unanswerable(self, condition: Condition) -> str:
        if not self._about.whole and open_question(condition):
            return f"of the code system {self._about.url!r} not all codes are held here"
        return next(
            (why for leaf in leaves(condition) if (why := reasons(leaf, self._properties, self._about.url))), ""
        )

    async def count(self, wanted: Wanted, most: int | None = None) -> int | None:
        if await self.unanswerable(wanted.condition):
            return None
        if _is_all(wanted):
            return self._size
        key = (self.token, wanted.condition, wanted.words)
        known = self._counts.get(key)
        if known is None:
            filter, hint = await self._plan(wanted)
            known = await self._concepts.count(
                {"k": self.token, **filter}, most=most, max_time_ms=MAX_TIME_MS, hint=hint
            )
            if most is None or known < most:
                self._counts.put(key, known)
        return known

    async def page(self, wanted: Wanted, offset: int, most: int) -> Sequence[Concept]:
        if most <= 0:
            return []
        if _is_all(wanted):  # each has its number: nothing need be skipped
            return [concept_in(row) for row in await self._find({"n": {"$gte": offset}}, 0, most)]
        listed = list(wanted.listed)
        if listed and isinstance(wanted.condition, Listed):  # as many as somebody has written down, in their order
            rows = await self._find((await self._plan(wanted))[0], 0, len(listed))
            place = {code: number for number, code in enumerate(listed)}
            rows.sort(key=lambda row: place.get(row["c"], len(place)))
            return [concept_in(row) for row in rows[offset : offset + most]]
        filter, hint = await self._plan(wanted)
        return [concept_in(row) for row in await self._find(filter, offset, most, hint=hint)]

    async def _plan(self, wanted: Wanted) -> tuple[Mapping[str, Any], str | None]:
        """The filter of what is wanted, and the index to go by where it is known.

        The database chooses by what it tried for an earlier page, which is wrong for a late one.
        """
        base = await filter_of(wanted.condition, self._asked)
        if not wanted.words:
            field = next((name for name in ("a", "p", "u") if type(base.get(name)) is str), None)
            return base, None if field is None else f"k-{field}-n"
        words, is_rare = await self._words(wanted.words)
        return {"$and": [*([base] if base else []), *words]}, "k-w" if is_rare else None

    async def _words(self, words: Sequence[str]) -> tuple[list[Mapping[str, Any]], bool]:
        """The word that the fewest concepts have is looked up in the index, the others are only compared.

        Also whether it is rare enough to put what has it in order afterwards.
        """
        weighed = []
        for word in words:
            filter = {"k": self.token, **begins(word)}
            count = await self._concepts.count(filter, most=_MANY, max_time_ms=MAX_TIME_MS, hint="k-w")
            weighed.append((count, word))
        (fewest, rarest), *others = sorted(weighed)
        # Said this way, the database does not take it for something to look up.
        compared = [{"$nor": [{"w": {"$not": begins(word)["w"]}}]} for _, word in others]
        return [begins(rarest), *compared], fewest < _MANY

    async def related(self, code: str, *, above: bool, most: int | None = None) -> frozenset[str]:
        row = await self._row(code, ("c", "a"))
        if row is None:
            return frozenset()
        if above:
            return frozenset(row["a"])
        rows = await self._find({"a": row["c"]}, 0, most or self._size, ("c",), hint="k-a-n")
        return frozenset((row["c"], *(found["c"] for found in rows)))

    async def displays(self, codes: Collection[str]) -> dict[str, str]:
        rows = await self._find({"c": {"$in": sorted(codes)}}, 0, len(codes), ("c", "d")) if codes else ()
        return {row["c"]: row["d"] for row in rows}

    async def children(self, code: str) -> Sequence[str]:
        return [row["c"] for row in await self._find({"u": code}, 0, _MOST_SYSTEMS, ("c",))]


def _is_all(wanted: Wanted) -> bool:
    return isinstance(wanted.condition, Everything) and not wanted.words


def begins(word: str) -> Mapping[str, Any]:
    """A word of the concept begins with this; words are of letters and digits alone."""
    return {"w": {"$regex": f"^{word}"}}


def about_in(row: Row) -> About:
    told = row["about"]
    return About(
        row["u"],
        row["v"],
        told["name"],
        told["whole"],
        told["case"],
        told["hierarchy"],
        told["language"],
        dict(told["properties"]),
    )


def concept_in(row: Row) -> Concept:
    told: Json = codec.decode(row["r"]) if row.get("r") else {}
    return Concept(
        row["c"],
        row["d"],
        told.get("definition", ""),
        tuple(told.get("designation", ())),
        tuple(told.get("property", ())),
        tuple(row["u"]),
        row.get("b", False),
        row.get("i", False),
        row["n"],
    )


@dataclass(frozen=True, slots=True)
class BigFound:
    """What there is of some big code systems.

    Attributes:
        systems: those that are in force, by URL, the highest version first
        building: the URLs of those that are being built
        origins: where all of them come from
    """

    systems: dict[str, list[BigSystem]]
    building: set[str]
    origins: set[str]


class BigHoldings:
    """All big code systems."""

    def __init__(self, store: Store) -> None:
        self.systems: Rows = store.rows(SYSTEMS)
        self.concepts: Rows = store.rows(CONCEPTS)
        self._counts: Kept[tuple[str, Condition, tuple[str, ...]], int] = Kept(_MOST_COUNTS)

    async def open(self) -> None:
        await self.systems.index("u")
        for field in ("c", "f", "w"):
            await self.concepts.index("k", field)
        await self.concepts.index("k", "n")
        for field in ("a", "u", "p"):  # pages of these are walked in the order of the code system
            await self.concepts.index("k", field, "n")

    async def listed(self) -> list[tuple[str, str]]:
        """The URLs and versions of all that are in force."""
        return [(row["u"], row["v"]) for row in await self.systems.all({"state": READY}, limit=_MOST_SYSTEMS)]

    async def code_systems(self, urls: Collection[str]) -> BigFound:
        """What there is of some code systems."""
        rows = await self.systems.all({"u": {"$in": sorted(urls)}}, limit=_MOST_SYSTEMS)
        result = BigFound({}, set(), set())
        for row in sorted(rows, key=lambda row: (rank_of(row["v"]), row["t"]), reverse=True):
            result.origins.add(row["o"])
            if row["state"] == READY:
                system = BigSystem(row, self.concepts, self._counts)
                result.systems.setdefault(row["u"], []).append(system)
            elif row["state"] == BUILDING:
                result.building.add(row["u"])
        return result
