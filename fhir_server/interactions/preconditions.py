"""`If-Match`, `If-None-Match` and `If-Modified-Since`.

Spec: https://hl7.org/fhir/R4/http.html#concurrency, https://hl7.org/fhir/R4/http.html#cread
"""

from __future__ import annotations

import re

from fhir_server.model.clock import moment_of_http_date
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Request
from fhir_server.storage.document import Version

ETAG = re.compile(r'(?:W/)?"([^"]*)"|([A-Za-z0-9.\-]{1,64})')


def etag_version(text: str, name: str) -> int:
    """The version number that an ETag names (`W/"3"`; also bare, as some clients send it).

    Raises:
        InvalidError: 400; the header has another shape.
    """
    match = ETAG.fullmatch(text.strip())
    if match is None:
        raise InvalidError(f'{name} is {text!r}; expected an ETag such as W/"3".', code="value", key="HS-HTTP-ETAG")
    number = match.group(1) if match.group(1) is not None else match.group(2)
    # A version id that this server never gives matches no version.
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else -1


def if_match(request: Request) -> int | None:
    text = request.headers.get("if-match")
    return None if text is None or text.strip() == "*" else etag_version(text, "If-Match")


def not_modified(request: Request, version: Version) -> bool:
    """Whether the client holds this version already, so that 304 is the answer to its read."""
    tags = request.headers.get("if-none-match")
    if tags is not None:  # RFC 9110 section 13.2.2: then If-Modified-Since is not looked at
        return any(
            tag.strip() == "*" or etag_version(tag, "If-None-Match") == version.version for tag in tags.split(",")
        )
    since = request.headers.get("if-modified-since")
    if since is not None and (moment := moment_of_http_date(since)) is not None:
        return version.moment_us // 1_000_000 * 1_000_000 <= moment
    return False
