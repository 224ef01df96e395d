"""What a policy lets through, at the level of HTTP: scopes with criteria, denials, writes, histories, attachments."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest

from fhir_server.model.access import AccessPolicy, Grant

VITALS, LABS = "vital-signs", "laboratory"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
NUMBERS = itertools.count()

pytestmark = pytest.mark.xdist_group("access")


def observation(patient: str, category: str = VITALS, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": category}]}],
        "code": {"text": "pulse"},
        "subject": {"reference": f"Patient/{patient}"},
        **more,
    }


@pytest.fixture
def people(world: Any) -> tuple[str, str]:
    """Two new patients."""
    names = tuple(f"p{next(NUMBERS)}-{letter}" for letter in "ab")
    with world.as_("operator") as operator:
        for name in names:
            answer = operator.put(f"Patient/{name}", json={"resourceType": "Patient", "id": name})
            assert answer.status_code == 201
    return names


def within(patient: str, *grants: Grant, denials: tuple[Grant, ...] = (), **more: Any) -> AccessPolicy:
    """Grants (the scopes) to somebody whose role is to see one patient's record."""
    role = Grant("*", "cruds", compartments=frozenset({f"Patient/{patient}"}))
    return AccessPolicy(layers=(grants or (Grant("*", "cruds"),), (role,)), denials=denials, **more)


def as_(world: Any, policy: AccessPolicy, **identity: Any) -> httpx.Client:
    name = f"caller-{next(NUMBERS)}"
    world.callers.add(name, policy, **identity)
    return world.as_(name)


def created(world: Any, resource: dict[str, Any]) -> str:
    with world.as_("operator") as operator:
        answer = operator.post(resource["resourceType"], json=resource)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]


def test_a_scope_with_a_criterion_shows_that_category_and_nothing_else(world: Any, people: tuple[str, str]) -> None:
    mine, _ = people
    vital, lab = created(world, observation(mine)), created(world, observation(mine, LABS))
    scope = Grant("Observation", "rs", criteria=(("category", f"{CATEGORY}|{LABS}"),))
    with as_(world, within(mine, scope)) as client:
        assert client.get(f"Observation/{lab}").status_code == 200
        assert client.get(f"Observation/{vital}").status_code == 404
        for query in (f"patient={mine}", f"patient={mine}&category={LABS}", "_count=0&_total=accurate"):
            assert client.get(f"Observation?{query}").json()["total"] == 1, query
        assert client.get(f"Observation?patient={mine}&category={VITALS}").json()["total"] == 0
        assert client.get(f"Patient/{mine}").status_code == 403  # no scope for that type at all
        assert client.get("Condition").status_code == 403


def test_two_scopes_with_criteria_add_up(world: Any, people: tuple[str, str]) -> None:
    mine, _ = people
    for category in (VITALS, LABS, "survey"):
        created(world, observation(mine, category))
    scopes = [Grant("Observation", "rs", criteria=(("category", c),)) for c in (VITALS, LABS)]
    with as_(world, within(mine, *scopes)) as client:
        assert client.get("Observation", params={"patient": mine}).json()["total"] == 2


