"""The mails that accounts need, in plain words and without health data.

A mail that could not be handed over is logged and told to the trail by the flow that sent it; a person can ask again.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

from smart_auth.ports import Mail

_FOOT = "\n\nYou did not expect this mail? Then you can leave it be; nothing happens without the link.\n\n{product}\n"


class Letters:
    """Writes and sends mails.

    Args:
        origin: stands before the paths of links; never taken from a request
    """

    def __init__(self, mail: Mail, origin: str, product: str) -> None:
        self._mail = mail
        self._origin = origin
        self._product = product

    async def verification(self, to: str, name: str, token: str, lasts: timedelta) -> None:
        await self._send(
            to,
            "Confirm your e-mail address",
            f"Hello {name},\n\nsomebody, most likely you, wants to register this address with {self._product}. "
            f"To go on and choose a password, open this link within {_span(lasts)}:\n\n"
            f"{self._link('/auth/verify', token)}",
        )

    async def known_already(self, to: str, name: str) -> None:
        await self._send(
            to,
            "You have an account already",
            f"Hello {name},\n\nsomebody, most likely you, wanted to register this address with {self._product}. It has "
            f"an account already. Sign in, or choose a new password:\n\n{self._origin}/auth/sign-in\n"
            f"{self._origin}/auth/forgot",
        )

    async def invitation(self, to: str, name: str, token: str, lasts: timedelta, inviter: str) -> None:
        await self._send(
            to,
            f"You are invited to {self._product}",
            f"Hello {name},\n\n{inviter} has prepared an account for you. To take it up and choose a password, open "
            f"this link within {_span(lasts)}:\n\n{self._link('/auth/invitation', token)}",
        )

    async def proxy_offer(self, to: str, name: str, token: str, lasts: timedelta, patient: str) -> None:
        await self._send(
            to,
            "Somebody wants you to act for them",
            f"Hello {name},\n\n{patient} would like you to see and manage their records with your account. To accept, "
            f"open this link within {_span(lasts)} and sign in:\n\n{self._link('/auth/proxy', token)}",
        )

    async def reset(self, to: str, name: str, token: str, lasts: timedelta) -> None:
        await self._send(
            to,
            "Choose a new password",
            f"Hello {name},\n\nto choose a new password, open this link within {_span(lasts)}. It works once:\n\n"
            f"{self._link('/auth/reset', token)}",
        )

    async def new_address(self, to: str, name: str, token: str, lasts: timedelta) -> None:
        await self._send(
            to,
            "Confirm your new e-mail address",
            f"Hello {name},\n\nto use this address for your account, open this link within {_span(lasts)}:\n\n"
            f"{self._link('/auth/new-address', token)}",
        )

    async def changed(self, to: str, name: str, what: str) -> None:
        """Tell somebody that their account was changed, in case it was not them."""
        await self._mail.send(
            to,
            "Your account was changed",
            f"Hello {name},\n\n{what}\n\nWas it not you? Choose a new password at once, which signs out everybody, and "
            f"tell us:\n\n{self._origin}/auth/forgot\n\n{self._product}\n",
        )

    async def application(self, to: str, name: str, outcome: str) -> None:
        await self._mail.send(
            to, "Your application", f"Hello {name},\n\n{outcome}\n\n{self._origin}/auth/sign-in\n\n{self._product}\n"
        )

    def _link(self, path: str, token: str) -> str:
        return f"{self._origin}{path}?token={quote(token, safe='')}"

    async def _send(self, to: str, subject: str, text: str) -> None:
        await self._mail.send(to, subject, text + _FOOT.format(product=self._product))


def _span(lasts: timedelta) -> str:
    """A length of time in words: `30 minutes`, `24 hours`, `7 days`."""
    minutes = int(lasts.total_seconds()) // 60
    number, unit = (minutes, "minute")
    if minutes >= 2 * 1440:
        number, unit = minutes // 1440, "day"
    elif minutes >= 60:
        number, unit = minutes // 60, "hour"
    return f"{number} {unit}{'' if number == 1 else 's'}"
