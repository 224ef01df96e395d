"""Consents of any shape, beside a plain reading of what they mean, and what one more of them can do."""

from __future__ import annotations

import time
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.model.access import AccessPolicy, Grant
from fhir_server.model.clock import now_us
from fhir_server.policies.consents.book import ConsentBook
from fhir_server.policies.consents.boxes import Boxes
from fhir_server.policies.consents.decide import Recipient, TooIntricateError, Tree
from fhir_server.policies.consents.provision import Provision, provision_of
from fhir_server.policies.consents.verdict import Consents
from fhir_server.policies.reach import Reach
from fhir_server.search.index import Indexer
from fhir_server.search.matching import meets
from profiles.registry import registry
from profiles.terminology import terminology
from tests.conftest import BASE_URL
from tests.policies.conftest import filter_for

Json = dict[str, Any]
Opinion = Literal["deny", "permit"] | None

ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
PATIENT = {"reference": "Patient/p"}
ME, PURPOSE = "Practitioner/me", "TREAT"

CODES, AUTHORS, LABELS = ("a", "b"), ("Practitioner/x", "Practitioner/y"), ("PSY", "HIV")
YEARS = ("2020", "2021", "2022")


def chart() -> list[Json]:
    """Observations and Conditions of all codes, authors, labels and years, and the patient."""
    made: list[Json] = [{"resourceType": "Patient", "id": "p"}]
    for n, year in enumerate(YEARS):
        for code in CODES:
            for author in AUTHORS:
                label = (*LABELS, None)[(n + len(made)) % 3]
                tags = {} if label is None else {"meta": {"security": [{"system": ACT_CODE, "code": label}]}}
                common = {"subject": PATIENT, "code": {"coding": [{"system": "urn:c", "code": code}]}, **tags}
                made.append(
                    {
                        "resourceType": "Observation",
                        "id": f"o{len(made)}",
                        "status": "final",
                        "effectiveDateTime": f"{year}-05-01",
                        "performer": [{"reference": author}],
                        **common,
                    }
                )
                made.append(
                    {
                        "resourceType": "Condition",
                        "id": f"c{len(made)}",
                        "onsetDateTime": f"{year}-05-01",
                        "asserter": {"reference": author},
                        **common,
                    }
                )
    return made


CHART = chart()
INDEXER = Indexer(registry(), terminology(), BASE_URL)
DOCUMENTS = [{"_id": r["id"], "v": 1, "t": 1, "x": INDEXER.entries_of(r)} for r in CHART]
NAMES = [f"{r['resourceType']}/{r['id']}" for r in CHART]
REACH = Reach(registry())
BOXES = Boxes(registry(), terminology(), REACH)
READER = Recipient(frozenset({ME}), PURPOSE, now_us())


def some(values: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), max_size=2, unique=True)


@st.composite
def provisions(draw: Any, depth: int = 3, kinds: tuple[str, ...] = ("deny", "permit")) -> Json:
    row: Json = {"type": draw(st.sampled_from(kinds))}
    if draw(st.booleans()):
        row["class"] = [{"system": RESOURCE_TYPES, "code": c} for c in draw(some(("Observation", "Condition")))]
    if draw(st.integers(0, 2)) == 0:
        row["code"] = [{"coding": [{"system": "urn:c", "code": c}]} for c in draw(some(CODES))]
    if draw(st.integers(0, 3)) == 0:
        row["securityLabel"] = [{"system": ACT_CODE, "code": draw(st.sampled_from(LABELS))}]
    if draw(st.integers(0, 3)) == 0:
        first, last = sorted((draw(st.sampled_from(YEARS)), draw(st.sampled_from(YEARS))))
        row["dataPeriod"] = {"start": first, "end": last}
    if draw(st.integers(0, 3)) == 0:
        row["data"] = [{"meaning": "authoredby", "reference": {"reference": a}} for a in draw(some(AUTHORS))]
        row["data"] += [{"meaning": "instance", "reference": {"reference": draw(st.sampled_from(NAMES))}}]
    if draw(st.integers(0, 3)) == 0:
        who = draw(some((ME, "Practitioner/another")))
        row["actor"] = [{"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": w}} for w in who]
    if draw(st.integers(0, 3)) == 0:
        row["purpose"] = [{"system": ACT_REASON, "code": c} for c in draw(some(("TREAT", "HPAYMT")))]
    if depth:
        row["provision"] = draw(st.lists(provisions(depth - 1, kinds), max_size=2))
    return {name: value for name, value in row.items() if value != []}


