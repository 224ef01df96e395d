"""What was worked out last, within bounds: the one that was not asked for longest goes first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _one(_: object) -> int:
    return 1


class Kept(Generic[K, V]):
    """Values by key; safe to use from several threads.

    Args:
        most: how much is kept in all
        weigh: how much a value counts
        age_s: for how long a value is good; None: until it is pushed out
    """

    def __init__(self, most: int, weigh: Callable[[V], int] = _one, age_s: float | None = None) -> None:
        self._most = most
        self._weigh = weigh
        self._age_s = age_s
        self._values: OrderedDict[K, tuple[V, int, float]] = OrderedDict()
        self._weight = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            value, _, put_s = found
            if self._age_s is not None and time.monotonic() - put_s > self._age_s:
                self._drop(key)
                return None
            self._values.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        weight = self._weigh(value)
        with self._lock:
            self._drop(key)
            if weight > self._most:  # it would push out all others
                return
            self._values[key] = (value, weight, time.monotonic())
            self._weight += weight
            while self._weight > self._most:
                self._drop(next(iter(self._values)))

    def _drop(self, key: K) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self._weight -= found[1]
