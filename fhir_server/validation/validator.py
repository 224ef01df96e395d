"""Validation of whole resources: everything that the element tables of a type say, all faults at once.

Profiles and slices are not looked at here; see `validation.profile`.

Spec: https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cached_property
from itertools import chain
from threading import Lock
from typing import Any

from fhir_server.fhirpath.quantities import Units
from fhir_server.model.errors import Issue
from fhir_server.validation.compiler import Compiler
from fhir_server.validation.fault import (
    Check,
    ConditionalReference,
    Fault,
    Found,
    FragmentReference,
    Json,
    UnknownMember,
    shown,
    under,
)
from fhir_server.validation.invariants import Invariants
from fhir_server.validation.objects import resource_type_fault
from fhir_server.validation.references import wrong_target
from profiles.registry import Registry
from profiles.terminology import Terminology

#: A document that is all faults must not become an outcome larger than itself.
MAX_ISSUES = 1000
MAX_SUGGESTIONS = 20
MAX_NAME = 64

#: The advice that a resource has a narrative.
NARRATIVE = ("http://hl7.org/fhir/StructureDefinition/DomainResource", "dom-6")


class Validator:
    """Validates resources as plain objects; checks are made per type, when the type is first seen, and kept.

    Invariants that are best practice and no duty are looked at by `advising` alone: one of them, that a resource has a
    narrative, would be told of nearly every write. `units` converts measures that an invariant compares.
    """

    def __init__(
        self, registry: Registry, terminology: Terminology, units: Units | None = None, *, advice: bool = False
    ) -> None:
        self._registry = registry
        self._terminology = terminology
        self._units = units
        self._advice = advice
        self._checks: dict[str, Check] = {}
        self._compiling = Lock()
        invariants = Invariants(registry, units, advice=advice)
        self._compiler = Compiler(registry, terminology, invariants, self._resource, self._contained)

    @cached_property
    def advising(self) -> Validator:
        """The same validator, which gives advice too."""
        return self if self._advice else Validator(self._registry, self._terminology, self._units, advice=True)

    def issues_of(self, resource: Json) -> list[Issue]:
        """Everything that is wrong with a resource; an empty list when nothing is.

        Args:
            resource: any JSON value as `fhir_server.model.codec` decodes it (decimals are `Decimal`).

        Returns:
            Issues in document order, each with a FHIRPath from the type's name (`Patient.contact[0].name.family`).
            Those of severity `warning` do not make a resource invalid. Never raises for anything that JSON can say.
        """
        try:
            found = self._resource(resource)
        except RecursionError:
            text = "Found a resource that is nested too deeply to be checked; expected fewer levels."
            return [Issue("too-costly", text, _root_of(resource), "HS-VAL-DEPTH")]
        if found is None:
            return []
        return self._issues(found, _root_of(resource))

    def _issues(self, found: list[Fault], root: str) -> list[Issue]:
        issues = []
        suggested = 0
        if len(found) > MAX_ISSUES:  # advice must not stand where an error would have
            found = sorted(found, key=lambda fault: fault.severity != "error")
        for fault in found[:MAX_ISSUES]:
            if isinstance(fault, UnknownMember):
                suggested += 1
                fault.diagnostics = _unknown_text(fault, with_suggestion=suggested <= MAX_SUGGESTIONS)
            fault.under(root)
            issues.append(fault.as_issue())
        if len(found) > MAX_ISSUES:
            text = f"{len(found) - MAX_ISSUES} further faults are not listed."
            issues.append(Issue("too-long", text, root, "HS-VAL-MORE", "information"))
        return issues

    def _check_of(self, resource_type: str) -> Check | None:
        check = self._checks.get(resource_type)
        if check is None and self._registry.is_resource_type(resource_type):
            with self._compiling:  # a check is known to others of its kind before all its members are
                check = self._checks[resource_type] = self._compiler.check_of(resource_type)
        return check

    def _resource(self, value: Any) -> Found:
        """A resource of any type: at the root, in a Bundle's entry, in Parameters."""
        name = value.get("resourceType") if type(value) is dict else None
        check = self._checks.get(name) if type(name) is str else None
        if check is None:
            if faults := resource_type_fault(value):
                return faults
            check = self._check_of(value["resourceType"])
            if check is None:
                return [self._unknown_type(value["resourceType"])]
        faults_found = check(value)
        if "contained" in value:
            faults_found = _with_doubled_ids(value, faults_found)
        return None if faults_found is None else _settled(value, faults_found)

    def _contained(self, value: Any) -> Found:
        """A resource in `contained`: with an id, and without contained resources of its own."""
        if faults := resource_type_fault(value):
            return faults
        check = self._check_of(value["resourceType"])
        if check is None:
            return [self._unknown_type(value["resourceType"])]
        # "Contained resources SHOULD NOT contain a narrative."
        faults = [fault for fault in check(value) or () if fault.rule != NARRATIVE or fault.path]
        if "id" not in value:
            text = "Found no id; expected one, since a contained resource is referred to by it."
            faults.append(Fault("HS-VAL-CONTAINED-ID", "required", text, path="id"))
        if "contained" in value:
            text = "Found contained resources in a contained resource; expected them beside it."
            faults.append(Fault("HS-VAL-CONTAINED-NESTED", "structure", text, path="contained"))
        return faults or None

    def _unknown_type(self, name: str) -> Fault:
        near = get_close_matches(name[:MAX_NAME], self._registry.resource_types, 1)
        suggestion = f" (did you mean {near[0]}?)" if near else ""
        text = f"Found {shown(name)}; expected a resource type of FHIR R4{suggestion}."
        return Fault("HS-VAL-RESOURCE-TYPE", "structure", text, path="resourceType")


