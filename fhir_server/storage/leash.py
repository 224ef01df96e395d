"""Ties a child process to its parent: when the parent ends, however it ends, the kernel signals the child.

Run as a program it replaces itself by the command it is given, so that the tie is in place before that command starts
(a `preexec_fn` would run Python code between fork and exec, which is unsafe once there are threads):

    python -I -S leash.py <pid of the parent> <command> <argument>…

Only Linux has the tie. Elsewhere the command just runs; `embedded` ends a left-over at the next start.

See `man 2 prctl`, PR_SET_PDEATHSIG: the signal comes when the *thread* that made the child ends.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie_to_parent(parent: int, death_signal: int = signal.SIGTERM) -> None:
    """Have this process signalled when its parent ends; ends it at once when that parent is gone already."""
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")
    if os.getppid() != parent:
        sys.exit("the parent process is gone")


def allow_many_files() -> None:
    """Raise the limit of open files to what the system permits: mongod keeps one for each collection and index."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    tie_to_parent(int(sys.argv[1]))
    allow_many_files()
    os.execv(sys.argv[2], sys.argv[2:])
