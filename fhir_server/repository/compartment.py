"""All that belongs to one resource: its compartment, then what the resources in it refer to.

A page is one aggregation: the types of the compartment stand in it one behind the other, each led by the indexes of its
references and in the order of ids, and the database stops as soon as the page is full. The references of a compartment
are found in the index entries, so that no stored resource is read for them.

Spec: https://hl7.org/fhir/R4/compartmentdefinition.html, https://hl7.org/fhir/R4/patient-operation-everything.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fhir_server.model.dates import Interval
from fhir_server.search.charts import CHARTS
from fhir_server.search.parameters import table_of
from fhir_server.search.types.conditions import Filter, either
from profiles.registry import Registry

Stage = dict[str, Any]
Row = dict[str, Any]

#: The focal resource itself, in a CompartmentDefinition.
FOCAL = "{def}"

#: When care took place, for types that no chart names or whose chart goes by when it was recorded.
CARE_DATES = {
    "AdverseEvent": "date",
    "AuditEvent": "date",
    "ClaimResponse": "created",
    "Condition": "onset-date",
    "Consent": "date",
    "CoverageEligibilityRequest": "created",
    "CoverageEligibilityResponse": "created",
    "DetectedIssue": "identified",
    "DocumentManifest": "created",
    "DocumentReference": "period",
    "EpisodeOfCare": "date",
    "FamilyMemberHistory": "date",
    "Flag": "date",
    "Goal": "start-date",
    "ImagingStudy": "started",
    "ImmunizationEvaluation": "date",
    "ImmunizationRecommendation": "date",
    "List": "date",
    "MeasureReport": "period",
    "Media": "created",
    "NutritionOrder": "datetime",
    "Provenance": "when",
    "RiskAssessment": "date",
    "Specimen": "collected",
    "SupplyRequest": "date",
    "VisionPrescription": "datewritten",
}

FIELDS = {"r": 1}


def member_fields(registry: Registry, compartment: str, name: str) -> tuple[str, ...]:
    """The indexed fields by which a type belongs to a compartment; none where it never does.

    A parameter that has no index of its own is led by the wider one that has all its entries.
    """
    return registry.kept(_member_fields)(compartment, name)


def _member_fields(registry: Registry, compartment: str, name: str) -> tuple[str, ...]:
    known = table_of(name, registry).parameters
    codes = registry.compartments[compartment].types.get(name, ())
    return tuple(sorted({known[code].within or known[code].field for code in codes if code != FOCAL}))


class Reader(Protocol):
    def allowed(self, resource_type: str) -> list[Mapping[str, Any]]: ...
    async def aggregate(self, resource_type: str, pipeline: Sequence[Mapping[str, Any]]) -> list[Row]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A row in the order of all that belongs to a resource; `referred` for the part behind the compartment."""

    referred: bool
    type: str
    id: str


@dataclass(frozen=True, slots=True)
class Member:
    """One resource that belongs."""

    place: Place
    body: bytes


