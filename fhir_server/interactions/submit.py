"""What is POSTed to the base: a batch or a transaction.

Spec: https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

from fhir_server.interactions.batch import batch
from fhir_server.interactions.bundle import Envelope
from fhir_server.interactions.context import Context
from fhir_server.interactions.transaction import transaction
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError, TooLargeError
from fhir_server.model.exchange import Answer, Request


async def submit(context: Context, request: Request) -> Answer:
    """POST [base]: the Bundle's type says how its entries are carried out."""
    bundle = codec.decode_as(request.body, Envelope)
    if bundle.resourceType != "Bundle":
        raise InvalidError(
            f"A {bundle.resourceType} was sent to the base; only a Bundle goes here, and "
            f"a resource to its type: POST {request.base_url}/{bundle.resourceType}.",
            key="HS-BUNDLE-TYPE",
        )
    if bundle.type not in ("batch", "transaction"):
        raise InvalidError(
            f"The Bundle's type is {bundle.type!r}; expected batch or transaction "
            f"(POST {request.base_url}/Bundle stores a Bundle as it is).",
            code="value",
            expression="Bundle.type",
            key="HS-BUNDLE-TYPE",
        )
    most = context.limits.max_bundle_entries
    if len(bundle.entry) > most:
        raise TooLargeError(
            f"The Bundle has {len(bundle.entry):,} entries; this server takes {most:,} at once.",
            expression="Bundle.entry",
            key="HS-BUNDLE-SIZE",
        )
    carry_out = batch if bundle.type == "batch" else transaction
    return await carry_out(context, request, bundle)