def _settled(resource: Json, faults: list[Fault]) -> Found:
    """Decide what only the whole resource can: references into `contained`, conditional ones in a transaction."""
    types = _contained_types(resource)
    is_transaction = resource.get("resourceType") == "Bundle" and resource.get("type") == "transaction"
    kept = []
    for fault in faults:
        if isinstance(fault, FragmentReference):
            name = types.get(fault.id)
            if name is not None:
                if fault.targets is not None and name not in fault.targets:
                    kept.append(_moved(wrong_target(f"a reference to a contained {name}", fault.targets), fault.path))
                continue
        elif isinstance(fault, ConditionalReference) and is_transaction:
            continue
        kept.append(fault)
    return kept or None


def _contained_types(resource: Json) -> dict[str, str]:
    """The types of the contained resources by id; `#` alone is the container."""
    types: dict[str, str] = {"": resource["resourceType"]}
    contained = resource.get("contained")
    for item in contained if type(contained) is list else ():
        if type(item) is dict and type(item.get("id")) is str and type(item.get("resourceType")) is str:
            types[item["id"]] = item["resourceType"]
    return types


def _with_doubled_ids(resource: Json, faults: Found) -> Found:
    contained = resource["contained"]
    seen: set[str] = set()
    for index, item in enumerate(contained if type(contained) is list else ()):
        own = item.get("id") if type(item) is dict else None
        if type(own) is str:
            if own in seen:
                text = f"Found the id {shown(own)} a second time; expected each once among the contained resources."
                fault = Fault("HS-VAL-CONTAINED-ID", "structure", text, path="id")
                faults = under([fault], f"contained[{index}]", faults)
            seen.add(own)
    return faults


def _moved(fault: Fault, path: str) -> Fault:
    fault.path = path
    return fault


def _unknown_text(fault: UnknownMember, *, with_suggestion: bool) -> str:
    near = get_close_matches(fault.name[:MAX_NAME], chain(*fault.known), 1) if with_suggestion else []
    suggestion = f" (did you mean {near[0]}?)" if near else ""
    return f"Found the member {shown(fault.name)}; expected only elements that are defined here{suggestion}."


def _root_of(resource: Any) -> str:
    """The step that all paths start with: the type's name if there is a sensible one."""
    name = resource.get("resourceType") if type(resource) is dict else None
    return name if type(name) is str and name.isascii() and name.isalpha() and len(name) <= MAX_NAME else "Resource"
