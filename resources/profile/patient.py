"""`Patient/[id]/$profile`: what there is to know of a patient, on one page, as the caller may see it.

Demographics and contacts stand in the Patient; the rest comes with it: allergies, conditions, medicines, the history of
the family, insurances, the general practitioner, and who acts for the patient. One command for each kind, whatever
there is. What is past or was a mistake is left out, unless it is asked for.

Nothing of a kind does not mean that there is nothing: the answer says which kinds are empty, and which are not shown.

Spec: https://hl7.org/fhir/R4/patient.html, https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.interactions.bundle import link, searchset
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.errors import Issue
from fhir_server.model.exchange import Answer, Request
from resources.scheduling.schedules import found, read

Json = dict[str, Any]

#: Resources of one kind.
MOST: Final = 200


@dataclass(frozen=True, slots=True)
class Section:
    """One kind of what is known.

    Attributes:
        types: of the resources, each with the search parameter that leads to the patient
        statuses: those that are past, by their index field and entries
    """

    name: str
    types: tuple[tuple[str, str], ...]
    past: tuple[tuple[str, tuple[str, ...]], ...] = ()


#: An error is in no profile, past or not.
MISTAKE: Final = "=entered-in-error"
_MISTAKES: Final = ("x.status", "x.verification-status")

SECTIONS: Final = (
    Section("allergies", (("AllergyIntolerance", "patient"),), (("x.clinical-status", ("=inactive", "=resolved")),)),
    Section(
        "conditions", (("Condition", "patient"),), (("x.clinical-status", ("=inactive", "=remission", "=resolved")),)
    ),
    Section(
        "medications",
        (("MedicationStatement", "patient"), ("MedicationRequest", "patient")),
        (("x.status", ("=completed", "=stopped", "=not-taken", "=cancelled", "=draft")),),
    ),
    Section("family-history", (("FamilyMemberHistory", "patient"),)),
    Section("coverage", (("Coverage", "patient"),), (("x.status", ("=cancelled", "=draft")),)),
    Section("proxies", (("RelatedPerson", "patient"),), (("x.active", ("=false",)),)),
)
NAMES: Final = tuple(section.name for section in SECTIONS)


async def profile(context: Context, request: Request) -> Answer:
    """A searchset: the Patient as its match, and what is known of them as included.

    Raises:
        NotFoundError: 404; there is no such patient for the caller.
        InvalidError: 400; a section is not known.
    """
    inputs = Inputs.of(request)
    inputs.only("section", "past")
    wanted = [str(name) for text in inputs.all("section") for name in str(text).split(",")]
    for name in wanted:
        Inputs([("section", name)]).choice("section", NAMES)
    sections = [section for section in SECTIONS if not wanted or section.name in wanted]
    version = await context.repository.read("Patient", request.path[1])
    patient: Json = codec.decode(version.body or b"{}")
    past = inputs.flag("past")
    pages = await asyncio.gather(*(_of(context, section, version.id, past=past) for section in sections))
    doctors = await _general_practitioners(context, patient)
    url = f"{request.base_url}/Patient/{version.id}"
    included = [one for page in (*pages, doctors) for one in page[:MOST]]
    given = [("section", name) for name in wanted] + ([("past", "true")] if past else [])
    body = searchset(
        total=1,
        links=[link("self", f"{url}/$profile", given)],
        matches=[(url, codec.encode(patient))],
        issues=[issue for s, page in zip(sections, pages, strict=True) for issue in _issues(context, s, page)],
        included=[(f"{request.base_url}/{one['resourceType']}/{one['id']}", codec.encode(one)) for one in included],
    )
    answer = Answer(200, body)
    answer.headers["ETag"] = f'W/"{version.version}"'
    return answer


async def _of(context: Context, section: Section, patient_id: str, *, past: bool) -> list[Json]:
    """What there is of a section, the newest first."""
    conditions: list[Json] = [{field: {"$ne": MISTAKE}} for field in _MISTAKES]
    if not past:
        conditions += [{field: {"$nin": list(entries)}} for field, entries in section.past]
    pages = await asyncio.gather(
        *(
            found(
                context.repository.store,
                kind,
                {"$and": [{f"x.{way}": f"Patient/{patient_id}"}, *conditions]},
                MOST + 1,
            )
            for kind, way in section.types
        )
    )
    return [one for page in pages for one in page]


async def _general_practitioners(context: Context, patient: Json) -> list[Json]:
    """Those of the patient's doctors whom the caller may see."""
    names = [str(row.get("reference", "")) for row in patient.get("generalPractitioner", ())]
    ids = [name.partition("/")[2] for name in names if name.startswith("Practitioner/")]
    return await read(context.repository.store, "Practitioner", ids)


def _issues(context: Context, section: Section, page: Sequence[Json]) -> list[Issue]:
    """What an empty section means, and that a full one is not whole."""
    kinds = [kind for kind, _ in section.types if not context.caller.policy.may(kind, "s")]
    if kinds:
        told = f"{section.name}: {', '.join(kinds)} are not for you to see."
        return [Issue("suppressed", told, key="HS-PAGE-NOT-SHOWN", severity="information")]
    if not page:
        told = f"{section.name}: nothing is recorded here, which does not mean that there is nothing."
        return [Issue("informational", told, key="HS-PAGE-EMPTY", severity="information")]
    if len(page) > MOST:
        told = (
            f"{section.name}: there is more than is shown; search for {', '.join(kind for kind, _ in section.types)}."
        )
        return [Issue("incomplete", told, key="HS-PAGE-MORE", severity="warning")]
    return []
