"""What the server carries is held to an access policy as what is stored: in searches of a type and of the system.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.model.access import Identity, Scope
from profiles.registry import own_definitions
from tests.policies.conftest import World, somebody

Json = dict[str, Any]

TASKS = Scope("user", "StructureDefinition", "rs", (("type", "Task"),))


def reader(world: World, *scopes: Scope) -> Identity:
    return somebody("practitioner", world.put("Practitioner"), scopes=scopes)


def own(resource_type: str, **having: str) -> set[str]:
    """The addresses of what is carried of a type."""
    rows = own_definitions(resource_type)
    return {f"{resource_type}/{one['id']}" for one in rows if having.items() <= one.items()}


def found(world: World, identity: Identity, address: str) -> dict[str, Json]:
    status, bundle = world.call(identity, "GET", address)
    assert status == 200, bundle
    rows = [row["resource"] for row in bundle.get("entry", ()) if row["search"]["mode"] == "match"]
    return {f"{one['resourceType']}/{one['id']}": one for one in rows}


def test_a_scope_with_criteria_shows_of_what_is_carried_what_meets_them(world: World) -> None:
    identity = reader(world, TASKS)
    shown = found(world, identity, "StructureDefinition?_count=500")
    assert shown.keys() >= own("StructureDefinition", type="Task")
    assert {one["type"] for one in shown.values()} == {"Task"}
    _, counted = world.call(identity, "GET", "StructureDefinition?_summary=count")
    assert counted["total"] == len(shown)


def test_a_search_of_the_system_shows_what_is_carried_of_types_that_may_be_searched(world: World) -> None:
    identity = reader(world, TASKS, Scope("user", "CodeSystem", "rs"))
    for address in ("?_count=500", "?_type=StructureDefinition,CodeSystem,ValueSet&_count=500"):
        shown = found(world, identity, address)
        assert shown.keys() >= own("CodeSystem") | own("StructureDefinition", type="Task")
        assert {one["resourceType"] for one in shown.values()} == {"StructureDefinition", "CodeSystem"}
        assert {one["type"] for one in shown.values() if one["resourceType"] == "StructureDefinition"} == {"Task"}


def test_a_reader_of_the_whole_record_sees_them_all(world: World) -> None:
    identity = reader(world, Scope("user", "*", "rs"))
    ids = ",".join(one["id"] for one in own_definitions("ValueSet"))
    assert found(world, identity, f"ValueSet?_id={ids}&_count=500").keys() == own("ValueSet")
