"""AuditEvents made of the trail: their shapes, that they are made once, and that they can be searched."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from typing import Any

import pytest

from fhir_server.audit.chain import GENESIS, linked
from fhir_server.audit.codes import KINDS
from fhir_server.audit.event import FAILED, INTERACTIONS, REFUSED, Batch, Event, Part, Who, happened, pack
from fhir_server.audit.materialize import Materializer
from fhir_server.audit.resource import Maker, id_range_of
from fhir_server.audit.trail import Pace, Trail
from fhir_server.storage.store import Store
from fhir_server.validation import Validator
from profiles.registry import registry
from profiles.terminology import terminology
from tests.audit.conftest import BASE, DOCTOR, Opened, indexer, ledger_of, read_of

PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."


def made_of(*events: Event) -> list[dict[str, Any]]:
    link = linked(1, GENESIS, 1_000_000, len(events), pack(Batch(BASE, list(events))))
    return [json.loads(made.body) for made in Maker().made_of(link)]


def event(kind: str, **given: Any) -> Event:
    part = Part(kind, **{"status": 200, "method": "GET", "path": "Observation/1", **given})
    return Event(1_700_000_000_000_000, part, DOCTOR, "192.0.2.1", "request-1")


def codes(codings: list[dict[str, Any]]) -> list[str]:
    return [coding["code"] for coding in codings]


def agent_codes(resource: dict[str, Any]) -> list[str]:
    return [code for agent in resource["agent"] for code in codes(agent["type"]["coding"])]


def test_a_read_of_a_patients_data_follows_the_pattern() -> None:
    (made,) = made_of(event("read", targets=("Observation/1/_history/3",), patients=("p1",)))
    assert made["meta"]["profile"] == [f"{PROFILE}PatientRead"]
    assert (made["type"]["code"], codes(made["subtype"]), made["action"]) == ("rest", ["read"], "R")
    assert (made["recorded"], made["outcome"]) == ("2023-11-14T22:13:20.000Z", "0")
    client, server, user, organization = made["agent"]
    assert agent_codes(made) == ["110152", "110153", "IRCP", "PROV"]
    assert client["who"] == {"identifier": {"value": "chart-app"}}
    assert client["network"] == {"address": "192.0.2.1", "type": "2"}
    assert server["who"] == made["source"]["observer"] == {"display": BASE}
    assert user["who"] == {"reference": "Practitioner/7", "identifier": {"value": "account-7"}}
    assert [agent["requestor"] for agent in made["agent"]] == [False, False, True, False]
    assert user["policy"] == ["urn:ietf:params:oauth:jti:jti-1", "urn:healthsphere:policy:p1"]
    assert user["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
    assert organization["who"] == {"reference": "Organization/1"}
    data, patient, request = made["entity"]
    assert (data["what"]["reference"], data["type"]["code"], data["role"]["code"]) == (
        "Observation/1/_history/3",
        "2",
        "4",
    )
    assert (patient["what"]["reference"], patient["type"]["code"], patient["role"]["code"]) == ("Patient/p1", "1", "1")
    assert request["what"]["identifier"]["value"] == "request-1"


@pytest.mark.parametrize(
    ("kind", "action", "profile", "agents", "subtypes"),
    [
        ("vread", "R", "PatientRead", ["110152", "110153", "IRCP"], ["vread"]),
        ("create", "C", "PatientCreate", ["110153", "110152", "AUT"], ["create"]),
        ("update", "U", "PatientUpdate", ["110153", "110152", "AUT"], ["update"]),
        ("patch", "U", "PatientUpdate", ["110153", "110152", "AUT"], ["patch"]),
        ("delete", "D", "PatientDelete", ["110150", "custodian", "AUT"], ["delete"]),
    ],
)
def test_each_change_follows_its_pattern(
    kind: str, action: str, profile: str, agents: list[str], subtypes: list[str]
) -> None:
    (made,) = made_of(event(kind, targets=("Observation/1/_history/3",), patients=("p1",)))
    assert made["meta"]["profile"] == [PROFILE + profile]
    assert made["action"] == action
    assert agent_codes(made)[:3] == agents
    assert codes(made["subtype"]) == subtypes
    assert ("policy" in made["agent"][2]) == (kind != "delete")
    (plain,) = made_of(event(kind, targets=("Observation/1/_history/3",)))
    assert plain["meta"]["profile"] == [PROFILE + profile.removeprefix("Patient")]


def test_a_search_keeps_its_very_words_and_becomes_one_event_for_each_patient_it_showed() -> None:
    made = made_of(event("search-type", path="Observation", query="code=x&_count=2", patients=("p1", "p2", "p3")))
    assert [m["entity"][0]["what"]["reference"] for m in made] == ["Patient/p1", "Patient/p2", "Patient/p3"]
    for one in made:
        assert one["meta"]["profile"] == [f"{PROFILE}PatientQuery"]
        assert codes(one["subtype"]) == ["search-type", "search"]
        assert one["action"] == "E"
        query = next(entity for entity in one["entity"] if "query" in entity)
        assert b64decode(query["query"]).decode() == f"GET {BASE}/Observation?code=x&_count=2"
        assert (query["role"]["code"], "what" in query) == ("24", False)
        assert json.dumps(one).count("Patient/p") == 1, "a patient must not learn of the others"


def test_a_refusal_and_a_failure_follow_no_pattern_and_say_why() -> None:
    refused, failed = made_of(
        event("read", status=403, detail="HS-ACCESS", outcome=REFUSED, patients=("p1",)),
        event("update", status=500, detail="HS-INTERNAL", outcome=FAILED),
    )
    assert (refused["outcome"], refused["outcomeDesc"]) == ("4", "403 HS-ACCESS")
    assert (failed["outcome"], failed["outcomeDesc"]) == ("8", "500 HS-INTERNAL")
    assert "profile" not in refused["meta"]
    assert "profile" not in failed["meta"]


def test_each_entry_of_a_bundle_is_an_event_of_its_own_under_one_request_id() -> None:
    entries = (
        Part("create", 201, "POST", "Patient", targets=("Patient/1/_history/1",), patients=("1",)),
        Part("read", 200, "GET", "Observation/2", targets=("Observation/2/_history/1",), patients=("3",)),
    )
    whole = Event(1, Part("transaction", 200, "POST"), DOCTOR, "192.0.2.1", "request-1", entries)
    made = made_of(whole)
    assert [codes(m["subtype"])[0] for m in made] == ["transaction", "create", "read"]
    assert {m["entity"][-1]["what"]["identifier"]["value"] for m in made} == {"request-1"}
    assert len({m["id"] for m in made}) == 3


def test_a_client_that_acts_for_itself_is_the_one_who_asked() -> None:
    system = Who("bulk-client", "bulk-client", "system", purpose="TREAT", token_id="jti")
    (made,) = made_of(Event(1, Part("read", 200, "GET", "Group/1", targets=("Group/1",)), system, "::1", "r"))
    client, server = made["agent"]
    assert client["requestor"] is True
    assert client["policy"] == ["urn:ietf:params:oauth:jti:jti"]
    assert server["requestor"] is False


def test_the_reason_for_breaking_the_glass_is_kept() -> None:
    who = Who("account-7", "app", "practitioner", "Practitioner/7", purpose="BTG", reason="unconscious")
    (made,) = made_of(happened("break-glass-start", who=who, patients=["p1"]))
    assert made["purposeOfEvent"][0]["coding"][0]["code"] == "BTG"
    assert made["purposeOfEvent"][0]["text"] == "unconscious"
    assert codes(made["subtype"]) == ["110127"]
    assert made["type"]["code"] == "110113"


def test_every_interaction_has_its_codes() -> None:
    assert set(KINDS) >= INTERACTIONS


@pytest.mark.parametrize("kind", [*sorted(KINDS), "something-new"])
def test_whatever_happens_becomes_a_valid_audit_event(kind: str) -> None:
    validator = Validator(registry(), terminology())
    for outcome in (0, 4, 8):
        for patients in ((), ("p1", "p2")):
            for who in (DOCTOR, Who(), Who("bulk", "bulk", "system"), Who("a", "app", "patient", "Person/1")):
                part = Part(kind, 200, "GET", "Observation", "a=b", (), patients, "told", outcome)
                for made in made_of(Event(1, part, who, "192.0.2.1", "request")):
                    assert [issue for issue in validator.issues_of(made) if issue.severity in ("error", "fatal")] == []


async def found(store: Store, **condition: Any) -> list[dict[str, Any]]:
    where = {f"x.{name}": value for name, value in condition.items()}
    rows = await store.find("AuditEvent", where, sort=[("_id", 1)], limit=1000, fields={"r": 1, "x": 1, "v": 1, "t": 1})
    return [row | {"r": json.loads(row["r"])} for row in rows]


def test_index_entries_made_in_halves_are_those_of_the_whole_resource(opened: Opened) -> None:
    async def work() -> None:
        async with opened() as store:
            trail = Trail(store.batches, BASE, pace=Pace(flush_s=30))
            await trail.start()
            trail.note(read_of("p1", 1))
            trail.note(event("search-type", path="Observation", query="x=y", patients=("p1", "p2")))
            trail.note(event("read", status=404, outcome=REFUSED, detail="HS-READ-NOT-FOUND"))
            trail.note(happened("sign-in", who=DOCTOR, detail="password and code"))
            await trail.close()
            await ledger_of(store).caught_up()
            rows = await found(store)
            assert len(rows) == 5
            for row in rows:
                whole = indexer().entries_of(row["r"])
                assert {n: sorted(map(repr, as_list(v))) for n, v in row["x"].items()} == {
                    n: sorted(map(repr, as_list(v))) for n, v in whole.items()
                }

    def as_list(value: Any) -> list[Any]:
        return value if isinstance(value, list) else [value]

    asyncio.run(work())


def test_audit_events_are_made_once_however_often_it_is_tried(opened: Opened) -> None:
    async def work() -> None:
        async with opened() as store, opened() as other:
            trail = Trail(store.batches, BASE)
            await trail.start()
            await asyncio.gather(*(trail.record(read_of(f"p{n}", n)) for n in range(30)))
            ledgers = [ledger_of(store), ledger_of(other), ledger_of(store)]
            await asyncio.gather(*(ledger.caught_up() for ledger in ledgers))
            first = await found(store)
            assert len(first) == 30
            await store.batches.put_state("materialized", {"n": 0})  # as after a crash that forgot how far it was
            await ledger_of(other).caught_up()
            assert await found(store) == first
            await trail.close()

    asyncio.run(work())


def test_what_was_noted_a_moment_ago_is_found_at_once(opened: Opened) -> None:
    async def work() -> None:
        async with opened() as store:
            trail = Trail(store.batches, BASE, pace=Pace(flush_s=30))
            ledger = ledger_of(store, trail)
            await trail.start()
            for number in range(3):
                trail.note(read_of("p1", number))
                await ledger.caught_up()
                assert len(await found(store, patient="Patient/p1")) == number + 1
            await trail.close()

    asyncio.run(work())


def test_the_background_task_makes_them_by_itself_and_one_process_at_a_time(opened: Opened) -> None:
    async def work() -> None:
        async with opened() as store, opened() as other:
            trail = Trail(store.batches, BASE, pace=Pace(flush_s=0.01))
            await trail.start()
            ledgers = [ledger_of(store, trail), ledger_of(other)]
            for ledger in ledgers:
                await ledger.start()
            await trail.record(read_of("p1"))
            for _ in range(100):
                if await found(store):
                    break
                await asyncio.sleep(0.05)
            assert len(await found(store)) == 1
            holder = await store.batches.state("materializer")
            assert holder is not None
            for ledger in ledgers:
                await ledger.close()
            assert await store.batches.state("materializer") is None, "a process that ends gives up its lease"
            await trail.close()

    asyncio.run(work())


def test_a_burst_that_is_over_is_caught_up_in_a_few_seconds(opened: Opened) -> None:
    async def work() -> None:
        async with opened() as store:
            trail = Trail(store.batches, BASE)
            ledger: Materializer = ledger_of(store, trail)
            await trail.start()
            await ledger.start()
            for number in range(1500):
                trail.note(read_of(f"p{number % 50}", number))
            await trail.flush()
            for _ in range(200):
                if await store.estimate("AuditEvent") == 1500:
                    break
                await asyncio.sleep(0.1)
            assert await store.estimate("AuditEvent") == 1500
            await ledger.close()
            await trail.close()

    asyncio.run(work())


def test_the_ids_of_a_batch_lie_between_those_of_its_neighbours() -> None:
    low, high = id_range_of(7)
    made = made_of(read_of("p1"))
    assert id_range_of(1)[0] < made[0]["id"] < id_range_of(1)[1] < low < high
