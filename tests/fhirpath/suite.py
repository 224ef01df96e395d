"""The official FHIRPath suite for R4 as Python objects, and the judgement of one test.

Spec: https://github.com/FHIR/fhir-test-cases
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from lxml import etree

from fhir_server.fhirpath.expression import compile_expression
from fhir_server.fhirpath.functions.conversion import text_of
from fhir_server.fhirpath.items import Item
from fhir_server.model.codec import decode
from fhir_server.model.errors import InvalidError
from fhir_server.search.ucum import canonical
from profiles.registry import registry
from profiles.terminology import terminology
from tests.fhirpath.xml_examples import resource_from_xml


@dataclass(frozen=True)
class Case:
    """One `<test>`; `outputs` are (type, text) pairs."""

    key: str
    expression: str
    input_file: str | None
    invalid: str | None
    outputs: tuple[tuple[str | None, str], ...]
    predicate: bool
    check_order: bool
    strict: bool


def cases_of(path: Path) -> list[Case]:
    """Every test of the suite; names that stand twice get a number."""
    seen: dict[str, int] = {}
    cases = []
    root = etree.parse(path, etree.XMLParser(remove_comments=True)).getroot()
    for group in root.iter("group"):
        for test in group.iter("test"):
            name = f"{group.get('name')}/{test.get('name')}"
            seen[name] = seen.get(name, 0) + 1
            cases.append(_case(test, name if seen[name] == 1 else f"{name}#{seen[name]}"))
    return cases


def _case(test: Any, key: str) -> Case:
    expression = test.find("expression")
    return Case(
        key=key,
        expression=expression.text or "",
        input_file=test.get("inputfile"),
        invalid=expression.get("invalid"),
        outputs=tuple((o.get("type"), o.text or "") for o in test.findall("output")),
        predicate=test.get("predicate") == "true",
        check_order=test.get("checkOrderedFunctions") == "true",
        strict=test.get("mode") == "strict",
    )


@cache
def example(folder: Path, name: str) -> dict[str, Any]:
    """A resource of the suite."""
    found = next((p for p in (folder / name, folder / "examples" / name) if p.exists()), None)
    assert found is not None, name
    if found.suffix == ".json":
        return decode(found.read_bytes())
    return resource_from_xml(found, registry())


def verdict(case: Case, folder: Path) -> str | None:
    """None for a test that passes, otherwise what went wrong."""
    node = example(folder, case.input_file) if case.input_file else {"resourceType": "Basic"}
    try:
        expression = compile_expression(
            case.expression,
            registry=registry(),
            root_type=node["resourceType"],
            single_as=True,
            check_order=case.check_order,
        )
        found = expression.evaluate(node, units=canonical, terminology=terminology())
    except InvalidError as error:
        return None if case.invalid else f"failed: {error}"
    if case.invalid:
        return f"was to fail ({case.invalid}), gave {found}"
    if case.predicate:
        return _predicate(case, found)
    if len(found) != len(case.outputs):
        return f"expected {case.outputs}, found {found}"
    for item, (type_name, text) in zip(found, case.outputs, strict=True):
        if not _is(item, type_name, text):
            return f"expected {case.outputs}, found {found}"
    return None


def _predicate(case: Case, found: list[Item]) -> str | None:
    truth = bool(found) if not (found and found[0].value is False) else False
    return None if case.outputs == (("boolean", str(truth).lower()),) else f"found {found}"


def _is(item: Item, type_name: str | None, text: str) -> bool:
    if type_name is not None and item.kind.name.lower() != type_name.lower():
        return False
    if item.kind.system in ("Integer", "Decimal"):
        # Digits count: 1.58650000 tells the precision. The sign of zero does not.
        return _digits(text_of(item) or "") == _digits(text)
    if item.kind.system in ("Date", "DateTime", "Time"):
        return item.value == re.sub(r"^@T?", "", text)
    if item.kind.system == "Boolean":
        return str(item.value).lower() == text
    return text_of(item) == text


def _digits(text: str) -> str:
    return text.removeprefix("-") if not Decimal(text) else text
