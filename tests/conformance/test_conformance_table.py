"""`docs/conformance.md` is complete and true: a row for everything that is registered, and a test behind every row.

The rows of each section are compared with where the server itself reads what it can: the table of interactions, the
operations, the modifiers, prefixes, formats, headers and limits. What a row says to be proved by must be a test that
exists; what it shows of that test must stand there. A row without proof says `not yet`, and nothing that is registered
may say so.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from fhir_server.app import EXPOSED_HEADERS
from fhir_server.http import negotiate
from fhir_server.interactions.answers import Return
from fhir_server.interactions.capabilities import MODES, capability_statement
from fhir_server.interactions.table import TABLE
from fhir_server.interactions.validate import MODES as VALIDATE_MODES
from fhir_server.patching import fhirpath_patch, json_patch, xml_patch
from fhir_server.patching.formats import PATCH_FORMATS
from fhir_server.repository.search import COMMON
from fhir_server.search.chains import HAS, LIST
from fhir_server.search.controls import NAMES, SILENT, UNSORTABLE
from fhir_server.search.filter.build import FILTER, MEANINGS
from fhir_server.search.include import INCLUDES
from fhir_server.search.named import QUERIES
from fhir_server.search.parameters import MODIFIERS, table_of
from fhir_server.search.query import Contained, ContainedType, Prefix, Summary, Total
from fhir_server.search.words import CONTENT, TEXT
from fhir_server.settings import Settings, variable_of
from profiles.registry import registry
from resources.parts import OPERATIONS
from tests.docs.test_docs import keys_in_code

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance.md"
PENDING = "not yet"

HEADING = re.compile(r"^## (.+)$")
CODE = re.compile(r"`([^`]+)`")
PROOF = re.compile(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)((?:[,:; ]*`[^`]+`)*)")

Key = tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """A test, and what is shown of it: pieces of its text."""

    test: str
    path: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One row: what it is about (the code in its first cells), its proofs, and whether it says `not yet`."""

    section: str
    key: Key
    proofs: tuple[Proof, ...]
    pending: bool
    line: int

    def __str__(self) -> str:
        return f"{self.section}: {' '.join(self.key)} (line {self.line})"


@cache
def rows() -> tuple[Row, ...]:
    return tuple(_rows(PAGE.read_text("utf-8").splitlines()))


def _rows(lines: Iterable[str]) -> Iterator[Row]:
    section = ""
    for number, line in enumerate(lines, 1):
        if heading := HEADING.match(line):
            section = heading[1]
        if not line.startswith("| `"):
            continue
        *about, proof, _ = (cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip("|")))
        found = PROOF.findall(proof)
        yield Row(
            section,
            tuple(code for cell in about for code in CODE.findall(cell)),
            tuple(Proof(test, path, tuple(CODE.findall(shown))) for test, path, shown in found),
            proof == PENDING,
            number,
        )


# --- what is registered -----------------------------------------------------------------------------------------------


def sources(package: str = "fhir_server") -> Iterator[ast.Module]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield ast.parse(path.read_text("utf-8"))


def interactions() -> Iterator[Key]:
    for row in TABLE:
        yield (row.method, f"/{row.shape}", row.code or row.handle.__name__)


def entries() -> Iterator[Key]:
    """What an entry of a Bundle can be: whatever changes a type or a resource, and a read."""
    for kind in ("batch", "transaction"):
        yield (kind, "GET")
        for row in TABLE:
            if row.method != "GET" and row.shape in ("{type}", "{type}/{id}"):
                yield (kind, row.method, f"/{row.shape}")


def claims() -> Iterator[Key]:
    """The elements of the statement, by their paths."""
    statement = capability_statement(registry(), TABLE, OPERATIONS, "http://test/fhir", "full")
    (rest,) = statement.pop("rest")
    yield from ((name,) for name in statement)
    yield from ((f"rest.{name}",) for name in rest if name != "resource")
    yield from ((f"rest.resource.{name}",) for name in rest["resource"][0])


def history_parameters() -> Iterator[Key]:
    """The names that `query_of` of the history looks for."""
    tree = ast.parse((ROOT / "fhir_server" / "interactions" / "history.py").read_text("utf-8"))
    for node in ast.walk(tree):
        match node:
            case ast.MatchValue(value=ast.Constant(value=str(name))) if name != "_cursor":
                yield (name,)


