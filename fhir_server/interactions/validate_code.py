"""`$validate-code`: whether a code is in a value set, or in a code system, and rightly called.

`result` is true only for what is known. Where nobody knows, it is false, and `message` begins with "Not checked".

Spec: https://hl7.org/fhir/R4/codesystem-operation-validate-code.html,
https://hl7.org/fhir/R4/valueset-operation-validate-code.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.interactions.terms.asked import (
    Coded,
    at_date,
    canonical_of,
    codings_of,
    definition_of,
    not_held,
    text_in,
)
from fhir_server.interactions.terms.context_of import bound_to
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request
from fhir_server.search.normalize import normalized
from fhir_server.terminology.compose import Composed
from fhir_server.terminology.concepts import Concept
from fhir_server.terminology.conditions import Everything
from fhir_server.terminology.engine import Engine, asked, judged_by, result_of
from fhir_server.terminology.languages import designations_of, display_of, languages_of
from fhir_server.terminology.memory import system_of
from fhir_server.terminology.system import System

Json = dict[str, Any]

_COMMON = ("url", "code", "display", "coding", "codeableConcept", "date", "abstract", "displayLanguage")
OF_SYSTEM = (*_COMMON, "codeSystem", "version")
OF_VALUE_SET = (*_COMMON, "context", "valueSet", "valueSetVersion", "system", "systemVersion")

UNCHECKED = "Not checked: "


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of one code: right, wrong, or not known (None)."""

    verdict: bool | None
    message: str = ""
    display: str = ""


async def validate_code(context: Context, request: Request) -> Answer:
    """CodeSystem or ValueSet/$validate-code, also with an id: 200 with Parameters.

    Raises:
        NotFoundError: 404; the definition that is meant is not held here, and no other server knows it.
    """
    inputs = Inputs.of(request)
    is_system = request.path[0] == "CodeSystem"
    inputs.only(*(OF_SYSTEM if is_system else OF_VALUE_SET))
    context = at_date(context, inputs)
    if inputs.text("display") is not None and inputs.text("code") is None:
        raise InvalidError(
            "`display` goes with `code`; a Coding has a display of its own.",
            expression="Parameters.parameter.where(name='display')",
            key="HS-OP-PARAMETER",
        )
    judge = await (_of_system(context, request, inputs) if is_system else _of_value_set(context, request, inputs))
    return answered(parameters_of(*_told(judge)))


def _told(judged: Sequence[Judged]) -> list[Json]:
    """One code that is right is enough; else what is wrong with each is told."""
    best = next((one for one in judged if one.verdict), None)
    rows: list[Json] = [{"name": "result", "valueBoolean": best is not None}]
    messages = [one.message for one in ([best] if best is not None else judged) if one.message]
    if messages:
        rows.append({"name": "message", "valueString": " ".join(dict.fromkeys(messages))})
    display = next((one.display for one in ([best] if best is not None else judged) if one.display), "")
    if display:
        rows.append({"name": "display", "valueString": display})
    return rows


# --- code systems ---


async def _of_system(context: Context, request: Request, inputs: Inputs) -> list[Judged]:
    engine = context.terminology
    resource = await definition_of(context, request, inputs, "codeSystem", "version")
    version = text_in(inputs, "version")
    if resource is not None:
        held = None
        if len(request.path) == 3:  # a big one is held otherwise than as its resource
            held = await engine.code_system(str(resource.get("url") or ""), str(resource.get("version") or ""))
        system: System | None = held or system_of(resource)
        url = str(resource.get("url") or "")
    else:
        url, _, named = canonical_of(inputs, "version", needed="code system").partition("|")
        version = version or named
        system = await engine.code_system(url, version)
    codings = codings_of(inputs, url, version)
    if system is None and engine.remote is None:
        raise not_held("code system", f"{url}|{version}" if version else url)
    languages = languages_of(text_in(inputs, "displayLanguage"))
    judged = []
    for coded in codings:
        if coded.system and coded.system != url:
            judged.append(Judged(False, f"The code {coded} is of another code system than {url}."))
            continue
        one = await _in_system(system, coded, languages, abstract=inputs.flag("abstract")) if system else None
        if one is None or one.verdict is None:
            one = await _system_elsewhere(engine, url, coded) or one or _unknown_system(url)
        judged.append(one)
    return judged