def opinion(row: Json, resource: Json) -> Opinion:
    """What a provision says of a resource to this reader, as the specification has it; None where it says nothing."""
    if "actor" in row and ME not in [a["reference"]["reference"] for a in row["actor"]]:
        return None
    if "purpose" in row and PURPOSE not in [p["code"] for p in row["purpose"]]:
        return None
    if "class" in row and resource["resourceType"] not in [c["code"] for c in row["class"]]:
        return None
    own_code = resource["code"]["coding"][0]["code"] if "code" in resource else None
    if "code" in row and own_code not in [c["coding"][0]["code"] for c in row["code"]]:
        return None
    labels = [s["code"] for s in resource.get("meta", {}).get("security", ())]
    if "securityLabel" in row and row["securityLabel"][0]["code"] not in labels:
        return None
    if "dataPeriod" in row:
        when = (resource.get("effectiveDateTime") or resource.get("onsetDateTime") or "")[:4]
        if not row["dataPeriod"]["start"] <= when <= row["dataPeriod"]["end"]:
            return None
    if "data" in row:
        author = (resource.get("asserter") or (resource.get("performer") or [{}])[0]).get("reference")
        name = f"{resource['resourceType']}/{resource['id']}"
        about = [
            {"authoredby": author, "instance": name}[d["meaning"]] == d["reference"]["reference"] for d in row["data"]
        ]
        if not any(about):
            return None
    inner = {opinion(exception, resource) for exception in row.get("provision", ())} - {None}
    return "deny" if "deny" in inner else "permit" if "permit" in inner else row["type"]


def rule_of(row: Json, *, base_permits: bool = True) -> Provision:
    scope = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]}
    consent = {"status": "active", "scope": scope, "patient": PATIENT, "provision": row}
    said = provision_of(consent, BASE_URL, base_permits=base_permits)
    assert said is not None
    return said[1]


class NoStore:
    """Nothing is stored; the rules are put into the book by hand."""

    async def find(self, *_: Any, **__: Any) -> list[Json]:
        return []


def seen(rows: list[Json], *, base_permits: bool = True) -> set[str]:
    """What is left of the chart, by the policy that the Consents make."""
    book = ConsentBook(NoStore(), lambda rule: Tree(rule, BOXES, terminology()), BASE_URL, base_permits=base_permits)
    for row in rows:
        book._add("Patient/p", rule_of(row, base_permits=base_permits))
    consents = Consents(book, REACH, base_permits=base_permits)
    verdict = consents.verdict(READER, "cruds", frozenset())
    layers = [(Grant("*", "r"),)]
    if not base_permits:
        layers.append(consents.permitting_layer(verdict, frozenset(), ()))  # type: ignore[arg-type]
    policy = AccessPolicy(tuple(layers), verdict.denials)
    filters = {name: filter_for(policy, name, "r") for name in ("Patient", "Observation", "Condition")}
    return {name for name, d in zip(NAMES, DOCUMENTS, strict=True) if meets(filters[name.partition("/")[0]], d)}


def is_intricate(row: Json) -> bool:
    """Whether a rule multiplies into more than is worked out: then it hides all and opens nothing (a test below)."""
    tree = Tree(rule_of(row), BOXES, terminology())
    try:
        tree._denied(READER)
        tree._allowed(READER)
    except TooIntricateError:
        return True
    return False


@settings(max_examples=100)
@given(provisions())
def test_a_consent_hides_exactly_what_it_says(row: Json) -> None:
    if is_intricate(row):
        assert seen([row]) == set()
        return
    assert seen([row]) == {n for n, r in zip(NAMES, CHART, strict=True) if opinion(row, r) != "deny"}


@settings(max_examples=100)
@given(provisions())
def test_where_nothing_is_permitted_by_itself_a_consent_opens_exactly_what_it_says(row: Json) -> None:
    if is_intricate(row):
        assert seen([row], base_permits=False) == set()
        return
    shown = {n for n, r in zip(NAMES, CHART, strict=True) if opinion(row, r) == "permit"}
    assert seen([row], base_permits=False) == shown


@settings(max_examples=60)
@given(st.lists(provisions(depth=1), max_size=3), provisions())
def test_one_more_consent_never_shows_more_where_all_is_permitted_by_itself(rows: list[Json], more: Json) -> None:
    assert seen([*rows, more]) <= seen(rows)


@settings(max_examples=60)
@given(st.lists(provisions(depth=1), max_size=3), provisions(kinds=("deny",)))
def test_one_more_denial_never_shows_more_where_nothing_is(rows: list[Json], more: Json) -> None:
    assert seen([*rows, more], base_permits=False) <= seen(rows, base_permits=False)


def test_a_consent_that_multiplies_without_end_hides_the_record_and_costs_little() -> None:
    def related(n: int, inner: list[Json]) -> Json:
        data = [{"meaning": "related", "reference": {"reference": f"Encounter/{n}"}}]
        return {"type": "permit", "data": data, "provision": inner}

    deep: Json = {"type": "deny", "code": [{"coding": [{"system": "urn:c", "code": "a"}]}]}
    for n in range(8):
        deep = related(n, [deep, deep])
    wide = related(1, [{"type": "deny", "code": [{"text": str(n)}]} for n in range(400)])
    nested: Json = {"type": "permit"}
    for _ in range(40):
        nested = {"type": "permit", "provision": [nested]}
    for row in (deep, wide, nested):
        began = time.process_time()
        assert seen([row]) == set()
        assert time.process_time() - began < 2.0
