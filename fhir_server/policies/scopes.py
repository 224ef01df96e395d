"""The scopes of a token as one layer of a policy.

A `patient/` scope reaches what belongs to the patient in context, and what belongs to no patient at all (the directory,
medicines, definitions), to read. Without a patient in context it reaches nothing. `user/` and `system/` scopes set no
limit to whom; the role does.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#scopes-for-requesting-fhir-resources
"""

from __future__ import annotations

from collections.abc import Iterator

from fhir_server.model.access import ANY_TYPE, Grant, Identity, Layer, Scope, verbs_of
from fhir_server.policies.reach import WRITING, Reach
from fhir_server.search.compartment import PATIENT


def scope_layer(identity: Identity, reach: Reach, open_types: frozenset[str]) -> Layer:
    """What the token was granted; empty where that is nothing."""
    grants: dict[Grant, None] = {}
    for scope in identity.scopes:
        if scope.level == "patient":
            grants.update(dict.fromkeys(_of_patient(scope, identity.patient, reach, open_types)))
        elif scope.verbs:
            grants[Grant(scope.type, verbs_of(scope.verbs), criteria=scope.criteria)] = None
    return tuple(grants)


def _of_patient(scope: Scope, patient: str | None, reach: Reach, open_types: frozenset[str]) -> Iterator[Grant]:
    if patient is None or not patient.startswith(f"{PATIENT}/"):
        return
    patients = frozenset({patient})
    reading = verbs_of(set(scope.verbs) - WRITING)
    writing = verbs_of(set(scope.verbs) & WRITING)
    if scope.type in open_types:
        if reading:
            yield Grant(scope.type, reading, criteria=scope.criteria)
        return
    if scope.type != ANY_TYPE:
        if reach.can_belong(scope.type) and scope.verbs:
            yield from reach.grants((scope.type,), scope.verbs, patients, scope.criteria)
        return
    belonging = sorted(reach.types - open_types)
    if reading:
        yield from reach.whole(reading, patients, scope.criteria)
        for name in sorted(open_types):
            yield Grant(name, reading, criteria=scope.criteria)
    if writing:
        yield from reach.grants(belonging, writing, patients, scope.criteria)
