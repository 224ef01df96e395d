"""`DocumentReference/[id]/$views`: who has seen a document, read from the audit trail, for its patient and its author.

It tells of the document and of the Binaries that it points to, one line for each time, newest first.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.interactions.access_ledger import names_of, parts_of, people_in
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model import codec
from fhir_server.model.errors import ForbiddenError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.records import TRAIL
from resources.document.content import binaries_of
from resources.document.words import TYPE

Json = dict[str, Any]

#: Lines of one answer.
DEFAULT_COUNT: Final = 50

#: What looks at something, in AuditEvent.action: reading, and carrying out what reads.
LOOKING: Final = "R,E"


async def views(context: Context, request: Request) -> Answer:
    """Who has seen a document.

    Raises:
        NotFoundError: 404; there is no such document for the caller.
        ForbiddenError: 403; it is neither about the caller nor the caller's work.
    """
    inputs = Inputs.of(request)
    inputs.only("_count", "_cursor")
    version = await context.seen.repository.read(TYPE, request.path[1])
    document = codec.decode(version.body or b"{}")
    require_concerned(context, document)
    if context.caught_up is not None:
        await context.caught_up()
    base = context.repository.indexer.base_url
    named = [f"{TYPE}/{version.id}", *(f"Binary/{i}" for i in binaries_of(document, base) if i is not None)]
    count = min(inputs.whole("_count", least=1) or DEFAULT_COUNT, context.limits.max_page_size)
    pairs = [("entity", ",".join(named)), ("action", LOOKING), ("_sort", "-date"), ("_count", str(count))]
    if cursor := inputs.text("_cursor"):
        pairs.append(("_cursor", cursor))
    found = await context.searcher.search(TRAIL, pairs, strict=True, default_count=count, max_count=count)
    events: list[Json] = [codec.decode(row["r"]) for _, row in found.matches]
    names = await names_of(context, {ref for event in events for ref in people_in(event)})
    rows = [{"name": "view", "part": parts_of(event, names)} for event in events]
    if found.page.next:
        rows.append({"name": "next", "valueString": found.page.next})
    return answered(parameters_of(*rows))


def require_concerned(context: Context, document: Json) -> None:
    identity = context.caller.identity
    if context.caller.policy.everything or identity.role in ("patient", "proxy", "auditor"):
        return  # whose document they do not see does not exist for them
    authors = {author.get("reference") for author in document.get("author", [])}
    if identity.fhir_user is None or identity.fhir_user not in authors:
        raise ForbiddenError(
            "Who has seen a document is told to its patient and to its author.", key="HS-DOCUMENT-VIEWS"
        )
