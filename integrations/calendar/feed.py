"""`GET /calendar/[token].ics`: the private feed of a person, for calendar programmes, which do not sign in.

What token leads where is said by `$calendar-feed` (`resources.scheduling.feeds`). A token that leads nowhere and one
that was revoked are answered alike.
"""

from __future__ import annotations

import re
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhir_server.storage.store import Store
from resources.scheduling.feeds import feed_of

#: As `secrets.token_urlsafe` makes them.
TOKEN = re.compile(r"[A-Za-z0-9_\-]{43}")

HEADERS = {
    "Cache-Control": "private, no-cache",
    "X-Robots-Tag": "noindex",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Disposition": 'attachment; filename="appointments.ics"',
}


def routes(store: Store, base_url: str) -> list[Route]:
    """The routes of this edge.

    Args:
        base_url: of FHIR, which the events name people by
    """

    async def feed(request: Request) -> Response:
        token = str(request.path_params["token"])
        body = await feed_of(store, token, base_url) if TOKEN.fullmatch(token) else None
        if body is None:
            return Response("There is no such calendar.\n", 404, media_type="text/plain", headers=HEADERS)
        etag = f'"{sha256(body).hexdigest()[:32]}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={**HEADERS, "ETag": etag})
        return Response(body, media_type="text/calendar; charset=utf-8", headers={**HEADERS, "ETag": etag})

    return [Route("/calendar/{token}.ics", feed, methods=["GET"])]
