"""The table of interactions: the one place that joins method and address to what is done.

Routing, `Allow` headers, the entries of a batch and the CapabilityStatement all read it, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from fhir_server.interactions.capabilities import capabilities
from fhir_server.interactions.context import Context
from fhir_server.interactions.create import create
from fhir_server.interactions.delete import delete, delete_conditional
from fhir_server.interactions.history import history
from fhir_server.interactions.patch import patch, patch_conditional
from fhir_server.interactions.permission import require_interaction, require_operation
from fhir_server.interactions.provenance import refuse_source
from fhir_server.interactions.read import read
from fhir_server.interactions.registration import Handler, Interaction, Operation
from fhir_server.interactions.search_compartment import search_compartment
from fhir_server.interactions.search_system import search_system
from fhir_server.interactions.search_type import search_type
from fhir_server.interactions.submit import submit
from fhir_server.interactions.update import update, update_conditional
from fhir_server.interactions.vread import vread
from fhir_server.model.errors import FhirError, MethodNotAllowedError, NotFoundError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.records import TRAIL

TABLE: tuple[Interaction, ...] = (
    Interaction("GET", "metadata", capabilities),
    Interaction("POST", "", submit, "transaction", "system"),
    Interaction("POST", "", submit, "batch", "system"),
    Interaction("GET", "_history", history, "history-system", "system"),
    Interaction("GET", "", search_system, "search-system", "system"),
    Interaction("POST", "_search", search_system, "search-system", "system"),
    Interaction("GET", "{type}/{id}", read, "read"),
    Interaction("GET", "{type}/{id}/_history/{vid}", vread, "vread"),
    Interaction("PUT", "{type}/{id}", update, "update"),
    Interaction("PATCH", "{type}/{id}", patch, "patch"),
    Interaction("DELETE", "{type}/{id}", delete, "delete"),
    Interaction("GET", "{type}/{id}/_history", history, "history-instance"),
    Interaction("GET", "{type}/_history", history, "history-type"),
    Interaction("POST", "{type}", create, "create"),
    Interaction("GET", "{type}", search_type, "search-type"),
    Interaction("POST", "{type}/_search", search_type, "search-type"),
    Interaction("GET", "{type}/{id}/{member}", search_compartment),
    Interaction("POST", "{type}/{id}/{member}/_search", search_compartment),
    Interaction("POST", "{type}/{id}/_search", search_compartment),
    Interaction("PUT", "{type}", update_conditional),
    Interaction("PATCH", "{type}", patch_conditional),
    Interaction("DELETE", "{type}", delete_conditional),
)

_ROWS: dict[tuple[str, str], Interaction] = {(row.method, row.shape): row for row in TABLE}
_HANDLERS: dict[tuple[str, str], Handler] = {key: row.handle for key, row in _ROWS.items()}
#: Conditional forms have no code of their own, nor has the search of a compartment.
_CODES: dict[tuple[str, str], str] = {
    ("PUT", "{type}"): "update",
    ("PATCH", "{type}"): "patch",
    ("DELETE", "{type}"): "delete",
    ("POST", ""): "transaction",
}
for _row in TABLE:
    if _row.shape != "metadata":
        _CODES.setdefault((_row.method, _row.shape), _row.code or "search-type")
#: What is asked here stands in the body.
_ASKS = frozenset({("_search",), ("$graphql",), ("$everything",)})
_METHODS: dict[str, list[str]] = {}
for _row in TABLE:
    if _row.method not in _METHODS.setdefault(_row.shape, []):
        _METHODS[_row.shape].append(_row.method)


def shape_of(path: tuple[str, ...]) -> str:
    """The shape that an address has: its variable parts become `{type}`, `{id}` and `{vid}`."""
    if not path or path[0] in ("metadata", "_history", "_search") or path[0].startswith("$"):
        return "/".join(path)
    if len(path) == 1:
        return "{type}"
    if path[1] in ("_history", "_search") or path[1].startswith("$"):
        return "/".join(("{type}", *path[1:]))
    if len(path) == 2:
        return "{type}/{id}"
    if len(path) == 4 and path[2] == "_history":
        return "{type}/{id}/_history/{vid}"
    if path[2][:1].isupper() or path[2] == "*":
        return "/".join(("{type}/{id}/{member}", *path[3:]))
    return "/".join(("{type}/{id}", *path[2:]))


def interaction_of(method: str, path: tuple[str, ...], operations: Sequence[Operation]) -> str:
    """The interaction's code (`read`, `search-type`, `operation` …); empty where there is none.

    A batch is told from a transaction by its content alone; here both are `transaction`.
    """
    shape = shape_of(path)
    code = _CODES.get((method, shape))
    if code is None:
        return "operation" if operation_at(path, operations) is not None else ""
    return code


async def dispatch(context: Context, request: Request) -> Answer:
    """Carry out a request.

    Raises:
        NotFoundError: 404; the address is none of this server's.
        MethodNotAllowedError: 405; the address exists, not with this method; `Allow` tells which.
    """
    shape = shape_of(request.path)
    if context.caught_up is not None and speaks_of_trail(request):
        await context.caught_up()
    if shape.startswith("{type}") and not context.registry.is_resource_type(request.path[0]):
        raise unknown_type(context, request.path[0])
    handle = _HANDLERS.get((request.method, shape))
    if handle is not None:
        if context.unguarded is not None:
            require_interaction(context, _ROWS[request.method, shape], request)
        return await explained(context, handle, request)
    operation = operation_at(request.path, context.operations)
    if operation is not None and request.method in operation.methods:
        if operation.affects_state:
            refuse_source(request, f"the operation ${operation.code}")
        if context.unguarded is not None:
            require_operation(context, operation, request)
            if operation.elevated:
                context = context.beyond()
        return await explained(context, operation.handle, request)
    methods = list(operation.methods) if operation else _METHODS.get(shape)
    if methods is None:
        raise NotFoundError(
            f"{'/'.join(request.path)!r} is no address of this server; "
            f"{request.base_url}/metadata tells what it offers.",
            code="not-supported",
            key="HS-ROUTE",
        )
    allowed = ", ".join(methods)
    raise MethodNotAllowedError(
        f"{request.method} is not possible at {'/'.join(request.path) or 'the base'!r}; possible: {allowed}.",
        key="HS-ROUTE-METHOD",
        headers={"Allow": allowed},
    )


async def explained(context: Context, handle: Handler, request: Request) -> Answer:
    """What is answered; a failure of which a part can say more is told as that part tells it."""
    try:
        return await handle(context, request)
    except FhirError as error:
        explain = context.explaining.get(type(error))
        if explain is None:
            raise
        raise await explain(context, error) from error


def speaks_of_trail(request: Request) -> bool:
    """Whether the answer may show AuditEvents: they are made only when somebody looks, or nobody asks for anything."""
    if TRAIL in request.path or TRAIL in request.query or request.path[-1:] == ("$access-ledger",):
        return True
    return request.method == "POST" and request.path[-1:] in _ASKS and TRAIL.encode() in request.body


def operation_at(path: tuple[str, ...], operations: Sequence[Operation]) -> Operation | None:
    """The operation that an address calls."""
    if not path or not path[-1].startswith("$"):
        return None
    return next((operation for operation in operations if operation.is_at(path)), None)


def unknown_type(context: Context, name: str) -> NotFoundError:
    near = get_close_matches(name, context.registry.resource_types, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    return NotFoundError(
        f"{name[:80]!r} is no resource type of FHIR R4{hint}", code="not-supported", key="HS-ROUTE-TYPE"
    )
