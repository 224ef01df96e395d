"""`MedicationRequest/$changes`: the delta feed of a pharmacy.

A history Bundle of the versions behind a cursor, in the order in which they were committed; its link `next` has the
cursor for the next call, also when nothing is new. The cursor names the pharmacy and a number of its feed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any
from urllib.parse import urlencode

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered
from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from fhir_server.model.errors import FhirError, GoneError, InvalidError, NotFoundError
from fhir_server.model.exchange import Answer, Request
from resources.dispensing import feed
from resources.dispensing.pruning import require_kept
from resources.dispensing.who import pharmacy_of

Json = dict[str, Any]

PAGE = 100


async def changes(context: Context, request: Request) -> Answer:
    """The versions of prescriptions, and of the work on them, that concern the calling pharmacy.

    Raises:
        InvalidError: 400; the cursor is none of this pharmacy's.
        GoneError: 410; not all that came after it is kept.
    """
    inputs = Inputs.of(request)
    inputs.only("_since", "_count", "pharmacy")
    pharmacy, given = pharmacy_of(context, inputs), inputs.text("_since")
    most = min(inputs.whole("_count", least=1) or PAGE, context.limits.max_page_size)
    store = context.repository.store
    number, begun = place_in(given, pharmacy) if given else (0, (await feed.pruned(store, pharmacy)).times)
    rows = await feed.after(store, pharmacy, number, most)
    require_kept(number, begun, await feed.pruned(store, pharmacy))
    entries = await asyncio.gather(*(_entry(context, row, request.base_url) for row in rows))
    last = rows[-1].number if rows else number
    query = {"_since": cursor_of(pharmacy, last, begun), "_count": str(most)}
    if context.caller.identity.role == "operator":
        query["pharmacy"] = pharmacy
    bundle: Json = {
        "resourceType": "Bundle",
        "type": "history",
        "link": [
            {
                "relation": "self",
                "url": f"{request.base_url}/MedicationRequest/$changes"
                + (f"?{request.query}" if request.query else ""),
            },
            {"relation": "next", "url": f"{request.base_url}/MedicationRequest/$changes?{urlencode(query)}"},
        ],
    }
    if entries:
        bundle["entry"] = list(entries)
    return answered(bundle)


async def _entry(context: Context, row: feed.Row, base_url: str) -> Json:
    """One version, or only that there was one where the pharmacy does not see it (any longer)."""
    address = f"{row.type}/{row.id}"
    entry: Json = {
        "fullUrl": f"{base_url}/{address}",
        "request": {"method": "PUT", "url": address},
        "response": {"status": "404", "etag": f'W/"{row.version}"'},
    }
    try:
        version = await context.seen.repository.vread(row.type, row.id, str(row.version))
    except FhirError as error:
        if error.status >= 500:
            raise
        if await _is_deletion(context, row):
            entry["request"]["method"], entry["response"]["status"] = "DELETE", "410"
        return entry
    entry["response"] |= {"status": "200", "lastModified": instant_of(version.moment_us)}
    return {"fullUrl": entry["fullUrl"], "resource": codec.decode(version.body or b""), **entry}


async def _is_deletion(context: Context, row: feed.Row) -> bool:
    """Whether a version says that the resource is gone: limited readers do not see that by themselves."""
    try:
        await context.repository.vread(row.type, row.id, str(row.version))
    except (GoneError, NotFoundError):  # the latter where it was removed for good
        return True
    return False


def cursor_of(pharmacy: str, number: int, begun: int = 0) -> str:
    """A place in the feed of a pharmacy.

    Args:
        begun: how often something had gone of the feed when the pull began (`pruning.require_kept`)
    """
    return base64.urlsafe_b64encode(f"2:{number}:{begun}:{pharmacy}".encode()).decode().rstrip("=")


def place_in(cursor: str, pharmacy: str) -> tuple[int, int]:
    """Where a cursor of a pharmacy stands, and how often something had gone when its pull began.

    Raises:
        InvalidError: 400; it is none, or another pharmacy's.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        text = ""
    parts = text.split(":", 3)
    numbers = parts[1:3]
    if len(parts) != 4 or parts[0] != "2" or parts[3] != pharmacy or not all(map(_is_number, numbers)):
        raise InvalidError(
            "'_since' is no cursor that this operation has given to your pharmacy; leave it out to start from the "
            "beginning.",
            code="value",
            expression="Parameters.parameter.where(name='_since')",
            key="HS-RX-CURSOR",
        )
    return int(numbers[0]), int(numbers[1])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12
