"""Finds a mongod to run, and says in plain words why one does not run."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import signal
import sys
from pathlib import Path

from fhir_server.storage.setup import SetupError

# The Debian 12 and Ubuntu 22.04 packages of the libraries that mongod is linked to.
DEBIAN_PACKAGES = {
    "libcrypto.so.3": "libssl3",
    "libcurl.so.4": "libcurl4",
    "libgcc_s.so.1": "libgcc-s1",
    "liblzma.so.5": "liblzma5",
    "libssl.so.3": "libssl3",
}

INSTEAD = "or set MONGODB_URI to a MongoDB replica set"


def find_mongod() -> Path:
    """The mongod of the installed package, else the one on the PATH.

    Raises:
        SetupError: there is none.
    """
    spec = importlib.util.find_spec("fiftyone")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "db" / "bin" / ("mongod.exe" if sys.platform == "win32" else "mongod")
        if binary.is_file():
            return binary
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path)
    raise SetupError(
        f"No embedded MongoDB for this platform ({platform.system()} {platform.machine()}): "
        f"install MongoDB 5 or later so that `mongod` is on the PATH, {INSTEAD}."
    )


def why_it_failed(returncode: int, output: str, log_tail: str) -> str:
    """One line for a mongod that ended while starting.

    Args:
        returncode: as `subprocess` tells it, negative for a signal.
        output: what it wrote to its standard output and error (the loader's messages come there).
        log_tail: the end of its log.
    """
    if missing := re.search(r"shared libraries: (\S+?): cannot open shared object", output):
        library = missing.group(1)
        package = DEBIAN_PACKAGES.get(library)
        remedy = f"run `sudo apt-get install {package}`" if package else "install the package that has it"
        return f"The embedded MongoDB needs the system library {library}, which is missing: {remedy}, {INSTEAD}."
    if too_old := re.search(r"version [`']((?:GLIBC|GLIBCXX|OPENSSL)\S*?)' not found", output):
        return f"The embedded MongoDB does not run on this system, it needs {too_old.group(1)}: {INSTEAD[3:]}."
    if "Exec format error" in output or "cannot execute" in output:
        machine = platform.machine()
        return f"The embedded MongoDB is not built for this processor ({machine}): install a `mongod`, {INSTEAD}."
    if returncode == -signal.SIGILL:
        return f"The embedded MongoDB needs a processor with AVX instructions, and this one has none: {INSTEAD[3:]}."
    if returncode == -signal.SIGKILL:
        return (
            "The embedded MongoDB was killed while it started, most likely for lack of memory: "
            "free some, or lower HEALTHSPHERE_MONGODB_CACHE_MB."
        )
    if "No space left on device" in log_tail:
        return "The disk of the data folder is full: free some space there, or choose another folder with --data-dir."
    if "featureCompatibilityVersion" in log_tail and "upgrade" in log_tail.lower():
        return (
            "The data folder was written by another MongoDB version: "
            "use the version that wrote it, or load a backup into a new --data-dir."
        )
    return f"The embedded MongoDB stopped while it started (exit code {returncode})"
