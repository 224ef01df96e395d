"""Scopes: read, compared, narrowed, written and explained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model.access import VERBS, Scope, verbs_of
from smart_auth import scopes
from smart_auth.scope_words import words_of
from smart_auth.scopes import covers, known, narrowed, scope_of, text_of, within


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("patient/Observation.read", Scope("patient", "Observation", "rs")),
        ("patient/Observation.write", Scope("patient", "Observation", "cud")),
        ("user/*.*", Scope("user", "*", "cruds")),
        ("system/*.cruds", Scope("system", "*", "cruds")),
        ("user/Patient.s", Scope("user", "Patient", "s")),
        ("patient/*.rs", Scope("patient", "*", "rs")),
        (
            "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
            Scope(
                "patient",
                "Observation",
                "rs",
                (("category", "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"),),
            ),
        ),
        (
            "patient/Observation.rs?category=a%7Cb&code:in=x%20y",
            Scope("patient", "Observation", "rs", (("category", "a|b"), ("code:in", "x y"))),
        ),
    ],
)
def test_a_scope_for_resources_is_read(text: str, read: Scope) -> None:
    assert scope_of(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "openid",
        "launch/patient",
        "patient/Observation",
        "patient/Observation.",
        "patient/Observation.sr",
        "patient/Observation.rrs",
        "patient/Observation.READ",
        "patient/observation.read",
        "practitioner/Observation.read",
        "patient/Observation.read?category=laboratory",
        "patient/Observation.*?category=laboratory",
        "patient/Observation.rs?",
        "patient/Observation.rs?category",
        "patient/Observation.rs?category=",
        "patient/Observation.rs?_include=Observation:subject",
        "patient/Observation.rs?_count=1",
        "patient/*.rs?category=laboratory",
        "patient/Observation.rs?a=b c=d",
        "Patient/Observation.rs",
        "patient/Observation.rs\n",
        "patient//Observation.rs",
        "",
    ],
)
def test_what_is_no_scope_for_resources_is_none(text: str) -> None:
    assert scope_of(text) is None


@pytest.mark.parametrize(
    ("text", "allowed", "lies_within"),
    [
        ("patient/Observation.rs", "patient/*.read", True),
        ("patient/Observation.read", "patient/Observation.cruds", True),
        ("patient/Observation.rs", "patient/Observation.r patient/Observation.s", True),
        ("patient/Observation.rs", "patient/Observation.r", False),
        ("patient/*.rs", "patient/Observation.rs patient/Patient.rs", False),
        ("patient/Observation.rs", "user/Observation.rs system/*.cruds", False),
        ("user/Observation.rs", "patient/Observation.rs", False),
        ("patient/Observation.rs?category=laboratory", "patient/Observation.rs", True),
        ("patient/Observation.rs", "patient/Observation.rs?category=laboratory", False),
        ("patient/Observation.rs?a=b&c=d", "patient/Observation.rs?c=d", True),
        ("patient/Observation.rs?a=b", "patient/Observation.rs?a=c", False),
        ("openid patient/Patient.r", "openid patient/Patient.rs", True),
        ("openid", "patient/*.cruds", False),
        ("offline_access", "online_access", False),
        ("nonsense", "patient/*.cruds", False),
        ("launch", "launch/patient", False),
        ("", "", True),
    ],
)
def test_a_scope_lies_within_others_or_not(text: str, allowed: str, lies_within: bool) -> None:
    assert within(text, allowed) is lies_within


@pytest.mark.parametrize(
    ("asked", "allowed", "got"),
    [
        ("patient/*.read", "patient/*.cruds", "patient/*.read"),
        ("patient/*.cruds", "patient/*.read", "patient/*.rs"),
        ("patient/*.*", "patient/*.rs", "patient/*.read"),
        ("patient/Observation.*", "patient/*.write", "patient/Observation.write"),
        ("patient/Observation.*", "patient/*.cr", "patient/Observation.cr"),
        ("patient/Observation.rs", "patient/Observation.rs?category=a", "patient/Observation.rs?category=a"),
        ("patient/Observation.read", "patient/Observation.rs?category=a", "patient/Observation.rs?category=a"),
        ("patient/*.rs", "patient/Observation.rs?category=a|b", "patient/Observation.rs?category=a|b"),
        ("patient/Observation.rs?status=final", "patient/*.r", "patient/Observation.r?status=final"),
        ("user/*.rs openid", "patient/*.rs fhirUser", ""),
        ("openid openid", "openid", "openid"),
    ],
)
def test_what_is_asked_for_is_narrowed_to_what_is_allowed(asked: str, allowed: str, got: str) -> None:
    assert narrowed(asked, allowed) == got


def test_unknown_scopes_and_types_are_left_out() -> None:
    text = "openid email patient/Observation.rs patient/Nonsense.rs patient/*.rs launch/imagingstudy"
    assert known(text, {"Observation"}) == "openid patient/Observation.rs patient/*.rs"
    assert known(text) == "openid patient/Observation.rs patient/Nonsense.rs patient/*.rs"


types = st.sampled_from(["*", "Observation", "Patient", "Condition"])
verbs = st.sets(st.sampled_from(VERBS), min_size=1).map(verbs_of)
criteria = st.lists(
    st.tuples(st.sampled_from(["category", "code"]), st.sampled_from(["a", "b|c", "ä &=+%"])), max_size=2
)


@st.composite
def some_scopes(draw: st.DrawFn) -> Scope:
    resource_type = draw(types)
    limits = () if resource_type == "*" else tuple(dict.fromkeys(draw(criteria)))
    return Scope(draw(st.sampled_from(["patient", "user", "system"])), resource_type, draw(verbs), limits)  # type: ignore[arg-type]


@given(some_scopes())
def test_a_scope_written_and_read_again_is_the_same(scope: Scope) -> None:
    assert scope_of(text_of(scope)) == scope


@given(st.lists(some_scopes(), max_size=4), st.lists(some_scopes(), max_size=4))
def test_what_is_narrowed_lies_within_both_what_was_asked_and_what_is_allowed(
    asked: list[Scope], allowed: list[Scope]
) -> None:
    asked_text, allowed_text = " ".join(map(text_of, asked)), " ".join(map(text_of, allowed))
    got = narrowed(asked_text, allowed_text)
    assert within(got, asked_text)
    assert within(got, allowed_text)
    for scope in asked:
        if covers(allowed, scope):
            assert within(text_of(scope), got)


def test_scopes_that_need_a_patient_and_scopes_that_last() -> None:
    assert scopes.needs_patient("launch/patient")
    assert scopes.needs_patient("patient/Observation.rs")
    assert not scopes.needs_patient("user/Observation.rs launch")
    assert scopes.lasts("online_access")
    assert not scopes.lasts("openid")


def test_every_scope_is_explained_without_the_words_of_the_standard() -> None:
    for scope in (*scopes.OTHERS, "patient/*.read", "user/DeviceMetric.cruds", "system/Patient.s", "user/Task.cu"):
        title, detail = words_of(scope)
        assert title[0].isupper()
        assert detail.endswith(".")
        assert "/" not in title
        assert "scope" not in (title + detail).lower()


@pytest.mark.parametrize(
    ("scope", "title"),
    [
        ("patient/Observation.rs?category=http://x|vital-signs", "only vital signs"),
        (
            "patient/Condition.rs?category=problem-list-item,encounter-diagnosis",
            "the problem list or diagnoses of a visit",
        ),
        ("patient/MedicationRequest.write", "Add, change and delete prescriptions"),
        ("patient/*.read", "Read all health information"),
        ("user/DeviceMetric.r", "Read device metric records"),
    ],
)
def test_a_scope_is_explained_in_plain_words(scope: str, title: str) -> None:
    assert title in words_of(scope)[0]


def test_what_is_unknown_is_not_made_to_sound_harmless() -> None:
    assert words_of("patient/Observation.rrs") == (
        "patient/Observation.rrs",
        "This server does not know what that means, and does not grant it.",
    )
