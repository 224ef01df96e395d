"""The operations as paths: those for some types at these, those for all types once, with the type as a parameter.

Spec: https://hl7.org/fhir/R4/operations.html#executing
"""

from __future__ import annotations

from typing import Any

from fhir_server.http.openapi.contents import response
from fhir_server.http.openapi.interactions import SYSTEM, TYPE
from fhir_server.http.openapi.parameters import reference_to
from fhir_server.interactions.definitions import address_of
from fhir_server.interactions.registration import Operation
from profiles.operations import operations as known_operations
from profiles.registry import Operation as Definition
from profiles.registry import Registry

Json = dict[str, Any]

#: The tag of operations that are the same for all types.
ANY = "Any type"

#: A query can say these; all else needs a Parameters resource.
_QUERIED = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "positiveInt": {"type": "integer", "minimum": 1},
    "unsignedInt": {"type": "integer", "minimum": 0},
    "decimal": {"type": "number"},
}
_TEXTS = frozenset(
    ("string", "code", "uri", "url", "canonical", "id", "date", "dateTime", "instant", "token", "Coding", "Reference")
)


def paths_of(
    table: tuple[Operation, ...], registry: Registry, types: tuple[str, ...], base_url: str
) -> dict[str, Json]:
    """The path items of all operations at all their levels."""
    paths: dict[str, Json] = {}
    for operation in table:
        for name in operation.types or (TYPE,):
            if name in types or name == TYPE:
                for path in _paths(operation, name):
                    _add(paths, path, operation, name, registry, base_url)
    return paths


def methods_of(operation: Operation) -> tuple[str, ...]:
    """The methods by which a call can make sense: without POST there is no way to say what a query cannot."""
    definition = known_operations().get(operation.definition)
    beyond = any(p["min"] > 0 and not _is_queried(p) for p in _taken(definition))
    return tuple(method for method in operation.methods if method == "POST" or not beyond)


def _paths(operation: Operation, name: str) -> list[str]:
    levels = {
        f"/${operation.code}": operation.system,
        f"/{name}/${operation.code}": operation.type,
        f"/{name}/{{id}}/${operation.code}": operation.instance,
    }
    return [path for path, there in levels.items() if there]


def _taken(definition: Definition | None) -> list[Json]:
    return [p for p in definition.parameter if p["use"] == "in"] if definition else []


def _is_queried(parameter: Json) -> bool:
    return parameter.get("type") in _TEXTS | _QUERIED.keys()


def _add(paths: dict[str, Json], path: str, operation: Operation, name: str, registry: Registry, base_url: str) -> None:
    level = {1: "system", 2: "type", 3: "instance"}[path.count("/")]
    tag = SYSTEM if level == "system" else ANY if name == TYPE else name
    in_path = [reference_to(p) for p in ("type", "id") if f"{{{p}}}" in path]
    item = paths.setdefault(path, {"parameters": [*in_path, reference_to("_format"), reference_to("_pretty")]})
    definition = known_operations().get(operation.definition)
    taken = _taken(definition)
    for method in methods_of(operation):
        told: Json = {
            "tags": [tag],
            "operationId": "-".join((tag.replace(" ", ""), operation.code, level, method.lower())),
            "summary": definition.name if definition else f"${operation.code}",
            "description": f"Defined by {address_of(operation.definition, base_url)}.",
            "responses": {"200": response(_result(definition, registry)), "default": response("Problem")},
        }
        if operation.affects_state:
            told["responses"]["202"] = response("Accepted")
        if method == "GET":
            told["parameters"] = [_queried(p) for p in taken if _is_queried(p)]
        else:
            told["requestBody"] = {**BODY, "description": _told(taken)} if taken else BODY
        item[method.lower()] = told


#: Parameters; or, where an operation takes one, the resource itself.
BODY: Json = {
    "content": {
        kind: {"schema": {"$ref": f"#/components/schemas/{schema}"}}
        for kind, schema in (("application/fhir+json", "Resource"), ("application/fhir+xml", "fhir.xml"))
    }
}


def _result(definition: Definition | None, registry: Registry) -> str:
    """What comes back: the one resource that is returned, or Parameters."""
    out = [p for p in definition.parameter if p["use"] == "out"] if definition else []
    if len(out) == 1 and out[0]["name"] == "return":
        kind = out[0].get("type", "")
        return kind if registry.is_resource_type(kind) else "Parameters"
    return "Parameters" if definition else "Resource"


def _queried(parameter: Json) -> Json:
    schema = _QUERIED.get(parameter["type"], {"type": "string"})
    found: Json = {
        "name": parameter["name"],
        "in": "query",
        "schema": schema if parameter["max"] == "1" else {"type": "array", "items": schema},
    }
    if told := parameter.get("documentation"):
        found["description"] = told
    return found


def _told(parameters: list[Json]) -> str:
    rows = (f"- `{p['name']}` ({p.get('type', 'parts')}, {p['min']}..{p['max']})" for p in parameters)
    return "Parameters:\n" + "\n".join(rows)
