"""The server's certificate: the TLS context of a process, and another one when the files have changed.

Certificates are renewed every few weeks, by programs that write files. A thread looks at the files; when they have
changed, it makes a whole new context of them, and only when that can be used does it take the place of the old one, at
once. Connections that are open go on as they are, new ones get the new certificate. While the files do not fit each
other (one of them is written, the other not yet) the old one stays.

Spec: RFC 9325 (BCP 195), https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
import uvicorn

from fhir_server.settings import Settings

#: How often the files are looked at.
LOOK_S: Final = 2.0

log = structlog.get_logger("tls")


def tls_context_of(settings: Settings) -> ssl.SSLContext:
    """TLS 1.2 or later with the server's certificate; the suites of 1.2 are those with forward secrecy and AEAD.

    Raises:
        OSError: certificate or key cannot be read, do not fit, or are none.
    """
    password = settings.tls_key_password.get_secret_value() if settings.tls_key_password else ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_RENEGOTIATION
    key = settings.tls_key_file if settings.tls_key_file != Path() else None
    # Always a password, if an empty one: OpenSSL would ask for one at the terminal.
    context.load_cert_chain(settings.tls_cert_file, key, lambda: password)
    return context


def tls_of(settings: Settings, _: uvicorn.Config, __: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """What uvicorn calls in each process; a function of a module, so that it can be sent there."""
    certificate = Certificate(settings)
    certificate.watch()
    return certificate.context


class Certificate:
    """The certificate as its files hold it now.

    Attributes:
        context: what a server is started with, once; each connection gets the certificate of that moment
    """

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            OSError: certificate or key cannot be read, do not fit, or are none.
        """
        self._settings = settings
        self._seen = self._state()
        self._now = self.context = tls_context_of(settings)
        # OpenSSL calls it in every handshake, also where the client names no server.
        self.context.sni_callback = self._hand_over

    def _hand_over(self, connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: ssl.SSLContext) -> None:
        if self._now is not self.context:
            connection.context = self._now

    def _state(self) -> list[tuple[int, int, int] | None]:
        """What tells that a file was changed, or that another one (behind a symbolic link) is in its place."""
        files = (self._settings.tls_cert_file, self._settings.tls_key_file)
        return [_state_of(path) for path in files if path != Path()]

    def look(self) -> bool:
        """Take up what was changed; whether it was, and can be used."""
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        try:
            self._now = tls_context_of(self._settings)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            log.warning("certificate not usable, the one before stays", error=type(error).__name__)
            return False
        log.info("certificate renewed")
        return True

    def watch(self) -> None:
        """Look again and again, for as long as the process lives."""
        threading.Thread(target=self._look_on, name="certificate", daemon=True).start()

    def _look_on(self) -> None:
        pause = threading.Event()
        while not pause.wait(LOOK_S):
            self.look()


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
