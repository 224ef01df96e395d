"""The packages that are installed: definitions of others, beside the resources that are stored here.

A package is in force with its row in `_packages`, which is written last; its definitions lie in `_package_contents`
under a token of that row, so that one that is being installed, or was broken off, is not seen. Nothing of it changes
afterwards. Every process asks once a second whether a package has come or gone (`Definitions.watch`).

Spec: https://hl7.org/fhir/R4/packages.html
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fhir_server.model import codec
from fhir_server.model.clock import now_us
from fhir_server.repository.profiles import StoredDefinitions
from fhir_server.storage.rows import Row, Rows
from fhir_server.storage.store import Store
from fhir_server.validation.profile.shelf import Held
from fhir_server.validation.profile.source import CODE_SYSTEMS, Stamp
from profiles.pinning import VersionOf, pinned
from profiles.versions import rank_of

Json = dict[str, Any]

PACKAGES = "_packages"
CONTENTS = "_package_contents"

GUIDES = "ImplementationGuide"

#: The row that tells when a package went.
_GONE = "-"

#: Definitions are never written over: all of them are of this version.
_VERSION = 0

_MOST_PACKAGES = 1000
_MOST_DEFINITIONS = 500_000
_PORTION = 200

#: What an installation that was broken off has left is kept so long.
_LEFT_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Installed:
    """A package that is in force.

    Attributes:
        token: names its definitions
        added_us: when it came, microseconds since 1970
        dependencies: the packages that it names, with the versions it asks for
        missing: those of them that were not there when it was installed
        counts: how many definitions it has, by type
        problems: what was told when it was installed
    """

    name: str
    version: str
    title: str
    token: str
    added_us: int
    dependencies: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.name}#{self.version}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One definition of a package: where it is, and what it is for (`supports`: the type that a profile is of)."""

    id: str
    package: str
    type: str
    url: str
    version: str
    supports: str = ""


class Catalogue:
    """All that is installed at one moment, without the contents."""

    def __init__(
        self, packages: Sequence[Installed] = (), entries: Iterable[Entry] = (), preferred: Collection[str] = ()
    ) -> None:
        """`preferred` are the packages (`name#version`) that canonicals without a version mean."""
        self.packages = tuple(sorted(packages, key=lambda p: (p.name, rank_of(p.version))))
        self.preferred = frozenset(preferred)
        self._by_id: dict[str, Entry] = {}
        self._by_url: dict[tuple[str, str], list[Entry]] = {}
        self._of_package: dict[str, dict[str, str]] = {package.id: {} for package in packages}
        for entry in entries:
            self._by_id[entry.id] = entry
            self._by_url.setdefault((entry.type, entry.url), []).append(entry)
            if entry.version:
                self._of_package[entry.package][entry.url] = entry.version

    def entries(self, resource_type: str, urls: Collection[str]) -> list[Entry]:
        return [entry for url in urls for entry in self._by_url.get((resource_type, url), ())]

    def all(self) -> list[Entry]:
        return list(self._by_id.values())

    def entry(self, entry_id: str) -> Entry | None:
        return self._by_id.get(entry_id)

    def chosen(self, resource_type: str) -> list[Entry]:
        """The definitions of a type, of each URL the one that is meant when no version is named."""
        of_type = [found for (name, _), found in sorted(self._by_url.items()) if name == resource_type]
        return [max(found, key=self._rank) for found in of_type]

    def _rank(self, entry: Entry) -> tuple[bool, Any, str]:
        return entry.package in self.preferred, rank_of(entry.version), entry.package

    def supported(self) -> dict[str, tuple[str, ...]]:
        """By resource type, the canonicals of the profiles of it."""
        found: dict[str, set[str]] = {}
        for entry in self._by_id.values():
            if entry.supports:
                canonical = f"{entry.url}|{entry.version}" if entry.version else entry.url
                found.setdefault(entry.supports, set()).add(canonical)
        return {name: tuple(sorted(canonicals)) for name, canonicals in found.items()}

    def guides(self) -> tuple[str, ...]:
        """The canonicals of the implementation guides that the packages are of."""
        entries = (entry for (name, _), found in self._by_url.items() if name == GUIDES for entry in found)
        return tuple(sorted(f"{entry.url}|{entry.version}" if entry.version else entry.url for entry in entries))

    def version_of(self, package_id: str) -> VersionOf:
        """What a URL without a version means in a package: its own definition, or one of those it depends on."""
        scope = self._scope(package_id)

        def version(url: str) -> str | None:
            return next((found for name in scope if (found := self._of_package[name].get(url)) is not None), None)

        return version

    def _scope(self, package_id: str) -> list[str]:
        """A package and all that it depends on, the nearest first."""
        by_id = {package.id: package for package in self.packages}
        scope = [package_id]
        for name in scope:  # it grows meanwhile
            package = by_id.get(name)
            wanted = package.dependencies.items() if package is not None else ()
            scope += [key for one, version in wanted if (key := f"{one}#{version}") in by_id and key not in scope]
        return [name for name in scope if name in by_id]


