"""Filters read without the database; that they mean what MongoDB means is shown by the property tests beside these."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fhir_server.search.matching import UnknownConditionError, meets

DOCUMENT = {
    "_id": "1",
    "t": 5,
    "x": {
        "code": ["=a", "s|a"],
        "subject": "Patient/1",
        "date": {"s": 10, "e": 20},
        "value": [{"l": Decimal("1.5"), "h": Decimal("1.5"), "u": ["=mg"]}],
        "near": {"type": "Point", "coordinates": [11.57, 48.13]},
    },
}


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"x.code": "=a"}, True),
        ({"x.code": {"$in": ["=b", "s|a"]}}, True),
        ({"x.code": {"$nin": ["=b", "s|a"]}}, False),
        ({"x.code": {"$in": [*map(str, range(1000)), "s|a"]}}, True),
        ({"x.code": {"$nin": list(map(str, range(1000)))}}, True),
        ({"t": {"$in": list(range(1000))}}, True),
        ({"x.missing": {"$in": [*map(str, range(1000)), None]}}, True),
        ({"x.code": {"$all": ["=a", "s|a"]}}, True),
        ({"x.code": {"$ne": "=a"}}, False),
        ({"x.missing": {"$exists": False}}, True),
        ({"d": None}, True),
        ({"x.subject": None}, False),
        ({"x.date.s": {"$gte": 10, "$lt": 11}}, True),
        ({"x.date.s": {"$gte": "10"}}, False),
        ({"x.value": {"$elemMatch": {"l": {"$gte": Decimal("1.5")}, "u": "=mg"}}}, True),
        ({"x.value.u": "=mg"}, True),
        ({"x.code": {"$elemMatch": {"$gte": "s|", "$lt": "s}"}}}, True),
        ({"x.code": {"$regex": "^s"}}, True),
        ({"x.code": {"$size": 2}}, True),
        ({"x.code": {"$not": {"$size": 2}}}, False),
        ({"$or": [{"_id": "2"}, {"x.subject": "Patient/1"}]}, True),
        ({"$nor": [{"_id": "2"}, {"x.subject": "Patient/1"}]}, False),
        ({"$and": [{"_id": "1"}, {"t": 5}]}, True),
        ({"_id": {"$in": []}}, False),
        ({}, True),
        ({"x.near": {"$geoWithin": {"$centerSphere": [[11.6, 48.1], 10 / 6371]}}}, True),
        ({"x.near": {"$geoWithin": {"$centerSphere": [[13.4, 52.5], 10 / 6371]}}}, False),
    ],
)
def test_a_filter_means_what_mongodb_means_by_it(filter: dict[str, Any], expected: bool) -> None:
    assert meets(filter, DOCUMENT) is expected


@pytest.mark.parametrize(
    "filter", [{"$where": "true"}, {"x.code": {"$type": "string"}}, {"x.near": {"$geoWithin": {"$box": []}}}]
)
def test_what_is_not_known_is_refused_rather_than_guessed(filter: dict[str, Any]) -> None:
    with pytest.raises(UnknownConditionError):
        meets(filter, DOCUMENT)
