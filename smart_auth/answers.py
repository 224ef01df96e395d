"""Requests to the OAuth endpoints, read; and their answers, with the headers that the standards ask for.

These endpoints read no cookies, so pages of any origin may call them: what they give is given to whoever has the code,
the secret or the token.

Spec: RFC 6749 section 5, https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#cors
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from smart_auth.oauth import OAuthAnswer, refuse_repeated

FORM: Final = "application/x-www-form-urlencoded"
LARGEST_BODY_BYTES: Final = 65_536
MOST_PARAMETERS: Final = 100

CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "WWW-Authenticate, Retry-After",
}
NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}

PREFLIGHT: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Accept, X-Requested-With",
    "Access-Control-Max-Age": "86400",
}


async def body_of(request: Request) -> bytes:
    """The body, if it is no larger than such bodies are.

    Raises:
        InvalidRequestError: it is.
    """
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BODY_BYTES:
                raise InvalidRequestError("The body is too large")
    except ClientDisconnect:
        raise InvalidRequestError("The body has no end") from None
    return body


async def form_of(request: Request) -> dict[str, str]:
    """The parameters of a form, each once.

    Raises:
        InvalidRequestError: it is no such form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise InvalidRequestError(f"The body must be {FORM}")
    return parameters_of(await body_of(request))


def parameters_of(encoded: bytes) -> dict[str, str]:
    """The parameters of a query or a form, each once; empty ones count as left out.

    Raises:
        InvalidRequestError: they are not well-formed.
    """
    try:
        pairs = parse_qsl(
            encoded.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS
        )
    except ValueError:
        raise InvalidRequestError("The parameters are not well-formed") from None
    return refuse_repeated(pairs)


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that nobody keeps."""
    return JSONResponse(body, status, {**NO_STORE, **CORS, **(headers or {})})


def of_oauth(given: OAuthAnswer) -> Response:
    """Authlib's answer."""
    status, body, headers = given
    extra = {name: value for name, value in headers if name.lower() in ("www-authenticate", "retry-after")}
    return answer(status, body, extra)


def of_error(error: OAuth2Error) -> Response:
    """An error of the standards, as their JSON."""
    return of_oauth(error())


async def preflight(_: Request) -> Response:
    """The answer to a browser that asks whether a page may call."""
    return Response(status_code=204, headers=PREFLIGHT)


def document(body: dict[str, Any], max_age_s: int) -> Response:
    """JSON that everybody may read and keep for a while."""
    return Response(
        json.dumps(body, indent=1),
        media_type="application/json",
        headers={**CORS, "Cache-Control": f"public, max-age={max_age_s}"},
    )


def sent_to(address: str) -> Response:
    """Send the browser on, by GET whatever it came with; no page before is told to the next one."""
    return RedirectResponse(address, 303, {**NO_STORE, "Referrer-Policy": "no-referrer"})


def page(status: int, title: str, text: str) -> Response:
    """A page for people that says what is wrong; it asks for nothing from elsewhere but the style sheet."""
    body = PAGE.format(title=html.escape(title), text=html.escape(text))
    return HTMLResponse(
        body,
        status,
        {
            **NO_STORE,
            "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        },
    )


PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/auth/static/style.css">
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>
</main>
</body>
</html>
"""
