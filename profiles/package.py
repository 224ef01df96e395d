"""FHIR packages: a gzipped tar file with a manifest (`package/package.json`) and definitions beside it.

What lies in other folders (examples, XML, OpenAPI) is passed over. A package is read whole or refused.

Spec: https://hl7.org/fhir/R4/packages.html, https://confluence.hl7.org/display/FHIR/NPM+Package+Specification
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from fhir_server.model import codec
from fhir_server.model.errors import FhirError

Json = dict[str, Any]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,127}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+\-]{0,63}")

#: The definitions of R4 itself, which every package needs and this server has built in.
CORE = "hl7.fhir.r4.core"

#: A small file may unpack to anything; no package is larger than this.
MAX_UNPACKED = 2**30
MAX_FILES = 50_000

_FOLDER = "package"
_NO_DEFINITIONS = frozenset({"package.json", ".index.json"})


class PackageError(Exception):
    """A package that cannot be used; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One conformance resource of a package: the file it came in, and its content."""

    file: str
    content: Json

    @property
    def type(self) -> str:
        return str(self.content["resourceType"])

    @property
    def url(self) -> str:
        return str(self.content["url"])

    @property
    def version(self) -> str:
        return str(self.content.get("version") or "")


@dataclass(frozen=True, slots=True)
class Package:
    """What a package says of itself, and the definitions in it: one of each type, URL and version."""

    name: str
    version: str
    title: str
    dependencies: dict[str, str]
    definitions: tuple[Definition, ...]

    @property
    def id(self) -> str:
        return f"{self.name}#{self.version}"


def package_of(raw: bytes) -> Package:
    """Read a package from its file.

    Raises:
        PackageError: it is no package, is broken, or is not for FHIR R4.
    """
    return package_from(_files(raw))


def package_from(files: Mapping[str, bytes]) -> Package:
    """Read a package from the files of its folder `package`.

    Raises:
        PackageError: as `package_of`.
    """
    manifest = files.get("package.json")
    if manifest is None:
        raise PackageError("It has no package/package.json: it is no FHIR package.")
    about = _decoded("package.json", manifest)
    name, version = about.get("name"), about.get("version")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise PackageError(f"Its package.json has the name {str(name)[:80]!r}, which is none.")
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise PackageError(f"Its package.json has the version {str(version)[:80]!r}, which is none.")
    _require_r4(about)
    dependencies = about.get("dependencies") or {}
    if not isinstance(dependencies, dict) or not all(isinstance(v, str) for v in dependencies.values()):
        raise PackageError("Its package.json has dependencies that are no table of names and versions.")
    definitions = tuple(_definitions(files))
    if not definitions:
        raise PackageError("It has no definitions: nothing in its folder `package` has a canonical URL.")
    return Package(name, version, str(about.get("title") or name), dependencies, definitions)


def _files(raw: bytes) -> dict[str, bytes]:
    """The JSON files of the folder `package` itself."""
    found: dict[str, bytes] = {}
    total = count = 0
    try:
        with tarfile.open(fileobj=BytesIO(raw), mode="r|gz") as tar:
            for member in tar:
                total, count = total + member.size, count + 1
                if total > MAX_UNPACKED or count > MAX_FILES:
                    raise PackageError("It unpacks to more than any package has.")
                parts = member.name.removeprefix("./").split("/")
                if not member.isfile() or len(parts) != 2 or parts[0] != _FOLDER or not parts[1].endswith(".json"):
                    continue
                source = tar.extractfile(member)
                assert source is not None, "it is a file"
                found[parts[1]] = source.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise PackageError(f"It is no gzipped tar file, or not a whole one: {error}.") from None
    return found


def _definitions(files: Mapping[str, bytes]) -> Iterator[Definition]:
    known: set[tuple[str, str, str]] = set()
    for file, raw in sorted(files.items()):
        if file in _NO_DEFINITIONS:
            continue
        content = _decoded(file, raw)
        if not isinstance(content.get("resourceType"), str) or not isinstance(content.get("url"), str):
            continue
        definition = Definition(file, content)
        key = definition.type, definition.url, definition.version
        if key not in known:
            known.add(key)
            yield definition


def _decoded(file: str, raw: bytes) -> Json:
    try:
        content = codec.decode(raw)
    except FhirError as error:
        raise PackageError(f"Its file {_FOLDER}/{file} is no JSON: {error.issues[0].diagnostics}") from None
    if not isinstance(content, dict):
        raise PackageError(f"Its file {_FOLDER}/{file} is no JSON object.")
    return content


def _require_r4(about: Json) -> None:
    """Definitions of other versions of FHIR mean other things.

    Raises:
        PackageError: it is for other versions only.
    """
    told = about.get("fhirVersions") or about.get("fhir-version-list") or []
    versions = [str(version) for version in (told if isinstance(told, list) else [told])]
    if versions and not any(version.startswith("4.0") for version in versions):
        raise PackageError(f"It is for FHIR {', '.join(versions)[:80]}; this server is of FHIR R4 (4.0.1).")
