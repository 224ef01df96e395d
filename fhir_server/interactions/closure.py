"""`$closure`: keeps a table of which concepts subsume which, among those that a client has met.

A name alone begins a table, or begins it anew; concepts are added to it; a version asks for what came after it.

Spec: https://hl7.org/fhir/R4/conceptmap-operation-closure.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, wrong
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import InvalidError, NotFoundError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.terminology.closures import FullError, Met, Relation

Json = dict[str, Any]

PARAMETERS = ("name", "concept", "version")

_LONGEST_NAME = 200
_MOST_AT_ONCE = 1000


async def closure(context: Context, request: Request) -> Answer:
    """POST [base]/$closure: 200 with a ConceptMap; each target subsumes its source.

    Raises:
        NotFoundError: 404; there is no such table: a call with its name alone begins it.
        UnprocessableError: 422; a code system is not held here, or there is no room.
    """
    inputs = Inputs.of(request)
    inputs.only(*PARAMETERS)
    name = inputs.required("name", inputs.text("name"))
    if not name or len(name) > _LONGEST_NAME:
        raise wrong("name", name, f"a name of at most {_LONGEST_NAME} characters")
    owner = _owner_of(context)
    concepts, version = inputs.all("concept"), inputs.text("version")
    if concepts and version is not None:
        raise InvalidError(
            "`concept` adds to the table, `version` asks for what came after it: not both at once.",
            expression="Parameters.parameter.where(name='version')",
            key="HS-OP-PARAMETER",
        )
    tables = context.terminology.closures
    assert tables is not None, "`app` has given the engine its tables"
    try:
        if not concepts and version is None:
            await tables.start(owner, name)
            return answered(_map_of(name, 0, ()))
        current = await tables.version(owner, name)
        if current is None:
            raise NotFoundError(
                f"There is no closure table {name!r}; a call with its name alone begins it.", key="HS-TERM-CLOSURE"
            )
        if version is not None:
            if not version.isascii() or not version.isdigit() or len(version) > 18:
                raise wrong("version", version, "a version that an earlier answer had")
            return answered(_map_of(name, current, await tables.since(owner, name, int(version))))
        grown, relations = await tables.add(owner, name, await _met(context, concepts))
        return answered(_map_of(name, grown, relations))
    except FullError as error:
        raise UnprocessableError(
            f"The concepts are not added: {error}.", code="too-costly", key="HS-TERM-CLOSURE"
        ) from None


def _owner_of(context: Context) -> str:
    """Whose table it is: each client has its own, for each of its users."""
    identity = context.caller.identity
    return f"{identity.client_id}\0{identity.subject}"


async def _met(context: Context, concepts: Sequence[Any]) -> list[Met]:
    """The concepts, each once, with what is above them."""
    if len(concepts) > _MOST_AT_ONCE:
        raise wrong("concept", f"{len(concepts)} times", f"at most {_MOST_AT_ONCE} concepts at once")
    keys: dict[tuple[str, str, str], None] = {}
    for row in concepts:
        if type(row) is not dict or type(row.get("system")) is not str or type(row.get("code")) is not str:
            raise wrong("concept", row, "a Coding with system and code")
        keys[row["system"], str(row.get("version") or ""), row["code"]] = None
    systems = await context.terminology.code_systems([(system, version) for system, version, _ in keys])
    met: dict[tuple[str, str], Met] = {}
    for system, version, code in keys:
        known = systems.get((system, version))
        above = await known.related(code, above=True) if known is not None else frozenset()
        if not above:
            what = f"has no code {code[:200]!r}" if known is not None else "is not held here"
            raise UnprocessableError(
                f"The code system {system[:200]!r} {what}, so nothing is known of what subsumes it.",
                code="not-supported" if known is None else "not-found",
                expression="Parameters.parameter.where(name='concept')",
                key="HS-TERM-UNKNOWN" if known is None else "HS-TERM-CODE",
            )
        met[system, code] = Met(system, code, above)
    return list(met.values())


def _map_of(name: str, version: int, relations: Sequence[Relation]) -> Json:
    groups: dict[str, dict[str, list[Json]]] = {}
    for one in relations:
        targets = groups.setdefault(one.system, {}).setdefault(one.below, [])
        targets.append({"code": one.above, "equivalence": "subsumes"})
    result: Json = {
        "resourceType": "ConceptMap",
        "id": str(uuid4()),
        "version": str(version),
        "name": name,
        "status": "active",
        "experimental": True,
        "date": instant_of(now_us()),
        "description": text_of(version),
    }
    if groups:
        result["group"] = [
            {
                "source": system,
                "target": system,
                "element": [{"code": code, "target": targets} for code, targets in elements.items()],
            }
            for system, elements in groups.items()
        ]
    return result


def text_of(version: int) -> str:
    return f"Updates to the closure table, version {version}: each target subsumes its source."