def modifiers() -> Iterator[Key]:
    """Of every parameter of every type; the type that a reference leads to is `[type]`."""
    for name in registry().resource_types:
        table = table_of(name, registry())
        for parameter in table.parameters.values():
            for modifier in table.modifiers_of(parameter):
                yield (parameter.type, ":[type]" if registry().is_resource_type(modifier) else f":{modifier}")


def common_parameters() -> Iterator[Key]:
    yield from ((name,) for name in table_of(COMMON, registry()).parameters)
    yield from ((name,) for name in (LIST, HAS, FILTER, TEXT, CONTENT, "_type", "_query"))
    for name in registry().resource_types:
        yield from ((p.code,) for p in table_of(name, registry()).parameters.values() if p.type == "special")


def result_parameters() -> Iterator[Key]:
    yield from ((name,) for name in NAMES - {"_type", "_query", "_cursor"})
    yield from ((name,) for name in (*SILENT, *INCLUDES))
    yield from (("_total", value) for value in get_args(Total))
    yield from (("_summary", value) for value in get_args(Summary))
    yield from (("_contained", value) for value in get_args(Contained))
    yield from (("_containedType", value) for value in get_args(ContainedType))


def filter_operators() -> Iterator[Key]:
    for kind, operators in MEANINGS.items():
        yield from ((kind, operator) for operator in (*operators, "pr"))


def formats() -> Iterator[Key]:
    known = negotiate.JSON_TYPES | negotiate.XML_TYPES | negotiate.NDJSON_TYPES | set(negotiate.FORMAT_CODES)
    yield from ((name,) for name in (*known, negotiate.FORM, negotiate.GRAPHQL))


def patches() -> Iterator[Key]:
    yield from ((name,) for name in PATCH_FORMATS)
    for name, module in (("JSON Patch", json_patch), ("FHIRPath Patch", fhirpath_patch), ("XML Patch", xml_patch)):
        yield from ((name, operation) for operation in get_args(module.Name))


def request_headers() -> Iterator[Key]:
    """What any code asks of the headers of a request, which are in small letters, by a text or a constant's name."""
    for tree in sources():
        named = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            match node:
                case (
                    ast.Call(
                        func=ast.Attribute(
                            value=ast.Name(id="headers") | ast.Attribute(attr="headers" | "_headers"), attr="get"
                        ),
                        args=[asked, *_],
                    )
                    | ast.Subscript(value=ast.Attribute(attr="headers"), slice=asked)
                    | ast.Compare(left=asked, ops=[ast.In()], comparators=[ast.Attribute(attr="headers")])
                ):
                    name = asked.value if isinstance(asked, ast.Constant) else named.get(getattr(asked, "id", ""))
                    if isinstance(name, str) and name == name.lower():
                        yield (name,)


def preferences() -> Iterator[Key]:
    """What any code looks for in the header `Prefer`, and the values of `return`."""
    yield from (("return", value) for value in get_args(Return))
    yield from (("handling", value) for value in ("strict", "lenient"))
    for tree in sources():
        for node in ast.walk(tree):
            match node:
                case ast.Compare(
                    left=ast.Constant(value=str(name)), comparators=[ast.Call(func=ast.Name(id="preferences"))]
                ):
                    yield (name,)
                case ast.Call(
                    func=ast.Attribute(value=ast.Call(func=ast.Name(id="preferences")), attr="get"),
                    args=[ast.Constant(value=str(name)), *_],
                ) if name not in ("return", "handling"):
                    yield (name,)


def answer_headers() -> Iterator[Key]:
    yield from ((name,) for name in EXPOSED_HEADERS)


def operations() -> Iterator[Key]:
    for operation in OPERATIONS:
        levels = {"system": operation.system, "type": operation.type, "instance": operation.instance}
        yield from (
            (f"${operation.code}", *(operation.types or ["any"]), level) for level, there in levels.items() if there
        )
    yield from (("$validate", "mode", mode) for mode in VALIDATE_MODES)


def named_queries() -> Iterator[Key]:
    for query in QUERIES:
        yield (query.type, f"_query={query.code}")
        if query.functional_list:
            yield (query.type, f"_list={query.functional_list}")


def limits() -> Iterator[Key]:
    for name in Settings.model_fields:
        if name.startswith("max_") or name.endswith("_limit") or name in ("query_time_ms", "default_page_size"):
            yield (variable_of(name),)


