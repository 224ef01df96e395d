"""Random queries over random documents find what a reading of the specification, written a second time here, finds.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.search.compile import filter_of
from fhir_server.search.matching import meets
from fhir_server.search.parse import parse
from profiles.registry import registry
from profiles.terminology import terminology

SENSITIVE, PLAIN, UCUM = "http://hl7.org/fhir/some", "http://example.org/codes", "http://unitsofmeasure.org"
SYSTEMS = [SENSITIVE, PLAIN, ""]
CODES = ["a", "A", "b", "ab", "c|d"]
WORDS = ["anna", "an", "bert", "ber t", "ÄNNE"]
IDS = ["1", "2", "3"]
DATES = ["2019", "2020", "2020-01", "2020-01-15", "2020-01-15T10:00Z", "2020-01-15T10:00:30Z", "2020-02", "2021-12-31"]
NUMBERS = ["1", "1.0", "0.95", "1.05", "99.5", "100", "100.5", "100.00", "1e2", "-3", "150", "50"]
UNITS = [None, (UCUM, "mg"), (UCUM, "g"), ("http://example.org/units", "mg")]
PREFIXES = ["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"]
FACTOR = {"mg": Decimal("0.001"), "g": Decimal(1)}


@dataclass
class Thing:
    """What a resource says, before any index."""

    codes: list[tuple[str, str]] = field(default_factory=list)
    parts: list[tuple[str, str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    dues: list[tuple[int, int]] = field(default_factory=list)
    quantities: list[tuple[Decimal, Decimal, tuple[str, str] | None]] = field(default_factory=list)
    pairs: list[tuple[tuple[str, str], Decimal]] = field(default_factory=list)
    stored: dict[str, Any] = field(default_factory=dict, repr=False)


def us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def span(text: str) -> tuple[int, int]:
    formats = {4: "%Y", 7: "%Y-%m", 10: "%Y-%m-%d", 17: "%Y-%m-%dT%H:%MZ", 20: "%Y-%m-%dT%H:%M:%SZ"}
    start = datetime.strptime(text, formats[len(text)]).replace(tzinfo=UTC)
    if len(text) == 4:
        end = start.replace(year=start.year + 1)
    elif len(text) == 7:
        end = (start + timedelta(days=31)).replace(day=1)
    else:
        end = start + {10: timedelta(days=1), 17: timedelta(minutes=1), 20: timedelta(seconds=1)}[len(text)]
    return us(start), us(end)


def plain(text: str) -> str:
    return text.lower().replace("ä", "a")


def fold(system: str, code: str) -> str:
    return code if system == SENSITIVE else code.lower()


def document(number: int, thing: Thing) -> dict[str, Any]:
    x: dict[str, Any] = {}
    if thing.codes:
        x["code"] = [e for s, c in thing.codes for e in (f"={c.lower()}", f"{s}|{fold(s, c)}")]
    if thing.names:
        x["value-string"] = [plain(n) for n in thing.names]
        x["value-string:exact"] = thing.names
    if thing.subjects:
        x["subject"] = thing.subjects[0]
        if thing.subjects[0].startswith("Patient/"):
            x["patient"] = thing.subjects[0]
    if thing.spans:
        x["date"] = {"s": thing.spans[0][0], "e": thing.spans[0][1]}
    if thing.quantities:
        x["value-quantity"] = [quantity(*q) for q in thing.quantities]
    if thing.pairs:
        x["code-value-quantity"] = [
            {"0": [f"={c.lower()}", f"{s}|{fold(s, c)}"], "1": [quantity(n, n, None)]} for (s, c), n in thing.pairs
        ]
        x["code"] = x.get("code", []) + [e for p in x["code-value-quantity"] for e in p["0"]]
        thing.codes += [code for code, _ in thing.pairs]
    if thing.parts:
        x["component-code"] = [e for s, c in thing.parts for e in (f"={c.lower()}", f"{s}|{fold(s, c)}")]
    if combined := x.get("code", []) + x.get("component-code", []):
        x["combo-code"] = combined
    return {"_id": f"{number:04}", "v": 1, "t": 1_000_000 * number, "r": b"{}", "x": x}


def quantity(low: Decimal, high: Decimal, unit: tuple[str, str] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"l": low, "h": high, "u": []}
    if unit:
        entry["u"] = [f"{unit[0]}|{unit[1]}", f"={unit[1]}"]
        if unit[0] == UCUM:
            entry |= {"cl": low * FACTOR[unit[1]], "ch": high * FACTOR[unit[1]], "cu": "g"}
    return entry


def some(chance: random.Random, values: list[Any], most: int = 2) -> list[Any]:
    return [chance.choice(values) for _ in range(chance.choice([0, 1, 1, most]))]


def thing(chance: random.Random) -> Thing:
    def numbers() -> tuple[Decimal, Decimal, tuple[str, str] | None]:
        low, high = sorted(Decimal(chance.choice(NUMBERS)) for _ in range(2))
        return (low, low if chance.random() < 0.7 else high, chance.choice(UNITS))

    def when() -> tuple[int, int]:
        first, second = span(chance.choice(DATES)), span(chance.choice(DATES))
        return first if chance.random() < 0.6 else (min(first[0], second[0]), max(first[1], second[1]))

    code = lambda: (chance.choice(SYSTEMS), chance.choice(CODES))  # noqa: E731
    return Thing(
        codes=[code() for _ in range(chance.choice([0, 1, 2]))],
        parts=[code() for _ in range(chance.choice([0, 0, 1, 2]))],
        names=some(chance, WORDS),
        # Observation.subject is 0..1
        subjects=some(chance, [f"{t}/{i}" for t in ("Patient", "Group") for i in IDS], most=1),
        spans=[when() for _ in range(chance.choice([0, 1, 1]))],  # Observation.effective[x] is 0..1
        dues=[when() for _ in range(chance.choice([0, 1, 2, 3]))],
        quantities=[numbers() for _ in range(chance.choice([0, 1, 1, 2]))],
        pairs=[(code(), Decimal(chance.choice(NUMBERS))) for _ in range(chance.choice([0, 0, 1, 2]))],
    )


# --- the second reading of the specification ------------------------------------------------------------------------


def compares(prefix: str, target: tuple[Any, Any], low: Any, high: Any) -> bool:
    """Dates: half-open spans."""
    start, end = target
    contained = low <= start and end <= high
    above, below = end > high, start < low
    return {
        "": contained, "eq": contained, "ne": not contained, "gt": above, "lt": below, "ge": above or contained,
        "le": below or contained, "sa": start >= high, "eb": end <= low,
    }[prefix]  # fmt: skip


def number_compares(prefix: str, target: tuple[Decimal, Decimal], text: str, factor: Decimal = Decimal(1)) -> bool:
    value = Decimal(text)
    half = Decimal(5).scaleb(value.as_tuple().exponent - 1)
    low, high = target
    inside = (value - half) * factor <= low and high < (value + half) * factor
    value *= factor
    return {
        "": inside, "eq": inside, "ne": not inside, "gt": high > value, "lt": low < value, "ge": high >= value,
        "le": low <= value, "sa": low > value, "eb": high < value,
    }[prefix]  # fmt: skip


def has_code(code: tuple[str, str], system: str | None, wanted: str | None) -> bool:
    if system is None:
        return code[1].lower() == (wanted or "").lower()
    return code[0] == system and (wanted is None or fold(system, code[1]) == fold(system, wanted))


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


@st.composite
def criteria(draw: st.DrawFn) -> tuple[str, str, Any]:
    """A parameter as text, and what it means."""
    kind = draw(st.sampled_from(["token", "string", "reference", "date", "quantity", "composite", "missing"]))
    prefix = draw(st.sampled_from(PREFIXES))
    if kind == "token":
        return draw(tokens())
    if kind == "string":
        modifier, word = (
            draw(st.sampled_from(["", ":exact", ":contains"])),
            draw(st.sampled_from([*WORDS, "n", "t", "A"])),
        )
        test = {
            "": lambda t: any(plain(n).startswith(plain(word)) for n in t.names),
            ":exact": lambda t: word in t.names,
            ":contains": lambda t: any(plain(word) in plain(n) for n in t.names),
        }[modifier]
        return f"value-string{modifier}", word, test
    if kind == "reference":
        names = st.sampled_from(["subject", "subject:Patient", "patient", "patient:Patient"])
        name, text = draw(names), draw(st.sampled_from(IDS))
        if draw(st.booleans()):
            entries = [f"Patient/{text}"]
            text = f"http://me/fhir/Patient/{text}/_history/4"
        elif name == "patient" and draw(st.booleans()):
            entries, text = [], f"Group/{text}"
        else:
            types = ("Patient",) if name.lower().endswith("patient") else ("Group", "Device", "Patient", "Location")
            entries = [f"{t}/{text}" for t in types]
        return name, text, lambda t: any(e in t.subjects for e in entries)
    if kind == "date":
        text = draw(st.sampled_from(DATES))
        return "date", prefix + text, lambda t: any(compares(prefix, s, *span(text)) for s in t.spans)
    if kind == "quantity":
        text, unit = draw(st.sampled_from(NUMBERS)), draw(st.sampled_from([*UNITS, ("", "mg")]))
        shown = f"{prefix}{text}" + (f"|{unit[0]}|{unit[1]}" if unit else "")
        return "value-quantity", shown, lambda t: any(quantity_compares(prefix, q, text, unit) for q in t.quantities)
    if kind == "composite":
        code, text = draw(st.sampled_from(["a", "b"])), draw(st.sampled_from(NUMBERS))
        return (
            "code-value-quantity",
            f"{code}${prefix}{text}",
            lambda t: any(has_code(c, None, code) and number_compares(prefix, (n, n), text) for c, n in t.pairs),
        )
    name, of = draw(st.sampled_from([("code", "codes"), ("date", "spans"), ("value-quantity", "quantities")]))
    missing = draw(st.booleans())
    return f"{name}:missing", str(missing).lower(), lambda t: (not getattr(t, of)) == missing


def quantity_compares(prefix: str, target: Any, text: str, unit: tuple[str, str] | None) -> bool:
    low, high, its = target
    if unit is None:
        return number_compares(prefix, (low, high), text)
    if its is None:
        return False
    if its == unit or (unit[0] == "" and its[1] == unit[1]):
        return number_compares(prefix, (low, high), text)
    if its[0] == unit[0] == UCUM:
        of_its, of_mine = FACTOR[its[1]], FACTOR[unit[1]]
        return number_compares(prefix, (low * of_its, high * of_its), text, of_mine)
    return False


@st.composite
def tokens(draw: st.DrawFn) -> tuple[str, str, Any]:
    wanted: list[tuple[str | None, str | None]] = draw(
        st.lists(
            st.tuples(st.sampled_from([*SYSTEMS, None]), st.sampled_from([*CODES, None])).filter(any),
            min_size=1,
            max_size=3,
        )
    )
    texts = [(f"{s}|" if s is not None else "") + (escaped(c) if c is not None else "") for s, c in wanted]
    negated, combined = draw(st.booleans()), draw(st.booleans())

    def test(t: Thing) -> bool:
        codes = t.codes + t.parts if combined else t.codes
        return negated != any(has_code(code, s, c) for code in codes for s, c in wanted)

    return f"{'combo-' if combined else ''}code{':not' if negated else ''}", ",".join(texts), test


@pytest.fixture(scope="module")
def things(library: Any) -> dict[str, Thing]:
    chance = random.Random(20261122)
    made = [thing(chance) for _ in range(400)]
    for number, one in enumerate(made):
        one.stored = document(number, one)
    documents = [one.stored for one in made]
    deleted = [{"_id": f"d{i}", "v": 2, "t": 1000, "d": True} for i in range(10)]
    library.fill("Observation", [*documents, *deleted])
    return {d["_id"]: t for d, t in zip(documents, made, strict=True)}


@pytest.fixture(scope="module")
def goals(library: Any) -> dict[str, Thing]:
    chance = random.Random(11)
    made = {f"{i:04}": thing(chance) for i in range(200)}
    library.fill("Goal", [goal_document(key, goal) for key, goal in made.items()])
    return made


def goal_document(key: str, goal: Thing) -> dict[str, Any]:
    spans = [{"s": s, "e": e} for s, e in goal.dues]
    return {"_id": key, "v": 1, "t": 1, "x": {"target-date": spans} if spans else {}}


# hypothesis looks at the source of the fixtures, large tables among them, only to tell a failing example.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=250, deadline=None)
@given(st.lists(criteria(), max_size=3))
def test_a_query_finds_exactly_what_the_specification_says(
    library: Any, things: dict[str, Thing], query: list[tuple[str, str, Any]]
) -> None:
    pairs = [(name, text) for name, text, _ in query]
    search = parse(
        "Observation", pairs, registry(), strict=True, default_count=10, max_count=10, base_url="http://me/fhir/"
    )
    wanted = filter_of(search, terminology())
    found = library.database["Observation"].find(wanted, {"_id": 1})
    expected = {key for key, thing in things.items() if all(test(thing) for _, _, test in query)}
    assert {row["_id"] for row in found} == expected
    # The same filter, read without the database, as access policies do for writes and earlier versions.
    assert {key for key, thing in things.items() if meets(wanted, thing.stored)} == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PREFIXES), st.sampled_from(DATES)), min_size=1, max_size=3))
def test_of_several_dates_in_a_resource_each_criterion_may_be_met_by_another(
    library: Any, goals: dict[str, Thing], query: list[tuple[str, str]]
) -> None:
    pairs = [("target-date", prefix + text) for prefix, text in query]
    search = parse("Goal", pairs, registry(), strict=True, default_count=10, max_count=10)
    wanted = filter_of(search, terminology())
    found = library.database["Goal"].find(wanted, {"_id": 1})
    expected = {
        key for key, goal in goals.items() if all(any(compares(p, d, *span(t)) for d in goal.dues) for p, t in query)
    }
    assert {row["_id"] for row in found} == expected
    assert {key for key, goal in goals.items() if meets(wanted, goal_document(key, goal))} == expected


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PREFIXES), st.sampled_from(["1970-01-01T00:01Z", "1970-01-01", "1970-01-01T00:02:30Z", "1971"]))
def test_last_updated_follows_the_same_table_as_other_dates(
    library: Any, things: dict[str, Thing], prefix: str, text: str
) -> None:
    pairs = [("_lastUpdated", prefix + text)]
    search = parse("Observation", pairs, registry(), strict=True, default_count=10, max_count=10)
    found = library.database["Observation"].find(filter_of(search, terminology()), {"_id": 1})
    moments = {key: 1_000_000 * int(key) for key in things}
    expected = {key for key, t in moments.items() if compares(prefix, (t, t + 1000), *span(text))}
    assert {row["_id"] for row in found} == expected
