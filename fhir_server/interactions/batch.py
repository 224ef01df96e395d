"""batch: the entries of a Bundle, each as if it had come by itself.

Spec: https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

import asyncio

from fhir_server.interactions.bundle import Envelope
from fhir_server.interactions.context import Context
from fhir_server.interactions.entries import failed_entry, request_of_entry, response_entry, response_of
from fhir_server.interactions.provenance import refuse_source
from fhir_server.model import codec
from fhir_server.model.errors import FhirError
from fhir_server.model.exchange import Answer, Request

#: Entries under way at once: enough to share commands of the database, not so many that others starve.
AT_ONCE = 32


async def batch(context: Context, request: Request, bundle: Envelope) -> Answer:
    """Answer every entry, in the order of the request; one that fails does not touch the others."""
    refuse_source(request, "a batch, whose entries are changes of their own")
    context = context.awaited or context  # an entry may read what another has written
    turn = asyncio.Semaphore(AT_ONCE)
    carried_out: list[tuple[Request, Answer]] = []

    async def answer(index: int) -> bytes:
        async with turn:
            inner = None
            try:
                inner = request_of_entry(request, bundle.entry[index], index)
                answer = await context.dispatch(context, inner)
                carried_out.append((inner, answer))
                return response_entry(inner, answer)
            except FhirError as error:
                if inner is not None:
                    carried_out.append((inner, Answer(error.status, codec.encode(error.outcome()))))
                return failed_entry(error)

    entries = await asyncio.gather(*(answer(index) for index in range(len(bundle.entry))))
    return Answer(200, response_of("batch-response", entries), entries=tuple(carried_out))
