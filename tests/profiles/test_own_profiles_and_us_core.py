"""Our own profiles and US Core: what is good by both can be written, and nothing of ours forbids what US Core asks for.

Spec: https://hl7.org/fhir/us/core/STU6.1/
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fhir_server.search.ucum import canonical
from fhir_server.validation.profile.definition import Node
from fhir_server.validation.profile.shelf import Held, Shelf
from fhir_server.validation.profile.validator import ProfileValidator
from profiles.registry import STRUCTURES, registry
from profiles.terminology import terminology
from tests.profiles.own import PREFIX, PROFILES, good, profile_of
from tests.us_core import Package
from tests.validation.profile.holding import STRUCTURE, validator_of

Json = dict[str, Any]

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/"
VERSION = "6.1.0"

#: By profile of ours, the one of US Core that is about the same things.
COUNTERPARTS = {
    name: claim.removeprefix(US_CORE)
    for name, resource in good().items()
    for claim in resource["meta"]["profile"]
    if claim.startswith(US_CORE)
}

#: What has no counterpart in US Core 6.1.0: these types have no profile there, or are of another kind.
WITHOUT = frozenset(
    {
        "appointment",
        "appointment-response",
        "claim",
        "device",  # US Core has implanted ones alone
        "fulfilment",
        "healthcare-service",
        "invoice",
        "message",
        "notification-preferences",
        "schedule",
        "slot",
        "thread",
        "threshold",  # a plan that alerts, no plan of care that is assessed
        "ticket",
        "verification-result",
    }
)


@pytest.fixture(scope="module")
def validator(us_core: Callable[[str], Package]) -> ProfileValidator:
    return validator_of(*us_core(VERSION).definitions)


def errors_of(validator: ProfileValidator, resource: Json, *asked: str) -> list[Any]:
    issues = [*STRUCTURE.issues_of(resource), *asyncio.run(validator.issues_of(resource, asked))]
    issues += asyncio.run(validator.contents_of(resource))
    return [one for one in issues if one.severity == "error" or one.key == "HS-PROFILE-UNKNOWN"]


def test_each_profile_of_ours_has_a_counterpart_or_none_exists() -> None:
    without = {f"healthsphere-{name}" for name in WITHOUT}
    assert set(COUNTERPARTS) | without == set(PROFILES)
    assert not set(COUNTERPARTS) & without


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_what_is_good_by_ours_and_has_what_us_core_requires_is_valid_by_both(
    validator: ProfileValidator, name: str
) -> None:
    resource = good()[name]
    both = [f"{PREFIX}{profile_of(name)}", f"{US_CORE}{COUNTERPARTS[name]}"]
    assert resource["meta"]["profile"] == both
    assert errors_of(validator, resource, *both) == []


#: Of an empty resource of these types US Core 6.1.0 says nothing that R4 does not.
DEMANDS_NOTHING = frozenset({"healthsphere-goal", "healthsphere-medication-request", "healthsphere-practitioner-role"})


@pytest.mark.parametrize("name", sorted(set(COUNTERPARTS) - DEMANDS_NOTHING))
def test_us_core_is_really_looked_at(validator: ProfileValidator, name: str) -> None:
    url = f"{US_CORE}{COUNTERPARTS[name]}"
    issues = asyncio.run(validator.issues_of({"resourceType": good()[name]["resourceType"]}, [url]))
    assert any(one.severity == "error" and one.rule and one.rule[0].startswith(url) for one in issues)


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_nothing_of_ours_forbids_what_us_core_asks_for(us_core: Callable[[str], Package], name: str) -> None:
    definitions = [one for one in us_core(VERSION).definitions if one["resourceType"] == STRUCTURES]
    shelf = Shelf(registry(), terminology(), canonical, [Held(one["id"], 1, one["url"], one) for one in definitions])
    ours, theirs = (shelf.structure(url) for url in (f"{PREFIX}{name}", f"{US_CORE}{COUNTERPARTS[name]}"))
    assert ours is not None
    assert theirs is not None
    assert list(conflicts(ours.root, theirs.root, shelf)) == []


def conflicts(one: Node, other: Node, shelf: Shelf) -> Iterator[str]:
    """The elements that one profile requires and the other forbids, and those that have no type in common."""
    if is_below(one.max, other.min) or is_below(other.max, one.min):
        yield f"{other.id}: {one.min}..{one.max} and {other.min}..{other.max}"
    mine, theirs = types_of(one, shelf), types_of(other, shelf)
    if mine and theirs and not mine & theirs:
        yield f"{other.id}: {sorted(mine)} and {sorted(theirs)}"
    for child in other.children:
        same = one.child(child.name)
        if same is not None and child.name != "id":  # of one type in R4's own words, of another in US Core's
            yield from conflicts(same, child, shelf)


def is_below(most: int | None, least: int) -> bool:
    return most is not None and most < least


def types_of(node: Node, shelf: Shelf) -> set[str]:
    """The types of an element; a reference with what it may lead to."""
    found: set[str] = set()
    for entry in node.types:
        targets = [shelf.type_of(target) for target in entry.targets]
        found |= {f"{entry.code} to {target}" for target in targets} or {entry.code}
    return found
