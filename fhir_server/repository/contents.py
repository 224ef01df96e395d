"""Where the content of a Binary is kept: small in the resource, large beside it as a blob.

Spec: https://hl7.org/fhir/R4/binary.html
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fhir_server.model.errors import TooLargeError
from fhir_server.storage.blobs import Blobs
from fhir_server.storage.document import Blob, Version

#: Contents up to this size stay in the resource: they are read, searched and written like any other.
INLINE_BYTES = 256 * 1024

#: Bytes that are handed to the store at a time.
SLICE = 1024 * 1024


def goes_beside(resource: dict[str, Any], blobs: Blobs) -> bool:
    """Whether a Binary's data does not stay in it: it is too large, or nobody may have it before it was examined."""
    data = resource.get("data")
    return type(data) is str and (blobs.quarantine.everything or len(data) > (INLINE_BYTES + 2) // 3 * 4)


async def put_beside(resource: dict[str, Any], owner: str, blobs: Blobs) -> tuple[dict[str, Any], Blob] | None:
    """The Binary of an id without its data, and the blob that has it.

    None where the data is not spelt as base64 is usually spelt (white space in it): it would come back in another
    spelling, so it stays, unless contents are examined.
    """
    text: str = resource["data"]
    try:
        data = b64decode("".join(text.split()) if blobs.quarantine.everything else text, validate=True)
    except binascii.Error:
        return None
    if b64encode(data).decode() != text and not blobs.quarantine.everything:
        return None
    blob = await blobs.put(_slices(data), owner=owner)
    return {name: value for name, value in resource.items() if name != "data"}, blob


async def _slices(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), SLICE):
        yield data[start : start + SLICE]


@asynccontextmanager
async def kept(blobs: Blobs, blob: Blob | None) -> AsyncIterator[None]:
    """Keep a new blob when the block, which names it in a version, succeeds; remove it when that fails."""
    try:
        yield
    except BaseException:
        if blob is not None:
            await blobs.discard(blob)
        raise
    if blob is not None:
        await blobs.settle(blob)


def fitting(version: Version, most_bytes: int) -> Version:
    """The version itself.

    Raises:
        TooLargeError: 413; its JSON is larger than a resource may be.
    """
    if version.body is None or len(version.body) <= most_bytes:
        return version
    how = " Send its content as it is, with its own content type." if version.type == "Binary" else ""
    raise TooLargeError(
        f"The {version.type} has {len(version.body):,} bytes as JSON; this server keeps resources of at most "
        f"{most_bytes:,}.{how}",
        key="HS-LIMIT-RESOURCE",
    )
