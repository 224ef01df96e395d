"""The other validator, asked about many files in one Java process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.oracle.fetch import UnavailableError, home_in, jar_in

ASK = Path(__file__).parent / "Ask.java"

#: That validator takes no URN for a canonical but those of UUIDs and OIDs: ours are given other names, everywhere.
OWN, RENAMED = b"urn:healthsphere:", b"http://healthsphere.example/"


def verdicts(
    folder: Path, resources: Mapping[str, bytes], definitions: Iterable[tuple[str, bytes]]
) -> dict[str, tuple[str, ...]]:
    """By the names of resources, the errors that are told of each.

    What it stumbles over is told as the one error that it does, which begins with `!`.

    Raises:
        UnavailableError: there is no Java, or the validator cannot be fetched or does not run.
    """
    jar, home = jar_in(folder), home_in(folder)
    asked, guide, answer = folder / "asked", folder / "guide", folder / "answer.json"
    _fill(asked, ((f"{name}.json", raw) for name, raw in resources.items()))
    _fill(guide, definitions)
    answer.unlink(missing_ok=True)
    command = ["java", "-Xmx3g", f"-Duser.home={home}", "-cp", str(jar), str(ASK), str(asked), str(guide), str(answer)]
    try:
        done = subprocess.run(command, check=False, timeout=3600, capture_output=True, text=True)
    except FileNotFoundError:
        raise UnavailableError("java is not installed; a JDK of version 11 or later is needed.") from None
    (folder / "log.txt").write_text(done.stdout + done.stderr)
    if not answer.exists():
        raise UnavailableError(f"The validator gave no answer; see {folder / 'log.txt'}: {done.stderr.strip()[-400:]}")
    found: dict[str, list[str]] = json.loads(answer.read_text())
    return {name: tuple(dict.fromkeys(errors)) for name, errors in found.items()}


def _fill(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, raw in files:
        (folder / name).write_bytes(raw.replace(OWN, RENAMED))
