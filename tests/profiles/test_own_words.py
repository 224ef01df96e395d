"""What the code calls things by is defined: each extension, each code system, and the codes themselves.

Spec: https://hl7.org/fhir/R4/extensibility.html, https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import fhir_server
import integrations
import profiles
import resources
import smart_auth
from fhir_server.audit.codes import HAPPENING, KINDS
from profiles.registry import STRUCTURES, own_definitions
from profiles.terminology import terminology
from resources.dispensing import codes, papers, states, stock
from resources.document import words as document_words
from resources.erasure import words as erasure_words
from resources.healthlog import measures
from resources.notification import preferences
from resources.notification import words as notification_words
from resources.scheduling import extensions as scheduling
from resources.ticket import words as ticket_words

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
PREFIX = "urn:healthsphere:"

#: What a name of this server's own is made of, wherever it stands in a text.
NAME = re.compile(r"urn:healthsphere:[A-Za-z][A-Za-z0-9:-]*[A-Za-z0-9]")

#: Systems of identifiers, which have no codes.
IDENTIFIERS = frozenset({"account", "alert-episode", "prescription-issue", "sha256"})

#: Names of other things: the canonicals of operations, search parameters, value sets and Questionnaires, what tokens
#: say of a sign-in, and the policies by which an access was allowed.
OTHERS = ("OperationDefinition", "SearchParameter", "ValueSet", "Questionnaire", "acr", "policy")

#: Systems and extensions without a name behind them: the beginnings of others.
BEGINNINGS = frozenset({f"{PREFIX}StructureDefinition", f"{PREFIX}extension", f"{PREFIX}CodeSystem"})


def modules() -> Iterator[ModuleType]:
    for package in (fhir_server, resources, integrations, smart_auth, profiles):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


@cache
def names_in_code() -> set[str]:
    """The names in what modules hold (they may be put together there), and in all texts of the code and its data."""
    found: set[str] = set()
    for module in modules():
        held = [value for value in vars(module).values() if type(value) is str]
        tree = ast.parse(Path(str(module.__file__)).read_text())
        texts = held + [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        texts += [made(node, module) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        found |= {name for text in texts if isinstance(text, str) for name in NAME.findall(text)}
    for folder in ("resources", "integrations", "fhir_server", "smart_auth"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".toml", ".json", ".csv"):
                found |= set(NAME.findall(path.read_text()))
    return {name.rstrip(":") for name in found}


def made(text: ast.JoinedStr, module: ModuleType) -> str:
    """A text that is put together of constants and of what the module holds; empty where of other things."""
    parts: list[str] = []
    for part in text.values:
        value = part.value if isinstance(part, ast.FormattedValue) else part
        known = value.value if isinstance(value, ast.Constant) else None
        known = getattr(module, value.id, None) if isinstance(value, ast.Name) else known
        if not isinstance(known, str):
            return ""
        parts.append(known)
    return "".join(parts)


def kind_of(name: str) -> str:
    return name.removeprefix(PREFIX).partition(":")[0]


def test_each_extension_that_the_code_names_is_defined_and_no_other() -> None:
    named = {name for name in names_in_code() if kind_of(name) in ("StructureDefinition", "extension")} - BEGINNINGS
    defined = {one["url"] for one in own_definitions(STRUCTURES) if one["type"] == "Extension"}
    assert named == defined, "add profiles/definitions/StructureDefinition-….json, or remove what nothing uses"


def test_each_system_that_the_code_names_is_a_code_system_or_one_of_identifiers() -> None:
    others = {*OTHERS, "StructureDefinition", "extension"}
    named = {name for name in names_in_code() if kind_of(name) not in others} - BEGINNINGS
    defined = {one["url"] for one in own_definitions("CodeSystem")} | {f"{PREFIX}{name}" for name in IDENTIFIERS}
    assert named <= defined, "add profiles/definitions/CodeSystem-….json"
    # The ways of notifications are codes whose system nobody writes.
    assert defined - named == {f"{PREFIX}notification-channel"}


def test_each_extension_says_where_it_stands() -> None:
    for one in own_definitions(STRUCTURES):
        if one["type"] == "Extension":
            assert one["context"], one["id"]
            elements = {row["id"]: row for row in one["differential"]["element"]}
            assert elements["Extension.url"]["fixedUri"] == one["url"]


def test_each_code_system_with_codes_has_a_value_set_of_all_of_them() -> None:
    for one in own_definitions("CodeSystem"):
        if one["content"] == "complete":
            assert len(one["concept"]) == one["count"]
            expansion = terminology().expansion(one["valueSet"])
            assert expansion == {(one["url"], concept["code"]) for concept in one["concept"]}


def displays_of(url: str) -> dict[str, str]:
    (system,) = (one for one in own_definitions("CodeSystem") if one["url"] == url)
    return {concept["code"]: concept["display"] for concept in system["concept"]}


def test_the_codes_are_those_of_the_code() -> None:
    assert displays_of(codes.STATES) == {code: words for code, (_, words) in states.MEANS.items()}
    assert displays_of(codes.MATTERS) == papers.WORDS
    assert displays_of(codes.SYSTEM).keys() == {codes.SIGNED, codes.FULFILMENT, codes.WITHDRAWAL}
    assert displays_of(stock.STOCK) == stock.ANSWERS
    assert displays_of(document_words.SCAN) == document_words.DISPLAYS
    assert displays_of(f"{PREFIX}notification").keys() == set(notification_words.KINDS)
    assert displays_of(f"{PREFIX}notification-channel").keys() == set(preferences.CHANNELS)
    assert displays_of(measures.KINDS).keys() == set(get_args(measures.Kind))
    assert displays_of(scheduling.TAG_SYSTEM).keys() == {scheduling.FOLLOWS}
    assert displays_of(f"{PREFIX}basic").keys() == {preferences.CODE["code"]}


def test_the_kinds_of_tasks_are_those_of_the_code() -> None:
    tasks = displays_of(f"{PREFIX}task").keys()
    assert {ticket_words.TICKET, ticket_words.PAGE, erasure_words.CODE} <= tasks
    assert {document_words.REVIEW, document_words.QUARANTINED, document_words.NOTICE} <= tasks
    assert {"read", "review-message", "review-broken-glass"} <= tasks


def test_the_happenings_of_the_audit_trail_are_among_its_codes() -> None:
    told = {row["code"] for kind in KINDS.values() for row in kind.subtypes if row["system"] == HAPPENING}
    assert told == displays_of(HAPPENING).keys()


def test_the_document_lists_each_definition_and_no_other() -> None:
    text = (ROOT / "docs" / "profiles.md").read_text("utf-8")
    linked = set(re.findall(r"\(\.\./profiles/definitions/([A-Za-z-]+-[A-Za-z0-9.-]+)\.json\)", text))
    kinds = (STRUCTURES, "CodeSystem")
    assert linked == {f"{kind}-{one['id']}" for kind in kinds for one in own_definitions(kind)}
    for one in own_definitions("CodeSystem"):
        if one["content"] == "complete":
            file = f"../profiles/definitions/CodeSystem-{one['id']}.json"
            assert f"{one['url'].removeprefix(PREFIX)}`]({file}) | {one['count']} |" in text
