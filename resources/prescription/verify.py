"""`$verify`: whether a prescription was signed here, is what was signed, and who signed it.

Spec: https://hl7.org/fhir/R4/signatures.html
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model import codec
from fhir_server.model.errors import FhirError
from fhir_server.model.exchange import Answer, Request
from resources.dispensing.codes import SIGNED, is_marked, reference_in
from resources.dispensing.desk import ORDER, require_seen
from resources.prescription.keys import published
from resources.prescription.rules import MAY_CHANGE
from resources.prescription.signature import canonical, detached_in, is_good, kid_of

Json = dict[str, Any]


async def verify(context: Context, request: Request) -> Answer:
    """MedicationRequest/[id]/$verify."""
    Inputs.of(request).only()
    order_id = request.path[1]
    await require_seen(context, order_id)
    current = codec.decode((await context.repository.read(ORDER, order_id)).body or b"")
    provenance = await provenance_of(context, order_id)
    if provenance is None or not is_marked(current, SIGNED):
        return answered(
            parameters_of(
                {"name": "signed", "valueBoolean": False},
                {"name": "valid", "valueBoolean": False},
                {"name": "reason", "valueString": "It was not signed on this server."},
            )
        )
    detached, version = str(detached_in(provenance)), version_in(provenance, order_id)
    kid = kid_of(detached) or ""
    signed = codec.decode((await context.repository.vread(ORDER, order_id, version)).body or b"")
    public = await published(context, kid)
    faults = []
    if public is None:
        faults.append("The key that signed it is not known.")
    elif not is_good(signed, detached, public):
        faults.append("The signature is not that of this content.")
    if _lasting(signed) != _lasting(current):
        faults.append("It is not what was signed any longer.")
    document = await document_of(context, provenance)
    if document is False:
        faults.append("The PDF is not the one that was signed along with it.")
    (signature,) = provenance["signature"]
    rows: list[Json] = [
        {"name": "signed", "valueBoolean": True},
        {"name": "valid", "valueBoolean": not faults},
        *({"name": "reason", "valueString": fault} for fault in faults),
        {"name": "version", "valueString": version},
        {"name": "status", "valueCode": current["status"]},
        {"name": "when", "valueInstant": signature["when"]},
        {"name": "who", "valueReference": signature["who"]},
        {"name": "kid", "valueString": kid},
        {"name": "provenance", "valueReference": {"reference": f"Provenance/{provenance['id']}"}},
    ]
    if document is not None:
        rows.append({"name": "document", "valueBoolean": document})
    return answered(parameters_of(*rows))


async def provenance_of(context: Context, order_id: str) -> Json | None:
    """The Provenance that holds the signature."""
    for found in await context.searcher.matches("Provenance", f"target={ORDER}/{order_id}", limit=100):
        resource: Json = codec.decode(found.body or b"")
        if detached_in(resource) is not None and version_in(resource, order_id):
            return resource
    return None


def version_in(provenance: Json, order_id: str) -> str:
    """The number of the version that a Provenance is about."""
    for target in provenance.get("target", ()):
        address, _, number = str(target.get("reference")).partition("/_history/")
        if address == f"{ORDER}/{order_id}" and number:
            return number
    return ""


def _lasting(order: Json) -> bytes:
    """What may not change of a prescription after it was signed."""
    return canonical({name: value for name, value in order.items() if name not in MAY_CHANGE})


async def document_of(context: Context, provenance: Json) -> bool | None:
    """Whether the PDF is the one whose digest the Provenance holds; None where it is not there any longer."""
    for entity in provenance.get("entity", ()):
        what = entity.get("what", {})
        digest, reference = what.get("identifier", {}).get("value"), reference_in(what)
        if digest is None or reference is None:
            continue
        try:
            document = codec.decode(
                (await context.repository.read("DocumentReference", reference.partition("/")[2])).body or b""
            )
            address = document["content"][0]["attachment"]["url"]
            version = await context.repository.read("Binary", address.partition("/")[2])
        except FhirError:
            return None
        if version.blob is not None:
            return bool(version.blob.sha256 == digest)
        data = codec.decode(version.body or b"").get("data", "")
        return bool(hashlib.sha256(base64.b64decode(data)).hexdigest() == digest)
    return None
