"""`$subsumes`: how one code of a code system stands to another.

Spec: https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.interactions.terms.asked import Coded, codings_of, definition_of, not_held, text_in
from fhir_server.model.errors import InvalidError, NotFoundError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.terminology.engine import Engine
from fhir_server.terminology.memory import system_of
from fhir_server.terminology.system import System

Json = dict[str, Any]

PARAMETERS = ("codeA", "codeB", "system", "version", "codingA", "codingB")

OUTCOMES = frozenset({"equivalent", "subsumes", "subsumed-by", "not-subsumed"})

#: A part is no kind of what it is a part of.
_NO_KINDS = "part-of"


async def subsumes(context: Context, request: Request) -> Answer:
    """CodeSystem/$subsumes, CodeSystem/[id]/$subsumes: 200 with the parameter `outcome`.

    Raises:
        NotFoundError: 404; the code system is not held here, or has no such code.
        UnprocessableError: 422; its hierarchy does not say what is a kind of what.
    """
    inputs = Inputs.of(request)
    inputs.only(*PARAMETERS)
    own = await _own(context, request, inputs)
    url = own.about.url if own is not None else text_in(inputs, "system")
    version = text_in(inputs, "version")
    (first,) = codings_of(inputs, url, version, code="codeA")
    (second,) = codings_of(inputs, url, version, code="codeB")
    if not first.system or first.system != second.system:
        raise InvalidError(
            f"Both codes must be of one code system; found {first.system or 'none'!r} and {second.system or 'none'!r}.",
            code="required" if not first.system else "invalid",
            expression="Parameters.parameter.where(name='system')",
            key="HS-OP-PARAMETER",
        )
    if own is not None and first.system != own.about.url:
        raise InvalidError(
            f"The codes are of {first.system!r}, and the address names {own.about.url!r}.", key="HS-OP-PARAMETER"
        )
    engine = context.terminology
    system = own if own is not None else await engine.code_system(first.system, first.version)
    if system is None:
        outcome = await _elsewhere(engine, first, second)
        if outcome is None:
            raise not_held("code system", first.system)
    else:
        outcome = await outcome_of(system, first.code, second.code)
    return answered(parameters_of({"name": "outcome", "valueCode": outcome}))


async def _own(context: Context, request: Request, inputs: Inputs) -> System | None:
    """The code system that the address names."""
    if len(request.path) != 3:
        return None
    resource = await definition_of(context, request, inputs, "codeSystem", "version")
    assert resource is not None
    held = await context.terminology.code_system(str(resource.get("url") or ""), str(resource.get("version") or ""))
    return held or system_of(resource)


async def outcome_of(system: System, first: str, second: str) -> str:
    """How the first code stands to the second.

    Raises:
        NotFoundError: 404; the system has no such code.
        UnprocessableError: 422; the hierarchy is of parts.
    """
    codes = []
    for code in (first, second):
        concept = await system.concept(code)
        if concept is None:
            raise NotFoundError(
                f"The code system {system.about.url!r} has no code {code[:200]!r} that is held here.",
                key="HS-TERM-CODE",
            )
        codes.append(concept.code)
    if codes[0] == codes[1]:
        return "equivalent"
    if system.about.hierarchy == _NO_KINDS:
        raise UnprocessableError(
            f"The hierarchy of {system.about.url!r} is of parts, so no code subsumes another.",
            code="not-supported",
            key="HS-TERM-HIERARCHY",
        )
    above, below = (await system.related(codes[1], above=True), await system.related(codes[0], above=True))
    if codes[0] in above:
        return "equivalent" if codes[1] in below else "subsumes"
    return "subsumed-by" if codes[1] in below else "not-subsumed"


async def _elsewhere(engine: Engine, first: Coded, second: Coded) -> str | None:
    if engine.remote is None:
        return None
    rows: list[Json] = [
        {"name": "system", "valueUri": first.system},
        {"name": "codeA", "valueCode": first.code},
        {"name": "codeB", "valueCode": second.code},
    ]
    answer = await engine.remote.ask("CodeSystem/$subsumes", parameters_of(*rows))
    for row in (answer or {}).get("parameter") or ():
        if type(row) is dict and row.get("name") == "outcome" and row.get("valueCode") in OUTCOMES:
            return str(row["valueCode"])
    return None
