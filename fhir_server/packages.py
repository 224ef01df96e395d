"""Installing packages, with what they depend on: all is read and checked before anything is written.

Spec: https://hl7.org/fhir/R4/packages.html
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from fhir_server.app import definitions_of, indexer_of, store_of
from fhir_server.model.clock import now_us
from fhir_server.package_check import STRUCTURES, Checker
from fhir_server.package_sources import Sources
from fhir_server.repository.definitions import Definitions
from fhir_server.repository.packages import Catalogue, Entry, Installed, Packages
from fhir_server.settings import Settings
from fhir_server.validating import packages_of
from fhir_server.validation.profile.shelf import Held
from profiles.package import CORE, Package, PackageError
from profiles.registry import Registry
from profiles.versions import newest_of

#: Tells what goes on.
Say = Callable[[str], None]


@dataclass(slots=True)
class Plan:
    """A package that is going to be installed, and what it needs that is not there."""

    package: Package
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """What an installation came to.

    Attributes:
        installed: the packages that are in force now, those that others depend on first
        parameters: the search parameters that came with them, `Type:code`
        types: the resource types whose stored resources are to be indexed for them
    """

    installed: tuple[Installed, ...]
    parameters: tuple[str, ...]
    types: tuple[str, ...]


def add_package(settings: Settings, package: Package, sources: Sources, say: Say) -> Report:
    """Install a package, and those that it depends on (`healthsphere package add`).

    Raises:
        PackageError: one of them is broken; nothing was installed.
    """

    async def run() -> Report:
        async with _opened(settings) as (known, packages, definitions):
            before = {parameter.url for parameter in definitions.in_force()}
            plans = _planned(package, packages.catalogue, sources, say)
            checker = await _checker(plans, known, packages)
            installed = []
            for plan in plans:
                say(f"Checking {plan.package.id}")
                installed.append((plan, *await asyncio.to_thread(checker.contents_of, plan.package)))
            rows = []
            for plan, contents, problems in installed:
                say(f"Installing {plan.package.id}")
                counts = Counter(str(content["resourceType"]) for content, _ in contents)
                rows.append(_installed(plan, counts, problems))
                await packages.put(rows[-1], contents)
            await packages.sweep()
            await definitions.refresh(at_once=True)
            new = [p for p in definitions.in_force() if p.url not in before or not p.ready]
            names = sorted(f"{base}:{p.code}" for p in new for base in p.base)
            types = sorted({name for p in new for name in definitions.types_of(p)})
            return Report(tuple(rows), tuple(names), tuple(types))

    return asyncio.run(run())


def installed_packages(settings: Settings) -> tuple[Installed, ...]:
    """What is installed, by name and version (`healthsphere package list`)."""

    async def run() -> tuple[Installed, ...]:
        async with _opened(settings) as (_, packages, _):
            return packages.catalogue.packages

    return asyncio.run(run())


def remove_package(settings: Settings, package_id: str, *, force: bool) -> None:
    """Take a package out of force (`healthsphere package remove`).

    Raises:
        PackageError: there is no such package, or others that are installed depend on it and `force` is not said.
    """

    async def run() -> None:
        async with _opened(settings) as (_, packages, _):
            catalogue = packages.catalogue
            found = next((one for one in catalogue.packages if one.id == package_id), None)
            if found is None:
                _refuse_unknown(package_id, catalogue)
            others = [p.id for p in catalogue.packages if p.dependencies.get(found.name) == found.version]
            if others and not force:
                raise PackageError(f"{package_id} is needed by {', '.join(others)}. With --force it is removed anyway.")
            await packages.remove(package_id)

    asyncio.run(run())


def _refuse_unknown(package_id: str, catalogue: Catalogue) -> NoReturn:
    name = package_id.partition("#")[0]
    others = [one.id for one in catalogue.packages if one.name == name]
    told = f"; installed are {', '.join(others)}" if others else ""
    raise PackageError(f"The package {package_id} is not installed{told}.")


def settle(settings: Settings) -> None:
    """Wait until every process knows the packages that are installed."""

    async def run() -> None:
        async with _opened(settings) as (_, _, definitions):
            await definitions.settle()

    asyncio.run(run())


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Registry, Packages, Definitions]]:
    known = definitions_of(settings)
    store, close = store_of(settings, known)
    packages = packages_of(settings, store)
    definitions = Definitions(store, known, indexer_of(settings, known), packages)
    try:
        await store.open()
        await packages.open()
        await definitions.refresh(at_once=True)
        yield known, packages, definitions
    finally:
        await close()


def _planned(wanted: Package, catalogue: Catalogue, sources: Sources, say: Say) -> list[Plan]:
    """A package and all that it needs and that is not installed yet, what others depend on first."""
    plans = {wanted.name: Plan(wanted)}
    waiting = [plans[wanted.name]]
    for plan in waiting:  # it grows meanwhile
        for name, version in plan.package.dependencies.items():
            held = [one.version for one in catalogue.packages if one.name == name]
            if name == CORE or name in plans or newest_of(held, version) is not None:
                continue
            say(f"Looking for {name}#{version}")
            try:
                found = sources.find(name, version)
            except PackageError as error:
                plan.missing.append(f"{name}#{version} ({error})")
                continue
            if found is None:
                plan.missing.append(f"{name}#{version}")
                continue
            plans[name] = Plan(found)
            waiting.append(plans[name])
    return waiting[::-1]


async def _checker(plans: Sequence[Plan], known: Registry, packages: Packages) -> Checker:
    """What looks at some packages, with those beside them that are here already."""
    new = [plan.package for plan in plans]
    ids = {package.id for package in new}
    before = [one for one in packages.catalogue.packages if one.id not in ids]
    entries = [entry for entry in packages.catalogue.all() if entry.package not in ids]
    coming = [
        Entry(f"{package.id}/{one.file}", package.id, one.type, one.url, one.version)
        for package in new
        for one in package.definitions
    ]
    catalogue = Catalogue([*before, *(_installed(plan, Counter(), []) for plan in plans)], [*entries, *coming])
    held = [
        Held(entry.id, 0, entry.url, content)
        for entry, content in await packages.contents([entry for entry in entries if entry.type == STRUCTURES])
    ]
    return Checker(new, held, catalogue.version_of, known)


def _installed(plan: Plan, counts: Counter[str], problems: Sequence[str]) -> Installed:
    package = plan.package
    return Installed(
        name=package.name,
        version=package.version,
        title=package.title,
        token=f"{package.id}/{secrets.token_hex(4)}",
        added_us=now_us(),
        dependencies=package.dependencies,
        missing=tuple(plan.missing),
        counts=dict(sorted(counts.items())),
        problems=tuple(problems),
    )