async def _in_system(system: System, coded: Coded, languages: Sequence[str], *, abstract: bool) -> Judged:
    concept = await system.concept(coded.code)
    url = system.about.url
    if concept is None:
        if not system.about.whole:
            return Judged(None, f"{UNCHECKED}of the code system {url} not all codes are held here.")
        return Judged(False, f"The code system {url} has no code {coded.code!r}.")
    display = display_of(concept, {}, languages, system.about.language)
    if concept.abstract and not abstract:
        return Judged(False, f"{coded.code!r} is a mere heading (abstract) in {url}.", display)
    return _called(concept, {}, coded, display)


def _called(concept: Concept, row: Json, coded: Coded, display: str) -> Judged:
    """Whether the display is one that the code has."""
    right = (
        str(row.get("display") or ""),
        concept.display,
        *(str(d.get("value")) for d in designations_of(concept, row)),
    )
    if coded.display and normalized(coded.display) not in {normalized(text) for text in right if text}:
        return Judged(
            False, f"{coded.code!r} is not called {coded.display[:200]!r}; it is called {display!r}.", display
        )
    return Judged(True, "The code is inactive." if concept.inactive else "", display)


def _unknown_system(url: str) -> Judged:
    return Judged(None, f"{UNCHECKED}the code system {url} is not held here.")


async def _system_elsewhere(engine: Engine, url: str, coded: Coded) -> Judged | None:
    if engine.remote is None:
        return None
    rows: list[Json] = [{"name": "url", "valueUri": url}, {"name": "code", "valueCode": coded.code}]
    rows += [{"name": "version", "valueString": coded.version}] if coded.version else []
    rows += [{"name": "display", "valueString": coded.display}] if coded.display else []
    return _said(await engine.remote.ask("CodeSystem/$validate-code", parameters_of(*rows)))


def _said(answer: Json | None) -> Judged | None:
    """What a server elsewhere said."""
    verdict = result_of(answer) if answer is not None else None
    if answer is None or verdict is None:
        return None
    texts = {row.get("name"): row.get("valueString") for row in answer["parameter"] if type(row) is dict}
    return Judged(verdict, str(texts.get("message") or ""), str(texts.get("display") or ""))


# --- value sets ---


async def _of_value_set(context: Context, request: Request, inputs: Inputs) -> list[Judged]:
    engine = context.terminology
    resource = await definition_of(context, request, inputs, "valueSet", "valueSetVersion")
    abstract = inputs.flag("abstract")
    canonical = str(resource.get("url") or "") if resource is not None else ""
    found: Composed | None
    if resource is not None:
        found = await engine.compose(resource, headings=abstract)
    else:
        place = inputs.text("context")
        if place is not None and inputs.text("url") is None:
            canonical = await bound_to(context, place)
        else:
            canonical = canonical_of(inputs, "valueSetVersion", needed="value set")
        found = await engine.value_set(canonical, headings=abstract)
    codings = codings_of(inputs, text_in(inputs, "system"), text_in(inputs, "systemVersion"))
    languages = languages_of(text_in(inputs, "displayLanguage"))
    judged: list[Judged] = []
    for coded in codings:
        one = await _in_value_set(engine, found, coded, languages) if found is not None else None
        if (one is None or one.verdict is None) and engine.remote is not None and coded.system:
            question = asked(found, canonical, coded.system, coded.code)
            if coded.display:
                question["parameter"].append({"name": "display", "valueString": coded.display})
            one = _said(await engine.remote.ask("ValueSet/$validate-code", question)) or one
        if one is None:
            raise not_held("value set", canonical)
        judged.append(one)
    return judged


async def _in_value_set(engine: Engine, found: Composed, coded: Coded, languages: Sequence[str]) -> Judged:
    name = found.canonical or "the value set"
    drawn = await engine.systems_of(found)
    verdict = await judged_by(found, drawn, coded.system or None, coded.code, coded.version)
    if verdict is None:
        return Judged(None, f"{UNCHECKED}not all that {name} draws on is held here.")
    if not verdict:
        known = next((system for system, _, _ in drawn if system.about.url == coded.system), None)
        if known is not None and await known.has(coded.code, Everything()) is False:
            return Judged(False, f"The code system {coded.system} has no code {coded.code!r}.")
        return Judged(False, f"The code {coded} is not in {name}.")
    for system, part, _ in drawn:
        if coded.system not in ("", system.about.url) or not await system.has(coded.code, part.condition):
            continue
        concept = await system.concept(coded.code) or Concept(coded.code)
        row = part.listed.get(coded.code, {})
        display = display_of(concept, row, languages, system.about.language)
        if not concept.display and "display" not in row:  # nothing is known of what it is called
            return Judged(True, f"{UNCHECKED}how {coded} is called." if coded.display else "", display)
        return _called(concept, row, coded, display)
    return Judged(True)
