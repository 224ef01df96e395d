"""What this server knows of terminology: its code systems, and how it expands, validates and translates.

Spec: https://hl7.org/fhir/R4/terminologycapabilities.html, https://hl7.org/fhir/R4/http.html#capabilities
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.expand import PARAMETERS
from fhir_server.model.clock import instant_of, now_us
from fhir_server.terminology.ucum import UCUM
from fhir_server.version import VERSION
from profiles.versions import rank_of

Json = dict[str, Any]

_STARTED = instant_of(now_us())

#: How a value set is named is no parameter of the expansion itself.
_NAMING = frozenset({"url", "valueSet", "valueSetVersion", "context", "contextDirection"})

_TEXT_FILTER = (
    "Each word of the filter must begin a word of the code, the display or a designation, without case and accents."
)


async def terminology_capabilities(context: Context, base_url: str) -> Json:
    """TerminologyCapabilities, by what is held at this moment."""
    return {
        "resourceType": "TerminologyCapabilities",
        "id": "healthsphere-terminology",
        "url": f"{base_url}/metadata?mode=terminology",
        "version": VERSION,
        "name": "HealthSphereTerminology",
        "title": "HealthSphere terminology",
        "status": "active",
        "date": _STARTED,
        "publisher": "HealthSphere",
        "description": "The code systems that are held at this moment, and what is done with them.",
        "kind": "instance",
        "software": {"name": "HealthSphere", "version": VERSION},
        "implementation": {"description": "HealthSphere FHIR R4 server", "url": base_url},
        "lockedDate": False,
        "codeSystem": [_row(url, versions) for url, versions in sorted((await _held(context)).items())],
        "expansion": {
            "hierarchical": True,
            "paging": True,
            "incomplete": False,
            "parameter": [{"name": name} for name in PARAMETERS if name not in _NAMING],
            "textFilter": _TEXT_FILTER,
        },
        "codeSearch": "explicit",
        "validateCode": {"translations": False},
        "translation": {"needsMap": True},
        "closure": {"translation": False},
    }


async def _held(context: Context) -> dict[str, set[str]]:
    """The code systems that are held, each with its versions."""
    engine = context.terminology
    found: dict[str, set[str]] = {UCUM: set()}
    stored = await engine.listing.code_systems() if engine.listing is not None else ()
    big = await engine.big.listed() if engine.big is not None else ()
    for url, version in (*engine.holdings.own_systems, *stored, *big):
        found.setdefault(url, set()).update([version] if version else [])
    return found


def _row(url: str, versions: set[str]) -> Json:
    row: Json = {"uri": url}
    if versions:
        row["version"] = [{"code": version} for version in sorted(versions, key=rank_of)]
    return {**row, "subsumption": url != UCUM}
