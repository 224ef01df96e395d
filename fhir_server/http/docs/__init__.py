"""The OpenAPI document, and a page that shows it: `/openapi.json` and `/docs`.

The page loads nothing from other hosts, runs no script of its own text, and puts what the document says on the screen
as text alone. Like `metadata`, both are open to everybody: they tell what there is, not what is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from urllib.parse import urlsplit

from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from fhir_server.http.openapi import Described

FILES = {"page.css": "text/css", "page.js": "text/javascript"}


def description_pages(described: Described, base_url: str) -> APIRouter:
    """`/openapi.json`, `/docs` and what that loads."""
    router = APIRouter()
    router.add_route("/openapi.json", _document(described), methods=["GET"], include_in_schema=False)
    security = {"Content-Security-Policy": policy_of(base_url), "Referrer-Policy": "no-referrer"}
    router.add_route("/docs", _file("page.html", "text/html", security), methods=["GET"], include_in_schema=False)
    for name, media_type in FILES.items():
        router.add_route(f"/docs/{name}", _file(name, media_type, {}), methods=["GET"], include_in_schema=False)
    return router


def policy_of(base_url: str) -> str:
    """What the page may do: show and ask what comes from here, or from where the FHIR base is."""
    parts = urlsplit(base_url)
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        f"connect-src 'self' {parts.scheme}://{parts.netloc}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _document(described: Described) -> Callable[[Request], Awaitable[Response]]:
    async def document(request: Request) -> Response:
        made = await described.encoded()
        headers = {
            "ETag": f'"{made.tag}"',
            "Cache-Control": "no-cache",
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            packed = {**headers, "Content-Encoding": "gzip"}
            return Response(made.packed, media_type="application/json", headers=packed)
        return Response(made.plain, media_type="application/json", headers=headers)

    return document


def _file(name: str, media_type: str, headers: dict[str, str]) -> Callable[[Request], Awaitable[Response]]:
    content = (files("fhir_server") / "http" / "docs" / name).read_bytes()
    said = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache", **headers}

    async def file(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=said)

    return file
