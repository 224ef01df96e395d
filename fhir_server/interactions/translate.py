"""`$translate`: what a code is called in another code system, by concept maps.

Spec: https://hl7.org/fhir/R4/conceptmap-operation-translate.html
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of, wrong
from fhir_server.interactions.terms.asked import (
    Coded,
    canonical_of,
    codings_of,
    definition_of,
    not_held,
    text_in,
)
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request
from fhir_server.terminology.compose import rows_of
from fhir_server.terminology.translation import NONE, Match, Sought, distinct, translated, value_set_in

Json = dict[str, Any]

PARAMETERS = (
    "url",
    "conceptMap",
    "conceptMapVersion",
    "code",
    "system",
    "version",
    "source",
    "coding",
    "codeableConcept",
    "target",
    "targetsystem",
    "dependency",
    "reverse",
)

#: So many maps are looked at, where none is named.
_MOST_MAPS = 100

#: A map leads to another one, and that to a third; no further than this.
_MOST_STEPS = 5


async def translate(context: Context, request: Request) -> Answer:
    """ConceptMap/$translate, ConceptMap/[id]/$translate: 200 with Parameters.

    Raises:
        NotFoundError: 404; the map that is named is not held here, and no other server knows it.
    """
    inputs = Inputs.of(request)
    inputs.only(*PARAMETERS)
    asked = codings_of(inputs, text_in(inputs, "system"), text_in(inputs, "version"))
    if not all(one.system for one in asked):
        raise InvalidError(
            "`system` is missing: a code means something in its code system alone.",
            code="required",
            expression="Parameters.parameter.where(name='system')",
            key="HS-OP-PARAMETER",
        )
    backwards = inputs.flag("reverse")
    dependencies = _dependencies(inputs)
    target = text_in(inputs, "targetsystem")
    sought = [Sought(one.system, one.code, one.version, target, dependencies, backwards) for one in asked]
    maps, name = await _maps(context, request, inputs, asked, backwards=backwards)
    if maps is None:
        elsewhere = await _elsewhere(context, inputs, asked[0], name)
        if elsewhere is None:
            raise not_held("concept map", name)
        return answered(elsewhere)
    matches = distinct([match for one in sought for found in maps for match in await _by(context, found, one, 0)])
    wanted = text_in(inputs, "target").partition("|")[0]
    if wanted:
        matches = [match for match in matches if await _leads_to(context, match, maps, wanted, backwards=backwards)]
    return answered(parameters_of(*_told(matches, asked)))


async def _maps(
    context: Context, request: Request, inputs: Inputs, asked: list[Coded], *, backwards: bool
) -> tuple[list[Json] | None, str]:
    """The maps that are meant: one that is named, or all that translate from the code systems; None: not held."""
    resource = await definition_of(context, request, inputs, "conceptMap", "conceptMapVersion")
    if resource is not None:
        return [resource], str(resource.get("url") or "")
    canonical = canonical_of(inputs, "conceptMapVersion")
    if canonical:
        found = await context.terminology.concept_map(canonical)
        return ([found] if found is not None else None), canonical
    name = "target-system" if backwards else "source-system"
    maps: list[Json] = []
    for system in dict.fromkeys(one.system for one in asked):
        rows = await context.searcher.matches("ConceptMap", urlencode({name: system}), limit=_MOST_MAPS)
        maps += [codec.decode(row.body or b"") for row in rows]
    source = text_in(inputs, "source").partition("|")[0]
    if source:
        side = "target" if backwards else "source"
        maps = [one for one in maps if value_set_in(one, side) in ("", source)]
    return [one for one in maps if one.get("status") != "retired"], ""


async def _by(context: Context, concept_map: Json, sought: Sought, step: int) -> list[Match]:
    """What a map says, and those that it leads to."""
    found = translated(concept_map, sought)
    matches = found.matches
    for canonical in found.others if step < _MOST_STEPS else ():
        other = await context.terminology.concept_map(canonical)
        if other is not None:
            matches += await _by(context, other, sought, step + 1)
    return matches


async def _leads_to(context: Context, match: Match, maps: list[Json], wanted: str, *, backwards: bool) -> bool:
    """Whether a translation is in the value set in which one is sought."""
    side = "source" if backwards else "target"
    for one in maps:
        if match.source.partition("|")[0] == str(one.get("url") or "") and value_set_in(one, side) == wanted:
            return True
    coding = match.coding
    if coding is None:
        return True
    return await context.terminology.member_of(wanted, coding.get("system"), coding["code"]) is True


def _dependencies(inputs: Inputs) -> tuple[tuple[str, frozenset[tuple[str, str]]], ...]:
    found = []
    for part in inputs.all("dependency"):
        rows = dict(part) if type(part) is list else {}
        element, concept = rows.get("element"), rows.get("concept")
        if type(element) is not str or type(concept) is not dict:
            raise wrong("dependency", part, "an `element` (uri) with its `concept` (CodeableConcept)")
        codings = list(rows_of(concept, "coding"))
        pairs = {(str(row.get("system") or ""), str(row.get("code"))) for row in codings}
        if type(concept.get("text")) is str:
            pairs.add(("", concept["text"]))
        found.append((element, frozenset(pairs)))
    return tuple(found)


def _told(matches: list[Match], asked: list[Coded]) -> list[Json]:
    good = any(match.coding is not None and match.equivalence not in NONE for match in matches)
    rows: list[Json] = [{"name": "result", "valueBoolean": good}]
    if not good:
        codes = ", ".join(map(str, asked[:3]))
        text = f"No translation of {codes} is known here." if not matches else f"{codes} has no translation."
        rows.append({"name": "message", "valueString": text})
    for match in matches:
        part: list[Json] = [{"name": "equivalence", "valueCode": match.equivalence}]
        if match.coding is not None:
            part.append({"name": "concept", "valueCoding": match.coding})
        for product in match.products:
            inner = [
                {"name": "element", "valueUri": product["element"]},
                {"name": "concept", "valueCoding": product["concept"]},
            ]
            part.append({"name": "product", "part": inner})
        if match.source:
            part.append({"name": "source", "valueUri": match.source})
        rows.append({"name": "match", "part": part})
    return rows


async def _elsewhere(context: Context, inputs: Inputs, coded: Coded, canonical: str) -> Json | None:
    remote = context.terminology.remote
    if remote is None:
        return None
    rows: list[Json] = [
        {"name": "url", "valueUri": canonical.partition("|")[0]},
        {"name": "system", "valueUri": coded.system},
        {"name": "code", "valueCode": coded.code},
    ]
    rows += [{"name": n, "valueUri": text} for n in ("source", "target", "targetsystem") if (text := inputs.text(n))]
    if inputs.flag("reverse"):
        rows.append({"name": "reverse", "valueBoolean": True})
    answer = await remote.ask("ConceptMap/$translate", parameters_of(*rows))
    names = {row.get("name") for row in (answer or {}).get("parameter") or () if type(row) is dict}
    return answer if "result" in names else None
