"""The US Core packages, where the test data is there."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fhir_server.model.codec import decode

Json = dict[str, Any]
ROOT = Path(__file__).parents[1]
DEFINITIONS = frozenset({"StructureDefinition", "ValueSet", "CodeSystem"})


class Package:
    """The definitions of one package, and its examples by the name of their file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.definitions: list[Json] = []
        self.examples: dict[str, Json] = {}
        for folder, name, resource in _resources(path):
            if folder == "example":
                self.examples[name.removesuffix(".json")] = resource
            else:
                self.definitions.append(resource)


def _resources(path: Path) -> Iterator[tuple[str, str, Json]]:
    with tarfile.open(path) as tar:
        for member in tar:
            parts = member.name.split("/")
            is_definition = parts[-2:-1] == ["package"] and parts[-1].partition("-")[0] in DEFINITIONS
            if parts[-1].endswith(".json") and (is_definition or parts[-2:-1] == ["example"]):
                source = tar.extractfile(member)
                assert source is not None
                resource = decode(source.read())
                if isinstance(resource, dict) and "resourceType" in resource:
                    yield parts[-2], parts[-1], resource


@pytest.fixture(scope="session")
def us_core() -> Callable[[str], Package]:
    """Reads a US Core package by its version; skips the test where there is none."""
    folders = [Path(name) for name in [os.environ.get("HEALTHSPHERE_TEST_DATA", "")] if name]
    folders.append(ROOT.parent / "shared" / "data")

    @cache
    def package(version: str) -> Package:
        for folder in folders:
            path = folder / "fhir-packages" / f"hl7.fhir.us.core-{version}.tgz"
            if path.is_file():
                return Package(path)
        pytest.skip("the US Core packages are not there")

    return package
