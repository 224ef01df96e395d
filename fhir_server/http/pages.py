"""The pages around the FHIR base: a front page, health and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, Response

from fhir_server.http.metrics import exposition
from fhir_server.model.errors import FhirError
from fhir_server.version import VERSION

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>HealthSphere</title><link rel="icon" href="data:,">
<style>
  body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 4rem auto; padding: 0 1.5rem }}
  body {{ color: #1c2733 }} h1 {{ font-size: 1.9rem; margin-bottom: .2rem }} a {{ color: #0b6e8a }}
  code {{ background: #eef3f6; padding: .15rem .35rem; border-radius: .3rem }} li {{ margin: .35rem 0 }}
</style></head><body>
<h1>HealthSphere</h1><p>FHIR R4 (4.0.1) server, version {version}. The FHIR base is <code>{base}</code>.</p>
<ul>
<li><a href="docs">The API</a> by resource type, to read and to look things up; the same as
    <a href="openapi.json">OpenAPI</a></li>
<li><a href="{base}/metadata?_pretty=true&amp;_format=json">CapabilityStatement</a>: the same to FHIR clients</li>
<li><a href="{base}/Patient?_pretty=true&amp;_format=json">Patients</a>,
    <a href="{base}/Observation?_sort=-date&amp;_count=5&amp;_pretty=true&amp;_format=json">latest Observations</a>,
    <a href="{base}/_history?_pretty=true&amp;_format=json">what changed last</a></li>
<li><a href="/health/ready">Health</a> and <a href="/metrics">metrics</a></li>
</ul></body></html>"""


def pages(base_url: str, ping: Callable[[], Awaitable[None]]) -> APIRouter:
    """`/`, `/health/live`, `/health/ready`, `/metrics`; `ping` raises FhirError while the database does not answer."""
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def front() -> str:
        return PAGE.format(version=escape(VERSION), base=escape(base_url))

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "up"}

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        """The process and its database answer: 200, else 503."""
        try:
            await ping()
        except FhirError as error:
            return JSONResponse({"status": "down", "database": str(error)}, 503)
        return JSONResponse({"status": "up", "database": "up"})

    @router.get("/metrics")
    async def metrics() -> Response:
        """Prometheus metrics of all worker processes."""
        text, media_type = exposition()
        return Response(text, media_type=media_type)

    return router
