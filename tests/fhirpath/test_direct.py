"""Conditions straight on JSON say what the engine says, of whatever an object may hold."""

from __future__ import annotations

from decimal import DecimalException
from functools import cache
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.fhirpath.direct import Direct, reads
from fhir_server.fhirpath.engine import Compiler
from fhir_server.fhirpath.evaluation import Context
from fhir_server.fhirpath.items import Fault, Item
from fhir_server.fhirpath.kinds import Field, Kind, kinds_of
from fhir_server.fhirpath.nodes import Binary, Call, Index, Literal, Member, Node, TypeOperation, Unary
from fhir_server.fhirpath.parser import parsed
from fhir_server.validation.invariants import unless_all_contained_are_referred_to
from profiles.registry import registry

KINDS = kinds_of(registry())
#: Forms that no invariant of R4 has.
OTHERS = [
    ("Observation", "status = 'final' or value.exists()"),
    ("Observation", "Observation.status != 'final'"),
    ("Observation", "component.where(code.text = 'x').exists()"),
    ("Observation", "component.where(dataAbsentReason.exists()).empty() xor status in ('final' | 'x')"),
    ("Observation", "component.all(value.empty() or dataAbsentReason.empty())"),
    ("Observation", "component.code.coding.where(system = 'x' and code != 'y').exists()"),
    ("Observation", "component.referenceRange.exists(text.exists())"),
    ("Observation", "(component.exists() = value.exists()) and (note.exists() != value.exists())"),
    ("Observation", "component.exists() implies value.empty()"),
    ("Observation", "component.count() + note.count() > 0"),
    ("Observation", "true or status = 'x'"),
    ("Patient", "birthDate.hasValue() and (name | contact).exists()"),
    ("Patient", "name.where(use = 'official').given.exists()"),
    ("Patient", "contained.meta.tag.exists() or contained.id.exists()"),
    ("Patient", "contact.name.period.start.exists()"),
    ("Period", "start <= end"),
    ("Period", "end >= start"),
    ("ContactPoint", "where(use = 'home').exists()"),
]
MOMENTS = [
    "2018",
    "2018-05",
    "2018-04-30",
    "2018-05-01",
    "2018-05-01T10:00:00Z",
    "2018-05-01T10:00:00.5Z",
    "2018-05-01T10:00:00+02:00",
    "2018-05-01T10:30:00+02:00",
    "2018-05-01T10:00:00-02:00",
    "2018-05-01T08:00:00-00:00",
    "2018-05-01T23:59:60+02:00",
    "2018-05-01T22:00:00+00:00",
    "2018-04-30T23:59:60Z",
]


@cache
def cases() -> list[tuple[Kind, str]]:
    """Each invariant of R4 with the kind of what it stands at, and other expressions."""
    found: dict[str, tuple[Kind, str]] = {}
    for definition in registry().types.values():
        for path, element in definition.elements.items():
            for invariant in element.invariants:
                kind = KINDS.named(path if not element.is_choice else element.types[0].code)
                assert kind is not None
                found.setdefault(invariant.expression, (kind, invariant.expression))
    others = [(KINDS.named(name), text) for name, text in OTHERS]
    return [*found.values(), *((kind, text) for kind, text in others if kind is not None)]


def words(node: Any) -> set[str]:
    """The names and strings in an expression: what is worth putting into an object."""
    match node:
        case Literal(str(text)):
            return {text}
        case Member(source, name):
            return {name} | words(source)
        case Call(source, _, arguments):
            return words(source).union(*map(words, arguments))
        case Binary(_, left, right) | Index(left, right):
            return words(left) | words(right)
        case TypeOperation(_, operand) | Unary(_, operand):
            return words(operand)
    return set()


def texts(kind: Kind, known: set[str]) -> st.SearchStrategy[Any]:
    match kind.system:
        case "Boolean":
            return st.booleans()
        case "Integer":
            return st.integers(-1, 2)
        case "Decimal":
            return st.decimals(-1, 101, places=1)
        case "Date" | "DateTime":
            return st.sampled_from(MOMENTS)
        case _:
            return st.sampled_from(sorted({"x", *known}))


