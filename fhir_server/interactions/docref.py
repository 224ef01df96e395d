"""`$docref`: the documents that there are about a patient, as current DocumentReferences.

With `start` or `end`, all whose time of care meets that span (`context.period`, or `date` where there is none); without
both, the newest of each type of document. This server makes no documents on demand, and says so when they are wanted.

Spec: http://hl7.org/fhir/us/core/OperationDefinition/docref
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_server.interactions.bundle import link, searchset
from fhir_server.interactions.context import Context
from fhir_server.interactions.everything import CURSOR, care_of, cursor_of, fingerprint, place_of
from fhir_server.interactions.parameters import Inputs, wrong
from fhir_server.model.errors import Issue
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.compartment import Place
from fhir_server.search.normalize import fold

Json = dict[str, Any]
TYPE = "DocumentReference"
NAMES = ("patient", "start", "end", "type", "on-demand", "profile", "_count", CURSOR)
NEVER = -(2**63)

ON_DEMAND = Issue(
    "not-supported",
    "This server makes no documents on demand; those that are stored are found without `on-demand`.",
    "Parameters.parameter.where(name='on-demand')",
    "HS-OP-ON-DEMAND",
    "warning",
)


async def docref(context: Context, request: Request) -> Answer:
    """DocumentReference/$docref: a searchset, newest first, from one database command."""
    inputs = Inputs.of(request)
    inputs.only(*NAMES)
    patient = patient_of(inputs, request.base_url)
    types = [entry for value in inputs.all("type") for entry in tokens_of(value)]
    profiles = [part for value in inputs.all("profile") for part in str(value).split(",") if part]
    span = care_of(inputs)
    most = context.limits.max_page_size
    count = min(inputs.whole("_count", least=1) or most, most)
    address = "/".join((request.base_url, *request.path))
    given = [
        (name, value if type(value) is str else spelled(value)) for name in NAMES[:-1] for value in inputs.all(name)
    ]
    mark = fingerprint((TYPE, patient), given)
    cursor = inputs.text(CURSOR)
    after = place_of(cursor, mark) if cursor else None
    rows: list[Json] = []
    if on_demand := inputs.flag("on-demand"):
        issues = [ON_DEMAND]
    else:
        issues = []
        match: list[Mapping[str, Any]] = [{"x.subject": f"Patient/{patient}", "x.status": "=current"}]
        match += context.searcher.allowed(TYPE)
        if types:
            match.append({"x.type": {"$in": types}})
        if profiles:
            formats = [f"={fold(profile)}" for profile in profiles]
            match.append({"$or": [{"x._profile": {"$in": profiles}}, {"x.format": {"$in": formats}}]})
        stages: list[Json] = [{"$match": {"$and": match}}, *ordered()]
        if span is None:
            stages += newest_of_each()
        else:
            stages.append({"$match": {"s": {"$lt": span.end_us}, "e": {"$gt": span.start_us}}})
        if after is not None:
            moment = int(after.type)
            behind = {"$or": [{"o": {"$lt": moment}}, {"o": moment, "_id": {"$gt": after.id}}]}
            stages.append({"$match": behind})
        stages += [{"$sort": {"o": -1, "_id": 1}}, {"$limit": count + 1}, {"$project": {"r": 1, "o": 1}}]
        rows = await context.searcher.aggregate(TYPE, stages)
    shown = rows[:count]
    links = [link("self", address, [*given, *([(CURSOR, cursor)] if cursor else [])])]
    if len(rows) > count:
        place = Place(False, str(shown[-1]["o"]), shown[-1]["_id"])
        links.append(link("next", address, [*given, (CURSOR, cursor_of(place, mark))]))
    return Answer(
        200,
        searchset(
            total=0 if on_demand else len(shown) if len(rows) <= count and not cursor else None,
            links=links,
            matches=((f"{request.base_url}/{TYPE}/{row['_id']}", row["r"]) for row in shown),
            issues=issues,
        ),
    )


def ordered() -> list[Json]:
    """The span of care (`s`, `e`) and the moment that a document is ordered by (`o`): its date, or its care's start."""

    def first(*paths: str) -> Json:
        return {"$ifNull": [*paths, NEVER]}

    return [
        {
            "$set": {
                "s": first("$x.period.s", "$x.date.s"),
                "e": {"$ifNull": ["$x.period.e", "$x.date.e", -NEVER - 1]},
                "o": first("$x.date.s", "$x.period.s"),
            }
        }
    ]


def newest_of_each() -> list[Json]:
    row = {"_id": "$_id", "r": "$r", "o": "$o"}
    newest = {"$top": {"sortBy": {"o": -1, "_id": 1}, "output": row}}
    return [{"$group": {"_id": "$x.type", "top": newest}}, {"$replaceWith": "$top"}]


def patient_of(inputs: Inputs, base_url: str) -> str:
    """The id of the patient, which may be given as a reference too.

    Raises:
        InvalidError: 400; it is missing, or names something else.
    """
    text: str = inputs.required("patient", inputs.text("patient")).removeprefix(f"{base_url}/")
    found = text.removeprefix("Patient/")
    if not found or "/" in found:
        raise wrong("patient", text, "the id of a patient")
    return found


def tokens_of(value: Any) -> list[str]:
    """The index entries that a type means: `system|code` of a query, or a CodeableConcept."""
    if type(value) is not dict:
        parts = [part.rpartition("|") for part in str(value).split(",")]
        codings = [{"system": system if bar else None, "code": code} for system, bar, code in parts]
    else:
        codings = value.get("coding", [value] if "code" in value else [])
    entries = []
    for coding in codings:
        system, code = coding.get("system"), str(coding.get("code", ""))
        if not code:
            raise wrong("type", value, "a code, with its system before it and `|` in between,")
        # Where the code system is known to be case sensitive, the code stands as it is; else it is folded.
        entries += [f"={fold(code)}"] if system is None else [f"{system}|{code}", f"{system}|{fold(code)}"]
    if not entries:
        raise wrong("type", value, "a CodeableConcept with a coding")
    return entries


def spelled(value: Any) -> str:
    """A parameter as the links repeat it."""
    if type(value) is dict:
        codings = value.get("coding", [value])
        return ",".join(f"{c['system']}|{c['code']}" if "system" in c else str(c.get("code")) for c in codings)
    return str(value).lower()
