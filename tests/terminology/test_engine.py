"""The engine by itself: properties that hold of any code system and value set, whatever is in them.

Spec: https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.interactions.subsumes import outcome_of
from fhir_server.search.resolve import UnlistedError
from fhir_server.terminology.compose import Composed
from fhir_server.terminology.conditions import Filtered
from fhir_server.terminology.engine import Engine
from fhir_server.terminology.expansion import Wish, expanded
from fhir_server.terminology.holdings import Holdings
from fhir_server.terminology.memory import system_of
from fhir_server.terminology.searching import SearchCodes
from profiles.terminology import terminology
from tests.terminology.given import Given
from tests.terminology.samples import ANIMALS, SETS, animals, by, value_set

Json = dict[str, Any]

CODES = [f"c{number}" for number in range(12)]
SYSTEM = "urn:test:system"


@st.composite
def code_systems(draw: st.DrawFn) -> Json:
    """Any hierarchy without circles: parents come before their children."""
    rows = []
    for number, code in enumerate(CODES):
        parents = draw(st.lists(st.sampled_from(CODES[:number]), max_size=3, unique=True)) if number else []
        properties: list[Json] = [{"code": "parent", "valueCode": parent} for parent in parents]
        properties += [{"code": "size", "valueInteger": draw(st.integers(0, 2))}] if draw(st.booleans()) else []
        properties += [{"code": "notSelectable", "valueBoolean": True}] if draw(st.integers(0, 5)) == 0 else []
        properties += [{"code": "inactive", "valueBoolean": True}] if draw(st.integers(0, 5)) == 0 else []
        rows.append({"code": code, "display": f"Concept {number % 4}", "property": properties})
    return {"resourceType": "CodeSystem", "url": SYSTEM, "content": "complete", "concept": rows}


filters = st.one_of(
    st.tuples(
        st.just("concept"),
        st.sampled_from(["is-a", "descendent-of", "is-not-a", "generalizes"]),
        st.sampled_from(CODES),
    ),
    st.tuples(st.just("size"), st.sampled_from(["=", "in", "not-in", "exists"]), st.sampled_from(["0", "1", "true"])),
    st.tuples(st.just("code"), st.just("regex"), st.sampled_from(["c1.*", "c[0-5]", "x"])),
)


@st.composite
def parts(draw: st.DrawFn) -> Json:
    kind = draw(st.sampled_from(["all", "listed", "filtered"]))
    if kind == "all":
        return {"system": SYSTEM}
    if kind == "listed":
        return {
            "system": SYSTEM,
            "concept": [{"code": code} for code in draw(st.lists(st.sampled_from([*CODES, "none"]), min_size=1))],
        }
    rows = draw(st.lists(filters, min_size=1, max_size=2))
    return {"system": SYSTEM, "filter": [{"property": p, "op": op, "value": value} for p, op, value in rows]}


def engine_of(*resources: Json) -> Engine:
    return Engine(Holdings(Given(resources)))


async def listed_in(engine: Engine, resource: Json, *, headings: bool = False, **wish: Any) -> list[str]:
    composed = await engine.compose(resource, headings=headings)
    return [row["code"] for row in (await expanded(engine, composed, Wish(**wish))).rows]


def found(engine: Engine, resource: Json, **wish: Any) -> list[str]:
    return asyncio.run(listed_in(engine, resource, **wish))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(code_systems(), st.lists(parts(), min_size=1, max_size=3), st.lists(parts(), max_size=2), st.booleans())
def test_a_code_is_in_a_value_set_if_and_only_if_its_expansion_has_it(
    system: Json, include: list[Json], exclude: list[Json], headings: bool
) -> None:
    engine = engine_of(system)
    resource = value_set("any", *include, exclude=tuple(exclude))

    async def run() -> None:
        listed = await listed_in(engine, resource, headings=headings)
        assert len(listed) == len(set(listed))
        composed = await engine.compose(resource, headings=headings)
        judged = {code for code in [*CODES, "none"] if await engine.has(composed, SYSTEM, code)}
        assert judged == set(listed)
        pages: list[str] = []
        for offset in range(0, 15, 4):
            pages += await listed_in(engine, resource, headings=headings, offset=offset, count=4)
        assert pages == listed

    asyncio.run(run())


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(code_systems())
def test_subsumption_is_transitive_and_agrees_with_the_filters(system: Json) -> None:
    held = system_of(system)

    async def run() -> None:
        below = {code: held.filtered(Filtered("concept", "is-a", code)) or frozenset() for code in CODES}
        for first in CODES:
            for second in CODES:
                outcome = await outcome_of(held, first, second)
                back = await outcome_of(held, second, first)
                assert (outcome in ("subsumes", "equivalent")) is (second in below[first])
                assert {outcome, back} in ({"subsumes", "subsumed-by"}, {"equivalent"}, {"not-subsumed"})
                if outcome == "subsumes":
                    assert below[second] <= below[first]
            not_below = held.filtered(Filtered("concept", "is-not-a", first)) or frozenset()
            assert not_below == frozenset(CODES) - below[first]
            above = held.filtered(Filtered("concept", "generalizes", first)) or frozenset()
            assert all(first in below[code] for code in above)

    asyncio.run(run())


@pytest.mark.slow
def test_every_value_set_of_the_specification_is_judged_as_the_digest_judges_it() -> None:
    """Two ways to the same: what validation compiles its checks from, and what the operations answer."""
    engine, digest = Engine(Holdings(Given())), terminology()

    async def run() -> tuple[int, list[str]]:
        compared, different = 0, []
        for url in sorted(digest.value_sets):
            pairs = digest.expansion(url)
            if pairs is None:
                continue
            composed = await engine.value_set(url)
            assert isinstance(composed, Composed)
            try:
                rows = (await expanded(engine, composed, Wish(count=10_000))).rows
            except UnlistedError as error:
                different.append(f"{url}: {error}")
                continue
            compared += 1
            mine = {(row["system"], row["code"]) for row in rows}
            if mine != pairs:
                different.append(f"{url}: {sorted(mine ^ pairs)[:3]}")
        return compared, different

    compared, different = asyncio.run(run())
    # R4 lists units with blanks in them, `{# of calculi}`, which UCUM does not allow (section 12).
    assert [row.partition(": ")[0] for row in different] == ["http://hl7.org/fhir/ValueSet/ucum-common"]
    assert compared > 1_000


def test_circles_in_a_code_system_end() -> None:
    rows = [
        {"code": "a", "property": [{"code": "parent", "valueCode": "b"}]},
        {"code": "b", "property": [{"code": "parent", "valueCode": "a"}]},
    ]
    engine = engine_of({"resourceType": "CodeSystem", "url": SYSTEM, "content": "complete", "concept": rows})
    resource = value_set("any", by("concept", "is-a", "a", SYSTEM))
    assert found(engine, resource) == ["a", "b"]
    assert sorted(found(engine, resource, nested=True)) == ["a", "b"]


def test_a_hierarchy_of_any_depth_nests_as_deep_as_can_be_read() -> None:
    rows: list[Json] = [{"code": "c0"}]
    rows += [{"code": f"c{n}", "property": [{"code": "parent", "valueCode": f"c{n - 1}"}]} for n in range(1, 500)]
    engine = engine_of({"resourceType": "CodeSystem", "url": SYSTEM, "content": "complete", "concept": rows})
    made = asyncio.run(expanded_rows(engine, value_set("any", {"system": SYSTEM})))
    depth, level = 0, made
    while level:
        depth, level = depth + 1, level[0].get("contains", [])
    assert 10 < depth < 100
    assert len(found(engine, value_set("any", {"system": SYSTEM}))) == 500


async def expanded_rows(engine: Engine, resource: Json) -> list[Json]:
    return (await expanded(engine, await engine.compose(resource), Wish(nested=True))).rows


def test_what_was_worked_out_is_kept_until_something_changes() -> None:
    source = Given([animals(), value_set("mammals", by("concept", "is-a", "mammal"))])
    engine = Engine(Holdings(source))

    async def members() -> list[bool | None]:
        return [await engine.member_of(SETS + "mammals", ANIMALS, code) for code in ("dog", "robin")]

    assert asyncio.run(members()) == [True, False]
    kept = asyncio.run(engine.value_set(SETS + "mammals"))
    assert asyncio.run(engine.value_set(SETS + "mammals")) is kept
    source.put(value_set("mammals", by("concept", "is-a", "flyer")))
    assert asyncio.run(members()) == [False, True]


def test_the_version_that_is_stored_goes_before_that_of_the_specification_and_the_highest_before_others() -> None:
    gender = "http://hl7.org/fhir/administrative-gender"

    def system(version: str, code: str, **more: Any) -> Json:
        return {"resourceType": "CodeSystem", "id": version, "url": gender, "version": version, "status": "active",
                "content": "complete", "concept": [{"code": code}], **more}  # fmt: skip

    async def first(engine: Engine, version: str = "") -> str:
        held = await engine.code_system(gender, version)
        return "none" if held is None else next(iter(held._concepts))  # type: ignore[attr-defined]

    engine = engine_of(system("2.0.0", "two"), system("10.0.0", "ten"), system("11.0.0", "old", status="retired"))
    assert asyncio.run(first(engine)) == "ten"
    assert asyncio.run(first(engine, "2.0.0")) == "two"
    assert asyncio.run(first(engine, "4.0.1")) == "male"
    assert asyncio.run(first(engine, "3.0.0")) == "none"
    assert asyncio.run(first(engine_of(system("11.0.0", "old", status="retired")))) == "male"
    assert asyncio.run(first(engine_of(system("9.0.0", "part", content="fragment")))) == "male"


def test_a_code_without_a_system_is_in_a_value_set_that_has_it_of_any() -> None:
    engine = engine_of()
    value_set_url = "http://hl7.org/fhir/ValueSet/administrative-gender"
    assert asyncio.run(engine.member_of(value_set_url, None, "male")) is True
    assert asyncio.run(engine.member_of(value_set_url, None, "none")) is False
    assert asyncio.run(engine.member_of("urn:nowhere", None, "male")) is None


@pytest.mark.parametrize(
    ("include", "exclude", "codes", "systems"),
    [
        ([{"system": "urn:open"}], [], set(), {"urn:open"}),
        ([by("concept", "is-a", "flyer")], [], {"flyer", "bat", "dodo", "robin"}, set()),
        ([{"system": "urn:open"}], [{"system": "urn:open"}], set(), set()),
        ([{"system": "urn:open", "concept": [{"code": "x"}]}], [], {"x"}, set()),
    ],
)
def test_searches_get_lists_of_codes_or_whole_systems(
    include: list[Json], exclude: list[Json], codes: set[str], systems: set[str]
) -> None:
    engine = engine_of(animals(), value_set("any", *include, exclude=tuple(exclude)))
    listed = asyncio.run(SearchCodes(engine).codes_in(SETS + "any", 100))
    assert {code for _, code in listed.codes} == codes
    assert listed.systems == systems


def test_searches_refuse_more_codes_than_they_take() -> None:
    engine = engine_of(animals(), value_set("any", {"system": ANIMALS}))
    with pytest.raises(UnlistedError, match="more than 3"):
        asyncio.run(SearchCodes(engine).codes_in(SETS + "any", 3))
    with pytest.raises(UnlistedError, match="more than 3"):
        asyncio.run(SearchCodes(engine).family(ANIMALS, "animal", 3, above=False))
