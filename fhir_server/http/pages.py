"""The pages around the FHIR base: a front page, health and metrics."""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from html import escape

from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.requests import Request
from starlette.routing import Route

from fhir_server.http.metrics import exposition
from fhir_server.model.errors import FhirError
from fhir_server.version import VERSION

STYLE = """
  body { font: 16px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 4rem auto; padding: 0 1.5rem }
  body { color: #1c2733 } h1 { font-size: 1.9rem; margin-bottom: .2rem } a { color: #0b5c78 }
  code { background: #eef3f6; padding: .15rem .35rem; border-radius: .3rem } li { margin: .35rem 0 }
  .note { border-left: .3rem solid #0b5c78; padding: .2rem 1rem; background: #eef3f6 }
  .open { border-color: #b26a00; background: #fdf4e3 }
"""

#: The page's one style, named by its digest, and nothing else.
POLICY = (
    f"default-src 'none'; img-src data:; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>HealthSphere</title><link rel="icon" href="data:,">
<style>{style}</style></head><body><main>
<h1>HealthSphere</h1><p>FHIR R4 (4.0.1) server, version {version}. The FHIR base is <code>{base}</code>.</p>
{access}
<ul>
<li><a href="docs">The API</a> by resource type, to read and to look things up; the same as
    <a href="openapi.json">OpenAPI</a></li>
<li><a href="{base}/metadata?_pretty=true&amp;_format=json">CapabilityStatement</a>: the same to FHIR clients</li>
{links}
</ul></main></body></html>"""

OFF = """<p class="note open"><strong>Access control is off.</strong> Every program on this machine can read and change
all records.</p>"""

ON = """<p class="note"><strong>Access control is on.</strong> People sign in; apps and systems ask for an access
token, and see what its owner may see.</p>"""

OFF_LINKS = """<li><a href="{base}/Patient?_pretty=true&amp;_format=json">Patients</a>,
    <a href="{base}/Observation?_sort=-date&amp;_count=5&amp;_pretty=true&amp;_format=json">latest Observations</a>,
    <a href="{base}/_history?_pretty=true&amp;_format=json">what changed last</a></li>
<li><a href="/health/ready">Health</a> and <a href="/metrics">metrics</a></li>"""

ON_LINKS = """<li><a href="/auth/sign-in">Sign in</a>{register}; <a href="/auth/account">your account</a>, with the apps
    that you have let in</li>
<li><a href="/auth/apps">Apps</a> that can be opened here</li>
<li>For apps: <a href="{base}/.well-known/smart-configuration">SMART configuration</a></li>
<li><a href="/health/ready">Health</a></li>"""


@dataclass(frozen=True, slots=True)
class FrontPage:
    """What the front page says.

    Attributes:
        signs_in: whether there is access control
        registers: whether patients may register by themselves
    """

    base_url: str
    signs_in: bool
    registers: bool

    def html(self) -> str:
        base = escape(self.base_url)
        register = ', or <a href="/auth/register">register</a> as a patient' if self.registers else ""
        links = ON_LINKS.format(base=base, register=register) if self.signs_in else OFF_LINKS.format(base=base)
        return PAGE.format(
            style=STYLE, version=escape(VERSION), base=base, access=ON if self.signs_in else OFF, links=links
        )


class MetricsAccess:
    """Lets programs on this machine read the metrics, and whoever has the operator's token."""

    def __init__(self, is_operator: Callable[[str | None], bool]) -> None:
        self._is_operator = is_operator

    def allows(self, request: Request) -> bool:
        """Whether the metrics may be read by this request.

        What a proxy on this machine hands on comes from elsewhere, though its address is this machine's, when nobody
        told the server to believe that proxy.
        """
        return self._is_local(request) or self._is_operator(request.headers.get("authorization"))

    @staticmethod
    def _is_local(request: Request) -> bool:
        if request.client is None or any(name in request.headers for name in ("x-forwarded-for", "forwarded", "via")):
            return False
        try:
            return ipaddress.ip_address(request.client.host).is_loopback
        except ValueError:
            return False


def pages(front_page: FrontPage, ping: Callable[[], Awaitable[None]], metrics_for: MetricsAccess | None) -> list[Route]:
    """`/`, `/health/live`, `/health/ready`, `/metrics`.

    Args:
        ping: raises FhirError while the database does not answer
        metrics_for: who may read the metrics; None is everybody
    """

    async def front(_: Request) -> Response:
        return HTMLResponse(front_page.html(), headers={"Content-Security-Policy": POLICY})

    async def live(_: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "up"})

    async def ready(_: Request) -> Response:
        """The process and its database answer: 200, else 503."""
        try:
            await ping()
        except FhirError as error:
            return JSONResponse({"status": "down", "database": str(error)}, 503)
        return JSONResponse({"status": "up", "database": "up"})

    async def metrics(request: Request) -> Response:
        """Prometheus metrics of all worker processes."""
        if metrics_for is not None and not metrics_for.allows(request):
            return Response(
                "Metrics are for programs on this machine, and for the operator's token.\n",
                401,
                {"WWW-Authenticate": 'Bearer realm="metrics"', "Cache-Control": "no-store"},
                "text/plain",
            )
        text, media_type = exposition()
        return Response(text, media_type=media_type)

    # Plain routes: FastAPI keeps what it has looked at of an endpoint for good, and with it the server behind that.
    return [
        Route("/", front),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/metrics", metrics),
    ]
