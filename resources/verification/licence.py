"""Licences of Practitioners, and whether one is in force: what decides who can be found.

A licence is a qualification with an identifier that is no degree. Whoever has none is not asked for one, since many
systems keep licences elsewhere; whoever has some needs one that holds now.

Spec: https://hl7.org/fhir/R4/practitioner-definitions.html#Practitioner.qualification
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.model.dates import OPEN_END_US, OPEN_START_US, interval_of
from fhir_server.model.errors import FhirError
from resources.codings import codings_of

Json = dict[str, Any]

#: Degrees are of this system.
DEGREES: Final = "http://terminology.hl7.org/CodeSystem/v2-0360"

#: The tag of Practitioners whom nobody is to find, and of their roles.
DIRECTORY: Final = "urn:healthsphere:directory"
HIDDEN: Final = "hidden"


def is_degree(qualification: Json) -> bool:
    return any(str(c.get("system", "")).startswith(DEGREES) for c in codings_of(qualification.get("code")))


def is_licence(qualification: Json) -> bool:
    return bool(qualification.get("identifier")) and not is_degree(qualification)


def licences_of(practitioner: Json) -> list[Json]:
    rows = practitioner.get("qualification")
    return [row for row in rows if type(row) is dict and is_licence(row)] if type(rows) is list else []


def span_of(qualification: Json) -> tuple[int, int]:
    """From when to when a qualification holds, in microseconds since 1970 UTC; its last day is part of it."""
    period = qualification.get("period")
    period = period if type(period) is dict else {}
    try:
        start = interval_of(str(period["start"])).start_us if "start" in period else OPEN_START_US
        end = interval_of(str(period["end"])).end_us if "end" in period else OPEN_END_US
    except FhirError:
        return OPEN_START_US, OPEN_END_US  # rules look at what is not validated yet; validation refuses it
    return start, end


def is_licensed(practitioner: Json, now_us: int) -> bool:
    """Whether one of the licences holds, or there is none."""
    licences = licences_of(practitioner)
    return not licences or any(start <= now_us < end for start, end in map(span_of, licences))


def is_hidden(practitioner: Json, now_us: int) -> bool:
    """Whether patients are not to find somebody: not active, or no licence in force."""
    return practitioner.get("active") is False or not is_licensed(practitioner, now_us)


def next_change_us(practitioner: Json, now_us: int) -> int | None:
    """When it may next change whether a licence is in force; None where it never does."""
    moments = [moment for licence in licences_of(practitioner) for moment in span_of(licence)]
    return min((moment for moment in moments if now_us < moment < OPEN_END_US), default=None)


def licence_ends_us(practitioner: Json) -> int | None:
    """When the last licence ends; None where there is none, or one does not end."""
    ends = [span_of(licence)[1] for licence in licences_of(practitioner)]
    return max(ends) if ends and max(ends) < OPEN_END_US else None


# --- the mark ---------------------------------------------------------------------------------------------------------


def is_marked(resource: Json) -> bool:
    return any(_is_mark(tag) for tag in _tags_of(resource))


def marked(resource: Json, hidden: bool) -> Json:
    """The resource with the mark of who is hidden, or without it; itself where it is so."""
    meta = resource.get("meta", {})
    if is_marked(resource) == hidden or type(meta) is not dict:  # which the validation refuses
        return resource
    tags = [tag for tag in _tags_of(resource) if not _is_mark(tag)]
    tags += [{"system": DIRECTORY, "code": HIDDEN}] if hidden else []
    meta = {**{name: value for name, value in meta.items() if name != "tag"}, **({"tag": tags} if tags else {})}
    return {**{name: value for name, value in resource.items() if name != "meta"}, **({"meta": meta} if meta else {})}


def _tags_of(resource: Json) -> list[Any]:
    meta = resource.get("meta")
    tags = meta.get("tag") if type(meta) is dict else None
    return tags if type(tags) is list else []


def _is_mark(tag: Any) -> bool:
    return type(tag) is dict and tag.get("system") == DIRECTORY and tag.get("code") == HIDDEN
