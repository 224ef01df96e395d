"""A real SMTP server on this machine that keeps what it takes."""

from __future__ import annotations

import email
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP


class Inbox:
    """What an SMTP server has taken."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, list[str], Message]] = []

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:
        self.taken.append((envelope.mail_from, envelope.rcpt_tos, email.message_from_bytes(envelope.content)))
        return "250 OK"


@contextmanager
def smtp_server(inbox: Inbox | None = None, **how: Any) -> Iterator[tuple[Inbox, int]]:
    """A server on a free port, and what it takes."""
    inbox = inbox or Inbox()

    class OnFreePort(Controller):
        def factory(self) -> SMTP:
            return SMTP(self.handler, **how)

    server = OnFreePort(inbox, hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        yield inbox, server.port
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
