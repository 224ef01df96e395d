"""What a policy lets through, at the level of HTTP: scopes with criteria, denials, writes, histories."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.access import AccessPolicy, Grant
from tests.access.people import CATEGORY, LABS, NUMBERS, VITALS, as_, created, observation, within

pytestmark = pytest.mark.xdist_group("access")


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
