"""`If-Match`, `If-None-Match` and `If-Modified-Since`.

Spec: https://hl7.org/fhir/R4/http.html#concurrency, https://hl7.org/fhir/R4/http.html#cread
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fhir_server.model.clock import moment_of_http_date
from fhir_server.model.errors import InvalidError, PreconditionRequiredError
from fhir_server.model.exchange import Request
from fhir_server.storage.document import Version

if TYPE_CHECKING:
    from fhir_server.interactions.context import Context

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


async def require_version(context: Context, request: Request, resource_type: str, resource_id: str | None) -> bool:
    """Refuse a change that does not say which version it is of, where the settings ask for that.

    Args:
        resource_id: what is changed, if it is there; None where it is there surely

    Returns:
        whether nothing was there, so that the change is one that creates it, and nothing else

    Raises:
        PreconditionRequiredError: 428; there is no `If-Match`.
    """
    if not lacks_version(context, request, resource_type):
        return False
    if resource_id is not None:
        standing = await context.repository.current(resource_type, resource_id)
        if standing is None or standing.body is None:
            return True
    raise version_required(resource_type)


def lacks_version(context: Context, request: Request, resource_type: str) -> bool:
    """Whether a change of what is there already would have to say which version it is of, and does not."""
    return resource_type in context.limits.if_match_types and "if-match" not in request.headers


def version_required(resource_type: str) -> PreconditionRequiredError:
    return PreconditionRequiredError(
        f"A change of a {resource_type} says which version it is of: send the ETag of what you have read as If-Match.",
        expression="http.If-Match",
        key="HS-HTTP-IF-MATCH",
    )


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
