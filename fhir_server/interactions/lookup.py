"""`$lookup`: all that a code system says of a code.

Spec: https://hl7.org/fhir/R4/codesystem-operation-lookup.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.interactions.terms.asked import Coded, at_date, codings_of, not_held, text_in
from fhir_server.model.errors import InvalidError, NotFoundError
from fhir_server.model.exchange import Answer, Request
from fhir_server.terminology.concepts import Concept, value_of
from fhir_server.terminology.engine import Engine
from fhir_server.terminology.languages import designations_of, display_of, languages_of, speaks
from fhir_server.terminology.system import System

Json = dict[str, Any]

PARAMETERS = ("code", "system", "version", "coding", "date", "displayLanguage", "property")

#: Properties of every code system, of which these are answered outside of `property`.
_NAMED = frozenset({"url", "system", "name", "version", "display", "definition", "designation"})

#: So many concepts right below one are named.
_MOST_CHILDREN = 1000


async def lookup(context: Context, request: Request) -> Answer:
    """CodeSystem/$lookup: 200 with Parameters.

    Raises:
        NotFoundError: 404; the code system is not held here, or has no such code.
    """
    inputs = Inputs.of(request)
    inputs.only(*PARAMETERS)
    context = at_date(context, inputs)
    (coded,) = codings_of(inputs, text_in(inputs, "system"), text_in(inputs, "version"))
    if not coded.system:
        raise InvalidError(
            "`system` is missing: a code means something in its code system alone.",
            code="required",
            expression="Parameters.parameter.where(name='system')",
            key="HS-OP-PARAMETER",
        )
    engine = context.terminology
    wanted = [str(name) for name in inputs.all("property")]
    languages = languages_of(text_in(inputs, "displayLanguage"))
    system = await engine.code_system(coded.system, coded.version)
    concept = await system.concept(coded.code) if system is not None else None
    if system is None or concept is None:
        if system is None or not system.about.whole:
            elsewhere = await _elsewhere(engine, coded, wanted, text_in(inputs, "displayLanguage"))
            if elsewhere is not None:
                return answered(elsewhere)
        if system is None:
            raise not_held("code system", f"{coded.system}|{coded.version}" if coded.version else coded.system)
        raise NotFoundError(
            f"The code system {system.about.url!r} has no code {coded.code[:200]!r} that is held here.",
            key="HS-TERM-CODE",
        )
    return answered(parameters_of(*await _rows(system, concept, wanted, languages)))


async def _elsewhere(engine: Engine, coded: Coded, wanted: Sequence[str], language: str) -> Json | None:
    if engine.remote is None:
        return None
    rows: list[Json] = [{"name": "system", "valueUri": coded.system}, {"name": "code", "valueCode": coded.code}]
    if coded.version:
        rows.append({"name": "version", "valueString": coded.version})
    if language:
        rows.append({"name": "displayLanguage", "valueCode": language})
    rows += [{"name": "property", "valueCode": name} for name in wanted]
    answer = await engine.remote.ask("CodeSystem/$lookup", parameters_of(*rows))
    found = answer.get("parameter") if answer is not None else None
    return (
        answer if type(found) is list and any(type(r) is dict and r.get("name") == "display" for r in found) else None
    )


async def _rows(system: System, concept: Concept, wanted: Sequence[str], languages: Sequence[str]) -> list[Json]:
    about = system.about
    rows: list[Json] = [{"name": "name", "valueString": about.name or about.url}]
    if about.version:
        rows.append({"name": "version", "valueString": about.version})
    rows.append({"name": "display", "valueString": display_of(concept, {}, languages, about.language) or concept.code})
    named = [name.removeprefix("lang.") for name in wanted if name.startswith("lang.")]
    if not wanted or "designation" in wanted or named:
        for one in designations_of(concept, {}):
            everything = not wanted or "designation" in wanted
            if everything or any(speaks(one.get("language"), language) for language in named):
                rows.append({"name": "designation", "part": _designation(one)})
    for name, value, description in await _properties(system, concept):
        if not wanted or name in wanted:
            part: list[Json] = [{"name": "code", "valueCode": name}, {"name": "value", **value}]
            if description:
                part.append({"name": "description", "valueString": description})
            rows.append({"name": "property", "part": part})
    return rows


def _designation(one: Json) -> list[Json]:
    part: list[Json] = []
    if "language" in one:
        part.append({"name": "language", "valueCode": one["language"]})
    if "use" in one:
        part.append({"name": "use", "valueCoding": one["use"]})
    return [*part, {"name": "value", "valueString": str(one.get("value") or "")}]


async def _properties(system: System, concept: Concept) -> list[tuple[str, Json, str]]:
    """Each property with its value, and with what that is called."""
    found: list[tuple[str, Json, str]] = []
    if concept.definition:
        found.append(("definition", {"valueString": concept.definition}, ""))
    below = list(await system.children(concept.code))[:_MOST_CHILDREN]
    named = [("parent", code) for code in concept.parents] + [("child", code) for code in below]
    told = {(name, code) for name, code in named}
    others = []
    for row in concept.properties:
        name, (key, value) = str(row.get("code")), value_of(row)
        if key and (name, str(value)) not in told:
            others.append((name, key, value))
    coded = [str(value) for _, key, value in others if key == "valueCode"]
    displays = await system.displays({code for _, code in named} | set(coded))
    found += [(name, {"valueCode": code}, displays.get(code, "")) for name, code in named]
    found += [
        (name, {key: value}, displays.get(str(value), "") if key == "valueCode" else "") for name, key, value in others
    ]
    names = {name for name, _, _ in found}
    if concept.inactive and "inactive" not in names:
        found.append(("inactive", {"valueBoolean": True}, ""))
    if concept.abstract and not names & {"notSelectable", "abstract"}:
        found.append(("notSelectable", {"valueBoolean": True}, ""))
    return found
