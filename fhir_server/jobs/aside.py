"""What was set aside after all tries, of the feed and of timers alike: one list for whoever looks into it.

Where they lie differs for a reason. A change is an event of the past: its row is made when it fails, and goes when it
is handled, while its lane goes on. A timer is a row already: set aside, it keeps its name, so that setting it anew
mends it, and cancelling it forgets it.
"""

from __future__ import annotations

from dataclasses import dataclass

from fhir_server.jobs.feed import DeadChange, Feed
from fhir_server.jobs.timers import DeadTimer, Timers
from fhir_server.model.clock import instant_of


@dataclass(frozen=True, slots=True)
class SetAside:
    """A change or a timer that could not be handled; it holds no health data.

    Attributes:
        of: the follower, or the kind of timers
        what: its name
        tries: how often it has failed
        at_us: when it failed last, microseconds since 1970 UTC
        error: what failed then, and where
        asked: whether it is to be handled again
    """

    of: str
    what: str
    tries: int
    at_us: int
    error: str
    asked: bool = False


async def set_aside(feed: Feed, timers: Timers, name: str | None = None, limit: int = 100) -> list[SetAside]:
    """What was set aside of a follower or a kind of timers, or of all; what failed last first."""
    found = [_of_change(row) for row in await feed.dead(name, limit)]
    found += [_of_timer(row) for row in await timers.dead(name, limit)]
    return sorted(found, key=lambda one: one.at_us, reverse=True)[:limit]


async def handled_again(feed: Feed, timers: Timers, name: str | None = None) -> tuple[int, int]:
    """Have what was set aside handled again, by the processes that run: how many changes, and how many timers."""
    return await feed.replay(name), await timers.replay_all(name)


def _of_change(row: DeadChange) -> SetAside:
    what = f"{row.type}/{row.id}, version {row.version}"
    return SetAside(row.follower, what, row.tries, row.at_us, row.error, row.asked)


def _of_timer(row: DeadTimer) -> SetAside:
    what = f"timer {row.timer.key} of {instant_of(row.timer.due_us)}"
    return SetAside(row.timer.kind, what, row.timer.tries, row.at_us, row.error)
