"""Sends mails: over SMTP, or, where no SMTP server is set, into a collection that administrators can read.

Spec: RFC 5321, RFC 3207 (STARTTLS), RFC 6047 (iCalendar by mail)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import make_msgid, parseaddr
from typing import Literal

import aiosmtplib
from starlette.concurrency import run_in_threadpool

from fhir_server.model.clock import new_id
from smart_auth.accounts import now
from smart_auth.store import AuthStore, Row, index_on

ROWS = "mails"
KEPT = timedelta(days=7)
TIMEOUT_S = 20

#: The method of an iCalendar message, which the type of its part names, too (RFC 6047 section 2.4).
METHOD = re.compile(rb"^METHOD:([A-Z-]+)\r?$", re.MULTILINE)


class MailError(Exception):
    """A mail could not be handed over; the text holds no address."""


@dataclass(frozen=True, slots=True)
class Smtp:
    """How mails leave.

    Attributes:
        security: `starttls` (required, not tried), `tls` from the first byte, or `none`
        sender: `HealthSphere <no-reply@example.org>`
    """

    host: str
    port: int
    sender: str
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password: str = ""


class SmtpMail:
    """Hands mails to an SMTP server."""

    def __init__(self, smtp: Smtp) -> None:
        self._smtp = smtp

    @property
    def address(self) -> str:
        """From where mails come."""
        return parseaddr(self._smtp.sender)[1]

    async def send(self, to: str, subject: str, text: str, html: str = "", *, calendar: bytes = b"") -> None:
        smtp = self._smtp
        try:
            await aiosmtplib.send(
                message_of(smtp.sender, to, subject, text, html, calendar),
                hostname=smtp.host,
                port=smtp.port,
                username=smtp.user or None,
                password=smtp.password or None,
                use_tls=smtp.security == "tls",
                start_tls=smtp.security == "starttls",
                timeout=TIMEOUT_S,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise MailError(f"The SMTP server took no mail ({type(error).__name__}).") from error


class SinkMail:
    """Keeps mails for a week, for trying things without an SMTP server."""

    #: From where mails would come.
    address = "no-reply@localhost"

    def __init__(self, store: AuthStore) -> None:
        self._store = store
        self._rows = store.rows(ROWS)

    def ensure(self) -> None:
        self._store.ensure(ROWS, [index_on("expires_at", expires=True), index_on("sent_at", descending=True)])

    async def send(self, to: str, subject: str, text: str, html: str = "", *, calendar: bytes = b"") -> None:
        moment = now()
        row: Row = {"_id": new_id(), "to": to, "subject": subject, "text": text, "html": html}
        row |= {"calendar": calendar.decode()} if calendar else {}
        await run_in_threadpool(self._rows.insert_one, {**row, "sent_at": moment, "expires_at": moment + KEPT})

    def latest(self, limit: int = 100) -> list[Row]:
        """The mails, the latest first. Blocking."""
        return list(self._rows.find().sort([("sent_at", -1), ("_id", -1)]).limit(limit))


def message_of(sender: str, to: str, subject: str, text: str, html: str, calendar: bytes = b"") -> EmailMessage:
    """One mail as it travels; with an iCalendar message as the alternative that calendars take (RFC 6047)."""
    message = EmailMessage()
    name, address = parseaddr(sender)
    message["From"] = Address(name, addr_spec=address)
    message["To"] = Address(addr_spec=to)
    message["Subject"] = subject
    message["Message-ID"] = make_msgid(domain=address.partition("@")[2] or "localhost")
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers, please
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    if calendar:
        method = METHOD.search(calendar)
        named = {"method": method[1].decode()} if method else {}
        message.add_alternative(calendar.decode(), subtype="calendar", cte="base64", params=named)
    return message
