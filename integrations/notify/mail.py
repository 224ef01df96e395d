"""Letters by mail."""

from __future__ import annotations

from typing import Protocol

from fhir_server.interactions.outlets import Letter


class Mail(Protocol):
    """Sends mails, as the sign-in side does."""

    async def send(self, to: str, subject: str, text: str, html: str = "") -> None: ...


class MailOutlet:
    """Tells people by mail; the text leads to where they sign in."""

    public_key = ""

    def __init__(self, mail: Mail, link: str) -> None:
        self._mail = mail
        self._link = link

    async def send(self, to: str, letter: Letter) -> None:
        await self._mail.send(to, letter.title, f"{letter.text}\n\n{self._link}\n")
