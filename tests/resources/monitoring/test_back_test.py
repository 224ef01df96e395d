"""A threshold is tried on the past before it is in force, and does then what was said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fhir_server.model.access import AccessPolicy, Caller, Grant, Identity
from fhir_server.model.errors import FhirError
from fhir_server.repository.rules import Write
from resources.monitoring.plan import BACK_TEST, PLANS, TESTED, plan_rule, trial_in, with_tested
from resources.monitoring.threshold import digest_of
from tests.resources.monitoring.conftest import Ward, clears_at, hours, plan_of

Json = dict[str, Any]

DOCS = Path(__file__).parents[3] / "docs" / "operations-monitoring.md"
DAY = 24.0


def values(answer: Any, name: str) -> list[Any]:
    rows = [row for row in answer.json()["parameter"] if row["name"] == name]
    return [next(v for k, v in row.items() if k != "name") for row in rows]


def key(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["issue"][0]["details"]["coding"][0]["code"]


def test_it_says_how_often_it_would_have_fired_and_when(ward: Ward, patient: str) -> None:
    for days, value in ((40, 190), (39, 150), (20, 185), (19, 175), (18, 188), (17, 150), (2, 181)):
        ward.measured(patient, value, days * DAY)
    plan = ward.threshold(patient, clears_at(160))
    answer = ward.client.post(f"{plan}/$back-test")
    assert values(answer, "summary") == [
        "It would have fired 3 times in the last 90 days, in which there are 7 measurements."
    ]
    assert (values(answer, "times"), values(answer, "days")) == ([3], [90])
    found = [{part["name"] for part in episode} for episode in values(answer, "episode")]
    assert ["end" in names for names in found] == [True, True, False]
    body = {"resourceType": "Parameters", "parameter": [{"name": "days", "valueInteger": 30}]}
    assert values(ward.client.post(f"{plan}/$back-test", json=body), "times") == [2]
    body["parameter"] = [{"name": "days", "valueInteger": 999}]
    assert key(ward.client.post(f"{plan}/$back-test", json=body)) == (400, "HS-OP-PARAMETER")


def test_what_was_entered_in_error_would_not_have_fired(ward: Ward, patient: str) -> None:
    ward.measured(patient, 199, DAY, status="entered-in-error")
    answer = ward.client.post(f"{ward.threshold(patient)}/$back-test")
    assert "never" in values(answer, "summary")[0]


def test_only_the_version_that_was_tried_is_put_in_force(ward: Ward, patient: str) -> None:
    plan = ward.threshold(patient)
    assert key(ward.status(plan, "active")) == (422, "HS-MONITOR-UNTESTED")
    ward.client.post(f"{plan}/$back-test")
    stricter = ward.client.get(plan).json()
    stricter["contained"][0]["goal"][0]["target"][0]["detailQuantity"]["value"] = 150
    assert ward.client.put(plan, json=stricter).status_code == 200
    assert key(ward.status(plan, "active")) == (422, "HS-MONITOR-UNTESTED")
    ward.client.post(f"{plan}/$back-test")
    put = ward.status(plan, "active")
    assert put.status_code == 200
    assert "start" in ward.client.get(plan).json()["period"]
    changed = ward.client.get(plan).json()
    changed["contained"][0]["goal"][0]["target"][0]["detailQuantity"]["value"] = 140
    assert key(ward.client.put(plan, json=changed)) == (422, "HS-MONITOR-UNTESTED")


def test_nobody_elses_word_is_taken_for_a_trial(ward: Ward, patient: str) -> None:
    forged = plan_of(patient)
    forged["extension"] = [{"url": TESTED, "extension": [{"url": "rule", "valueString": digest_of(forged)}]}]
    plan = ward.made(forged)
    assert "extension" not in ward.client.get(plan).json()
    again = {**ward.client.get(plan).json(), "extension": forged["extension"], "status": "active"}
    assert key(ward.client.put(plan, json=again)) == (422, "HS-MONITOR-UNTESTED")
    assert key(ward.client.post("CarePlan", json={**forged, "status": "active"})) == (422, "HS-MONITOR-UNTESTED")


def test_other_plans_have_nothing_to_try(ward: Ward, patient: str) -> None:
    other = ward.made({**plan_of(patient), "category": [{"text": "other"}]})
    assert key(ward.client.post(f"{other}/$back-test")) == (422, "HS-MONITOR-NONE")
    assert key(ward.client.put(other, json={**plan_of(patient), "id": other.partition("/")[2]})) == (
        422,
        "HS-MONITOR-KIND",
    )


# --- the rule -------------------------------------------------------------------------------------------------------


def written(old: Json | None, new: Json | None, role: Any = "operator", user: str | None = None, by: str = "") -> Any:
    policy = AccessPolicy(layers=((Grant("*", "cruds"),),))
    return plan_rule(Write("CarePlan", "1", old, new, Caller(Identity("x", "app", role, fhir_user=user), policy), by))


def tried(plan: Json) -> Json:
    return with_tested(plan, {"url": TESTED, "extension": [{"url": "rule", "valueString": digest_of(plan)}]})


STATES = (*PLANS.next, "entered-in-error")


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_a_threshold_goes_from_state_to_state_as_drawn(before: str, after: str) -> None:
    old = {**tried(plan_of("Patient/1")), "status": before}
    new = {**old, "status": after}
    if before == after or after in PLANS.following(before):
        assert written(old, new)["status"] == after
    else:
        with pytest.raises(FhirError) as refused:
            written(old, new)
        assert refused.value.issues[0].key == "HS-STATE"


def test_the_states_are_drawn_as_they_are() -> None:
    [drawn] = re.findall(r"```mermaid\n(stateDiagram-v2\n.*?)\n```", DOCS.read_text("utf-8"), re.DOTALL)
    assert drawn == PLANS.mermaid()


@pytest.mark.parametrize(
    "change",
    [
        {"contained": []},
        {"rule": {"goal": []}},
        {"quantity": {"value": 180, "unit": "mmHg"}},
        {"quantity": {"value": 180, "comparator": ">", "system": "http://unitsofmeasure.org", "code": "mmHg"}},
        {"part": clears_at(190)},
        {"part": clears_at(100, "kg")},
        {"part": {"url": "times", "valuePositiveInt": 3}},
        {"part": {"url": "mean", "valueBoolean": True}},
        {"part": {"url": "window", "valueDuration": {"value": 1, "code": "fortnight"}}},
        {"part": {"url": "quiet", "extension": [{"url": "start", "valueTime": "22:00:00"}]}},
        {"author": None},
    ],
    ids=str,
)
def test_a_rule_that_makes_no_sense_is_refused(change: Json) -> None:
    plan = plan_of("Patient/1", *([change["part"]] if "part" in change else []))
    rule = plan["contained"][0]
    if "quantity" in change:
        rule["goal"][0]["target"][0]["detailQuantity"] = change["quantity"]
    rule |= change.get("rule", {})
    plan = {
        k: v
        for k, v in (plan | {n: v for n, v in change.items() if n in ("contained", "author")}).items()
        if v is not None
    }
    with pytest.raises(FhirError) as refused:
        written(None, plan)
    assert refused.value.issues[0].key == "HS-MONITOR-RULE"


def test_who_sets_it_is_its_author_and_patients_set_their_own_kind() -> None:
    plan = plan_of("Patient/1", hours("window", 1))
    made = written(None, plan, "practitioner", "Practitioner/7")
    assert made["author"] == {"reference": "Practitioner/7"}
    own = plan_of("Patient/1", kind="own-threshold")
    assert written(None, own, "patient", "Patient/1")["author"] == {"reference": "Patient/1"}
    with pytest.raises(FhirError) as refused:
        written(None, plan, "patient", "Patient/1")
    assert (refused.value.status, refused.value.issues[0].key) == (403, "HS-MONITOR-OWN")


def test_only_a_trial_keeps_what_it_came_to_and_twice_changes_nothing() -> None:
    plan = plan_of("Patient/1")
    assert trial_in(written(plan, tried(plan))) is None
    kept = written(plan, tried(plan), by=BACK_TEST)
    assert trial_in(kept) == trial_in(tried(plan))
    active = written(kept, {**kept, "status": "active"})
    assert written(kept, active) == active
