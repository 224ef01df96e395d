"""`$expand`: the codes of a value set.

Spec: https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of, wrong
from fhir_server.interactions.terms.asked import (
    at_date,
    canonical_of,
    definition_of,
    not_held,
    optional_flag,
    text_in,
    versions_of,
)
from fhir_server.interactions.terms.context_of import bound_to
from fhir_server.model.errors import UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.search.resolve import UnlistedError
from fhir_server.terminology.compose import Composed
from fhir_server.terminology.expansion import MOST, Wish, expanded
from fhir_server.terminology.languages import languages_of
from fhir_server.terminology.words import MOST as MOST_WORDS
from fhir_server.terminology.words import words_of

Json = dict[str, Any]

PARAMETERS = (
    "url",
    "valueSet",
    "valueSetVersion",
    "context",
    "contextDirection",
    "filter",
    "date",
    "offset",
    "count",
    "includeDesignations",
    "designation",
    "includeDefinition",
    "activeOnly",
    "excludeNested",
    "excludeNotForUI",
    "excludePostCoordinated",
    "displayLanguage",
    "exclude-system",
    "system-version",
    "check-system-version",
    "force-system-version",
)

#: Which of them are told in the expansion, with their types: those that change what is in it.
_TOLD = {
    "filter": "valueString",
    "offset": "valueInteger",
    "count": "valueInteger",
    "includeDesignations": "valueBoolean",
    "designation": "valueString",
    "activeOnly": "valueBoolean",
    "excludeNested": "valueBoolean",
    "excludeNotForUI": "valueBoolean",
    "excludePostCoordinated": "valueBoolean",
    "displayLanguage": "valueCode",
    "exclude-system": "valueUri",
    "system-version": "valueUri",
    "check-system-version": "valueUri",
    "force-system-version": "valueUri",
}

#: What an expansion says of its value set when the whole definition is not asked for.
_KEPT = ("id", "meta", "language", "url", "identifier", "version", "name", "title", "status", "experimental", "date")


async def expand(context: Context, request: Request) -> Answer:
    """ValueSet/$expand, ValueSet/[id]/$expand: 200 with the ValueSet and its expansion.

    Raises:
        NotFoundError: 404; the value set is not held here, and no other server knows it.
        UnprocessableError: 422; its codes cannot be listed, or are too many.
    """
    inputs = Inputs.of(request)
    inputs.only(*PARAMETERS)
    context = at_date(context, inputs)
    inputs.choice("contextDirection", ("incoming", "outgoing"))
    # No code here is put together from others, so nothing is left out with that.
    inputs.flag("excludePostCoordinated")
    wish = _wish_of(inputs)
    headings = not inputs.flag("excludeNotForUI")
    found, canonical = await _found(context, request, inputs, headings=headings)
    try:
        if found is None:
            raise UnlistedError("it is not held on this server")
        result = await expanded(context.terminology, found, wish)
    except UnlistedError as error:
        elsewhere = await _elsewhere(context, found, canonical, inputs)
        if elsewhere is not None:
            return answered(elsewhere)
        if found is None:
            raise not_held("value set", canonical) from None
        raise UnprocessableError(
            f"The value set {(found.canonical or 'that was sent')[:200]!r} cannot be expanded: {error}.",
            code="not-supported",
            key="HS-TERM-UNLISTED",
        ) from None
    paged = inputs.one("offset") is not None or inputs.one("count") is not None
    resource = found.resource
    whole = inputs.flag("includeDefinition")
    shown = {k: v for k, v in resource.items() if k != "expansion"} if whole else {}
    shown = shown or {name: resource[name] for name in _KEPT if name in resource}
    answer: Json = {"resourceType": "ValueSet", **shown}
    answer.setdefault("status", "active")
    offset = wish.offset if paged and not wish.nested else None
    told = _told(inputs)
    if (date := inputs.text("date")) is not None:  # no server elsewhere is asked for another day
        told.append({"name": "date", "valueDateTime": date})
    answer["expansion"] = result.as_json(told, offset)
    return answered(answer)


def _wish_of(inputs: Inputs) -> Wish:
    words = words_of(text_in(inputs, "filter"))
    if len(words) > MOST_WORDS:
        raise wrong("filter", text_in(inputs, "filter"), f"a text of at most {MOST_WORDS} words")
    count, offset = inputs.whole("count"), inputs.whole("offset")
    designations = tuple(str(token) for token in inputs.all("designation"))
    wanted = optional_flag(inputs, "includeDesignations")
    if wanted is None:
        wanted = bool(designations)
    return Wish(
        words=words,
        # Pages are of flat expansions alone, and so is what a filter has picked out.
        nested=optional_flag(inputs, "excludeNested") is False and not words and count is None and offset is None,
        offset=offset or 0,
        count=None if count is None else min(count, MOST),
        uses=designations if wanted else None,
        active_only=inputs.flag("activeOnly"),
        languages=tuple(languages_of(text_in(inputs, "displayLanguage"))),
        versions=versions_of(inputs),
        left_out=tuple(str(one) for one in inputs.all("exclude-system")),
    )


async def _found(context: Context, request: Request, inputs: Inputs, *, headings: bool) -> tuple[Composed | None, str]:
    """The value set that is meant, and its canonical URL."""
    engine = context.terminology
    resource = await definition_of(context, request, inputs, "valueSet", "valueSetVersion")
    if resource is not None:
        return await engine.compose(resource, headings=headings), str(resource.get("url") or "")
    place = inputs.text("context")
    if place is not None and inputs.text("url") is None:
        canonical = await bound_to(context, place)
    else:
        canonical = canonical_of(inputs, "valueSetVersion", needed="value set")
    return await engine.value_set(canonical, headings=headings), canonical


async def _elsewhere(context: Context, found: Composed | None, canonical: str, inputs: Inputs) -> Json | None:
    """What a server elsewhere answers."""
    remote = context.terminology.remote
    if remote is None:
        return None
    rows: list[Json] = [{"name": "url", "valueUri": canonical.partition("|")[0]}]
    if found is not None:
        rows = [{"name": "valueSet", "resource": found.resource}]
    elif "|" in canonical:
        rows.append({"name": "valueSetVersion", "valueString": canonical.partition("|")[2]})
    rows += _told(inputs)
    if inputs.one("includeDefinition") is not None:
        rows.append({"name": "includeDefinition", "valueBoolean": inputs.flag("includeDefinition")})
    answer = await remote.ask("ValueSet/$expand", parameters_of(*rows))
    is_right = answer is not None and answer.get("resourceType") == "ValueSet" and "expansion" in answer
    return answer if is_right else None


def _told(inputs: Inputs) -> list[Json]:
    """The parameters as they were given."""
    rows: list[Json] = []
    for name, kind in _TOLD.items():
        for value in inputs.all(name):
            told: Any = value
            if kind == "valueInteger":
                told = int(str(value))
            elif kind == "valueBoolean":
                told = value in (True, "true")
            rows.append({"name": name, kind: told})
    return rows
