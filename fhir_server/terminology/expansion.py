"""Expansions: the codes of a value set, by pages, or nested as their code system has them.

Spec: https://hl7.org/fhir/R4/valueset-operation-expand.html, https://hl7.org/fhir/R4/valueset.html#expansion
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import UnprocessableError
from fhir_server.search.resolve import UnlistedError
from fhir_server.terminology.compose import Composed, Part
from fhir_server.terminology.concepts import Concept
from fhir_server.terminology.conditions import Active, both
from fhir_server.terminology.engine import NO_VERSIONS, Engine, Versions
from fhir_server.terminology.languages import chosen, designations_of, display_of
from fhir_server.terminology.system import System, Wanted

Json = dict[str, Any]

#: The most codes of one answer.
MOST = 10_000

#: Codes nest no deeper than this.
_DEEPEST = 40

#: Behind a page of what has some words, so many are counted.
COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class Wish:
    """How a value set is to be expanded.

    Attributes:
        count: None: all of it
        uses: which designations are wanted; None: none are
        nested: as the code system nests its codes; then there are no pages
        left_out: code systems, `system` or `system|version`, whose codes are not wanted
    """

    words: tuple[str, ...] = ()
    offset: int = 0
    count: int | None = None
    uses: tuple[str, ...] | None = None
    active_only: bool = False
    nested: bool = False
    languages: tuple[str, ...] = ()
    versions: Versions = NO_VERSIONS
    left_out: tuple[str, ...] = ()

    @property
    def counts_to(self) -> int | None:
        """Codes with some words are looked for at each key that is typed: they are not all counted for a page."""
        return self.offset + self.count + COUNTED if self.words and self.count is not None else None


@dataclass(slots=True)
class _Source:
    """What an expansion takes from one code system."""

    system: System
    part: Part
    wanted: Wanted
    total: int
    shows_version: bool


@dataclass(slots=True)
class Expansion:
    """The codes that were found, and what was used to find them; `total` is None where they are too many to count."""

    total: int | None
    rows: list[Json]
    used: list[str] = field(default_factory=list)

    def as_json(self, parameters: Iterable[Json], offset: int | None) -> Json:
        """`ValueSet.expansion`."""
        told = [*parameters, *({"name": "version", "valueUri": canonical} for canonical in self.used)]
        result: Json = {
            "identifier": f"urn:uuid:{uuid4()}",
            "timestamp": instant_of(now_us()),
        }
        if self.total is not None:
            result["total"] = self.total
        if offset is not None:
            result["offset"] = offset
        if told:
            result["parameter"] = told
        if self.rows:
            result["contains"] = self.rows
        return result


async def expanded(engine: Engine, found: Composed, wish: Wish) -> Expansion:
    """The codes of a value set.

    Raises:
        UnlistedError: they cannot be listed here.
        UnprocessableError: 422; there are too many, or a code system has another version than was asked for.
    """
    lost = [*found.missing, *found.doubtful]
    if lost:
        own = lost[0] == found.canonical
        raise UnlistedError(
            "it says neither what it includes nor, completely, which codes it has"
            if own
            else f"it draws on the value set {lost[0][:200]!r}, which is not held here, or which includes itself"
        )
    supplements = await engine.supplements(found)
    sources = await _sources(engine, found, wish)
    total = sum(source.total for source in sources)
    cap = wish.counts_to if len(sources) == 1 else None
    used = [f"{about.url}|{about.version}" for s in sources if (about := s.system.about).version]
    asked = total - wish.offset if wish.count is None else wish.count
    if wish.count is None and asked > MOST:
        raise UnprocessableError(
            f"The value set has {total} codes, and an answer {MOST} at most: ask for pages with `count` and `offset`, "
            "or for fewer with `filter`.",
            code="too-costly",
            expression="Parameters.parameter.where(name='count')",
            key="HS-TERM-COSTLY",
        )
    rows: list[Json] = []
    offset, left = wish.offset, min(asked, MOST)
    for source in sources:
        if left <= 0:
            break
        if offset >= source.total:
            offset -= source.total
            continue
        page = await source.system.page(source.wanted, offset, left)
        left -= len(page)
        offset = 0
        further = supplements.get(source.system.about.url, {})
        made = [(concept, _row(concept, source, wish, further.get(concept.code, ()))) for concept in page]
        rows += _nested(made) if wish.nested else [row for _, row in made]
    return Expansion(None if cap is not None and total >= cap else total, rows, list(dict.fromkeys(used)))


async def _sources(engine: Engine, found: Composed, wish: Wish) -> list[_Source]:
    drawn = await engine.systems_of(found, wish.versions)
    urls = [system.about.url for system, _, _ in drawn]
    sources = []
    for system, part, named in drawn:
        about = system.about
        if _is_left_out(system, wish.left_out):
            continue
        _require_version(system, wish.versions)
        condition = both(part.condition, Active()) if wish.active_only else part.condition
        why = await system.unanswerable(condition)
        if why:
            raise UnlistedError(why)
        wanted = Wanted(condition, part.listed, wish.words)
        total = await system.count(wanted, wish.counts_to if len(drawn) == 1 else None)
        assert total is not None, "what can be listed can be counted"
        sources.append(_Source(system, part, wanted, total, bool(named) or urls.count(about.url) > 1))
    return sources


def _is_left_out(system: System, left_out: Sequence[str]) -> bool:
    return any(one in (system.about.url, f"{system.about.url}|{system.about.version}") for one in left_out)


def _require_version(system: System, versions: Versions) -> None:
    about = system.about
    wanted = dict(versions.check).get(about.url)
    if wanted is not None and about.version != wanted:
        raise UnprocessableError(
            f"The expansion would use {about.url}|{about.version}, not the version {wanted} that was asked for.",
            code="business-rule",
            expression="Parameters.parameter.where(name='check-system-version')",
            key="HS-TERM-VERSION",
        )


def _row(concept: Concept, source: _Source, wish: Wish, further: Sequence[Json]) -> Json:
    about, row = source.system.about, source.part.listed.get(concept.code, {})
    if further:
        row = {**row, "designation": [*(row.get("designation") or ()), *further]}
    made: Json = {"system": about.url} if about.url else {}
    if concept.abstract and concept.code not in source.part.listed:
        made["abstract"] = True
    if concept.inactive:
        made["inactive"] = True
    if source.shows_version and about.version:
        made["version"] = about.version
    made["code"] = concept.code
    if display := display_of(concept, row, wish.languages, about.language):
        made["display"] = display
    if wish.uses is not None and (found := chosen(designations_of(concept, row), wish.uses)):
        made["designation"] = found
    return made


def _nested(made: Sequence[tuple[Concept, Json]]) -> list[Json]:
    """Each code within the first of its parents that is there, in the order of the codes."""
    by_code = {concept.code: row for concept, row in made}
    above = {c.code: next((p for p in c.parents if p in by_code and p != c.code), None) for c, _ in made}
    top: list[Json] = []
    for concept, row in made:
        parent = above[concept.code]
        if parent is None or _is_lost(concept.code, above):
            top.append(row)
        else:
            by_code[parent].setdefault("contains", []).append(row)
    return top


def _is_lost(code: str, above: dict[str, str | None]) -> bool:
    """Whether a code is above itself, as a broken code system may say, or deeper than anybody can read."""
    seen, current = {code}, above[code]
    while current is not None:
        if current in seen or len(seen) > _DEEPEST:
            return True
        seen.add(current)
        current = above[current]
    return False
