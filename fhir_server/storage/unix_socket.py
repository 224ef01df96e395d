"""Where the embedded mongod may put a Unix socket: the shortest way to it, for processes of the same user alone.

A command over it costs driver and database less than over loopback TCP. Not every folder can have one: the address of a
socket is short (108 bytes on Linux, 104 elsewhere), and some file systems have no sockets. Then TCP alone is used.

See `man 7 unix`
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: What fits everywhere, without the zero byte at its end.
LONGEST_ADDRESS = 103

#: mongod's own name for it, with the longest port.
NAME = "mongodb-{port}.sock"

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

#: Connection strings are taken apart at some characters, even where these are encoded.
_PLAIN = re.compile(r"[A-Za-z0-9/._ \-]+")


def socket_folder(data_dir: Path) -> Path | None:
    """A folder in which mongod can make a socket that nobody else can touch; None where there is none.

    It is the data folder, or, where that does not do, one of ours among the temporary files.
    """
    if not hasattr(socket, "AF_UNIX"):
        return None
    for folder in _candidates(data_dir):
        address = str(folder / NAME.format(port=65535))
        if len(os.fsencode(address)) <= LONGEST_ADDRESS and _PLAIN.fullmatch(address) and _usable(folder):
            return folder
    return None


def socket_path(folder: Path, port: int) -> Path:
    """Where the mongod of this port puts its socket."""
    return folder / NAME.format(port=port)


def sweep(folder: Path) -> None:
    """Remove the sockets that killed servers left; call it while nobody else uses the data folder."""
    for path in folder.glob(NAME.format(port="*")):
        path.unlink(missing_ok=True)


def leave(folder: Path) -> None:
    """Remove our sockets, and the folder if it was for them alone."""
    sweep(folder)
    with contextlib.suppress(OSError):  # it is not empty: the data folder
        folder.rmdir()


def accepts_connections(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(address)) == 0


def _candidates(data_dir: Path) -> Iterator[Path]:
    yield data_dir
    name = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:16]
    yield Path(tempfile.gettempdir()) / f"healthsphere-{os.getuid()}-{name}"


def _usable(folder: Path) -> bool:
    """Whether the folder is there or can be made, is our own, and takes a socket."""
    probe = folder / f"p{os.getpid():017}"  # as long as the name that it stands for
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()  # another user may have been here first, in a folder that all may write to
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & WRITABLE_BY_OTHERS:
            return False
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(probe))
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return True
