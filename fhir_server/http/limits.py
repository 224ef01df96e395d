"""What one request may cost before anything of FHIR is looked at.

Spec: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.15, https://www.rfc-editor.org/rfc/rfc6585#section-5
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fhir_server.model.errors import HeadersTooLargeError, UnavailableError, UriTooLongError


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """See `docs/settings.md`; all but `at_once` in bytes."""

    body_bytes: int = 256 * 2**20
    binary_bytes: int = 2**30
    url_bytes: int = 32 * 1024
    header_bytes: int = 64 * 1024
    at_once: int = 500

    def require(self, url_bytes: int, headers: Sequence[tuple[bytes, bytes]], running: int) -> None:
        """Refuse a request that is too long, or one too many.

        Args:
            running: requests that this process works on, this one included

        Raises:
            UriTooLongError: 414
            HeadersTooLargeError: 431
            UnavailableError: 503; the process works on as many requests as it may already.
        """
        if running > self.at_once:
            raise UnavailableError(
                f"This server process works on {self.at_once:,} requests already; try again in a moment.",
                key="HS-LIMIT-BUSY",
                code="throttled",
                headers={"Retry-After": "1"},
            )
        if url_bytes > self.url_bytes:
            raise UriTooLongError(
                f"The address has {url_bytes:,} bytes; this server takes {self.url_bytes:,}. A search can be sent as "
                "a form: POST [type]/_search.",
                key="HS-LIMIT-URL",
            )
        size = sum(len(name) + len(value) for name, value in headers)
        if size > self.header_bytes:
            raise HeadersTooLargeError(
                f"The headers have {size:,} bytes; this server takes {self.header_bytes:,}.", key="HS-LIMIT-HEADERS"
            )
