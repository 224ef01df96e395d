"""The ways by which people are told of things outside of this server; `app` fills them from `integrations`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Letter:
    """What somebody is told: that there is something to look at here, and nothing of anybody's health.

    Attributes:
        key: names it; whoever gets two of the same key got one twice
        title, text: in the language of who gets it
        urgent: it does not wait for anybody to look by themselves
        calendar: an iCalendar message that goes with it where the way can carry one; empty where there is none
    """

    key: str
    title: str
    text: str
    urgent: bool = False
    calendar: bytes = b""


class UndeliverableError(Exception):
    """It cannot be delivered there, today or tomorrow: an address that is none, a subscription that has ended."""


class Outlet(Protocol):
    """One way: mail, SMS, web push."""

    #: What a browser must know to be pushed to; empty where there is no such thing.
    public_key: str

    async def send(self, to: Any, letter: Letter) -> None:
        """Deliver.

        Args:
            to: an address as text; of a push, the subscription of a browser

        Raises:
            UndeliverableError: it is no use to try again.
        """
        ...
