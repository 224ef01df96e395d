"""The house keeps its shape: layers, module sizes, one user of the driver, no missing package markers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]
PACKAGES = [
    name for name in ("fhir_server", "profiles", "smart_auth", "resources", "integrations") if (ROOT / name).is_dir()
]
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_MODULE = 400
DRIVER = {"pymongo", "bson", "gridfs"}
DRIVER_USERS = ("fhir_server/storage/", "smart_auth/")


def imported_by(path: Path) -> set[str]:
    """The top-level packages that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_every_import_contract_is_kept(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    # It would switch off all loggers that there are, and later tests of this process would find nothing in the log.
    monkeypatch.setattr("logging.config.dictConfig", lambda _: None)
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == 0, capfd.readouterr().out


def test_only_the_storage_layer_imports_the_database_driver() -> None:
    users = {str(path.relative_to(ROOT)) for path in MODULES if imported_by(path) & DRIVER}
    assert {path for path in users if not path.startswith(DRIVER_USERS)} == set()


def test_no_module_is_so_long_that_nobody_reads_it() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {path: lines for path, lines in lengths.items() if lines >= LONGEST_MODULE} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(p.relative_to(ROOT))
        for p in MODULES
        if p.stat().st_size and not ast.get_docstring(ast.parse(p.read_text("utf-8")))
    ]
    assert silent == []


def test_every_folder_with_modules_is_a_package() -> None:
    assert {
        str(path.parent.relative_to(ROOT)) for path in MODULES if not (path.parent / "__init__.py").exists()
    } == set()


def test_no_module_has_a_name_that_tells_nothing() -> None:
    empty_names = {"utils", "util", "helpers", "helper", "manager", "service", "common", "misc"}
    assert [str(path.relative_to(ROOT)) for path in MODULES if path.stem in empty_names] == []
