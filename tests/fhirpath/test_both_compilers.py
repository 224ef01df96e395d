"""The compiler for search and the engine for all of FHIRPath find the same values: each is a check of the other."""

from __future__ import annotations

from pathlib import Path

from fhir_server.fhirpath.compile import typed_values
from fhir_server.fhirpath.expression import compile_expression
from profiles.registry import registry
from tests.fhirpath.clinical import clinical_examples


def test_every_search_expression_finds_the_same_in_both_ways(test_data: Path) -> None:
    compared = 0
    for name, resource in clinical_examples(test_data / "r4-examples"):
        resource_type = resource["resourceType"]
        for parameter in registry().parameters_of(resource_type).values():
            # Search knows a reference's type by its words; FHIRPath resolves it, which nothing here does.
            if not parameter.expression or "resolve()" in parameter.expression:
                continue
            compared += 1
            static = typed_values(registry(), parameter.expression, resource_type)(resource)
            items = compile_expression(parameter.expression, registry=registry()).evaluate(resource)
            wanted, found = [value for value, _ in static], [item.value for item in items if item.value is not None]
            # Only the union of FHIRPath leaves out what stands there twice.
            assert [v for v in wanted if v not in found] == [], (name, parameter.code)
            assert [v for v in found if v not in wanted] == [], (name, parameter.code)
    assert compared > 10_000
