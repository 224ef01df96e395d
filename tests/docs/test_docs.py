"""The documentation cannot drift from the code: links, commands, message keys, settings, metrics and diagrams."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fhir_server.cli import app
from fhir_server.cli.serve import OTHER_VARIABLES
from fhir_server.model import errors
from fhir_server.secret_files import secret_file_variables, variable_of
from fhir_server.settings import Settings, secret_settings
from resources.parts import OPERATIONS

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PACKAGES = ("fhir_server", "profiles", "smart_auth", "resources", "integrations")
SOURCES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
KEY = re.compile(r"HS-[A-Z0-9]+(?:-[A-Z0-9]+)*")
KEY_ROW = re.compile(r"^\| `(HS-[A-Z0-9-]+)` \| ([^|]+) \| (.+) \|$", re.MULTILINE)
CAPITALS = re.compile(r"[A-Z][A-Z0-9-]*")
DIAGRAMS = ("flowchart ", "sequenceDiagram", "stateDiagram-v2", "erDiagram")

by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def fences(page: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(page.read_text("utf-8")) if name == language]


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = FENCE.sub("", page.read_text("utf-8"))
    titles = (re.sub(r"[`*]", "", title).lower() for title in HEADING.findall(plain))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@by_name
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        if not linked.exists() or (anchor and anchor not in anchors_of(linked)):
            broken.append(target)
    assert broken == []


# --- commands -------------------------------------------------------------------------------------------------------


def commands_of(text: str) -> Iterator[list[str]]:
    """The commands of a shell block, each as its words; here-documents and comments are passed over."""
    text = re.sub(r"<<'?(\w+)'?(.*?)\n.*?^\1$", r"\2", text, flags=re.MULTILINE | re.DOTALL)
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&()")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("|;&()"):
                yield words
                words = []
            elif words or not re.fullmatch(r"\w+=.*", word):  # a variable for this command alone
                words.append(word)
        yield words


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@cache
def options() -> dict[str, set[str]]:
    """The options of each command of `healthsphere`; a command of a group is named `group command`."""
    return dict(options_below(typer.main.get_command(app), ""))


def options_below(group: Any, prefix: str) -> Iterator[tuple[str, set[str]]]:
    for name, command in group.commands.items():
        yield prefix + name, {"-h", "--help"} | {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        if hasattr(command, "commands"):
            yield from options_below(command, f"{prefix}{name} ")


@by_name
def test_shell_blocks_use_only_targets_commands_and_options_that_exist(page: Path) -> None:
    unknown = []
    for block in fences(page, "sh"):
        for words in commands_of(block):
            match words[1:] if words[:1] == ["sudo"] else words:
                case ["make", *rest]:
                    unknown += [w for w in rest if "=" not in w and w not in make_targets()]
                case [program, command, *rest] if Path(program).name == "healthsphere":
                    if command in ("-h", "--help"):
                        continue
                    if any(name.startswith(f"{command} ") for name in options()):
                        command = f"{command} {rest[0] if rest else ''}"
                    if command not in options():
                        unknown.append(command)
                        continue
                    given = [w.partition("=")[0] for w in rest if re.match(r"--?[a-z]", w)]
                    unknown += [w for w in given if w not in options()[command]]
    assert unknown == []


def test_the_test_command_of_the_readme_is_the_one_that_ci_runs() -> None:
    steps = set(re.findall(r"make --no-print-directory (\w+)", (ROOT / ".ci" / "run").read_text("utf-8")))
    assert {"check", "test"} <= steps
    assert any("make check test" in block for block in fences(ROOT / "README.md", "sh"))


# --- operations -----------------------------------------------------------------------------------------------------


def test_every_operation_is_shown_by_an_example() -> None:
    pages = [path for path in PAGES if path.name.startswith("operations-")]
    blocks = [body for page in pages for language in ("sh", "http") for body in fences(page, language)]
    called = {code for block in blocks for code in re.findall(r"/\$([a-z-]+)", block)}
    assert called == {operation.code for operation in OPERATIONS}


# --- message keys ---------------------------------------------------------------------------------------------------


def called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def composed_keys(tree: ast.Module) -> Iterator[str]:
    """Keys that a function of a module puts together (`f"HS-VAL-{name}"`), from the names that its callers give."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for maker, function in functions.items():
        for node in ast.walk(function):
            match node:
                case ast.JoinedStr(values=[ast.Constant(value=str(prefix)), ast.FormattedValue()]) if KEY.match(prefix):
                    makers = {maker} | {
                        name
                        for name, other in functions.items()
                        for call in ast.walk(other)
                        if isinstance(call, ast.Call) and called(call) == maker and isinstance(call.args[0], ast.Name)
                    }
                    for call in ast.walk(tree):
                        if isinstance(call, ast.Call) and called(call) in makers:
                            names = [a.value for a in call.args if isinstance(a, ast.Constant)]
                            yield from (prefix + n for n in names if isinstance(n, str) and CAPITALS.fullmatch(n))


