"""Where packages come from: folders on this machine, and a package registry where a setting names one.

Spec: https://confluence.hl7.org/display/FHIR/NPM+Package+Specification, https://registry.fhir.org/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from profiles.package import NAME, VERSION, Package, PackageError, package_from, package_of
from profiles.versions import newest_of

#: Larger files are no packages.
_MAX_BYTES = 512 * 2**20
_TIMEOUT_S = 60


class Sources:
    """Looks for packages in folders first, in the order they are given, then in the registry (empty: in none)."""

    def __init__(
        self, folders: Sequence[Path], registry: str = "", transport: httpx.BaseTransport | None = None
    ) -> None:
        self._folders = folders
        self._registry = registry.rstrip("/")
        self._transport = transport

    def find(self, name: str, wanted: str) -> Package | None:
        """The newest package of a name that a wish (`6.1.0`, `5.0.x`, `latest`) allows; None where there is none.

        Raises:
            PackageError: it is there and broken, or the registry does not answer.
        """
        if not NAME.fullmatch(name):
            raise PackageError(f"{name[:80]!r} is no name of a package.")
        for folder in self._folders:
            places = dict(_places(folder, name))
            if (version := newest_of(places, wanted)) is not None:
                return _required(_read(places[version]), name, version)
        return self._from_registry(name, wanted) if self._registry else None

    def _from_registry(self, name: str, wanted: str) -> Package | None:
        try:
            with httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True, transport=self._transport) as client:
                listed = client.get(f"{self._registry}/{name}")
                if listed.status_code == httpx.codes.NOT_FOUND:
                    return None
                listed.raise_for_status()
                version = newest_of([v for v in listed.json().get("versions", {}) if VERSION.fullmatch(v)], wanted)
                if version is None:
                    return None
                raw = _fetched(client, f"{self._registry}/{name}/{version}")
        except (httpx.HTTPError, ValueError, AttributeError) as error:
            raise PackageError(f"The package registry {self._registry} does not give {name}: {error}.") from None
        return _required(package_of(raw), name, version)


def _fetched(client: httpx.Client, address: str) -> bytes:
    """The bytes of a file, no more than any package has."""
    parts: list[bytes] = []
    size = 0
    with client.stream("GET", address) as answer:
        answer.raise_for_status()
        for part in answer.iter_bytes():
            size += len(part)
            if size > _MAX_BYTES:
                raise PackageError(f"{address} is larger than any package.")
            parts.append(part)
    return b"".join(parts)


def _places(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """The versions of a package in a folder: `name-1.0.0.tgz`, or `name#1.0.0` as the caches of FHIR tools have it."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        for sign in ("-", "#"):
            rest = path.name.removeprefix(f"{name}{sign}")
            if rest == path.name:
                continue
            if path.is_file() and rest.endswith(".tgz") and VERSION.fullmatch(rest.removesuffix(".tgz")):
                yield rest.removesuffix(".tgz"), path
            elif path.is_dir() and (path / "package" / "package.json").is_file() and VERSION.fullmatch(rest):
                yield rest, path


def _read(path: Path) -> Package:
    if path.is_dir():
        return package_from({file.name: file.read_bytes() for file in sorted((path / "package").glob("*.json"))})
    return read_file(path)


def read_file(path: Path) -> Package:
    """Read a package's file.

    Raises:
        PackageError: there is none, or it is broken.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PackageError(f"{path} is larger than any package.")
        raw = path.read_bytes()
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}.") from None
    return package_of(raw)


def _required(package: Package, name: str, version: str) -> Package:
    if (package.name, package.version) != (name, version):
        raise PackageError(f"What is filed as {name}#{version} is {package.id}.")
    return package
