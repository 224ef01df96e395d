"""Work in a process of its own, which ends with its answer, and with us however we end."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")


def apart(work: Callable[[A], R], argument: A) -> R:
    """Do work in a fresh process. `work` is a function of a module, not of the program that is run.

    Raises:
        RuntimeError: the process ended without an answer; what it wrote on standard error says why.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, work, argument), daemon=True)
    process.start()
    there.close()
    try:
        answer: R = here.recv()
    except EOFError:
        raise RuntimeError(f"{work.__module__}.{work.__qualname__} ended without an answer.") from None
    finally:
        here.close()
        process.kill()
        process.join()
    return answer


def _answer(connection: Connection, work: Callable[[A], R], argument: A) -> None:
    connection.send(work(argument))
    connection.close()