@cache
def keys_in_code() -> dict[str, set[int]]:
    """Each message key, with the statuses of the errors that are raised with it where the code says so outright."""
    kinds = {name: kind.status for name, kind in vars(errors).items() if hasattr(kind, "status")}
    keys: dict[str, set[int]] = {}
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        for key in composed_keys(tree):
            keys.setdefault(key, set())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and KEY.fullmatch(node.value):
                keys.setdefault(node.value, set())
            if isinstance(node, ast.Call) and called(node) in kinds:
                for keyword in node.keywords:
                    if keyword.arg == "key" and isinstance(keyword.value, ast.Constant):
                        keys.setdefault(str(keyword.value.value), set()).add(kinds[called(node)])
    return keys


def documented_keys() -> dict[str, str]:
    """Those of FHIR are in `docs/api.md`, those of a behaviour on its own page."""
    pages = [ROOT / "docs" / "api.md", *sorted((ROOT / "docs").glob("operations-*.md"))]
    return {key: status for page in pages for key, status, _ in KEY_ROW.findall(page.read_text("utf-8"))}


def test_every_message_key_of_the_code_is_documented_and_no_other() -> None:
    in_code, documented = set(keys_in_code()), set(documented_keys())
    assert sorted(in_code - documented) == [], "in the code, not in the docs"
    assert sorted(documented - in_code) == [], "in the docs, not in the code"


def test_the_documented_statuses_of_message_keys_are_those_of_the_code() -> None:
    documented = documented_keys()
    wrong = {
        key: (documented[key], sorted(statuses))
        for key, statuses in keys_in_code().items()
        if key in documented and not all(str(status) in documented[key] for status in statuses)
    }
    assert wrong == {}


# --- settings, metrics, diagrams ------------------------------------------------------------------------------------


@by_name
def test_settings_that_a_page_names_exist(page: Path) -> None:
    known = {variable_of(name) for name in Settings.model_fields} | OTHER_VARIABLES
    known |= {variable for name in secret_settings() for variable in secret_file_variables(name)}
    assert set(re.findall(r"\bHEALTHSPHERE_[A-Z_]*[A-Z]\b", page.read_text("utf-8"))) <= known


def test_the_metrics_that_the_operations_page_names_are_those_of_the_code() -> None:
    named = set(re.findall(r"`(healthsphere_\w+)`", (ROOT / "docs" / "operations.md").read_text("utf-8")))
    sources = [text for path in SOURCES if "from prometheus_client import" in (text := path.read_text("utf-8"))]
    assert named == {name for source in sources for name in re.findall(r'"(healthsphere_\w+)"', source)}


@by_name
def test_diagrams_are_of_a_known_kind_and_not_empty(page: Path) -> None:
    for diagram in fences(page, "mermaid"):
        first, *rest = diagram.strip().splitlines()
        assert first.startswith(DIAGRAMS)
        assert len(rest) >= 2


def test_the_architecture_is_drawn() -> None:
    assert len(fences(ROOT / "docs" / "architecture.md", "mermaid")) >= 5


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "adr").glob("0*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    index = (ROOT / "docs" / "adr" / "README.md").read_text("utf-8")
    assert [name for name in names if f"]({name})" not in index] == []
