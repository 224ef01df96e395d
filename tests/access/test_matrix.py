"""The access matrix: every role, every way to reach a resource, all that can be hidden; not one difference tells of it.

Each way (`ways`) is asked twice, about what is hidden from somebody and about its double (`cast`), which does not exist
or has nothing to hide. Status, headers, body, totals, links and the pages that follow must be the same. Nothing of what
is hidden comes where everything is asked for, and no try to change it leaves a trace.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest

from fhir_server.interactions.table import operation_at, shape_of
from fhir_server.model.access import AccessPolicy, Grant
from tests.access.asking import Question
from tests.access.cast import BESIDE, CALLERS, A, B, Person
from tests.access.matrix import CASES, SEEN, Case, Findings, asked, of_record
from tests.access.ways import Ways

pytestmark = pytest.mark.xdist_group("access")

#: Of these there are very many, which all types have in common: the representatives are asked them all.
ABUNDANT = frozenset({"revinclude", "include", "sort", "chain", "has", "missing", *("batch", "transaction")}) | {
    "$validate",
    "$expunge",
}


def require_hidden(world: Any, of: Case, types: Iterable[str], without: frozenset[str] = frozenset()) -> None:
    """Ask everything, and see that nothing came of it."""
    names = [name for name in world.contents if name != "Patient" or not of.twins]
    record = [("operator", question) for question in of_record(names, of.hidden)]
    before = world.asker.all_of(record)
    rows = [(name, way) for name, way in of.ways(world, types) if way.kind not in without]
    found = asked(world, of, rows)
    assert not found.leaks, f"{len(found.leaks)} answers tell of {of}:\n" + "\n".join(found.leaks[:20])
    assert world.asker.all_of(record) == before, "something was changed"


@pytest.mark.parametrize("of", CASES, ids=str)
def test_what_is_hidden_is_as_if_it_did_not_exist(world: Any, of: Case) -> None:
    """The type that each caller has most to do with, and all that is asked of the server as a whole."""
    require_hidden(world, of, of.types[:1])


@pytest.mark.slow
@pytest.mark.parametrize("of", [of for of in CASES if len(of.types) > 1], ids=str)
def test_what_is_hidden_is_as_if_it_did_not_exist_in_the_other_types_of_a_caller(world: Any, of: Case) -> None:
    require_hidden(world, of, of.types[1:])


#: One part of all types each time; the whole takes minutes.
PARTS = [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 8))]


@pytest.mark.parametrize("part", PARTS)
def test_another_patients_record_does_not_exist_whatever_its_type(world: Any, part: int) -> None:
    require_hidden(world, CASES[0], sorted(world.contents)[part::8], ABUNDANT)


#: Those who only look come first: what others make about a double stays (a List whose source is a patient who was never
#: stored), while the same about the hidden patient is hidden, too, and so the two would no longer be alike.
WIDE = sorted((of for of in CASES if of.is_wide), key=lambda of: not of.reads_alone)


@pytest.mark.slow
@pytest.mark.parametrize("of", WIDE, ids=str)
def test_what_is_hidden_does_not_exist_whatever_its_type(world: Any, of: Case) -> None:
    require_hidden(world, of, world.contents, ABUNDANT)


# --- the other side ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", SEEN)
def test_what_somebody_may_see_is_there(world: Any, caller: str) -> None:
    person, number = SEEN[caller]
    told = world.asker.all_of([(caller, question) for question in of_record(world.contents, person)])
    assert {answer.status for answer in told} <= {200, 403, 404}
    assert [answer.status for answer in told].count(200) >= number


def test_each_role_and_each_kind_of_hidden_thing_has_a_case() -> None:
    roles = {CALLERS[of.asks[0]].role for of in CASES}
    assert roles == {identity.role for identity in CALLERS.values()} - {"operator"}
    organizations = {CALLERS[of.asks[0]].organization for of in CASES if CALLERS[of.asks[0]].role == "practitioner"}
    assert organizations == {"Organization/ours", "Organization/theirs"}
    assert {of.hidden.letter for of in CASES} == set("bder")


def test_one_reaches_all_of_ones_own(world: Any) -> None:
    others = {"Group", "Task", "Person", "Binary"}  # whose these are, other tests say
    names = [name for name in world.contents if name not in others]
    with world.as_("patient-a") as client:
        for name in names:
            assert client.get(f"{name}/{A.id_of(name)}/_history").json()["entry"], name
            assert client.get(f"{name}/{A.id_of(name)}/_history/1").status_code == 200, name
            assert client.get(name, params={"_total": "accurate"}).json()["total"] >= 1, name
        everything = client.get(f"Patient/{A.name}/$everything", params={"_count": "500"}).json()
        # Who saw what comes only when it is named; the others are in no compartment of R4.
        unasked = {"AuditEvent", "Provenance", *BESIDE}
        assert {e["resource"]["resourceType"] for e in everything["entry"]} >= set(names) - unasked


@pytest.mark.parametrize("caller", ["patient-a", "doctor", "system"])
def test_later_pages_and_totals_hold_to_the_policy(world: Any, caller: str) -> None:
    hidden = {"patient-a": "bdefr", "doctor": "abdr", "system": "d"}[caller]
    with world.as_(caller) as client:
        url: str | None = "?_count=40&_total=accurate"
        seen: list[str] = []
        totals: set[int] = set()
        while url:
            page = client.get(url).json()
            totals.add(page["total"])
            seen += [e["resource"]["id"] for e in page.get("entry", [])]
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
        assert totals == {len(seen)}
        assert not [one for one in seen if one.startswith(tuple(f"person-{letter}" for letter in hidden))]
        assert len(seen) > 20


# --- that it would notice ---------------------------------------------------------------------------------------------


def widened(world: Any, like: str, policy: AccessPolicy, of: Case, types: Iterable[str]) -> Findings:
    """What the matrix finds when somebody has another policy than their own."""
    name = f"widened-{like}"
    world.callers.add(name, policy)
    of = replace(of, asks=(name, name), reads_alone=True)
    return asked(world, of, of.ways(world, types))


def test_the_matrix_notices_who_sees_everything(world: Any) -> None:
    found = widened(world, "patient-a", AccessPolicy(operations=frozenset()), CASES[0], ["Observation"])
    assert not found.failing
    assert {"read", "vread", "history-instance", "history-type", "search", "parameter", "chain", "has"} <= found.ways
    assert {"compartment", "batch", "transaction", "$graphql", "$meta", "$diff", "$lastn", "include"} <= found.ways


@pytest.mark.parametrize(
    ("of", "grant", "asked_about", "kinds"),
    [
        ("doctor-about-person-e", Grant("Provenance", "s"), "Patient", {"revinclude"}),
        ("doctor-about-person-e", Grant("Encounter", "s"), "Patient", {"include", "chain", "$graphql"}),
        ("patient-a-about-person-b", Grant("Patient", "s"), "Patient", {"search", "parameter", "$match"}),
        ("patient-a-about-person-b", Grant("Observation", "r"), "Observation", {"read", "vread", "$meta", "batch"}),
        ("patient-a-about-person-b", Grant("Binary", "r"), "Binary", set()),
    ],
    ids=["what tells about it", "where it was done", "whom it is about", "itself, by its id", "none"],
)
def test_the_matrix_notices_a_small_hole(world: Any, of: str, grant: Grant, asked_about: str, kinds: set[str]) -> None:
    """A Binary is seen with its security context alone: who may read all Binaries, and no Observation, sees none."""
    (found_in,) = (one for one in CASES if str(one) == of)
    own = world.policy_of(found_in.asks[0])
    wide = replace(own, layers=tuple((*layer, grant) for layer in own.layers), denials=())
    assert kinds <= widened(world, found_in.asks[0], wide, found_in, [asked_about]).ways


def test_the_matrix_notices_a_consent_that_is_overlooked(world: Any) -> None:
    (of,) = (one for one in CASES if str(one) == "doctor-about-person-d")
    unheeding = replace(world.policy_of("doctor"), denials=())
    found = widened(world, "doctor", unheeding, of, ["Observation"])
    assert {"read", "search", "history-type", "batch"} <= found.ways
    assert found.shown


def test_the_matrix_notices_a_trace(world: Any) -> None:
    """Whoever may change what they do not see does so by one of its ways."""
    own = world.policy_of("patient-a")
    wide = replace(own, layers=tuple((*layer, Grant("Flag", "u")) for layer in own.layers))
    world.callers.add("patient-a", wide)
    stored = world.asker.ask("operator", Question("GET", f"Flag/{B.id_of('Flag')}"))
    try:
        with pytest.raises(AssertionError, match="Flag: PUT"):
            require_hidden(world, CASES[0], ["Flag"])
        assert world.asker.ask("operator", Question("GET", f"Flag/{B.id_of('Flag')}")).body != stored.body
    finally:
        del world.callers.known["patient-a"]
        put = Question("PUT", f"Flag/{B.id_of('Flag')}", stored.text)
        assert world.asker.ask("operator", put).status in (200, 201)


# --- that nothing is forgotten ----------------------------------------------------------------------------------------


def test_every_row_of_the_tables_of_interactions_and_operations_is_one_of_the_ways(world: Any) -> None:
    """Conditional forms, compartments and levels of operations have no code of their own in the statement."""
    person = Person("z")
    table, operations = world.server.context.table, world.server.context.operations
    rows: set[tuple[str, str]] = set()
    levels: set[tuple[str, int, bool]] = set()
    ways = [(name, way) for name in world.contents for way in world.ways.of_type(name, world.contents)]
    for name, way in [*ways, *(("Observation", way) for way in world.ways.of_server())]:
        path = tuple(part for part in person.filled(way.url, name).partition("?")[0].split("/") if part)
        method = "GET" if way.method == "HEAD" else way.method
        rows.add((method, shape_of(path)))
        if (operation := operation_at(path, operations)) is not None:
            levels.add((operation.definition, len(path), method in operation.methods))
    assert rows >= {(row.method, row.shape) for row in table} - {("GET", "metadata")}
    # Of definitions and of the directory alone, which are nobody's.
    offered = [o for o in operations if not o.types or set(o.types) & world.contents.keys()]
    for operation in offered:
        for length, offers in ((1, operation.system), (2, operation.type), (3, operation.instance)):
            assert not offers or (operation.definition, length, True) in levels, (operation.code, length)
    directory = {"apply", "approve", "directory-profile", "find-doctor", "refuse", "revalidate"}
    terminology = {"expand", "lookup", "subsumes", "translate", "validate-code"}
    assert {o.code for o in operations if o not in offered} == {"reindex", *directory, *terminology}


@pytest.mark.parametrize(
    "route",
    ["interaction of types", "interaction of the system", "operation", "operation of the system", "parameter"],
)
def test_a_route_that_the_matrix_does_not_know_fails_it(world: Any, route: str) -> None:
    rest = copy.deepcopy(world.ways.rest)
    row = next(row for row in rest["resource"] if row["type"] == "Observation")
    operation = {"name": "browse", "definition": "http://example.org/OperationDefinition/browse"}
    match route:
        case "interaction of types":
            row["interaction"].append({"code": "glance"})
        case "interaction of the system":
            rest["interaction"].append({"code": "glance-system"})
        case "operation":
            row["operation"].append(operation)
        case "operation of the system":
            rest["operation"].append(operation)
        case "parameter":
            row["searchParam"].append({"name": "aura", "type": "colour"})
    ways = Ways(rest, world.ways.base_url)
    with pytest.raises(LookupError):
        list(chain(ways.of_type("Observation", world.contents), ways.of_server()))
