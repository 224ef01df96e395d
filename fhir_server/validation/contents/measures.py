"""Quantities whose unit is told to be of UCUM, and attachments whose size and hash are told beside their data.

Spec: https://hl7.org/fhir/R4/datatypes.html#Quantity, https://hl7.org/fhir/R4/datatypes.html#Attachment
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from decimal import Decimal

from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.quantities import Units
from fhir_server.validation.profile.findings import Findings, Place, path_of
from fhir_server.validation.profile.values import shown
from profiles.terminology import UCUM

_TYPES = "http://hl7.org/fhir/StructureDefinition/"

#: An annotation alone is a count of whatever it names (UCUM, section 12), which no table of units has.
_ONE = Decimal(1)


def look_at_unit(item: Item, units: Units | None, findings: Findings) -> None:
    """A code of UCUM is one."""
    value = item.value
    if units is None or value.get("system") != UCUM or not isinstance(code := value.get("code"), str):
        return
    if units(_ONE, code) is None:
        text = f"Found the code {shown(code)}; expected a unit of UCUM such as mg/dL, since the system is {UCUM}"
        findings.tell(
            "HS-CONTENT-UNIT", "code-invalid", f"{path_of(item)}.code", text, Place(f"{_TYPES}Quantity", "code")
        )


def look_at_attachment(item: Item, findings: Findings) -> None:
    """Size and hash (SHA-1, as base64) are those of the data that stands beside them."""
    value = item.value
    data, size, told = value.get("data"), value.get("size"), value.get("hash")
    if not isinstance(data, str) or (size is None and told is None):
        return
    try:
        raw = b64decode(data, validate=False)
    except (Base64Error, ValueError):
        return  # which the structure validation tells
    if size is not None and size != len(raw):
        text = f"Found the size {size}; expected {len(raw)}, which the data has"
        findings.tell(
            "HS-CONTENT-ATTACHMENT", "value", f"{path_of(item)}.size", text, Place(f"{_TYPES}Attachment", "size")
        )
    digest = b64encode(hashlib.sha1(raw, usedforsecurity=False).digest()).decode()
    if told is not None and told != digest:
        text = f"Found the hash {shown(told)}; expected {digest}, the SHA-1 of the data"
        findings.tell(
            "HS-CONTENT-ATTACHMENT", "value", f"{path_of(item)}.hash", text, Place(f"{_TYPES}Attachment", "hash")
        )