def test_a_criterion_holds_for_what_is_written_too(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    scope = Grant("Observation", "crus", criteria=(("category", VITALS),))
    with as_(world, within(mine, scope)) as client:
        made = client.post("Observation", json=observation(mine))
        assert made.status_code == 201
        assert client.post("Observation", json=observation(mine, LABS)).status_code == 403
        assert client.post("Observation", json=observation(other)).status_code == 403
        changed = {**made.json(), "category": [{"coding": [{"system": CATEGORY, "code": LABS}]}]}
        refused = client.put(f"Observation/{made.json()['id']}", json=changed)
        assert refused.status_code == 403
        assert refused.json()["issue"][0]["code"] == "forbidden"


@pytest.mark.parametrize("kind", ["update", "patch", "batch", "transaction", "conditional"])
def test_a_record_cannot_be_moved_to_another_patient(world: Any, people: tuple[str, str], kind: str) -> None:
    mine, other = people
    identifier = {"system": "urn:test", "value": f"move-{next(NUMBERS)}"}
    moved = observation(mine, identifier=[identifier])
    name = created(world, moved)
    moved = {**moved, "id": name, "subject": {"reference": f"Patient/{other}"}}
    patch = [{"op": "replace", "path": "/subject/reference", "value": f"Patient/{other}"}]
    with as_(world, within(mine)) as client:
        match kind:
            case "update":
                answer = client.put(f"Observation/{name}", json=moved)
            case "conditional":
                answer = client.put(f"Observation?identifier=urn:test|{identifier['value']}", json=moved)
            case "patch":
                headers = {"Content-Type": "application/json-patch+json"}
                answer = client.patch(f"Observation/{name}", json=patch, headers=headers)
            case _:
                entry = {"resource": moved, "request": {"method": "PUT", "url": f"Observation/{name}"}}
                answer = client.post("", json={"resourceType": "Bundle", "type": kind, "entry": [entry]})
        if kind == "batch":
            assert answer.json()["entry"][0]["response"]["status"].startswith("403")
        else:
            assert answer.status_code == 403, answer.text
        assert client.get(f"Observation/{name}").json()["subject"]["reference"] == f"Patient/{mine}"
        assert client.get(f"Observation/{name}").json()["meta"]["versionId"] == "1"


def test_one_of_several_entries_that_is_not_allowed_undoes_the_transaction(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    entries = [{"resource": observation(p), "request": {"method": "POST", "url": "Observation"}} for p in (mine, other)]
    with as_(world, within(mine)) as client:
        answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
        assert answer.status_code == 403
        assert client.get("Observation", params={"patient": mine}).json()["total"] == 0


def test_what_once_stood_in_the_wrong_record_is_hidden_from_it_with_all_its_versions(
    world: Any, people: tuple[str, str]
) -> None:
    mine, other = people
    name = created(world, observation(mine, note=[{"text": "about the other person"}]))
    with world.as_("operator") as operator:
        operator.put(f"Observation/{name}", json={**observation(other), "id": name})
    with as_(world, within(mine)) as client:
        assert client.get(f"Observation/{name}").status_code == 404
        assert client.get(f"Observation/{name}/_history").status_code == 404
        assert client.get(f"Observation/{name}/_history/1").status_code == 404
        assert client.get("Observation/_history").json().get("entry", []) == []
    with as_(world, within(other)) as client:
        assert client.get(f"Observation/{name}/_history/2").status_code == 200
        assert client.get(f"Observation/{name}/_history/1").status_code == 404
        shown = client.get(f"Observation/{name}/_history").json()["entry"]
        assert [e["resource"]["meta"]["versionId"] for e in shown] == ["2"]


def test_a_history_is_filled_up_where_others_versions_lie_between(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    names = [created(world, observation(patient)) for _ in range(4) for patient in (mine, other)]
    with as_(world, within(mine)) as client:
        seen: list[str] = []
        url: str | None = "Observation/_history?_count=3"
        while url:
            page = client.get(url).json()
            assert len(page.get("entry", [])) <= 3
            seen += [e["resource"]["id"] for e in page.get("entry", [])]
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
        assert seen == names[::2][::-1]


def test_ones_own_deletion_stays_in_ones_history(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    name = created(world, observation(mine))
    with as_(world, within(mine)) as client, as_(world, within(other)) as stranger:
        assert stranger.delete(f"Observation/{name}").status_code == 204  # as for what was never there
        assert client.get(f"Observation/{name}").status_code == 200
        assert client.delete(f"Observation/{name}").status_code == 204
        methods = [e["request"]["method"] for e in client.get("Observation/_history").json()["entry"]]
        assert methods == ["DELETE", "POST"]
        assert stranger.get("Observation/_history").json().get("entry", []) == []


def test_a_denial_hides_from_every_reader_whatever_the_layers_say(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    name = created(world, observation(mine, LABS))
    created(world, observation(other, LABS))
    denial = Grant("Observation", "cruds", frozenset({f"Patient/{mine}"}), (("category", LABS),))
    with as_(world, AccessPolicy(denials=(denial,))) as client:
        assert client.get(f"Observation/{name}").status_code == 404
        assert client.get("Observation", params={"patient": mine}).json()["total"] == 0
        assert client.get("Observation", params={"patient": other}).json()["total"] == 1
        assert client.get(f"Patient/{mine}").status_code == 200
        found = client.get(f"Patient?_id={mine}&_revinclude=Observation:patient").json()["entry"]
        assert [e["resource"]["resourceType"] for e in found] == ["Patient"]
        assert client.get(f"Patient?_has:Observation:patient:category={LABS}&_id={mine}").json()["total"] == 0


def test_who_does_not_see_everything_cannot_choose_ids(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    taken = created(world, observation(other))
    with as_(world, within(mine)) as client:
        answers = [
            client.put(f"Observation/{name}", json={**observation(mine), "id": name}) for name in (taken, "not-there")
        ]
        assert [a.status_code for a in answers] == [404, 404]
        texts = {a.text.replace(taken, "id").replace("not-there", "id") for a in answers}
        assert len(texts) == 1


def test_a_conditional_create_needs_to_search(world: Any, people: tuple[str, str]) -> None:
    mine, _ = people
    with as_(world, within(mine, Grant("Observation", "c"))) as client:
        assert client.post("Observation", json=observation(mine)).status_code == 201
        headers = {"If-None-Exist": "status=final"}
        assert client.post("Observation", json=observation(mine), headers=headers).status_code == 403


def test_verbs_are_told_apart(world: Any, people: tuple[str, str]) -> None:
    mine, _ = people
    name = created(world, observation(mine))
    asked = {
        "c": lambda c: c.post("Observation", json=observation(mine)),
        "r": lambda c: c.get(f"Observation/{name}"),
        "u": lambda c: c.put(f"Observation/{name}", json={**observation(mine), "id": name}),
        "s": lambda c: c.get("Observation"),
        "d": lambda c: c.delete(f"Observation/{name}"),
    }
    for verb in asked:
        with as_(world, within(mine, Grant("Observation", verb))) as client:
            allowed = {v for v, ask in asked.items() if v != "d" and ask(client).is_success}
            assert allowed == {verb} - {"d"}, verb
    with as_(world, within(mine, Grant("Observation", "d"))) as client:
        assert client.delete(f"Observation/{name}").status_code == 204


def test_a_binary_is_seen_by_who_sees_its_security_context(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    with world.as_("operator") as operator:
        headers = {"Content-Type": "text/plain", "X-Security-Context": f"Patient/{mine}"}
        made = operator.post("Binary", content=b"secret" * 100_000, headers=headers).headers["location"]
        bare = operator.post("Binary", content=b"none", headers={"Content-Type": "text/plain"}).headers["location"]
    with as_(world, within(mine)) as client, as_(world, within(other)) as stranger:
        assert client.get(made.rpartition("/_history")[0]).content == b"secret" * 100_000
        assert client.get(made).status_code == 200
        ghost = stranger.get("Binary/not-there")
        for url in (made.rpartition("/_history")[0], bare.rpartition("/_history")[0]):
            answer = stranger.get(url)
            assert answer.status_code == ghost.status_code == 404
        assert stranger.get(made).status_code == 404
        assert client.get("Binary").json().get("total") == 0


def test_nobody_opens_a_binary_by_pointing_to_it(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    with world.as_("operator") as operator:
        headers = {"Content-Type": "text/plain"}
        made = operator.post("Binary", content=b"theirs", headers=headers).headers["location"]
    binary = made.rpartition("/_history")[0].rpartition("/")[2]

    def pointer(patient: str, target: str) -> dict[str, Any]:
        attachment = {"contentType": "text/plain", "url": f"Binary/{target}"}
        return {
            "resourceType": "DocumentReference",
            "status": "current",
            "subject": {"reference": f"Patient/{patient}"},
            "content": [{"attachment": attachment}],
        }

    with as_(world, within(mine)) as client:
        refused = [client.post("DocumentReference", json=pointer(mine, name)) for name in (binary, "not-there")]
        assert [answer.status_code for answer in refused] == [403, 403]
        assert client.get(f"Binary/{binary}").status_code == 404
    created(world, pointer(other, binary))  # who sees everything may point to it: now it is the other's
    with as_(world, within(other)) as client:
        assert client.get(f"Binary/{binary}").content == b"theirs"


def test_a_binary_of_a_limited_writer_gets_the_patient_in_context_as_its_own(
    world: Any, people: tuple[str, str]
) -> None:
    mine, other = people
    with as_(world, within(mine), patient=f"Patient/{mine}") as client:
        made = client.post("Binary", content=b"photo", headers={"Content-Type": "image/jpeg"})
        assert made.status_code == 201
        assert client.get(made.headers["location"]).headers["x-security-context"] == f"Patient/{mine}"
        foreign = {"Content-Type": "image/jpeg", "X-Security-Context": f"Patient/{other}"}
        assert client.post("Binary", content=b"photo", headers=foreign).status_code == 403
    with as_(world, within(mine)) as client:  # no patient in context
        answer = client.post("Binary", content=b"photo", headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 403
        assert "X-Security-Context" in answer.json()["issue"][0]["diagnostics"]


def test_what_the_staff_of_an_organization_makes_is_marked_as_theirs_and_stays_so(world: Any) -> None:
    stamp = ("urn:healthsphere:organization", f"org-{next(NUMBERS)}")
    staff_only = Grant("Task", "crus", criteria=(("_tag", "|".join(stamp)),))
    with as_(world, AccessPolicy(layers=((staff_only,),), stamp=stamp)) as client:
        task = {"resourceType": "Task", "status": "requested", "intent": "order"}
        made = client.post("Task", json=task)
        assert made.status_code == 201
        assert made.json()["meta"]["tag"] == [{"system": stamp[0], "code": stamp[1]}]
        changed = client.put(f"Task/{made.json()['id']}", json={**task, "id": made.json()["id"], "priority": "stat"})
        assert changed.status_code == 200
        assert changed.json()["meta"]["tag"] == [{"system": stamp[0], "code": stamp[1]}]
    rival = Grant("Task", "crus", criteria=(("_tag", "urn:healthsphere:organization|rival"),))
    with as_(world, AccessPolicy(layers=((rival,),))) as client:
        assert client.get(f"Task/{made.json()['id']}").status_code == 404


@pytest.mark.parametrize(
    "url", ["Patient/person-a/$purge", "$reindex", "Patient/$merge", "$purge-status?job=1", "Observation/$expunge"]
)
def test_operations_beyond_single_resources_need_a_permission_of_their_own(world: Any, url: str) -> None:
    with as_(world, AccessPolicy(layers=((Grant("*", "cruds"),),), operations=frozenset())) as client:
        body = {"resourceType": "Parameters"}
        answer = client.get(url) if "?" in url else client.post(url, json=body)
        assert answer.status_code == 403
        assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-ACCESS-OPERATION"
    with as_(world, AccessPolicy(layers=((Grant("*", "cruds"),),), operations=frozenset({"purge-status"}))) as client:
        assert client.get("$purge-status?job=1").status_code != 403


def test_a_compiled_query_is_not_explained_to_who_is_limited(world: Any, people: tuple[str, str]) -> None:
    created(world, observation(people[0]))
    with as_(world, within(people[0])) as client:
        answer = client.get("Observation", headers={"Prefer": "explain"})
        assert answer.status_code == 200
        assert [entry["search"]["mode"] for entry in answer.json()["entry"]] == ["match"]
    with world.as_("operator") as operator:
        told = operator.get(f"Observation?patient={people[0]}", headers={"Prefer": "explain"}).json()
        assert [entry["search"]["mode"] for entry in told["entry"]] == ["match", "outcome"]


def prescription(patient: str, code: str) -> dict[str, Any]:
    """A MedicationRequest that contains its Medication, which is of nobody by itself."""
    inner = {"resourceType": "Medication", "id": "m", "code": {"coding": [{"system": "urn:test", "code": code}]}}
    return {
        "resourceType": "MedicationRequest",
        "contained": [inner],
        "status": "active",
        "intent": "order",
        "medicationReference": {"reference": "#m"},
        "subject": {"reference": f"Patient/{patient}"},
    }


@pytest.mark.parametrize("kind", ["container", "contained"])
@pytest.mark.parametrize("which", ["true", "both"])
def test_what_a_resource_contains_is_seen_by_who_may_see_the_resource(
    world: Any, people: tuple[str, str], which: str, kind: str
) -> None:
    mine, other = people
    code = f"mix-{next(NUMBERS)}"
    name = created(world, prescription(mine, code))
    created(world, prescription(other, code))
    query = f"Medication?code={code}&_contained={which}&_containedType={kind}&_include=MedicationRequest:subject"
    with world.as_("operator") as operator:
        assert operator.get(f"{query}&_total=accurate").json()["total"] == 2
    with as_(world, within(mine)) as client:
        bundle = client.get(f"{query}&_total=accurate").json()
        assert bundle["total"] == 1
        matches = [e["fullUrl"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
        assert matches == [f"http://test/fhir/MedicationRequest/{name}" + ("#m" if kind == "contained" else "")]
        assert [e["resource"]["id"] for e in bundle["entry"] if e["search"]["mode"] == "include"] == [mine]
        assert client.get(f"{query}&_count=1").json().get("link", [{}])[-1]["relation"] == "self"


def test_a_chain_leads_only_into_resources_that_the_reader_may_see(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    code = f"mix-{next(NUMBERS)}"
    name = created(world, prescription(mine, code))
    hidden = created(world, prescription(other, code))
    created(world, {**observation(other), "basedOn": [{"reference": f"MedicationRequest/{hidden}"}]})
    with as_(world, within(mine)) as client:
        found = client.get(f"MedicationRequest?medication.code={code}").json()
        assert [entry["resource"]["id"] for entry in found["entry"]] == [name]
        based = client.get(f"Observation?based-on:MedicationRequest.medication.code={code}").json()
        assert based["total"] == 0


def test_a_reverse_chain_is_of_what_the_reader_may_see_however_often_it_is_asked(
    world: Any, people: tuple[str, str]
) -> None:
    mine, other = people
    for who in people:
        created(world, observation(who, effectiveDateTime="2021-02-03"))
    queries = [
        f"Patient?_id={mine},{other}&_has:Observation:patient:date=gt2000",
        f"Patient?_id={other}&_has:Observation:subject:status=final&_total=accurate",
        f"Patient?_has:Observation:patient:category={VITALS}&_id={mine}",
    ]
    for _ in range(2):
        with world.as_("operator") as operator:
            assert [operator.get(query).json()["total"] for query in queries] == [2, 1, 1]
        with as_(world, within(mine)) as client:
            assert [client.get(query).json()["total"] for query in queries] == [1, 0, 1]


def test_an_order_by_several_keys_shows_no_more_than_the_policy(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    names = [created(world, observation(mine, effectiveDateTime=f"202{n}")) for n in range(4)]
    for n in range(4):
        created(world, observation(other, effectiveDateTime=f"202{n}"))
    with as_(world, within(mine)) as client:
        seen: list[str] = []
        address = "Observation?_sort=-date,_id&_count=1"
        while address:
            bundle = client.get(address).json()
            seen += [entry["resource"]["id"] for entry in bundle.get("entry", [])]
            address = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
        assert seen == names[::-1]


def test_a_criterion_that_cannot_be_read_allows_nothing_and_denies_everything(
    world: Any, people: tuple[str, str]
) -> None:
    mine, _ = people
    name = created(world, observation(mine))
    wrong = (("no-such-parameter", "x"),)
    with as_(world, within(mine, Grant("Observation", "rs", criteria=wrong))) as client:
        assert client.get(f"Observation/{name}").status_code == 404
    with as_(world, within(mine, denials=(Grant("Observation", "rs", criteria=wrong),))) as client:
        assert client.get(f"Observation/{name}").status_code == 404
        assert client.get(f"Patient/{mine}").status_code == 200


@pytest.mark.parametrize("together", [False, True])
def test_where_ones_data_come_from_is_seen_with_them_and_by_nobody_else(
    world: Any, people: tuple[str, str], together: bool
) -> None:
    """US Core asks for `_revinclude=Provenance:target`; the Provenance itself names no patient."""
    mine, other = people

    def provenance(*targets: str) -> dict[str, Any]:
        agent = {"who": {"display": "a lab"}}
        references = [{"reference": target} for target in targets]
        return {
            "resourceType": "Provenance",
            "target": references,
            "recorded": "2026-01-01T00:00:00Z",
            "agent": [agent],
        }

    if together:
        entries = [
            {"resource": provenance("urn:uuid:1"), "request": {"method": "POST", "url": "Provenance"}},
            {
                "fullUrl": "urn:uuid:1",
                "resource": observation(mine),
                "request": {"method": "POST", "url": "Observation"},
            },
        ]
        with world.as_("operator") as operator:
            answer = operator.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).json()
        told, name = (e["response"]["location"].split("/")[1] for e in answer["entry"])
    else:
        name = created(world, observation(mine))
        told = created(world, provenance(f"Observation/{name}"))
    theirs = created(world, observation(other))
    both = created(world, provenance(f"Observation/{name}", f"Observation/{theirs}"))
    with as_(world, within(mine)) as client, as_(world, within(other)) as stranger:
        found = client.get(f"Observation?_id={name}&_revinclude=Provenance:target").json()["entry"]
        assert [e["resource"]["id"] for e in found if e["search"]["mode"] == "include"] == [told]
        assert client.get(f"Provenance/{told}").status_code == 200
        assert client.get(f"Provenance/{both}").status_code == 404
        assert stranger.get(f"Provenance/{told}").status_code == 404
        made = client.post("Provenance", json=provenance(f"Observation/{name}"))
        assert made.status_code == 201
        assert client.post("Provenance", json=provenance(f"Observation/{theirs}")).status_code == 403


def test_a_panel_of_thousands_of_patients_is_held_to_like_a_short_one(world: Any, people: tuple[str, str]) -> None:
    """Then a read is judged in the server's process, and not by the database."""
    mine, other = people
    names = [created(world, observation(patient)) for patient in (mine, other)]
    panel = frozenset({f"Patient/{mine}", *(f"Patient/of-many-{n}" for n in range(5000))})
    with as_(world, AccessPolicy(layers=((Grant("*", "cruds", compartments=panel),),))) as client:
        assert client.get(f"Observation/{names[0]}").status_code == 200
        assert client.get(f"Observation/{names[1]}").status_code == 404
        assert client.get("Observation", params={"patient": mine}).json()["total"] == 1
        assert client.get("Observation", params={"patient": other}).json()["total"] == 0
        assert client.get(f"Patient/{mine}/$everything").status_code == 200
        assert client.get(f"Patient/{other}/$everything").status_code == 404


# --- what is in no compartment, or in several -------------------------------------------------------------------------


def denied(patient: str) -> AccessPolicy:
    """A program that may do anything, but see what belongs to one patient."""
    return AccessPolicy(
        layers=((Grant("*", "cruds"),),), denials=(Grant("*", "rs", frozenset({f"Patient/{patient}"})),)
    )


@pytest.mark.parametrize("pointed", ["by its context", "by a document", "by nobody"])
def test_a_denial_hides_the_binaries_of_what_it_hides_and_no_others(
    world: Any, people: tuple[str, str], pointed: str
) -> None:
    mine, other = people
    names = []
    for patient in (mine, other):
        context = {"securityContext": {"reference": f"Patient/{patient}"}} if pointed == "by its context" else {}
        name = created(world, {"resourceType": "Binary", "contentType": "text/plain", "data": "QQ==", **context})
        names.append(name)
        if pointed == "by a document":
            attachment = {"contentType": "text/plain", "url": f"Binary/{name}"}
            subject = {"reference": f"Patient/{patient}"}
            document = {"resourceType": "DocumentReference", "status": "current", "subject": subject}
            created(world, {**document, "content": [{"attachment": attachment}]})
    expected = [200, 200] if pointed == "by nobody" else [404, 200]
    with as_(world, denied(mine)) as client:
        for form in ("", "/_history/1", "/_history"):
            assert [client.get(f"Binary/{name}{form}").status_code for name in names] == expected, form
        for kind in ("batch", "transaction"):
            entries = [{"request": {"method": "GET", "url": f"Binary/{names[0]}"}}]
            answer = client.post("", json={"resourceType": "Bundle", "type": kind, "entry": entries})
            status = answer.json()["entry"][0]["response"]["status"][:3] if answer.status_code == 200 else "404"
            assert status == str(expected[0])
        assert names[0] not in client.get("Binary", params={"_count": "1000"}).text
        assert (names[0] in client.get("Binary/_history", params={"_count": "1000"}).text) is (pointed == "by nobody")


def provenance_of(*targets: str) -> dict[str, Any]:
    return {
        "resourceType": "Provenance",
        "target": [{"reference": target} for target in targets],
        "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": {"display": "a lab"}}],
    }


def test_a_denial_hides_what_tells_of_it_even_in_part_or_perhaps(world: Any, people: tuple[str, str]) -> None:
    mine, other = people
    secret, plain = created(world, observation(mine)), created(world, observation(other))
    hidden = [
        created(world, provenance_of(f"Observation/{secret}")),
        created(world, provenance_of(f"Observation/{secret}", f"Observation/{plain}")),
        created(world, provenance_of("Observation/is-not-there-yet")),
    ]
    shown = created(world, provenance_of(f"Observation/{plain}"))
    with as_(world, denied(mine)) as client:
        for name in hidden:
            assert client.get(f"Provenance/{name}").status_code == 404
            entry = {"request": {"method": "GET", "url": f"Provenance/{name}"}}
            answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
            assert answer.status_code == 404
        assert client.get(f"Provenance/{shown}").status_code == 200
        found = client.get(f"Observation?_id={plain}&_revinclude=Provenance:target").json()["entry"]
        assert [e["resource"]["id"] for e in found if e["search"]["mode"] == "include"] == [shown]


def test_a_provenance_is_seen_in_a_transaction_and_in_its_history_as_it_is_seen_alone(
    world: Any, people: tuple[str, str]
) -> None:
    mine, other = people
    name = created(world, provenance_of(f"Observation/{created(world, observation(mine))}"))
    theirs = created(world, observation(other))
    with as_(world, within(mine)) as client:
        entry = {"request": {"method": "GET", "url": f"Provenance/{name}"}}
        answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
        assert answer.json()["entry"][0]["resource"]["id"] == name
        assert len(client.get(f"Provenance/{name}/_history").json()["entry"]) == 1
        with world.as_("operator") as operator:
            moved = {**provenance_of(f"Observation/{theirs}"), "id": name}
            assert operator.put(f"Provenance/{name}", json=moved).status_code == 200
        assert client.get(f"Provenance/{name}/_history/1").status_code == 404
    with as_(world, within(other)) as stranger:
        assert stranger.get(f"Provenance/{name}").status_code == 200
        assert stranger.get(f"Provenance/{name}/_history/1").status_code == 404
        versions = stranger.get(f"Provenance/{name}/_history").json()["entry"]
        assert [e["resource"]["meta"]["versionId"] for e in versions] == ["2"]


@pytest.mark.parametrize("scopes", [(Grant("*", "cruds"),), (Grant("Observation", "c"), Grant("Binary", "c"))])
def test_nobody_adds_to_the_record_of_somebody_who_is_hidden_from_them(
    world: Any, people: tuple[str, str], scopes: tuple[Grant, ...]
) -> None:
    """Else a guess at an id would tell whether there is such a patient."""
    mine, other = people
    theirs = created(world, observation(other))
    both = Grant("*", "cruds", frozenset({f"Patient/{mine}", f"Patient/{other}"}))
    denial = Grant("*", "ruds", frozenset({f"Patient/{other}"}))
    with as_(world, AccessPolicy(layers=(scopes, (both,)), denials=(denial,))) as client:
        ghost = client.post("Observation", json=observation("nobody-at-all"))
        answer = client.post("Observation", json=observation(other))
        assert (answer.status_code, answer.json()) == (ghost.status_code, ghost.json())
        assert answer.status_code == 403
        binary = {"resourceType": "Binary", "contentType": "text/plain", "data": "QQ=="}
        for hidden in (f"Patient/{other}", f"Observation/{theirs}", "Patient/nobody-at-all"):
            body = {**binary, "securityContext": {"reference": hidden}}
            assert client.post("Binary", json=body).status_code == 403
        entry = {"resource": observation(other), "request": {"method": "POST", "url": "Observation"}}
        assert (
            client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]}).status_code == 403
        )
        assert client.post("Observation", json=observation(mine)).status_code == 201
        own = {**binary, "securityContext": {"reference": f"Patient/{mine}"}}
        assert client.post("Binary", json=own).status_code == (201 if len(scopes) == 1 else 403)
