"""The real data that tests use, `../shared/data` beside the checkout or elsewhere: unpacked once for all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

BESIDE = Path(__file__).parents[2] / "shared" / "data"
ARCHIVES = {
    "synthea-blaze": "synthea-120-patients.tar.xz",
    "r4-examples": "r4-examples.tar.xz",
    "fhir-test-cases-r4": "fhir-test-cases-r4.tar.xz",
}


def unpacked() -> Path | None:
    """The folder with the data, unpacked once for all runs and processes; None when they are not there.

    HEALTHSPHERE_TEST_DATA may name a folder with the unpacked data or with the archives; else the archives are looked
    for in `../shared/data` beside the checkout.
    """
    source = Path(os.environ.get("HEALTHSPHERE_TEST_DATA") or BESIDE)
    if all((source / name).is_dir() for name in ARCHIVES):
        return source
    if not all((source / archive).is_file() for archive in ARCHIVES.values()):
        return None
    folder = Path(tempfile.gettempdir()) / f"healthsphere-test-data-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, archive in ARCHIVES.items():
            _unpack_once(source / archive, folder / name)
    return folder


def _unpack_once(archive: Path, target: Path) -> None:
    """Unpack `archive`, whose one top folder is named like `target`, unless that very archive was unpacked before."""
    known = archive.stat()
    stamp, mark = target.with_suffix(".stamp"), f"{known.st_size} {known.st_mtime_ns}"
    if target.is_dir() and stamp.exists() and stamp.read_text() == mark:
        return
    shutil.rmtree(target, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(target.parent, filter="data")
    stamp.write_text(mark)
