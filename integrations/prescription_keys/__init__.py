"""The public keys by which anybody verifies the signatures of prescriptions, as a JWK set.

Spec: RFC 7517
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fhir_server.interactions.context import Context
from resources.prescription.keys import all_published

PATH = "/prescription-keys.json"

#: How long the set may be kept by those who fetch it; a server that has just signed for the first time is new in it.
MAX_AGE_S = 300


def prescription_keys(context: Context) -> Route:
    """The one address: open to all, since it holds nothing secret."""

    async def keys(_: Request) -> JSONResponse:
        headers = {"Cache-Control": f"public, max-age={MAX_AGE_S}"}
        return JSONResponse(
            {"keys": await all_published(context)}, headers=headers, media_type="application/jwk-set+json"
        )

    return Route(PATH, keys)
