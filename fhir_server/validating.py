"""Joins what validates resources: profiles and terminology that are held, and what writes must satisfy."""

from __future__ import annotations

from pathlib import Path

from fhir_server.repository.conformance import Conformance
from fhir_server.repository.packages import HeldDefinitions, Packages
from fhir_server.repository.past import PastDefinitions
from fhir_server.repository.profiles import StoredDefinitions
from fhir_server.search.ucum import canonical
from fhir_server.settings import Settings
from fhir_server.storage.setup import SetupError
from fhir_server.storage.store import Store
from fhir_server.terminology.big import BigHoldings
from fhir_server.terminology.closures import Closures
from fhir_server.terminology.engine import Engine
from fhir_server.terminology.holdings import Holdings
from fhir_server.terminology.past import PastEngine
from fhir_server.terminology.ports import Remote
from fhir_server.validation.policy import PolicyError, load_policy
from fhir_server.validation.profile.validator import ProfileValidator
from profiles.registry import registry
from profiles.terminology import terminology


def packages_of(settings: Settings, store: Store) -> Packages:
    return Packages(store, settings.package_versions)


def terminology_of(settings: Settings, store: Store, packages: Packages, remote: Remote | None) -> Engine:
    """What finds code systems and value sets: those of the specification, of packages, and those that are stored."""
    held, base_url = HeldDefinitions(StoredDefinitions(store), packages), settings.base_url
    engine = Engine(
        Holdings(held), base_url, listing=held, big=BigHoldings(store), remote=remote, closures=Closures(store)
    )

    def as_of(moment_us: int) -> Engine:
        return PastEngine(engine, PastDefinitions(store, packages, moment_us), base_url, moment_us)

    engine.as_of = as_of
    return engine


def profiles_of(store: Store, packages: Packages, engine: Engine) -> ProfileValidator:
    """What validates against profiles: those of the specification, of packages, and those that are stored."""
    source = HeldDefinitions(StoredDefinitions(store), packages)
    return ProfileValidator(registry(), terminology(), canonical, source, engine)


def conformance_of(settings: Settings, profiles: ProfileValidator) -> Conformance:
    """What holds writes to the policy that the settings name.

    Raises:
        SetupError: the policy's file cannot be used.
    """
    path = settings.validation_file if settings.validation_file != Path() else None
    try:
        return Conformance(load_policy(registry(), path, settings.claimed_profiles), profiles)
    except PolicyError as error:
        raise SetupError(f"HEALTHSPHERE_VALIDATION_FILE: {error}.") from None
