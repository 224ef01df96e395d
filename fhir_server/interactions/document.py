"""`$document`: a Composition with all that it is made of, as one document Bundle.

The Composition comes first, then what it refers to, then what those refer to, and so on, each once. What it names
itself must be there; what is missing further away is left out.

Spec: https://hl7.org/fhir/R4/composition-operation-document.html, https://hl7.org/fhir/R4/documents.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.answers import location_of
from fhir_server.interactions.bundle import joined, timestamp
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.clock import new_id
from fhir_server.model.errors import InvalidError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change

Json = dict[str, Any]
Target = tuple[str, str]

TYPE = "Composition"

#: A document is read by people; more resources than this are none.
MOST = 5_000


async def document(context: Context, request: Request) -> Answer:
    """Composition/[id]/$document, Composition/$document?id=…: the Bundle; with `persist` also stored, at `Location`."""
    inputs = Inputs.of(request)
    inputs.only("id", "persist", "graph")
    target = (TYPE, composition_of(request, inputs))
    if inputs.one("graph") is not None:
        raise InvalidError(
            "A document by a GraphDefinition (`graph`) is not made here; without it, all references are followed.",
            code="not-supported",
            expression="Parameters.parameter.where(name='graph')",
            key="HS-OP-PARAMETER",
        )
    persist = inputs.flag("persist")
    version = await context.repository.read(*target)
    assert version.body is not None
    found = await gathered(context, target, version.body, f"{request.base_url}/")
    name = new_id()
    head = {
        "resourceType": "Bundle",
        "id": name,
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{name}"},
        "type": "document",
        "timestamp": timestamp(),
    }
    entries = [
        b'{"fullUrl":"%b","resource":%b}' % (f"{request.base_url}/{kind}/{i}".encode(), body)
        for (kind, i), body in found.items()
    ]
    body = joined(head, entries)
    if not persist or request.head:
        return Answer(200, body)
    committed = await context.repository.commit(Change("POST", "Bundle", name, codec.decode(body), fresh=True))
    location = location_of(committed.version, request.base_url)
    return Answer(200, committed.version.body, {"Location": location})


def composition_of(request: Request, inputs: Inputs) -> str:
    """The id of the Composition: of the address, or of `id`, which may be a reference or an address of this server.

    Raises:
        InvalidError: 400; there is none, or both, or one of another server.
    """
    given = inputs.text("id")
    if len(request.path) == 3:
        if given is not None:
            raise InvalidError(
                "The address names the Composition already; `id` goes with [base]/Composition/$document.",
                expression="Parameters.parameter.where(name='id')",
                key="HS-OP-PARAMETER",
            )
        return request.path[1]
    text: str = inputs.required("id", given).removeprefix(f"{request.base_url}/")
    found = text.removeprefix(f"{TYPE}/")
    if not found or "/" in found:
        raise InvalidError(
            f"The parameter 'id' is {text[:100]!r}; the id of a Composition of this server was expected.",
            code="value",
            expression="Parameters.parameter.where(name='id')",
            key="HS-OP-PARAMETER",
        )
    return found


async def gathered(context: Context, start: Target, body: bytes, base: str) -> dict[Target, bytes]:
    """The resources of a document in order, each with its JSON; one database command for each step away."""
    found: dict[Target, bytes] = {start: body}
    new = targets_of(context, body, base)
    direct = True
    while new:
        bodies = await fetched(context, new)
        if direct and (missing := [target for target in new if target not in bodies]):
            names = ", ".join("/".join(target) for target in missing[:10])
            raise UnprocessableError(
                f"The document is not complete: the Composition refers to {names}, which this server does not have.",
                code="not-found",
                expression=TYPE,
                key="HS-DOCUMENT-MISSING",
            )
        direct = False
        found |= {target: bodies[target] for target in new if target in bodies}
        if len(found) > MOST:
            raise UnprocessableError(
                f"The document would have more than {MOST:,} resources.", code="too-costly", key="HS-OP-COST"
            )
        following = (target for one in bodies.values() for target in targets_of(context, one, base))
        new = [target for target in dict.fromkeys(following) if target not in found]
    return found


async def fetched(context: Context, targets: list[Target]) -> dict[Target, bytes]:
    """The current versions of some resources that are not deleted; one command."""
    ids: dict[str, list[str]] = {}
    for name, i in targets:
        ids.setdefault(name, []).append(i)
    parts: dict[str, list[Json]] = {
        name: [
            {"$match": {"$and": [{"_id": {"$in": wanted}, "d": None}, *context.searcher.allowed(name)]}},
            {"$project": {"r": 1, "y": {"$literal": name}}},
        ]
        for name, wanted in ids.items()
    }
    (first, stages), *others = parts.items()
    unions = [{"$unionWith": {"coll": name, "pipeline": part}} for name, part in others]
    rows = await context.searcher.aggregate(first, [*stages, *unions])
    return {(row["y"], row["_id"]): row["r"] for row in rows}


def targets_of(context: Context, body: bytes, base: str) -> list[Target]:
    """The resources of this server that a resource refers to, in order: by references, or as an attachment's data."""
    targets: dict[Target, None] = {}
    for node, _ in codec.walk(codec.decode(body)):
        for text in (node.get("reference"), node.get("url")):
            if type(text) is not str:
                continue
            parts = text.removeprefix(base).partition("#")[0].split("/")
            is_local = len(parts) == 2 or (len(parts) == 4 and parts[2] == "_history")
            if is_local and parts[1] and context.registry.is_resource_type(parts[0]):
                targets[parts[0], parts[1]] = None
    return list(targets)