def validation() -> Iterator[Key]:
    """The keys of what is wrong with a resource, or with what a profile asks of it."""
    yield from ((key,) for key in keys_in_code() if key.startswith(("HS-VAL-", "HS-PROFILE-", "HS-CONTENT-")))


SECTIONS: dict[str, Callable[[], Iterator[Key]]] = {
    "Interactions": interactions,
    "Entries of batches and transactions": entries,
    "What the CapabilityStatement says": claims,
    "Modes of the statement": lambda: ((mode,) for mode in MODES),
    "Parameters of history": history_parameters,
    "Types of search parameters": lambda: ((kind,) for kind in MODIFIERS),
    "Modifiers": modifiers,
    "Prefixes": lambda: ((kind, prefix) for kind in ("date", "number", "quantity") for prefix in get_args(Prefix)),
    "Parameters of all types": common_parameters,
    "Named queries": named_queries,
    "Operators of `_filter`": filter_operators,
    "Parameters that shape the answer": result_parameters,
    "Order": lambda: ((kind,) for kind in MODIFIERS if kind not in UNSORTABLE),
    "Compartments": lambda: ((name,) for name in registry().compartments),
    "Formats": formats,
    "Patches": patches,
    "Request headers": request_headers,
    "Preferences": preferences,
    "Answer headers": answer_headers,
    "Operations": operations,
    "Validation": validation,
    "Limits": limits,
}

#: Rows about what no registration lists: other forms of what is there.
BESIDE: dict[str, set[Key]] = {
    "Interactions": {("HEAD", "/{type}/{id}"), ("OPTIONS", "/{type}")},
    "What the CapabilityStatement says": {
        ("implementationGuide",),  # where a package is installed
        ("rest.resource.supportedProfile",),  # of types that have one
    },
    "Parameters of all types": {("reference.parameter",), ("reference:Type.parameter",)},
    "Operators of `_filter`": {("and",), ("or",), ("not",), ("a.b",), ("a[…].b",)},
    "Order": {("near",), ("_text",)},
    "Formats": {("text/turtle",), ("*/*",)},
    "Request headers": {("origin",)},
    "Answer headers": {("Allow",), ("Accept-Patch",), ("Content-Type",), ("Vary",), ("Cache-Control",)},
}


# --- the tests --------------------------------------------------------------------------------------------------------


def test_every_section_is_one_that_is_compared() -> None:
    assert {row.section for row in rows()} == SECTIONS.keys()


@pytest.mark.parametrize("section", SECTIONS)
def test_all_that_is_registered_has_a_row_with_a_proof_and_nothing_else_has(section: str) -> None:
    registered = set(SECTIONS[section]())
    proved = {row.key for row in rows() if row.section == section and not row.pending}
    assert sorted(registered - proved) == [], "registered, without a proof in docs/conformance.md"
    assert sorted(proved - registered - BESIDE.get(section, set())) == [], "in docs/conformance.md, not registered"


def test_no_row_stands_twice() -> None:
    seen: set[tuple[str, Key]] = set()
    for row in rows():
        assert row.key, str(row)
        assert (row.section, row.key) not in seen, str(row)
        seen.add((row.section, row.key))


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def text_of(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def test_every_row_names_tests_that_exist_and_shows_what_stands_in_them() -> None:
    for row in rows():
        assert row.pending or row.proofs, f"{row} names no test"
        for proof in row.proofs:
            assert (ROOT / proof.path).is_file(), f"{row}: there is no {proof.path}"
            assert proof.test in names_in(proof.path), f"{row}: {proof.path} has no {proof.test}"
            for piece in proof.shown:
                assert piece in text_of(proof.path), f"{row}: {proof.path} has no {piece!r}"


def test_a_missing_row_and_a_dead_link_would_be_found() -> None:
    """The page is read as it is meant to be."""
    dead = "| `x` | [`test_nothing`](../tests/conformance/test_conformance_table.py): `a\\|b` | |"
    (row,) = _rows(["## Formats", dead])
    assert (row.section, row.key, row.pending) == ("Formats", ("x",), False)
    assert row.proofs == (Proof("test_nothing", "tests/conformance/test_conformance_table.py", ("a|b",)),)
    assert "test_nothing" not in names_in(row.proofs[0].path)
    (pending,) = _rows(["| `x` | not yet | |"])
    assert pending.pending
    assert len(rows()) > 300
