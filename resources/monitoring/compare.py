"""What is to be done so that the alerts that were raised are those that the measurements call for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from resources.monitoring.engine import Episode


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert that was raised, as its row says.

    Attributes:
        start_us: the moment of the point that began its episode
        end_us: of the one that ended it; None while it goes on
    """

    id: str
    start_us: int
    end_us: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        do: raise a new alert, which may be over already; clear, or reopen one; move its beginning or its end; withdraw
            one whose measurements are none
    """

    do: Literal["raise", "clear", "reopen", "move", "withdraw"]
    episode: Episode | None
    raised: Raised | None = None


def steps(called_for: Sequence[Episode], there: Iterable[Raised], from_us: int) -> list[Step]:
    """What to do.

    An episode and an alert that have a moment in common are the same one, so that a measurement that comes late, or is
    taken back, moves an alert and does not raise it twice.

    Args:
        called_for: all episodes from a moment on
        there: the alerts of that while
        from_us: that moment; what began earlier is not judged
    """
    left = sorted(there, key=lambda raised: raised.start_us)
    found: list[Step] = []
    for episode in called_for:
        same = next((r for r in left if _same(episode, r)), None)
        if same is None:
            found.append(Step("raise", episode))
            continue
        left.remove(same)
        end_us = episode.end.moment_us if episode.end else None
        if end_us is not None and same.end_us is None:
            found.append(Step("clear", episode, same))
        elif end_us is None and same.end_us is not None:
            found.append(Step("reopen", episode, same))
        elif (episode.start.moment_us, end_us) != (same.start_us, same.end_us):
            found.append(Step("move", episode, same))
    return found + [Step("withdraw", None, r) for r in left if r.start_us >= from_us]


def _same(episode: Episode, raised: Raised) -> bool:
    return episode.start.moment_us == raised.start_us or episode.overlaps(raised.start_us, raised.end_us)
