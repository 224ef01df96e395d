"""Consents: what each kind of rule hides, from whom, when, and how rules stand within rules.

Spec: https://hl7.org/fhir/R4/consent.html, https://profiles.ihe.net/ITI/PCF/
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from fhir_server.model.access import Identity, Scope
from tests.policies.conftest import World, somebody

Json = dict[str, Any]

ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
LOINC = "http://loinc.org"
SHOWN = ("Patient", "Observation", "Condition", "Encounter", "DocumentReference", "Device", "MedicationRequest")


def ref(reference: str) -> Json:
    return {"reference": reference}


@dataclass
class Chart:
    """One patient with a record, and who reads it."""

    world: World
    doctor: str = ""
    organization: str = ""
    patient: str = ""
    author: str = ""
    things: dict[str, str] = field(default_factory=dict)
    consents: list[str] = field(default_factory=list)

    def reader(self, **more: Any) -> Identity:
        return somebody("practitioner", self.doctor, self.organization, **more)

    def consent(self, provision: Json | None = None, **more: Any) -> str:
        """Store a Consent of the patient, in the shape of IHE PCF."""
        content: Json = {
            "status": "active",
            "scope": {
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
            },
            "category": [{"coding": [{"system": LOINC, "code": "59284-0"}]}],
            "patient": ref(self.patient),
            "policy": [{"uri": "http://example.org/policies/base"}],
            **more,
        }
        if provision is not None:
            content["provision"] = provision
        made = self.world.put("Consent", **content)
        self.consents.append(made)
        return made

    def seen(self, **more: Any) -> set[str]:
        """The names of what the doctor sees of the record."""
        found = set().union(*(self.world.allowed(self.reader(**more), name) for name in SHOWN))
        return {name for name, reference in self.things.items() if reference in found}

    def hidden(self, **more: Any) -> set[str]:
        return self.things.keys() - self.seen(**more)


def filled(world: World) -> Chart:
    chart = Chart(world)
    chart.organization = world.put("Organization", name="Ours", identifier=[{"system": "urn:org", "value": "77"}])
    chart.doctor = world.put("Practitioner")
    author = world.put("Practitioner")
    chart.patient = patient = world.put("Patient", generalPractitioner=[ref(chart.doctor)])
    subject = ref(patient)
    visit = world.put("Encounter", status="finished", subject=subject, **{"class": {"code": "AMB"}})
    label = {"security": [{"system": ACT_CODE, "code": "PSY"}]}
    restricted = {"security": [{"system": CONFIDENTIALITY, "code": "R"}]}

    def observation(code: str, when: str | None, **more: Any) -> str:
        coded = {"coding": [{"system": LOINC, "code": code}]}
        dated = {} if when is None else {"effectiveDateTime": when}
        return world.put("Observation", status="final", code=coded, subject=subject, **dated, **more)

    chart.things = {
        "patient": patient,
        "visit": visit,
        "weight 2021": observation("29463-7", "2021-05-01"),
        "weight 2022": observation("29463-7", "2022-05-01"),
        "weight undated": observation("29463-7", None),
        "alcohol": observation("11331-6", "2021-06-01"),
        "in the visit": observation("8867-4", "2021-07-01", encounter=ref(visit)),
        "by the author": observation("8480-6", "2021-08-01", performer=[ref(author)]),
        "psychiatric": world.put("Condition", subject=subject, meta=label, onsetDateTime="2021-01-01"),
        "restricted": world.put("Condition", subject=subject, meta=restricted, onsetDateTime="2021-01-01"),
        "document": world.put(
            "DocumentReference",
            status="current",
            subject=subject,
            context={"period": {"start": "2021-03-01", "end": "2021-03-02"}},
            content=[{"attachment": {"title": "t"}}],
        ),
        "pacemaker": world.put("Device", patient=subject),
    }
    chart.author = author
    return chart


@pytest.fixture(scope="module")
def filled_chart(world: World) -> Chart:
    return filled(world)


@pytest.fixture
def chart(filled_chart: Chart) -> Iterator[Chart]:
    assert filled_chart.hidden() == set()
    yield filled_chart
    for consent in filled_chart.consents:
        filled_chart.world.delete(consent)
    filled_chart.consents.clear()


def to(reference: str | Json, role: str = "IRCP") -> list[Json]:
    """Actors of a provision."""
    who = ref(reference) if isinstance(reference, str) else reference
    system = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
    return [{"role": {"coding": [{"system": system, "code": role}]}, "reference": who}]


def purposes(*codes: str) -> list[Json]:
    return [{"system": ACT_REASON, "code": code} for code in codes]


def test_a_record_without_a_consent_is_seen_whole(chart: Chart) -> None:
    assert chart.seen() == set(chart.things)


def test_a_denial_hides_the_whole_record(chart: Chart) -> None:
    chart.consent({"type": "deny"})
    assert chart.seen() == set()
    for verb in ("r", "s", "u"):
        assert not chart.world.allowed(chart.reader(), "Observation", verb)
    assert chart.world.policy(chart.reader()).may("Observation", "c")


def test_a_permission_takes_nothing_away(chart: Chart) -> None:
    chart.consent({"type": "permit", "actor": to("Organization/somebody-else")})
    assert chart.hidden() == set()


@pytest.mark.parametrize("status", ["draft", "proposed", "rejected", "inactive", "entered-in-error"])
def test_a_consent_that_is_not_active_does_nothing(chart: Chart, status: str) -> None:
    chart.consent({"type": "deny"}, status=status)
    assert chart.hidden() == set()


def test_a_consent_to_research_or_treatment_is_none_of_privacy(chart: Chart) -> None:
    scope = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]}
    chart.consent({"type": "deny"}, scope=scope)
    assert chart.hidden() == set()


def test_a_withdrawn_consent_acts_no_more(chart: Chart) -> None:
    made = chart.consent({"type": "deny"})
    assert chart.seen() == set()
    body = chart.world.client.get(made).json()
    chart.world.put(
        "Consent",
        body["id"],
        **{k: v for k, v in body.items() if k not in ("resourceType", "id")} | {"status": "inactive"},
    )
    assert chart.hidden() == set()


def test_a_consent_that_was_removed_for_good_and_made_again_acts_as_it_says_now(chart: Chart) -> None:
    made = chart.consent({"type": "deny", "actor": to("Practitioner/somebody-else")})
    assert chart.hidden() == set()
    confirm = {"resourceType": "Parameters", "parameter": [{"name": "confirm", "valueBoolean": True}]}
    body = chart.world.client.get(made).json()
    assert chart.world.client.post(f"{made}/$expunge", json=confirm).status_code == 200
    again = chart.world.client.put(made, json={**body, "provision": {"type": "deny"}})
    assert again.headers["ETag"] == 'W/"1"'
    chart.world.renew()
    assert chart.seen() == set()


# --- from whom ------------------------------------------------------------------------------------------------------


def test_a_denial_names_the_practitioner(chart: Chart) -> None:
    chart.consent({"type": "deny", "actor": to("Practitioner/somebody-else")})
    assert chart.hidden() == set()
    chart.consent({"type": "deny", "actor": to(chart.doctor)})
    assert chart.seen() == set()


def test_a_denial_names_the_organization_or_one_above_it(chart: Chart) -> None:
    world = chart.world
    above = world.put("Organization", name="Group")
    world.put(
        "Organization",
        chart.organization.partition("/")[2],
        name="Ours",
        partOf=ref(above),
        identifier=[{"system": "urn:org", "value": "77"}],
    )
    made = chart.consent({"type": "deny", "actor": to(above)})
    assert chart.seen() == set()
    world.delete(made)
    chart.consents.clear()
    chart.consent({"type": "deny", "actor": to(chart.organization, role="PRCP")})
    assert chart.seen() == set()


def test_a_denial_names_a_role_a_team_or_a_group_of_the_reader(chart: Chart) -> None:
    world = chart.world
    role = world.put("PractitionerRole", practitioner=ref(chart.doctor), active=True)
    team = world.put("CareTeam", status="active", participant=[{"member": ref(chart.doctor)}])
    group = world.put("Group", type="practitioner", actual=True, member=[{"entity": ref(chart.doctor)}])
    for actor in (role, team, group):
        made = chart.consent({"type": "deny", "actor": to(actor)})
        assert chart.seen() == set(), actor
        world.delete(made)
        chart.consents.remove(made)
        world.delete(actor)
    assert chart.hidden() == set()


def test_an_organization_in_which_the_reader_has_a_role_counts(chart: Chart) -> None:
    world = chart.world
    second = world.put("Organization", name="Second")
    chart.consent({"type": "deny", "actor": to(second)})
    assert chart.hidden() == set()
    role = world.put("PractitionerRole", practitioner=ref(chart.doctor), organization=ref(second), active=True)
    assert chart.seen() == set()
    world.delete(role)


def test_a_denial_to_somebody_who_cannot_be_told_is_one_to_all(chart: Chart) -> None:
    chart.consent({"type": "deny", "actor": to({"display": "my neighbour, who works there"})})
    assert chart.seen() == set()


def test_a_denial_to_all_but_one_is_a_permission_within_it(chart: Chart) -> None:
    chart.consent({"type": "deny", "provision": [{"type": "permit", "actor": to("Practitioner/somebody-else")}]})
    assert chart.seen() == set()
    chart.world.delete(chart.consents.pop())
    chart.consent({"type": "deny", "provision": [{"type": "permit", "actor": to(chart.doctor)}]})
    assert chart.hidden() == set()


def test_a_permission_within_a_denial_to_somebody_who_cannot_be_told_opens_nothing(chart: Chart) -> None:
    inner = {"type": "permit", "actor": to({"display": "my doctor"})}
    chart.consent({"type": "deny", "provision": [inner]})
    assert chart.seen() == set()


def test_the_policy_rules_of_r4_are_the_first_rule(chart: Chart) -> None:
    opt_out = {"coding": [{"system": ACT_CODE, "code": "OPTOUT"}]}
    opt_in = {"coding": [{"system": ACT_CODE, "code": "OPTIN"}]}
    chart.consent(policyRule=opt_out)
    assert chart.seen() == set()
    chart.world.delete(chart.consents.pop())
    chart.consent({"type": "permit", "actor": to(chart.doctor)}, policyRule=opt_out)
    assert chart.hidden() == set()
    chart.world.delete(chart.consents.pop())
    chart.consent({"type": "deny", "actor": to(chart.organization, role="PRCP")}, policyRule=opt_in)
    assert chart.seen() == set()
    chart.world.delete(chart.consents.pop())
    chart.consent(policyRule=opt_in)
    assert chart.hidden() == set()


def by_identifier(value: str, system: str | None = None) -> list[Json]:
    """An actor whom only an identifier names."""
    identifier = {"value": value} if system is None else {"system": system, "value": value}
    return to({"type": "Practitioner", "identifier": identifier})


@pytest.mark.parametrize("of", ["doctor", "role", "organization"])
def test_a_denial_names_the_reader_by_an_identifier_alone(chart: Chart, of: str) -> None:
    world, number = chart.world, [{"system": "urn:staff", "value": "12"}]
    chart.consent({"type": "deny", "actor": by_identifier("12", "urn:staff")})
    assert chart.hidden() == set(), "nobody is called so yet"
    if of == "doctor":
        world.put("Practitioner", chart.doctor.partition("/")[2], identifier=number)
        carrier = chart.doctor
    elif of == "role":
        carrier = world.put("PractitionerRole", practitioner=ref(chart.doctor), active=True, identifier=number)
    else:
        carrier = chart.organization
        world.put("Organization", carrier.partition("/")[2], name="Ours", identifier=number)
    assert chart.seen() == set()
    other = somebody("practitioner", world.put("Practitioner"), subject="other")
    assert not [grant for grant in world.policy(other).denials if grant.compartments is not None]
    if of == "role":
        world.delete(carrier)
    else:
        kind, _, name = carrier.partition("/")
        back = {"name": "Ours", "identifier": [{"system": "urn:org", "value": "77"}]} if kind == "Organization" else {}
        world.put(kind, name, **back)
    assert chart.hidden() == set()


def test_an_identifier_without_a_system_denies_to_all_who_have_the_number_and_permits_to_none(chart: Chart) -> None:
    world, (kind, _, name) = chart.world, chart.doctor.partition("/")
    world.put(kind, name, identifier=[{"system": "urn:staff", "value": "13"}])
    rule = {"type": "deny", "provision": [{"type": "permit", "actor": by_identifier("13")}]}
    made = chart.consent(rule)
    assert chart.seen() == set()
    world.delete(made)
    chart.consents.clear()
    made = chart.consent({**rule, "provision": [{"type": "permit", "actor": by_identifier("13", "urn:staff")}]})
    assert chart.hidden() == set()
    world.delete(made)
    chart.consents.clear()
    chart.consent({"type": "deny", "actor": by_identifier("13")})
    assert chart.seen() == set()
    world.put(kind, name)
    assert chart.hidden() == set()


def test_an_author_who_has_only_an_identifier_cannot_be_told_from_others(chart: Chart) -> None:
    author = {"identifier": {"system": "urn:staff", "value": "14"}}
    chart.consent({"type": "deny", "actor": to(author, role="AUT")})
    assert chart.seen() == set()


# --- why and when ---------------------------------------------------------------------------------------------------


def test_a_denial_is_for_a_purpose_and_those_below_it(chart: Chart) -> None:
    chart.consent({"type": "deny", "purpose": purposes("HRESCH", "HPAYMT")})
    assert chart.hidden() == set()
    assert chart.seen(purpose="HPAYMT") == set()
    assert chart.seen(purpose="CLINTRCH") == set()
    chart.world.delete(chart.consents.pop())
    chart.consent({"type": "deny", "purpose": purposes("TREAT")})
    assert chart.seen() == set()
    assert chart.seen(purpose="ETREAT") == set()
    assert chart.hidden(purpose="HOPERAT") == {"restricted"}  # the label alone


def test_a_denial_of_treatment_is_for_who_treats_and_of_administration_for_the_front_desk(chart: Chart) -> None:
    world, (kind, _, name) = chart.world, chart.patient.partition("/")
    before = world.client.get(chart.patient).json()
    world.put(kind, name, **{**before, "managingOrganization": ref(chart.organization)})
    desk = somebody("front-desk", world.put("Practitioner"), chart.organization, subject="desk")
    made = chart.consent({"type": "deny", "purpose": purposes("TREAT")})
    assert world.allowed(desk, "Patient") == {chart.patient}
    assert chart.seen() == set()
    world.delete(made)
    chart.consents.clear()
    for code in ("PATADMIN", "HOPERAT"):
        made = chart.consent({"type": "deny", "purpose": purposes(code)})
        assert world.allowed(desk, "Patient") == set()
        assert chart.hidden() == set()
        world.delete(made)
        chart.consents.clear()
    world.put(kind, name, generalPractitioner=before["generalPractitioner"])


def test_a_denial_within_its_period(chart: Chart) -> None:
    chart.consent({"type": "deny", "period": {"end": "2020-12-31"}})
    chart.consent({"type": "deny", "period": {"start": "2999-01-01"}})
    assert chart.hidden() == set()
    chart.consent({"type": "deny", "period": {"start": "2020-01-01", "end": "2999-01-01"}})
    assert chart.seen() == set()


# --- what -----------------------------------------------------------------------------------------------------------

WEIGHTS = {"weight 2021", "weight 2022", "weight undated"}

CASES: dict[str, tuple[Json, set[str]]] = {
    "a class": ({"class": [{"system": RESOURCE_TYPES, "code": "Condition"}]}, {"psychiatric", "restricted"}),
    "two classes": (
        {"class": [{"system": RESOURCE_TYPES, "code": c} for c in ("Device", "DocumentReference")]},
        {"pacemaker", "document"},
    ),
    "a code": ({"code": [{"coding": [{"system": LOINC, "code": "11331-6"}]}]}, {"alcohol"}),
    "two codes": (
        {"code": [{"coding": [{"system": LOINC, "code": c}]} for c in ("11331-6", "29463-7")]},
        {"alcohol", *WEIGHTS},
    ),
    "a label": ({"securityLabel": [{"system": ACT_CODE, "code": "PSY"}]}, {"psychiatric"}),
    "a label above it": ({"securityLabel": [{"system": CONFIDENTIALITY, "code": "R"}]}, {"restricted"}),
    "one resource": ({"data": [{"meaning": "instance", "reference": "alcohol"}]}, {"alcohol"}),
    "an encounter": ({"data": [{"meaning": "related", "reference": "visit"}]}, {"visit", "in the visit"}),
    "an author": ({"data": [{"meaning": "authoredby", "reference": "AUTHOR"}]}, {"by the author"}),
    "a class and a code": (
        {
            "class": [{"system": RESOURCE_TYPES, "code": "Observation"}],
            "code": [{"coding": [{"system": LOINC, "code": "29463-7"}]}],
        },
        WEIGHTS,
    ),
    "a class and a year": (
        {
            "class": [{"system": RESOURCE_TYPES, "code": "Observation"}],
            "code": [{"coding": [{"system": LOINC, "code": "29463-7"}]}],
            "dataPeriod": {"start": "2022-01-01", "end": "2022-12-31"},
        },
        {"weight 2022", "weight undated"},  # what has no date may be of that year
    ),
    "a class that nobody knows": (
        {
            "class": [{"system": "urn:example", "code": "secret"}],
            "code": [{"coding": [{"system": LOINC, "code": "11331-6"}]}],
        },
        {"alcohol"},
    ),
}


def placed(value: Any, chart: Chart) -> Any:
    if isinstance(value, dict):
        found = {key: placed(member, chart) for key, member in value.items()}
        if isinstance(target := found.get("reference"), str):
            found["reference"] = ref(chart.author if target == "AUTHOR" else chart.things[target])
        return found
    return [placed(member, chart) for member in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", CASES)
def test_a_denial_hides_what_it_is_about(chart: Chart, case: str) -> None:
    conditions, hidden = CASES[case]
    chart.consent({"type": "permit", "provision": [{"type": "deny", **placed(conditions, chart)}]})
    assert chart.hidden() == hidden


EXACT = {
    name: case
    for name, case in CASES.items()
    if name not in ("a class and a year", "a class that nobody knows", "a label above it")
}


@pytest.mark.parametrize("case", EXACT)
def test_a_permission_within_a_denial_opens_what_it_is_about(chart: Chart, case: str) -> None:
    conditions, opened = EXACT[case]
    chart.consent({"type": "deny", "provision": [{"type": "permit", **placed(conditions, chart)}]})
    assert chart.seen() == opened


def test_a_permission_of_a_year_opens_what_surely_is_of_it(chart: Chart) -> None:
    year = {"dataPeriod": {"start": "2022-01-01", "end": "2022-12-31"}}
    chart.consent({"type": "deny", "provision": [{"type": "permit", **year}]})
    assert chart.seen() == {"weight 2022"}


def test_to_permit_a_confidentiality_permits_what_is_lower_and_to_deny_it_denies_what_is_higher(chart: Chart) -> None:
    normal = {"securityLabel": [{"system": CONFIDENTIALITY, "code": "N"}]}
    chart.consent({"type": "deny", "provision": [{"type": "permit", **normal}]})
    assert chart.hidden() == {"restricted"}
    chart.world.delete(chart.consents.pop())
    chart.consent({"type": "permit", "provision": [{"type": "deny", **normal}]})
    assert chart.seen() == set()


def test_rules_stand_three_deep(chart: Chart) -> None:
    """All is denied, but observations are permitted to the doctor, but not those of alcohol."""
    alcohol = {"type": "deny", "code": [{"coding": [{"system": LOINC, "code": "11331-6"}]}]}
    observations = {
        "type": "permit",
        "actor": to(chart.doctor),
        "class": [{"system": RESOURCE_TYPES, "code": "Observation"}],
        "provision": [alcohol],
    }
    chart.consent({"type": "deny", "provision": [observations]})
    assert chart.seen() == {*WEIGHTS, "in the visit", "by the author"}


def test_of_two_consents_the_one_that_denies_goes_first(chart: Chart) -> None:
    chart.consent({"type": "permit", "actor": to(chart.doctor)})
    chart.consent(
        {"type": "permit", "provision": [{"type": "deny", "class": [{"system": RESOURCE_TYPES, "code": "Device"}]}]}
    )
    assert chart.hidden() == {"pacemaker"}


def test_actions_say_which_verbs_are_denied(chart: Chart) -> None:
    def action(code: str) -> list[Json]:
        return [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": code}]}]

    world = chart.world
    chart.consent({"type": "deny", "action": action("collect")})
    assert chart.hidden() == set()
    assert chart.things["alcohol"] not in world.allowed(chart.reader(), "Observation", "c")
    world.delete(chart.consents.pop())
    chart.consent({"type": "deny", "action": action("disclose")})
    assert chart.seen() == set()
    assert chart.things["alcohol"] in world.allowed(chart.reader(), "Observation", "u")


# --- whom it does not concern ---------------------------------------------------------------------------------------


def test_a_consent_hides_nothing_from_the_patient_and_the_proxy(chart: Chart) -> None:
    mother = chart.world.put("RelatedPerson", patient=ref(chart.patient))
    chart.consent({"type": "deny"})
    assert chart.things["alcohol"] in chart.world.allowed(somebody("patient", chart.patient), "Observation")
    assert chart.things["alcohol"] in chart.world.allowed(somebody("proxy", mother), "Observation")
    chart.world.delete(mother)


def test_a_consent_hides_from_programs_to_read_and_lets_them_feed_the_record(chart: Chart) -> None:
    program = somebody("system", scopes=(Scope("system", "*", "cruds"),))
    chart.consent({"type": "deny"})
    assert chart.things["alcohol"] not in chart.world.allowed(program, "Observation", "s")
    assert chart.things["alcohol"] in chart.world.allowed(program, "Observation", "u")


def test_labels_hide_from_whom_no_purpose_clears_them(chart: Chart) -> None:
    world = chart.world
    secret = world.put(
        "Condition",
        subject=ref(chart.patient),
        meta={"security": [{"system": CONFIDENTIALITY, "code": "V"}]},
    )
    private = world.put(
        "Condition", subject=ref(chart.patient), meta={"security": [{"system": ACT_CODE, "code": "NOPAT"}]}
    )
    mother = world.put("RelatedPerson", patient=ref(chart.patient))
    restricted, plain = chart.things["restricted"], chart.things["psychiatric"]
    assert world.allowed(chart.reader(), "Condition") == {restricted, plain, private}
    assert world.allowed(chart.reader(purpose="HOPERAT"), "Condition") == {plain, private}
    assert world.allowed(somebody("patient", chart.patient), "Condition") == {restricted, plain, secret}
    assert world.allowed(somebody("proxy", mother), "Condition") == {plain}
    program = somebody("system", scopes=(Scope("system", "*", "rs"),))
    assert {secret, private, restricted} <= world.allowed(program, "Condition")
    for made in (secret, private, mother):
        world.delete(made)


# --- where nothing is permitted by itself ---------------------------------------------------------------------------


def test_where_nothing_is_permitted_by_itself_a_permission_opens(strict_world: World) -> None:
    chart = filled(strict_world)
    assert chart.seen() == set()
    assert strict_world.allowed(chart.reader(), "Practitioner")
    assert strict_world.policy(chart.reader()).may("Patient", "c")
    made = chart.consent({"type": "permit", "purpose": purposes("TREAT"), "actor": to(chart.doctor)})
    assert chart.hidden() == set()
    assert chart.seen(purpose="HOPERAT") == set()
    strict_world.delete(made)
    year = {"dataPeriod": {"start": "2021-05-01", "end": "2021-05-31"}}
    made = chart.consent({"type": "permit", **year})
    assert chart.seen() == {"weight 2021"}
    strict_world.delete(made)
    inner = {"type": "deny", "class": [{"system": RESOURCE_TYPES, "code": "Condition"}]}
    chart.consent({"type": "permit", "provision": [inner]})
    assert chart.hidden() == {"psychiatric", "restricted"}


# --- how soon -------------------------------------------------------------------------------------------------------


def test_a_consent_acts_within_two_seconds_where_nobody_told_of_it(chart: Chart) -> None:
    """As in another process than the one that wrote it."""
    client = chart.world.client
    assert chart.hidden() == set()
    before = chart.world.policies.noticed
    chart.world.policies.noticed = lambda *_: None  # type: ignore[method-assign]
    try:
        chart.consent({"type": "deny"})
        time.sleep(2.0)
        assert chart.seen() == set()
        client.delete(chart.consents[-1])
        time.sleep(2.0)
        assert chart.hidden() == set()
    finally:
        chart.world.policies.noticed = before  # type: ignore[method-assign]
