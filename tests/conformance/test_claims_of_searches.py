"""Every search parameter and every include that the CapabilityStatement claims, of every type, over HTTP.

A search answers 200, and its self link, which leaves out what was ignored, has the parameter.

Spec: https://hl7.org/fhir/R4/search.html#conformance
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest

from fhir_server.search.components import components_of
from profiles.registry import registry
from tests.conformance.claims import PORTION_NAMES, Call, Claimant, portion

#: A value that a parameter of each type can have.
VALUES = {
    "token": "http://loinc.org|8480-6",
    "string": "Müller",
    "reference": "Patient/1",
    "date": "ge2020-02-29",
    "number": "lt7.5",
    "quantity": "gt5.4|http://unitsofmeasure.org|mg",
    "uri": "http://example.org/fhir/ValueSet/a",
}
SPECIAL = {"near": "48.137|11.575|5|km"}

#: Includes in one request; with all of them a request would be beyond what is allowed.
INCLUDES = 40

#: Nobody's id: what is asked is whether the search is understood, and a database without data answers that quickest.
STRICT = (("Prefer", "handling=strict"),)


portions = pytest.mark.parametrize("types", [portion(n) for n in range(len(PORTION_NAMES))], ids=PORTION_NAMES)


def value_of(code: str, kind: str, definition: str) -> str:
    """A value for a parameter that a statement describes."""
    if kind == "special":
        return SPECIAL[code]
    if kind == "composite":
        parts = components_of(registry(), registry().search_parameters[definition])
        return "$".join(VALUES[part.type] for part, _ in parts)
    return VALUES[kind]


def applied(answer: Any) -> list[tuple[str, str]]:
    """The parameters of the self link."""
    bundle = answer.json()
    assert bundle["type"] == "searchset"
    assert [e for e in bundle.get("entry", []) if e["search"]["mode"] == "outcome"] == [], "a warning"
    (link,) = [row["url"] for row in bundle["link"] if row["relation"] == "self"]
    return parse_qsl(urlsplit(link).query, keep_blank_values=True)


def searched(claimant: Claimant, place: str, parameters: list[dict[str, str]]) -> int:
    pairs = [(p["name"], value_of(p["name"], p["type"], p["definition"])) for p in parameters]
    calls = [Call("GET", f"{place}?{urlencode([pair])}", headers=STRICT) for pair in pairs]
    for pair, answer in zip(pairs, claimant.expect(200, calls), strict=True):
        assert applied(answer) == [pair]
    return len(pairs)


@portions
def test_every_search_parameter_of_a_type_is_understood_and_applied(claimant: Claimant, types: tuple[str, ...]) -> None:
    for name in types:
        parameters = claimant.rows[name]["searchParam"]
        assert searched(claimant, name, parameters) >= 5
        for parameter in parameters:
            definition = registry().search_parameters[parameter["definition"]]
            assert (definition.code, definition.type) == (parameter["name"], parameter["type"])


def test_every_search_parameter_of_the_system_is_understood_and_applied(claimant: Claimant) -> None:
    assert searched(claimant, "", claimant.rest["searchParam"]) >= 5


@portions
def test_every_include_of_a_type_is_understood_and_applied(claimant: Claimant, types: tuple[str, ...]) -> None:
    calls: list[Call] = []
    asked: list[list[tuple[str, str]]] = []
    for name in types:
        for parameter, claim in (("_include", "searchInclude"), ("_revinclude", "searchRevInclude")):
            values = claimant.rows[name][claim]
            for start in range(0, len(values), INCLUDES):
                pairs = [(parameter, value) for value in values[start : start + INCLUDES]]
                query = "&".join(f"{p}={quote(v, safe=':*')}" for p, v in pairs)
                calls.append(Call("GET", f"{name}?{query}", headers=STRICT))
                asked.append(pairs)
    for pairs, answer in zip(asked, claimant.expect(200, calls), strict=True):
        assert applied(answer) == pairs