@st.composite
def objects(draw: st.DrawFn, kind: Kind, known: set[str], depth: int = 3) -> Any:
    """An object with some of the members that an expression speaks of, and of right structure."""
    if kind.is_primitive:
        return draw(texts(kind, known))
    resource: dict[str, Any] = {}
    if kind.is_resource:
        resource["resourceType"] = "Basic" if kind.name == "Resource" else kind.name
    groups: dict[str, list[Field]] = {}
    for field in kind.all_fields():
        owner = field.element.name if field.element is not None else field.key
        groups.setdefault(owner, []).append(field)
    for owner, fields in groups.items():
        wanted = owner.removesuffix("[x]") in known or owner == "extension"
        if not wanted or not depth or not draw(st.booleans()):
            continue
        field = draw(st.sampled_from(fields))
        one = objects(field.kind, known, depth - 1)
        value = draw(st.lists(one, min_size=1, max_size=2)) if field.many else draw(one)
        if value in ({}, [], [{}], [{}, {}]) or (isinstance(value, list) and {} in value):
            continue
        has_twin = field.kind.is_primitive and not field.many and draw(st.integers(0, 4)) == 0
        if has_twin:
            resource[field.twin] = {"id": "x"}
        if not has_twin or draw(st.booleans()):
            resource[field.key] = value
    return resource or {"id": "x"}


def by_engine(node: Node, kind: Kind, value: Any) -> bool | str | None:
    item = Item(value, kind, key=kind.name)
    try:
        return Compiler(KINDS).truth(node)([item], Context(item, KINDS, *([None] * 8)))
    except (Fault, DecimalException) as fault:
        return type(fault).__name__


def by_json(node: Node, kind: Kind, value: Any) -> bool | str | None:
    try:
        return Direct(KINDS).condition(node, kind)(value)
    except (Fault, DecimalException) as fault:
        return type(fault).__name__


@pytest.mark.parametrize("at", range(len(cases())), ids=[f"{kind.name}-{text[:30]}" for kind, text in cases()])
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_condition_on_json_says_what_the_engine_says(at: int, data: st.DataObject) -> None:
    kind, text = cases()[at]
    node = parsed(text)
    value = data.draw(objects(kind, words(node)))
    wanted = by_engine(node, kind, value)
    assert by_json(node, kind, value) == wanted
    early = Direct(KINDS).early(node, kind)
    if early is not None and early(value) is not None:
        assert wanted is True


def test_dates_that_are_compared_as_text_are_in_the_order_that_the_engine_finds() -> None:
    kind = KINDS.named("Period")
    assert kind is not None
    for text in ("start <= end", "end >= start", "start >= end"):
        node = parsed(text)
        condition = Direct(KINDS).condition(node, kind)
        for start, end in product(MOMENTS, MOMENTS):
            period = {"start": start, "end": end}
            assert condition(period) is by_engine(node, kind, period), (text, period)


@settings(max_examples=100)
@given(data=st.data())
def test_contained_resources_are_found_to_be_referred_to_as_the_invariant_says(data: st.DataObject) -> None:
    one = st.fixed_dictionaries(
        {"resourceType": st.just("Basic"), "id": st.sampled_from("ab")},
        optional={"subject": st.fixed_dictionaries({"reference": st.sampled_from(["#", "#a", "#b", "Patient/a"])})},
    )
    uses = st.fixed_dictionaries(
        {},
        optional={
            "generalPractitioner": st.lists(
                st.fixed_dictionaries({"reference": st.sampled_from(["#a", "#b", "x"])}), min_size=1, max_size=2
            ),
            "extension": st.lists(
                st.fixed_dictionaries(
                    {"url": st.just("x")},
                    optional={"valueUri": st.sampled_from(["#a", "#b"]), "valueString": st.just("#a")},
                ),
                min_size=1,
                max_size=2,
            ),
            "contained": st.lists(one, min_size=1, max_size=2),
        },
    )
    patient = {"resourceType": "Patient", **data.draw(uses)}
    kind = KINDS.named("Patient")
    assert kind is not None
    (text,) = (i.expression for i in registry().types["Patient"].elements["Patient"].invariants if i.key == "dom-3")
    node = parsed(text)
    condition = unless_all_contained_are_referred_to(Direct(KINDS).condition(node, kind))
    assert condition(patient) == by_engine(node, kind, patient)


def test_most_of_what_is_asked_of_clinical_types_needs_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Direct, "_by_engine", lambda self, node, kind: asked.append(kind.name) or (lambda value: True))
    for kind, text in cases():
        if kind.name in ("Observation", "Patient", "Condition", "Quantity", "Period", "ContactPoint", "Attachment"):
            Direct(KINDS).condition(parsed(text), kind)({})
    # Period: dates of different precision or zone; Observation: components with the code of the whole.
    assert set(asked) <= {"Period", "Observation", "Patient", "Condition"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%resource.id.exists()", True),
        ("a.where(b = %resource.c)", True),
        ("a.resolve().exists()", True),
        ("-a.b(%resource)", True),
        ("a[%resource.b] is string", True),
        ("%ucum = system", False),
        ("a.exists() and b.empty()", False),
    ],
)
def test_what_an_expression_reads_of_its_surroundings_is_known(text: str, expected: bool) -> None:
    assert reads(parsed(text), frozenset({"resource"})) is expected
