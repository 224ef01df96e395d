"""A policy to filters: for each type and verb, what a document must meet.

The layers of a policy are joined by `and`, the grants of a layer by `or`, denials by `nor`; so are the filters. A grant
that cannot be compiled allows nothing, a denial that cannot be compiled denies everything of its type: a policy fails
closed.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html, https://hl7.org/fhir/R4/compartmentdefinition.html
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from fhir_server.model.access import AccessPolicy, Grant, Layer, Verb
from fhir_server.model.errors import FhirError
from fhir_server.search.chains import LIST, looks_elsewhere
from fhir_server.search.compartment import FOCAL
from fhir_server.search.compile import all_of, condition_of
from fhir_server.search.filter.build import FILTER
from fhir_server.search.lineage import FIELD, FIELD_ANY, PROVENANCE, UNKNOWN
from fhir_server.search.parameters import table_of
from fhir_server.search.parse import parse
from fhir_server.search.query import Comparison, Predicate, ReferenceValue, Search
from fhir_server.search.resolve import Codes, resolve
from fhir_server.search.types.conditions import Filter, any_of, either
from profiles.registry import Registry
from profiles.terminology import Terminology

#: What nothing meets.
NOTHING: Filter = {"_id": {"$in": []}}

#: What everything meets.
ANYTHING: Filter = {}

log = structlog.get_logger("access")


@dataclass(frozen=True, slots=True)
class Compiler:
    """Compiles grants for one server."""

    registry: Registry
    terminology: Terminology
    base_url: str
    codes: Codes

    async def filter_of(self, policy: AccessPolicy, resource_type: str, verb: Verb) -> Filter:
        """What a document of the type must meet; `ANYTHING` and `NOTHING` where that is known beforehand."""
        conditions: list[Filter] = []
        for layer in policy.layers:
            condition = await self._of_layer(layer, resource_type, verb)
            if condition is NOTHING:
                return NOTHING
            # The scopes and the role of a patient often say the same: then it need not be looked at twice.
            if condition is not ANYTHING and condition not in conditions:
                conditions.append(condition)
        denied = await self._of_denials(policy.denials, resource_type, verb)
        if denied is ANYTHING:
            return NOTHING
        if denied is not NOTHING:
            conditions.append({"$nor": [denied]})
        return all_of(conditions) if conditions else ANYTHING

    async def _of_layer(self, layer: Layer, resource_type: str, verb: Verb) -> Filter:
        """What one of the grants allows."""
        found: list[Filter] = []
        for grant in layer:
            if not grant.covers(resource_type, verb):
                continue
            try:
                condition = await self._of_grant(grant, resource_type, verb)
            except FhirError as error:
                log.warning("grant left out", resource_type=resource_type, reason=str(error))
                continue
            if condition is ANYTHING:
                return ANYTHING
            if condition is not NOTHING:
                found.append(condition)
        return either(found) if found else NOTHING

    async def _of_denials(self, denials: Layer, resource_type: str, verb: Verb) -> Filter:
        """What one of the denials names."""
        found: list[Filter] = []
        for grant in denials:
            if not grant.covers(resource_type, verb):
                continue
            try:
                condition = await self._of_grant(grant, resource_type, verb, wide=True)
            except FhirError as error:
                log.error("denial taken as wide as its type", resource_type=resource_type, reason=str(error))
                return ANYTHING
            if condition is ANYTHING:
                return ANYTHING
            if condition is not NOTHING:
                found.append(condition)
        return either(found) if found else NOTHING

    async def _of_grant(self, grant: Grant, resource_type: str, verb: Verb, *, wide: bool = False) -> Filter:
        """What a grant covers; `wide` where it denies: then all that is in part about somebody is theirs."""
        if not grant.limited:
            return ANYTHING
        conditions: list[Filter] = []
        if grant.ids is not None:
            conditions.append(any_of("_id", sorted(grant.ids)) if grant.ids else NOTHING)
        if grant.compartments is not None:
            conditions.append(self._of_compartments(grant.compartments, resource_type, wide=wide))
        if any(condition is NOTHING for condition in conditions):
            return NOTHING
        if grant.criteria:
            conditions.append(await self._of_criteria(grant.criteria, resource_type))
        if grant.unless:
            # An exception that cannot be compiled is left out, as a grant is: the denial is then wider.
            excepted = await self._of_layer(grant.unless, resource_type, verb)
            if excepted is ANYTHING:
                return NOTHING
            if excepted is not NOTHING:
                conditions.append({"$nor": [excepted]})
        return all_of(conditions) if conditions else ANYTHING

    def _of_compartments(self, references: frozenset[str], resource_type: str, *, wide: bool) -> Filter:
        """In the compartment of one of some resources, which may be many: one list for each way into it."""
        by_focal: dict[str, list[str]] = {}
        for reference in references:
            by_focal.setdefault(reference.partition("/")[0], []).append(reference)
        ways: list[Filter] = []
        table = table_of(resource_type, self.registry)
        for focal, entries in by_focal.items():
            known = self.registry.compartments.get(focal)
            if known is None:
                continue
            entries.sort()
            if resource_type == focal:
                ways.append(any_of("_id", [entry.partition("/")[2] for entry in entries]))
            values = (ReferenceValue(tuple(entries)),)
            for code in known.types.get(resource_type, ()):
                # What refers to the focal resource from another of its own type (a linked patient) is another person's.
                if code != FOCAL and resource_type != focal:
                    ways.append(condition_of(Comparison(table.parameters[code], None, values), self.terminology))
        if resource_type == PROVENANCE:
            ways.append(any_of(FIELD, sorted(references)))
            if wide:
                ways.append(any_of(FIELD_ANY, sorted({*references, UNKNOWN})))
        return either(ways) if ways else NOTHING

    async def _of_criteria(self, pairs: tuple[tuple[str, str], ...], resource_type: str) -> Filter:
        """Search parameters of the type; those that look into other resources are not possible here.

        Raises:
            InvalidError: 400; a parameter that the type does not have, or a value that it cannot have.
        """
        for name, _ in pairs:
            if looks_elsewhere(name) or name in (FILTER, LIST):
                log.warning("criteria that look elsewhere", parameter=name, resource_type=resource_type)
                return NOTHING
        search: Search = parse(
            resource_type,
            pairs,
            self.registry,
            strict=True,
            default_count=1,
            max_count=1,
            base_url=self.base_url,
        )
        if not search.predicates:
            return NOTHING
        search = await resolve(search, self.codes)
        predicates: tuple[Predicate, ...] = search.predicates
        return all_of([condition_of(predicate, self.terminology) for predicate in predicates])
