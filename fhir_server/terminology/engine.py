"""The one place that finds terminology: code systems and value sets by their canonical URLs, and verdicts on codes.

What is not held here is asked of another terminology server where one is configured. What nobody knows is None, never
no.

Spec: https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from fhir_server.model.errors import UnavailableError
from fhir_server.search.resolve import UnlistedError
from fhir_server.terminology.big import BigFound, BigHoldings, BigSystem
from fhir_server.terminology.closures import Closures
from fhir_server.terminology.compose import Composed, Key, Part, composed, supplements_of
from fhir_server.terminology.concepts import concepts_of
from fhir_server.terminology.conditions import Filtered
from fhir_server.terminology.holdings import CONCEPT_MAPS, Holdings
from fhir_server.terminology.kept import Kept
from fhir_server.terminology.memory import unheld
from fhir_server.terminology.ports import Listing, Remote
from fhir_server.terminology.system import System
from fhir_server.terminology.ucum import ALL_UNITS, UCUM, Ucum
from fhir_server.validation.profile.source import CODE_SYSTEMS, VALUE_SETS, Stamp

Json = dict[str, Any]

_LOCAL = re.compile(r"ValueSet/([A-Za-z0-9\-.]{1,64})")

#: Value sets that every code system has: `[system]?fhir_vs`, `[system]?fhir_vs=isa/[code]`.
_IMPLICIT = re.compile(r"(?P<system>[^?|]+)\?fhir_vs(?:=isa/(?P<code>[^/|]+))?")

_MOST_COMPOSED = 500


@dataclass(frozen=True, slots=True)
class Versions:
    """Which versions of code systems are meant: where none is named, what must be named, whatever is named."""

    default: tuple[tuple[str, str], ...] = ()
    check: tuple[tuple[str, str], ...] = ()
    force: tuple[tuple[str, str], ...] = ()

    def of(self, system: str, named: str) -> str:
        return dict(self.force).get(system) or named or dict(self.default).get(system) or ""


NO_VERSIONS = Versions()

Verdict: TypeAlias = bool | None


class Engine:
    """Terminology, as everything that needs it asks it."""

    def __init__(
        self,
        holdings: Holdings,
        base_url: str = "",
        big: BigHoldings | None = None,
        remote: Remote | None = None,
        closures: Closures | None = None,
        listing: Listing | None = None,
    ) -> None:
        self.holdings = holdings
        self.remote = remote
        self.closures = closures
        self.listing = listing
        #: The same terminology as it was at a moment of the past; None where that is not to be had.
        self.as_of: Callable[[int], Engine] | None = None
        self._base_url = base_url.rstrip("/") + "/"
        self.big = big
        self._ucum = Ucum()
        self._composed: Kept[tuple[str, bool], tuple[frozenset[str], tuple[Stamp, ...], Composed]] = Kept(
            _MOST_COMPOSED
        )

    async def open(self) -> None:
        """Have the indexes that its own collections need."""
        if self.closures is not None:
            await self.closures.open()
        if self.big is not None:
            await self.big.open()

    async def close(self) -> None:
        """Let go of what it has open."""
        if self.remote is not None:
            await self.remote.close()

    # --- code systems -----------------------------------------------------------------------------------------------

    async def code_system(self, url: str, version: str = "") -> System | None:
        """A code system of which at least some concepts are held; None for any other."""
        return (await self.code_systems([(url, version)])).get((url, version))

    async def code_systems(self, keys: Collection[Key]) -> dict[Key, System]:
        """Those of some code systems that are held; a version that is empty means the one that is current.

        Raises:
            UnavailableError: 503; one that is not there may be among those that are being built.
        """
        urls = {url for url, _ in keys} - {UCUM}
        (memory, stored), big = await asyncio.gather(self.holdings.code_systems(urls), self._big_ones(urls))
        found: dict[Key, System] = {}
        for url, version in keys:
            if url == UCUM:
                found[url, version] = self._ucum
                continue
            rows = [system for system in big.systems.get(url, ()) if _stands(system, stored)]
            known: list[System] = [*rows, *(system for _, system in memory.get(url, ()))]
            fitting = [system for system in known if version in ("", system.about.version)]
            if fitting:
                found[url, version] = _best(fitting)
            elif url in big.building or (not known and stored - big.origins):
                raise UnavailableError(
                    f"The code system {url[:200]!r} is still being built; try again soon.",
                    key="HS-TERM-BUILDING",
                    headers={"Retry-After": "5"},
                )
        return found

    async def _big_ones(self, urls: Collection[str]) -> BigFound:
        if self.big is None or not urls:
            return BigFound({}, set(), set())
        return await self.big.code_systems(urls)

    # --- value sets -------------------------------------------------------------------------------------------------

    async def find(self, canonical: str) -> Json | None:
        """A value set by its canonical URL or its address here; None where it is not held."""
        local = _LOCAL.fullmatch(canonical.removeprefix(self._base_url))
        if local:
            return await self.holdings.of_id(VALUE_SETS, local[1])
        found = await self.holdings.definition(VALUE_SETS, canonical)
        return found if found is not None else _implicit(canonical)

    async def value_set(self, canonical: str, *, headings: bool = False) -> Composed | None:
        """What a value set asks for; None where it is not held. What was read stays while nothing has changed."""
        key = (canonical, headings)
        kept = self._composed.get(key)
        if kept is not None:
            urls, stamps, known = kept
            if tuple(sorted(await self.holdings.stamps(VALUE_SETS, urls))) == stamps:
                return known
        if _LOCAL.fullmatch(canonical.removeprefix(self._base_url)):
            resource = await self.find(canonical)
            return None if resource is None else await self.compose(resource, headings=headings)
        urls = frozenset([url_of(canonical)])
        while True:
            # Which versions are current is asked before they are read: what changes meanwhile is then read again.
            stamps = tuple(sorted(await self.holdings.stamps(VALUE_SETS, urls)))
            resource = await self.find(canonical)
            if resource is None:
                return None
            result = await self.compose(resource, headings=headings)
            needed = urls | {url_of(one) for one in result.imports}
            if needed == urls:
                self._composed.put(key, (urls, stamps, result))
                return result
            urls = needed

    async def compose(self, resource: Json, *, headings: bool = False) -> Composed:
        """What a value set asks for that is given, not held."""
        return await composed(resource, self.find, headings=headings)

    async def systems_of(self, found: Composed, versions: Versions = NO_VERSIONS) -> list[tuple[System, Part, str]]:
        """The code systems that a value set draws on, each with what is asked of it and the version that it names."""
        wanted = [(system, versions.of(system, version)) for system, version in found.parts]
        held = await self.code_systems(wanted)
        return [
            (held.get(key) or unheld(*key), part, named)
            for key, ((_, named), part) in zip(wanted, found.parts.items(), strict=True)
        ]

    async def supplements(self, found: Composed) -> dict[str, dict[str, list[Json]]]:
        """The designations that a value set has from supplements, by code system and code.

        Raises:
            UnlistedError: it needs a supplement that is not held here.
        """
        result: dict[str, dict[str, list[Json]]] = {}
        for canonical in supplements_of(found.resource):
            resource = await self.holdings.definition(CODE_SYSTEMS, canonical)
            if resource is None or resource.get("content") != "supplement":
                raise UnlistedError(f"it needs the supplement {canonical[:200]!r}, which is not held here")
            by_code = result.setdefault(url_of(str(resource.get("supplements") or "")), {})
            for concept, _ in concepts_of(resource):
                by_code.setdefault(concept.code, []).extend(concept.designations)
        return result

    # --- verdicts ---------------------------------------------------------------------------------------------------

    async def has(self, found: Composed, system: str | None, code: str) -> Verdict:
        """Whether a value set has a code (without a system: a code that the element implies); None: not known."""
        return await judged_by(found, await self.systems_of(found), system, code)

    async def member_of(self, value_set: str, system: str | None, code: str) -> Verdict:
        """As `Membership.member_of`: also by what a server elsewhere says."""
        try:
            found = await self.value_set(value_set)
            verdict = None if found is None else await self.has(found, system, code)
        except UnavailableError:  # a code system is being built: what is validated meanwhile is not checked
            return None
        if verdict is not None or self.remote is None or system is None:
            return verdict
        answer = await self.remote.ask("ValueSet/$validate-code", asked(found, value_set, system, code))
        return None if answer is None else result_of(answer)

    async def concept_map(self, canonical: str) -> Json | None:
        """A concept map that is held."""
        return await self.holdings.definition(CONCEPT_MAPS, canonical)


async def judged_by(
    found: Composed, drawn: Iterable[tuple[System, Part, str]], system: str | None, code: str, version: str = ""
) -> Verdict:
    """As `Engine.has`, by the code systems that a value set draws on.

    Args:
        version: that of the code's own system, where it says one
    """
    verdict: Verdict = False
    for known, part, _ in drawn:
        if system is not None and known.about.url != system:
            continue
        if version and known.about.version and known.about.version != version:
            verdict = None  # that version may have it or not
            continue
        one = await known.has(code, part.condition)
        if one:
            verdict = True
            break
        verdict = None if one is None else verdict
    if verdict is False and found.missing:
        return None
    return None if verdict and found.doubtful else verdict


def _stands(system: BigSystem, stored: Collection[str]) -> bool:
    """Whether where it comes from is there: a file, or one of the resources that are stored and big."""
    return not system.origin.startswith(f"{CODE_SYSTEMS}/") or system.origin in stored


def url_of(canonical: str) -> str:
    return canonical.partition("|")[0]


def asked(found: Composed | None, value_set: str, system: str, code: str) -> Json:
    """The question to a server elsewhere whether a code is in a value set; one that is held here is sent along."""
    where: Json = {"name": "url", "valueUri": url_of(value_set)}
    if found is not None:
        where = {"name": "valueSet", "resource": found.resource}
    rows = [where, {"name": "system", "valueUri": system}, {"name": "code", "valueCode": code}]
    return {"resourceType": "Parameters", "parameter": rows}


def result_of(answer: Json) -> Verdict:
    """The parameter `result` of an answer; None where it has none."""
    for row in answer.get("parameter") or ():
        if type(row) is dict and row.get("name") == "result" and type(row.get("valueBoolean")) is bool:
            return bool(row["valueBoolean"])
    return None


def _best(systems: Sequence[System]) -> System:
    """The first that is whole; of big ones the highest version comes first, and they go before those in memory."""
    return next((system for system in systems if system.about.whole), systems[0])


def _implicit(canonical: str) -> Json | None:
    url = url_of(canonical)
    if url == ALL_UNITS:
        return {"resourceType": "ValueSet", "url": url, "compose": {"include": [{"system": UCUM}]}}
    found = _IMPLICIT.fullmatch(url)
    if found is None:
        return None
    part: Json = {"system": found["system"]}
    if found["code"]:
        by = Filtered("concept", "is-a", found["code"])
        part["filter"] = [{"property": by.property, "op": by.op, "value": by.value}]
    return {"resourceType": "ValueSet", "url": url, "status": "active", "compose": {"include": [part]}}
