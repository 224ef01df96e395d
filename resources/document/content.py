"""The contents of a document: where they lie, if they lie here."""

from __future__ import annotations

from typing import Any

from fhir_server.access.attachments import BINARY, target_of
from fhir_server.interactions.context import Context
from fhir_server.storage.document import Version

Json = dict[str, Any]


async def contents_of(context: Context, document: Json) -> list[Version]:
    """The Binaries of this server to which a document points, and that the caller sees."""
    found: list[Version] = []
    for binary_id in binaries_of(document, context.repository.indexer.base_url):
        version = None if binary_id is None else await context.repository.current(BINARY, binary_id)
        if version is not None and not version.deleted:
            found.append(version)
    return found


def binaries_of(document: Json | None, base_url: str) -> list[str | None]:
    """The id of the Binary to which each content of a document points; None where it is elsewhere."""
    targets = [target_of(row.get("attachment", {}).get("url"), base_url) for row in (document or {}).get("content", [])]
    return [target[1] if target is not None and target[0] == BINARY else None for target in targets]
