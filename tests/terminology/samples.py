"""Code systems, value sets and concept maps that tests of terminology share."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

ANIMALS = "http://example.org/CodeSystem/animals"
FOODS = "http://example.org/CodeSystem/foods"
SETS = "http://example.org/ValueSet/"
MAPS = "http://example.org/ConceptMap/"


def german(text: str) -> list[Json]:
    return [{"language": "de", "use": {"system": "urn:uses", "code": "common"}, "value": text}]


def animals(**more: Any) -> Json:
    """A hierarchy in which the bat has two parents, one heading, and one code that is retired."""
    return {
        "resourceType": "CodeSystem",
        "id": "animals",
        "url": ANIMALS,
        "version": "1.0.0",
        "name": "Animals",
        "title": "Animals that we know",
        "status": "active",
        "content": "complete",
        "caseSensitive": True,
        "hierarchyMeaning": "is-a",
        "property": [
            {"code": "legs", "description": "How many legs", "type": "integer"},
            {"code": "flying", "type": "boolean"},
            {"code": "parent", "uri": "http://hl7.org/fhir/concept-properties#parent", "type": "code"},
            {"code": "notSelectable", "uri": "http://hl7.org/fhir/concept-properties#notSelectable", "type": "boolean"},
            {"code": "status", "uri": "http://hl7.org/fhir/concept-properties#status", "type": "code"},
        ],
        "concept": [
            {
                "code": "animal",
                "display": "Animal",
                "property": [{"code": "notSelectable", "valueBoolean": True}],
                "concept": [
                    {
                        "code": "mammal",
                        "display": "Mammal",
                        "designation": german("Säugetier"),
                        "definition": "Feeds its young with milk.",
                        "concept": [
                            {"code": "dog", "display": "Dog", "designation": german("Hund"), "property": [legs(4)]},
                            {"code": "cat", "display": "Cat", "designation": german("Katze"), "property": [legs(4)]},
                            {
                                "code": "bat",
                                "display": "Bat",
                                "property": [
                                    legs(2),
                                    {"code": "flying", "valueBoolean": True},
                                    {"code": "parent", "valueCode": "flyer"},
                                ],
                            },
                        ],
                    },
                    {
                        "code": "flyer",
                        "display": "Flying animal",
                        "concept": [
                            {
                                "code": "dodo",
                                "display": "Dodo",
                                "property": [legs(2), {"code": "status", "valueCode": "retired"}],
                            },
                            {
                                "code": "robin",
                                "display": "European robin",
                                "property": [legs(2), {"code": "flying", "valueBoolean": True}],
                            },
                        ],
                    },
                ],
            }
        ],
        **more,
    }


def legs(number: int) -> Json:
    return {"code": "legs", "valueInteger": number}


def value_set(name: str, *include: Json, exclude: tuple[Json, ...] = (), **more: Any) -> Json:
    compose: Json = {"include": list(include)}
    if exclude:
        compose["exclude"] = list(exclude)
    return {
        "resourceType": "ValueSet",
        "id": name,
        "url": SETS + name,
        "version": "1",
        "name": name.title().replace("-", ""),
        "status": "active",
        "compose": compose,
        **more,
    }


def by(property: str, op: str, value: str, system: str = ANIMALS) -> Json:
    return {"system": system, "filter": [{"property": property, "op": op, "value": value}]}


def parameters(**given: Any) -> Json:
    """Parameters with text, numbers, booleans, resources and codings as their types ask for."""
    rows: list[Json] = []
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            rows.append({"name": name.replace("_", "-"), **typed(one)})
    return {"resourceType": "Parameters", "parameter": rows}


def typed(value: Any) -> Json:
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, int):
        return {"valueInteger": value}
    if isinstance(value, str):
        return {"valueString": value}
    if "resourceType" in value:
        return {"resource": value}
    return {"valueCodeableConcept": value} if isinstance(value.get("coding"), list) else {"valueCoding": value}


def answers(body: Json) -> dict[str, Any]:
    """The parameters of an answer that come once, by name."""
    return {
        row["name"]: next(value for key, value in row.items() if key != "name") for row in body.get("parameter", ())
    }


def codes(body: Json) -> list[str]:
    """The codes of an expansion, those within others too."""
    found: list[str] = []
    waiting = list(body["expansion"].get("contains", ()))
    while waiting:
        row = waiting.pop(0)
        found.append(row["code"])
        waiting = [*row.get("contains", ()), *waiting]
    return found
