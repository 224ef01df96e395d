"""A server that holds the samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.terminology.samples import ANIMALS, FOODS, MAPS, SETS, animals, by, value_set

Json = dict[str, Any]


def concept_map(name: str, group: list[Json], **more: Any) -> Json:
    return {"resourceType": "ConceptMap", "id": name, "url": MAPS + name, "version": "1", "status": "active"} | {
        "group": group,
        **more,
    }


HELD: tuple[Json, ...] = (
    animals(),
    value_set("all", {"system": ANIMALS}),
    value_set("mammals", by("concept", "is-a", "mammal")),
    value_set("imports", {"valueSet": [SETS + "mammals", SETS + "flying"]}),
    value_set("flying", by("flying", "=", "true")),
    value_set("but-cats", {"system": ANIMALS}, exclude=({"system": ANIMALS, "concept": [{"code": "cat"}]},)),
    value_set(
        "pets",
        {
            "system": ANIMALS,
            "concept": [{"code": "dog", "display": "Pet dog"}, {"code": "cat"}, {"code": "unicorn"}],
        },
    ),
    value_set("foreign", {"system": FOODS, "concept": [{"code": "bread", "display": "Bread"}]}),
    value_set("foods", {"system": FOODS}),
    value_set("lost", {"valueSet": [SETS + "nowhere"]}),
    value_set("loop", {"valueSet": [SETS + "loop"]}),
    concept_map(
        "to-foods",
        [
            {
                "source": ANIMALS,
                "target": FOODS,
                "element": [
                    {
                        "code": "dog",
                        "target": [
                            {"code": "bone", "display": "Bone", "equivalence": "wider"},
                            {"code": "biscuit", "equivalence": "equivalent"},
                        ],
                    },
                    {"code": "cat", "target": [{"equivalence": "unmatched"}]},
                    {
                        "code": "bat",
                        "target": [
                            {
                                "code": "fruit",
                                "equivalence": "narrower",
                                "comment": "Bats of our climate eat insects.",
                                "dependsOn": [{"property": "http://example.org/season", "value": "summer"}],
                                "product": [{"property": "http://example.org/part", "system": FOODS, "value": "peel"}],
                            }
                        ],
                    },
                ],
                "unmapped": {"mode": "fixed", "code": "anything", "display": "Whatever"},
            }
        ],
        targetUri=SETS + "foods",
    ),
    concept_map(
        "by-another",
        [
            {
                "source": ANIMALS,
                "element": [{"code": "other"}],
                "unmapped": {"mode": "other-map", "url": MAPS + "to-foods"},
            }
        ],
    ),
)


@pytest.fixture(scope="module")
def terms(make_server: Callable[..., Any]) -> Any:
    """The client of a server that holds the samples and nothing else."""
    server = make_server()
    for resource in HELD:
        answer = server.client.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.status_code == 201, answer.text
    return server.client
