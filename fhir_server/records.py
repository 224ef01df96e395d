"""What the sign-in side needs of the resources: patients to choose from, and the resources of people's accounts.

Fills the port `Records` of `smart_auth`. What it shows to a user passes the same guard as the answers to their apps.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.access import Identity
from fhir_server.model.clock import new_id
from fhir_server.model.dates import interval_of
from fhir_server.model.errors import InvalidError
from fhir_server.repository.repository import Change, Repository
from fhir_server.search.escape import escape
from smart_auth.ports import EncounterCard, PatientCard

Json = dict[str, Any]
Entered = Callable[[Identity], Awaitable[Context]]

_DATE = re.compile(r"\d{4}(?:-\d\d(?:-\d\d)?)?")


class RepositoryRecords:
    """Reads and writes single resources, whole and validated."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def read(self, reference: str) -> dict[str, Any] | None:
        """A resource, whoever asks; None when it is not there, or was deleted."""
        resource_type, _, resource_id = reference.partition("/")
        version = await self._repository.current(resource_type, resource_id)
        if version is None or version.body is None:
            return None
        resource: dict[str, Any] = codec.decode(version.body)
        return resource

    async def create(self, resource: dict[str, Any], agent: str) -> str:
        """Create a resource; its reference.

        Raises:
            FhirError: it is not valid.
        """
        change = Change("POST", resource["resourceType"], new_id(), resource, fresh=True)
        version = (await self._repository.commit(change)).version
        return f"{version.type}/{version.id}"

    async def update(self, resource: dict[str, Any], agent: str) -> None:
        """Make a new version of a resource that was read.

        Raises:
            VersionConflictError: 409; it was changed since it was read.
            FhirError: it is not valid.
        """
        read = resource.get("meta", {}).get("versionId")
        await self._repository.commit(
            Change(
                "PUT",
                resource["resourceType"],
                resource["id"],
                resource,
                if_match=int(read) if read else None,
            )
        )


class FhirRecords(RepositoryRecords):
    """The resources behind accounts and launches.

    `entered` gives the server as a user sees it; `server` sees everything, for the accounts' own resources.
    """

    def __init__(self, server: Context, entered: Entered) -> None:
        super().__init__(server.repository)
        self._entered = entered

    async def patients(self, identity: Identity, text: str, limit: int) -> list[PatientCard]:
        """Patients whom this user may see and whose names, identifier or birth date begin with the text."""
        context = await self._entered(identity)
        words = text.split()
        asked: list[list[tuple[str, str]]] = [[("name", escape(word)) for word in words] if words else []]
        if len(words) == 1:
            asked.append([("identifier", escape(words[0]))])
            if _DATE.fullmatch(words[0]) and is_date(words[0]):
                asked.append([("birthdate", words[0])])
        pages = await asyncio.gather(*(self._found(context, "Patient", pairs, limit) for pairs in asked))
        by_id = {resource["id"]: resource for page in pages for resource in page}
        return [card_of(resource) for resource in by_id.values()][:limit]

    async def _found(
        self, context: Context, resource_type: str, pairs: list[tuple[str, str]], limit: int
    ) -> list[Json]:
        found = await context.searcher.search(resource_type, pairs, strict=True, default_count=limit, max_count=limit)
        return [codec.decode(row["r"]) for row in found.page.rows]

    async def patient(self, identity: Identity, reference: str) -> PatientCard | None:
        """One patient; None when there is none whom this user may see."""
        resource = await self._read(await self._entered(identity), reference)
        return card_of(resource) if resource is not None and resource["resourceType"] == "Patient" else None

    async def encounters(self, identity: Identity, patient: str, limit: int) -> list[EncounterCard]:
        """The patient's encounters that this user may see, the latest first."""
        context = await self._entered(identity)
        found = await self._found(context, "Encounter", [("subject", patient), ("_sort", "-date")], limit)
        return [encounter_of(resource) for resource in found]

    async def encounter(self, identity: Identity, patient: str, reference: str) -> EncounterCard | None:
        """One encounter of the patient; None when there is none that this user may see."""
        context = await self._entered(identity)
        resource_type, _, resource_id = reference.partition("/")
        if resource_type != "Encounter" or not resource_id:
            return None
        found = await self._found(context, "Encounter", [("_id", escape(resource_id)), ("subject", patient)], 1)
        return encounter_of(found[0]) if found else None

    async def _read(self, context: Context, reference: str) -> Json | None:
        resource_type, _, resource_id = reference.partition("/")
        if not context.registry.is_resource_type(resource_type) or not resource_id:
            return None
        version = await context.repository.current(resource_type, resource_id)
        return codec.decode(version.body) if version is not None and version.body is not None else None


def is_date(text: str) -> bool:
    try:
        interval_of(text)
    except InvalidError:
        return False
    return True


def card_of(patient: Json) -> PatientCard:
    identifiers = [i["value"] for i in patient.get("identifier", ()) if "value" in i]
    return PatientCard(
        reference=f"Patient/{patient['id']}",
        name=name_of(patient.get("name", [])),
        birth_date=patient.get("birthDate", ""),
        gender=patient.get("gender", ""),
        identifier=identifiers[0] if identifiers else "",
    )


def name_of(names: list[Json]) -> str:
    """How people call somebody: the usual name before the official one before the others."""
    order = {"usual": 0, "official": 1}
    for name in sorted(names, key=lambda n: order.get(n.get("use", ""), 2)):
        text = name.get("text") or " ".join([*name.get("given", ()), *([name["family"]] if "family" in name else ())])
        if text.strip():
            return str(text)
    return "(no name)"


def encounter_of(encounter: Json) -> EncounterCard:
    kinds = encounter.get("type", [])
    texts = [kind.get("text") or next((c.get("display", "") for c in kind.get("coding", ())), "") for kind in kinds]
    setting = encounter.get("class", {})
    return EncounterCard(
        reference=f"Encounter/{encounter['id']}",
        description=next(filter(None, texts), "") or setting.get("display") or setting.get("code", "") or "Encounter",
        start=encounter.get("period", {}).get("start", ""),
        status=encounter.get("status", ""),
    )