class Packages:
    """Reads what is installed, and keeps a catalogue of it."""

    def __init__(self, store: Store, preferred: Collection[str] = ()) -> None:
        self._rows: Rows = store.rows(PACKAGES)
        self._contents: Rows = store.rows(CONTENTS)
        self._preferred = frozenset(preferred)
        self.catalogue = Catalogue(preferred=self._preferred)

    async def open(self) -> None:
        await self._rows.index("t")
        await self._contents.index("k")

    async def changed_us(self) -> int:
        """When a package came or went last."""
        return await self._rows.newest("t")

    async def gone_us(self) -> int:
        """When a package went last; 0 where none ever did."""
        row = await self._rows.get(_GONE)
        return int(row["t"]) if row is not None else 0

    async def refresh(self) -> None:
        """Read the catalogue again."""
        rows = await self._rows.all({"_id": {"$ne": _GONE}}, limit=_MOST_PACKAGES)
        packages = [installed_of(row) for row in rows]
        tokens = {package.token: package.id for package in packages}
        found = await self._contents.all({"k": {"$in": list(tokens)}}, hidden=("r",), limit=_MOST_DEFINITIONS)
        entries = [Entry(r["_id"], tokens[r["k"]], r["y"], r["u"], r["v"], r.get("s", "")) for r in found]
        self.catalogue = Catalogue(packages, entries, self._preferred)

    async def contents(self, entries: Iterable[Entry]) -> list[tuple[Entry, Json]]:
        """Definitions as they came, with a version at each canonical that means one of their own package's."""
        catalogue, by_id = self.catalogue, {entry.id: entry for entry in entries}
        if not by_id:
            return []
        rows = await self._contents.all({"_id": {"$in": list(by_id)}}, limit=len(by_id))
        return await asyncio.to_thread(partial(_read, catalogue, by_id, rows))

    async def put(self, package: Installed, definitions: Iterable[tuple[Json, str]]) -> None:
        """Put a package in force, in place of the same version; `definitions` come with the type they support."""
        await self.open()
        before = await self._rows.get(package.id)
        portion: list[Row] = []
        for number, (content, supports) in enumerate(definitions):
            portion.append(_row_of(f"{package.token}/{number}", package.token, content, supports))
            if len(portion) == _PORTION:
                await self._contents.add(portion)
                portion = []
        await self._contents.add(portion)
        await self._rows.put(package.id, _fields_of(package))
        if before is not None and before["k"] != package.token:
            await self._contents.remove_all({"k": before["k"]})

    async def remove(self, package_id: str) -> bool:
        """Take a package out of force; False where there is none."""
        row = await self._rows.get(package_id)
        if row is None or package_id == _GONE:
            return False
        await self._rows.remove(package_id)
        await self._rows.put(_GONE, {"t": now_us()})
        await self._contents.remove_all({"k": row["k"]})
        return True

    async def sweep(self) -> None:
        """Remove what installations left that were broken off a while ago."""
        rows = await self._rows.all({"_id": {"$ne": _GONE}}, limit=_MOST_PACKAGES)
        known = [row["k"] for row in rows]
        await self._contents.remove_all({"k": {"$nin": known}, "t": {"$lt": now_us() - _LEFT_US}})


class HeldDefinitions:
    """All definitions that validation may find here: those that are stored, and those of packages."""

    def __init__(self, stored: StoredDefinitions, packages: Packages) -> None:
        self._stored = stored
        self._packages = packages

    async def stamps(self, resource_type: str, urls: Collection[str]) -> Sequence[Stamp]:
        packaged = self._packages.catalogue.entries(resource_type, urls)
        stored = await self._stored.stamps(resource_type, urls)
        return [*stored, *(Stamp(resource_type, entry.id, _VERSION) for entry in packaged)]

    async def code_systems(self) -> Sequence[tuple[str, str]]:
        """The URLs of all code systems, those of packages with their versions."""
        packaged = [(e.url, e.version) for e in self._packages.catalogue.all() if e.type == CODE_SYSTEMS]
        return [*packaged, *((url, "") for url in await self._stored.urls(CODE_SYSTEMS))]

    async def read(self, stamps: Collection[Stamp]) -> Sequence[Held]:
        catalogue = self._packages.catalogue
        entries = [entry for s in stamps if s.version == _VERSION and (entry := catalogue.entry(s.id)) is not None]
        found = list(await self._stored.read([stamp for stamp in stamps if stamp.version != _VERSION]))
        for entry, content in await self._packages.contents(entries):
            found.append(Held(entry.id, _VERSION, entry.url, content, entry.package in catalogue.preferred))
        return found


def _read(catalogue: Catalogue, by_id: Mapping[str, Entry], rows: Iterable[Row]) -> list[tuple[Entry, Json]]:
    found = []
    versions: dict[str, VersionOf] = {}
    for row in rows:
        entry = by_id[row["_id"]]
        if entry.package not in versions:
            versions[entry.package] = catalogue.version_of(entry.package)
        found.append((entry, pinned(codec.decode(gzip.decompress(row["r"])), versions[entry.package])))
    return found


def _row_of(row_id: str, token: str, content: Json, supports: str) -> Row:
    packed = gzip.compress(codec.encode(content), 6, mtime=0)
    row = {
        "_id": row_id,
        "k": token,
        "t": now_us(),
        "y": content["resourceType"],
        "u": content["url"],
        "v": str(content.get("version") or ""),
        "r": packed,
    }
    return {**row, "s": supports} if supports else row


def _fields_of(package: Installed) -> Row:
    return {
        "n": package.name,
        "v": package.version,
        "title": package.title,
        "k": package.token,
        "t": package.added_us,
        # Names of packages have dots, which names of fields should not have.
        "needs": [[name, version] for name, version in package.dependencies.items()],
        "missing": list(package.missing),
        "counts": dict(package.counts),
        "problems": list(package.problems),
    }


def installed_of(row: Row) -> Installed:
    return Installed(
        name=row["n"],
        version=row["v"],
        title=row["title"],
        token=row["k"],
        added_us=row["t"],
        dependencies=dict(row["needs"]),
        missing=tuple(row["missing"]),
        counts=row["counts"],
        problems=tuple(row["problems"]),
    )