@dataclass(frozen=True, slots=True)
class Belongings:
    """What is asked of one compartment.

    Attributes:
        focal: the type, which names the compartment, and the id of the resource in the middle
        present: the types of which there is any; to ask for the others would cost more than to list these
        base_url: of this server, with a slash at the end; addresses of documents below it are references
        care: only what was done within this span, where a resource says when
        since_us: only versions made at or after this moment
        types: only these types; None for all
    """

    registry: Registry
    focal: tuple[str, str]
    present: frozenset[str]
    base_url: str
    care: Interval | None = None
    since_us: int | None = None
    types: frozenset[str] | None = None
    _member_types: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        compartment = self.registry.compartments[self.focal[0]]
        types = compartment.types.items()
        names = sorted(name for name, codes in types if codes != (FOCAL,) and name in self.present)
        object.__setattr__(self, "_member_types", tuple(names))

    async def page(self, reader: Reader, after: Place | None, count: int) -> tuple[Row | None, list[Member], bool]:
        """At most `count` resources behind a place, the focal one first of all.

        Returns:
            The document of the focal resource (None where there never was one; `d` when it is deleted), the resources,
            and whether there are more. Three commands at the end of a compartment, one elsewhere.
        """
        focal_type, focal_id = self.focal
        found: list[Member] = []
        show = after is None and self._wants(focal_type)
        head: list[Stage] = [
            {"$match": {"$and": [{"_id": focal_id}, *reader.allowed(focal_type)]}},
            {"$project": {"d": 1, "t": 1, "home": "$x.patient", "subject": "$x.subject", **(FIELDS if show else {})}},
        ]
        unions = [] if after is not None and after.referred else self._unions(reader, after, count + 1)
        rows = await reader.aggregate(focal_type, [*head, *unions, {"$limit": count + 2}])
        if not rows or "y" in rows[0]:
            return None, [], False
        focal = rows[0]
        if focal.get("d"):
            return focal, [], False
        if show and (self.since_us is None or focal["t"] >= self.since_us):
            found.append(Member(Place(False, focal_type, focal_id), focal["r"]))
        found += [Member(Place(False, row["y"], row["_id"]), row["r"]) for row in rows[1:]]
        if len(found) <= count:
            behind = after if after is not None and after.referred else None
            found += await self._referred(reader, focal, behind, count + 1 - len(found))
        return focal, found[:count], len(found) > count

    def _wants(self, name: str) -> bool:
        return self.types is None or name in self.types

    # --- the compartment --------------------------------------------------------------------------------------------

    def _unions(self, reader: Reader, after: Place | None, limit: int) -> Iterator[Stage]:
        """The types of the compartment in their order, from a place on; `$unionWith` keeps that order."""
        focal_type = self.focal[0]
        begun = after is not None and (after.type, after.id) != self.focal
        for name in self._member_types:
            if not self._wants(name) or (begun and after is not None and name < after.type):
                continue
            match = self._membership(name)
            if begun and after is not None and name == after.type:
                match = {"$and": [match, {"_id": {"$gt": after.id}}]}
            if name == focal_type:
                match = {"$and": [match, {"_id": {"$ne": self.focal[1]}}]}
            if self.since_us is not None:
                match = {"$and": [match, {"t": {"$gte": self.since_us}}]}
            if allowed := reader.allowed(name):
                match = {"$and": [match, *allowed]}
            pipeline: list[Stage] = [
                {"$match": match},
                {"$sort": {"_id": 1}},
                {"$limit": limit},
                {"$project": {**FIELDS, "y": {"$literal": name}}},
            ]
            yield {"$unionWith": {"coll": name, "pipeline": pipeline}}

    def _membership(self, name: str) -> Filter:
        """What a resource of a type must have to be in the compartment, in the time that is asked for."""
        when = self._care_of(name)
        return {"$and": [self._ways_in(name), when]} if when else self._ways_in(name)

    def _ways_in(self, name: str) -> Filter:
        """What a resource of a type must have to be in the compartment, whatever its time."""
        entry = "/".join(self.focal)
        return either([{f: entry} for f in member_fields(self.registry, self.focal[0], name)])

    def _care_of(self, name: str) -> Filter | None:
        chart = CHARTS.get(name)
        code = CARE_DATES.get(name) or (chart.dates[0] if chart else None)
        if self.care is None or code is None:
            return None
        parameter = table_of(name, self.registry).parameters[code]
        span = {"s": {"$lt": self.care.end_us}, "e": {"$gt": self.care.start_us}}
        if parameter.bare:
            meets: Filter = {f"{parameter.field}.{end}": bound for end, bound in span.items()}
        else:
            meets = {parameter.field: {"$elemMatch": span}}
        return {"$or": [meets, {parameter.field: {"$exists": False}}]}

    # --- what it refers to ------------------------------------------------------------------------------------------

    async def _referred(self, reader: Reader, focal: Row, after: Place | None, limit: int) -> list[Member]:
        """Resources outside that those inside refer to, by type and id; none that belongs to somebody else."""
        targets = await self._targets(reader)
        home = home_of(self.focal, focal)
        parts: list[tuple[str, list[Stage]]] = []
        for name in sorted(targets):
            ids = sorted(i for i in targets[name] if after is None or (name, i) > (after.type, after.id))
            if not ids or not self._wants(name):
                continue
            match: list[Mapping[str, Any]] = [{"_id": {"$in": ids}, "d": None}, *self._not_of_others(name, home)]
            match += reader.allowed(name)
            if name in self._member_types:
                match.append({"$nor": [self._ways_in(name)]})
            if self.since_us is not None:
                match.append({"t": {"$gte": self.since_us}})
            project = {"$project": {**FIELDS, "y": {"$literal": name}}}
            parts.append((name, [{"$match": {"$and": match}}, {"$sort": {"_id": 1}}, {"$limit": limit}, project]))
        if not parts:
            return []
        (first, stages), *others = parts
        unions = [{"$unionWith": {"coll": name, "pipeline": part}} for name, part in others]
        rows = await reader.aggregate(first, [*stages, *unions, {"$limit": limit}])
        return [Member(Place(True, row["y"], row["_id"]), row["r"]) for row in rows]

    def _not_of_others(self, name: str, home: frozenset[str]) -> list[Filter]:
        """A Group or a List may name resources of several patients; only those of nobody, or of this one, belong."""
        if name == "Patient":
            return [{"_id": {"$in": [entry.removeprefix("Patient/") for entry in sorted(home)]}}]
        fields = member_fields(self.registry, "Patient", name)
        if not fields:
            return []
        ours: list[Filter] = [{f: {"$in": sorted(home)}} for f in fields]
        return [{"$or": [*ours, {"$nor": [{f: {"$regex": "^Patient/"}} for f in fields]}]}]

    async def _targets(self, reader: Reader) -> dict[str, set[str]]:
        """The ids, by type, that the resources of the compartment refer to; one command."""
        focal_type, focal_id = self.focal
        unions = [
            {"$unionWith": {"coll": name, "pipeline": [self._seen(reader, name), *self._distinct(name)]}}
            for name in self._member_types
        ]
        rows = await reader.aggregate(focal_type, [{"$match": {"_id": focal_id}}, *self._distinct(focal_type), *unions])
        targets: dict[str, set[str]] = {}
        for row in rows:
            name, _, target = str(row["_id"]).removeprefix(self.base_url).rpartition("/")
            if self.registry.is_resource_type(name) and (name, target) != self.focal:
                targets.setdefault(name, set()).add(target)
        return targets

    def _seen(self, reader: Reader, name: str) -> Stage:
        return {"$match": {"$and": [self._membership(name), *reader.allowed(name)]}}

    def _distinct(self, name: str) -> list[Stage]:
        """The references of some documents, each once."""
        lists: list[Any] = []
        for parameter in table_of(name, self.registry).parameters.values():
            if (parameter.type == "reference" and not parameter.canonical and parameter.within is None) or (
                name == "DocumentReference" and parameter.code == "location"
            ):
                entries: Any = f"${parameter.field}"
                lists.append([entries] if parameter.bare else {"$ifNull": [entries, []]})
        return [
            {"$project": {"_id": 0, "k": {"$setUnion": lists} if lists else []}},
            {"$unwind": "$k"},
            {"$group": {"_id": "$k"}},
        ]


def home_of(focal: tuple[str, str], document: Row) -> frozenset[str]:
    """The patients whose record is looked at: the focal one, or those whom the focal encounter is about."""
    if focal[0] == "Patient":
        return frozenset({"/".join(focal)})
    found: set[str] = set()
    for entries in (document.get("home"), document.get("subject")):
        found.update([entries] if isinstance(entries, str) else entries or ())
    return frozenset(entry for entry in found if entry.startswith("Patient/"))
