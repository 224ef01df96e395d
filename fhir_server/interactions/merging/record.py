"""The Provenance of a merge: what it has changed, so that it can be taken back.

`target` names every version that the merge made; the version before each is what taking back restores. `entity` names
the two records as they were.

Spec: https://hl7.org/fhir/R4/provenance.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import UnprocessableError
from fhir_server.storage.document import Version

Json = dict[str, Any]
LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
_VERSION = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})/_history/([0-9]{1,9})")


def provenance_of(activity: str, made: Sequence[Version], source: Version, target: Version, base: Json) -> Json:
    """The Provenance of a merge or unmerge; `base` has further elements, such as who asked for it."""
    return {
        "resourceType": "Provenance",
        "target": [{"reference": address_of(version)} for version in made],
        "recorded": instant_of(now_us()),
        "activity": {"coding": [{"system": LIFECYCLE, "code": activity}]},
        "agent": [{"who": {"display": f"HealthSphere, Patient/${activity}"}}],
        **base,
        "entity": [
            {"role": "source", "what": {"reference": address_of(source)}},
            {"role": "revision", "what": {"reference": address_of(target)}},
        ],
    }


def address_of(version: Version) -> str:
    return f"{version.type}/{version.id}/_history/{version.version}"


def versions_named(provenance: Json) -> tuple[list[tuple[str, str, int]], tuple[str, int], tuple[str, int]]:
    """The versions that a merge made, and id and version of its source and target before it.

    Raises:
        UnprocessableError: 422; the Provenance is none of a merge.
    """
    coding = ((provenance.get("activity") or {}).get("coding") or [{}])[0]
    entities = [_parts(e.get("what")) for e in provenance.get("entity", [])]
    if coding.get("code") != "merge" or coding.get("system") != LIFECYCLE or len(entities) != 2:
        raise UnprocessableError(
            f"Provenance/{provenance.get('id')} is not that of a merge made here.", key="HS-MERGE-PROVENANCE"
        )
    (_, source, source_version), (_, target, target_version) = entities
    return [_parts(row) for row in provenance["target"]], (source, source_version), (target, target_version)


def _parts(reference: Any) -> tuple[str, str, int]:
    found = _VERSION.fullmatch(str((reference or {}).get("reference")))
    if found is None:
        raise UnprocessableError("The Provenance names something else than versions.", key="HS-MERGE-PROVENANCE")
    return found[1], found[2], int(found[3])
