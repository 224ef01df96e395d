"""Scopes as a layer: whose data, which types, which verbs.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.access import AccessPolicy, Grant, Identity, Scope
from fhir_server.policies.reach import Reach
from fhir_server.policies.roles import load_roles
from fhir_server.policies.scopes import scope_layer
from profiles.registry import registry

REACH = Reach(registry())
OPEN = load_roles(registry()).open_types
LABORATORY = ("category", "http://terminology.hl7.org/CodeSystem/observation-category|laboratory")


def layer(*scopes: Scope, patient: str | None = "Patient/3") -> tuple[Grant, ...]:
    return scope_layer(Identity("me", "app", "patient", scopes=scopes, patient=patient), REACH, OPEN)


def policy(*scopes: Scope, **more: Any) -> AccessPolicy:
    return AccessPolicy(layers=(layer(*scopes, **more),))


def test_a_patient_scope_reaches_the_compartment_of_the_patient_in_context() -> None:
    assert layer(Scope("patient", "Observation", "rs")) == (Grant("Observation", "rs", frozenset({"Patient/3"})),)


@pytest.mark.parametrize("patient", [None, "", "Group/3", "Patient"])
@pytest.mark.parametrize("resource_type", ["Observation", "*", "Practitioner", "Device"])
def test_a_patient_scope_without_a_patient_in_context_reaches_nothing(resource_type: str, patient: str | None) -> None:
    assert layer(Scope("patient", resource_type, "cruds"), patient=patient) == ()


def test_criteria_are_carried_over_in_every_form() -> None:
    for granted in (
        layer(Scope("patient", "Observation", "rs", (LABORATORY,))),
        layer(Scope("user", "Observation", "rs", (LABORATORY,))),
        layer(Scope("patient", "Observation", "cu", (LABORATORY,))),
        layer(Scope("patient", "*", "cruds", (LABORATORY,))),
    ):
        assert granted
        assert all(LABORATORY in grant.criteria for grant in granted)


def test_what_belongs_to_nobody_is_read_through_a_patient_scope_and_not_written() -> None:
    every = policy(Scope("patient", "*", "cruds"))
    for name in ("Practitioner", "Organization", "Location", "Medication", "ValueSet", "Questionnaire"):
        assert every.may(name, "r"), name
        assert not any(every.may(name, verb) for verb in "cud" if not _bound(every, name, verb)), name
    assert layer(Scope("patient", "Practitioner", "cud")) == ()
    assert layer(Scope("patient", "Practitioner", "cruds")) == (Grant("Practitioner", "rs"),)


def _bound(found: AccessPolicy, name: str, verb: Any) -> bool:
    """Whether all that covers a type and verb is bound to the patient."""
    grants = [grant for grant in found.layers[0] if grant.covers(name, verb)]
    return all(grant.compartments or any("Patient/3" in value for _, value in grant.criteria) for grant in grants)


def test_everything_that_can_be_a_patients_is_bound_to_the_patient() -> None:
    every = policy(Scope("patient", "*", "cruds"))
    for name in sorted(REACH.types - OPEN):
        for verb in "cruds":
            assert _bound(every, name, verb), (name, verb)
        single = policy(Scope("patient", name, "cruds"))
        assert single.may(name, "r"), name
        for verb in "cruds":
            assert _bound(single, name, verb), (name, verb)


@pytest.mark.parametrize("name", ["Subscription", "Bundle", "MessageHeader", "PaymentNotice", "Linkage"])
def test_what_neither_belongs_to_a_patient_nor_is_open_to_all_is_not_reached_through_a_patient_scope(name: str) -> None:
    assert layer(Scope("patient", name, "cruds")) == ()


def test_user_and_system_scopes_leave_the_limit_to_the_role() -> None:
    assert layer(Scope("user", "*", "cruds"), patient=None) == (Grant("*", "cruds"),)
    assert layer(Scope("system", "Patient", "sr"), patient=None) == (Grant("Patient", "rs"),)


def test_no_scopes_are_nothing_and_verbs_are_what_was_granted() -> None:
    assert layer() == ()
    assert not policy().may("Patient", "r")
    granted = policy(Scope("user", "Patient", "r"), Scope("user", "Patient", "u"))
    assert [verb for verb in "cruds" if granted.may("Patient", verb)] == ["r", "u"]


def test_a_write_through_a_patient_scope_must_say_whose_it_is() -> None:
    (reading, writing) = layer(Scope("patient", "Observation", "cruds"))
    assert (reading.verbs, reading.compartments) == ("rs", frozenset({"Patient/3"}))
    assert (writing.verbs, writing.criteria) == ("cud", (("patient", "Patient/3"),))
