"""Parameters: those of searches, made from what can be searched, and those of addresses and headers.

A criterion may be given several times, and all must hold; values with commas between them are alternatives.

Spec: https://spec.openapis.org/oas/v3.1.1.html#parameter-object, https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import re
from typing import Any, get_args

from fhir_server.http.negotiate import FORMAT_CODES
from fhir_server.interactions.capabilities import MODES
from fhir_server.repository.search import COMMON
from fhir_server.search.chains import LIST
from fhir_server.search.controls import NAMES
from fhir_server.search.filter.build import FILTER
from fhir_server.search.include import INCLUDES
from fhir_server.search.parameters import table_of
from fhir_server.search.query import Prefix, Summary, Total
from profiles.registry import Registry, SearchParameter

Json = dict[str, Any]

PARAMETERS = "#/components/parameters/"
ID_PATTERN = r"^[A-Za-z0-9\-.]{1,64}$"

_PREFIX = f"({'|'.join(get_args(Prefix))})?"
_NUMBER = r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_DATE = r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"


def _listed(value: str) -> str:
    return f"^{value}(,{value})*$"


_TEXT = r"^[^\x00]+$"

#: By the type of a search parameter: the pattern of its values, and an example.
CRITERIA: dict[str, tuple[str, str]] = {
    "string": (_TEXT, "müller"),
    "token": (_TEXT, "http://loinc.org|8480-6"),
    "reference": (_TEXT, "Patient/1"),
    "uri": (_TEXT, "http://example.org/fhir/ValueSet/a"),
    "composite": (r"^[^\x00$]+(\$[^\x00$]+)+$", "8480-6$gt120"),
    "special": (_TEXT, "48.137|11.575|5|km"),
    "date": (_listed(_PREFIX + _DATE), "ge2020-01-01"),
    "number": (_listed(_PREFIX + _NUMBER), "gt0.8"),
    "quantity": (_listed(rf"{_PREFIX}{_NUMBER}(\|[^\x00,|]*\|[^\x00,|]*)?"), "gt72.5|http://unitsofmeasure.org|kg"),
}

#: Parameters that shape an answer, those of history, and those of special meaning: what they are, and their schema.
_QUERY: dict[str, tuple[str, Json]] = {
    "_count": ("Matches on a page.", {"type": "integer", "minimum": 0}),
    "_sort": ("Names of search parameters with commas between them; `-` before one turns its order.", {}),
    "_total": ("Whether matches are counted.", {"enum": list(get_args(Total))}),
    "_summary": ("A part of each resource.", {"enum": list(get_args(Summary))}),
    "_elements": ("The elements that are wanted, with commas between them.", {}),
    "_type": ("The types that are searched, with commas between them.", {}),
    "_cursor": ("Names a page; links of answers have it.", {}),
    "_include": ("`Type:reference[:Type]`: what matches refer to.", {}),
    "_revinclude": ("`Type:reference[:Type]`: what refers to matches.", {}),
    "_contained": ("Whether contained resources are searched.", {"enum": ["false", "true", "both"]}),
    "_containedType": (
        "Whether a match is the contained resource or its container.",
        {"enum": ["container", "contained"]},
    ),
    "_query": ("The name of a named query.", {}),
    "_text": ('Words of the narrative; `AND`, `OR`, `NOT`, parentheses, `"phrases"`, `begin*`.', {}),
    "_content": ("Words of the whole resource.", {}),
    LIST: ("The id of a List; finds what it lists.", {}),
    FILTER: ('An expression: `name co "eve" and birthdate ge 1970`.', {}),
    "_since": ("Versions made at or after this moment.", {}),
    "_at": ("Versions that were current within this date or moment.", {}),
    "_cascade": ("Whether what refers to the resource is deleted too.", {"enum": ["delete", "none"]}),
    "_format": ("The format of the answer, before `Accept`.", {"examples": list(FORMAT_CODES)}),
    "_pretty": ("Whether the answer is indented.", {"type": "boolean"}),
    "mode": ("Which statement.", {"enum": list(MODES)}),
}

_HEADERS: dict[str, str] = {
    "If-Match": 'The version that is to be changed: `W/"1"`.',
    "If-None-Match": "The version that the client holds; of an update, `*`: only where nothing is there.",
    "If-Modified-Since": "The moment of the version that the client holds.",
    "If-None-Exist": "Criteria of a search: created only where nothing matches.",
    "Prefer": "`return=minimal|representation|OperationOutcome`, `handling=strict|lenient`, `respond-async`.",
    "X-Provenance": "A Provenance in JSON, without `target`, that is stored with the write.",
    "X-Cascade": "`delete`: what refers to the resource is deleted too.",
}

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_CANONICAL = "http://hl7.org/fhir/SearchParameter/"


def key_of(name: str) -> str:
    """A name as a key of components."""
    return _UNSAFE.sub(".", name)


def reference_to(name: str) -> Json:
    return {"$ref": PARAMETERS + key_of(name)}


def shared_parameters() -> dict[str, Json]:
    """The parameters that are the same wherever they occur."""
    found: dict[str, Json] = {}
    for name in dict.fromkeys((*_QUERY, *NAMES, *INCLUDES)):
        base, _, suffix = name.partition(":")
        what, schema = _QUERY.get(base, ("", {}))
        if suffix:
            what = f"{what} For what was included, too, again and again."
        found[key_of(name)] = {
            "name": name,
            "in": "query",
            **({"description": what} if what else {}),
            "schema": schema if {"type", "enum"} & schema.keys() else {"type": "string", **schema},
        }
    for name, what in _HEADERS.items():
        found[name] = {"name": name, "in": "header", "description": what, "schema": {"type": "string"}}
    found["id"] = _in_path("id", "The logical id.", {"type": "string", "pattern": ID_PATTERN})
    found["vid"] = _in_path("vid", "The number of a version.", {"type": "string", "pattern": "^[0-9]{1,9}$"})
    found["criteria"] = {
        "name": "criteria",
        "in": "query",
        "description": "Criteria of a search, as in a search of the type; unknown ones are refused.",
        "style": "form",
        "explode": True,
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    return found


def type_parameter(registry: Registry) -> Json:
    """`{type}` where an address is the same for all types."""
    return _in_path("type", "A resource type.", {"enum": list(registry.resource_types)})


def member_parameter(types: tuple[str, ...]) -> Json:
    """`{member}` of a compartment."""
    return _in_path("member", "A resource type, or `*` for all.", {"enum": [*types, "*"]})


def _in_path(name: str, what: str, schema: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "description": what, "schema": schema}


# --- criteria ---------------------------------------------------------------------------------------------------------


def criterion_schemas() -> dict[str, Json]:
    """A schema for the values of each type of search parameter."""
    return {
        f"criterion.{kind}": {
            "type": "array",
            "items": {"type": "string", "pattern": pattern, "examples": [example]},
        }
        for kind, (pattern, example) in CRITERIA.items()
    }


def criteria_of(resource_type: str, registry: Registry) -> dict[str, Json]:
    """What a type can be searched by, by the key of its component; definitions for several types have one."""
    table = table_of(resource_type, registry)
    definitions = registry.parameters_of(resource_type)
    return {
        key_of(definitions[code].url.removeprefix(_CANONICAL)): _criterion(
            definitions[code], table.modifiers_of(table.parameters[code])
        )
        for code in sorted(table.parameters)
    }


def _criterion(definition: SearchParameter, modifiers: tuple[str, ...]) -> Json:
    shown_modifiers = " ".join(f":{m}" for m in modifiers if not m[:1].isupper())
    told = f"{definition.type}. `{definition.expression}`" if definition.expression else f"{definition.type}."
    if definition.target:
        shown = ", ".join(definition.target[:6]) + (" …" if len(definition.target) > 6 else "")
        told += f". Refers to {shown}"
    if definition.component:
        told += ". Of " + ", ".join(url.rsplit("/", 1)[-1] for url, _ in definition.component)
    return {
        "name": definition.code,
        "in": "query",
        "description": f"{told}. Modifiers: {shown_modifiers}",
        "schema": {"$ref": f"#/components/schemas/criterion.{definition.type}"},
    }


def search_parameters_of(resource_type: str | None, registry: Registry) -> list[str]:
    """The keys of the parameters of a search: its criteria, what is special, and what shapes the answer."""
    criteria = criteria_of(resource_type or COMMON, registry)
    special = [LIST, FILTER, *(name for name in registry.full_text)]
    return [*criteria, *map(key_of, (*special, *sorted(NAMES), *INCLUDES))]
