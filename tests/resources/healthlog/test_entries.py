"""Entries of health logs over HTTP: what they must be, whose they are, and what is sent twice."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fhir_server.model.access import AccessPolicy, Caller, Grant, Identity
from fhir_server.model.errors import UnauthorizedError
from resources.healthlog.measures import MEASURES, UCUM, in_unit

Json = dict[str, Any]

LOINC = "http://loinc.org"

#: All that a policy can allow: rules know who calls.
ALL = AccessPolicy(layers=((Grant("*", "cruds"),),))


@dataclass
class Callers:
    """A gate that knows its callers by name."""

    known: dict[str, Caller] = field(default_factory=dict)

    async def caller_of(self, authorization: str | None) -> Caller:
        name = (authorization or "").removeprefix("Bearer ")
        if name not in self.known:
            raise UnauthorizedError("unknown")
        return self.known[name]

    def noticed(self, types: Any, subject: str) -> None:
        """These policies are made of no resources."""


@dataclass
class Logs:
    """Two servers on one database, and how to ask them as somebody."""

    servers: list[Any]

    def as_(self, name: str, server: int = 0) -> httpx.Client:
        one = self.servers[server]
        return httpx.Client(
            transport=one.client._transport, base_url=one.base_url, headers={"Authorization": f"Bearer {name}"}
        )


@pytest.fixture(scope="module")
def logs(make_server: Callable[..., Any]) -> Iterator[Logs]:
    callers = Callers(
        {
            "ann": Caller(Identity("ann", "app", "patient", fhir_user="Patient/ann"), ALL),
            "bob": Caller(Identity("bob", "app", "proxy", fhir_user="RelatedPerson/bob"), ALL),
            "doc": Caller(Identity("doc", "app", "practitioner", fhir_user="Practitioner/doc"), ALL),
            "gateway": Caller(Identity("gateway", "gateway", "system"), ALL),
        }
    )
    first = make_server({"gate": callers}, auth="on")
    second = make_server({"gate": callers}, auth="on", mongodb_database=first.settings.mongodb_database)
    world = Logs([first, second])
    with world.as_("gateway") as gateway:
        for person in ("ann", "kim"):
            assert gateway.put(f"Patient/{person}", json={"resourceType": "Patient", "id": person}).status_code == 201
    yield world
    second.close()
    first.close()


def ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="seconds")


def entry(code: str = "8867-4", value: float = 72, unit: str = "/min", **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [
            {
                "coding": [
                    {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}
                ]
            }
        ],
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/ann"},
        "effectiveDateTime": ago(1),
        "valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit},
        **more,
    }


def sent(logs: Logs, who: str, resource: Json, server: int = 0) -> httpx.Response:
    with logs.as_(who, server) as client:
        return client.post("Observation", json=resource)


def key(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["issue"][0]["details"]["coding"][0]["code"]


def device() -> Json:
    return {"device": {"identifier": {"system": "urn:udi", "value": uuid.uuid4().hex}}}


def test_what_a_patient_logs_is_tagged_and_in_their_name(logs: Logs) -> None:
    made = sent(logs, "ann", entry(effectiveDateTime=ago(2)))
    assert made.status_code == 201, made.text
    with logs.as_("doc") as doc:
        read = doc.get(made.headers["Location"]).json()
    assert [tag["code"] for tag in read["meta"]["tag"]] == ["patient-supplied"]
    assert read["performer"] == [{"reference": "Patient/ann"}]
    by_proxy = sent(logs, "bob", entry(effectiveDateTime=ago(3))).headers["Location"]
    with logs.as_("doc") as doc:
        assert doc.get(by_proxy).json()["performer"] == [{"reference": "RelatedPerson/bob"}]


def test_what_a_doctor_writes_is_no_entry_of_a_log(logs: Logs) -> None:
    made = sent(logs, "doc", entry(performer=[{"reference": "Practitioner/other"}]))
    assert made.status_code == 201
    with logs.as_("doc") as doc:
        assert "tag" not in doc.get(made.headers["Location"]).json()["meta"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"performer": [{"reference": "Practitioner/doc"}]}, (403, "HS-LOG-PERFORMER")),
        ({"effectiveDateTime": None}, (422, "HS-LOG-TIME")),
        ({"effectiveDateTime": ago(-24 * 60)}, (422, "HS-LOG-FUTURE")),
        ({"valueQuantity": {"value": 72, "unit": "bpm"}}, (422, "HS-LOG-UNIT")),
        ({"valueQuantity": {"value": 72, "system": UCUM, "code": "beats"}}, (422, "HS-LOG-UNIT")),
        ({"valueQuantity": {"value": 72, "system": UCUM, "code": "mg/dL"}}, (422, "HS-LOG-UNIT")),
        ({"valueQuantity": {"value": 7200, "system": UCUM, "code": "/min"}}, (422, "HS-LOG-IMPOSSIBLE")),
    ],
)
def test_what_would_be_of_no_use_is_refused(logs: Logs, change: Json, expected: tuple[int, str]) -> None:
    given = {name: value for name, value in {**entry(), **change}.items() if value is not None}
    assert key(sent(logs, "ann", given)) == expected


def test_a_clock_may_be_a_little_ahead_and_another_unit_of_the_dimension_will_do(logs: Logs) -> None:
    assert sent(logs, "ann", entry(effectiveDateTime=ago(-4))).status_code == 201
    assert sent(logs, "ann", entry("29463-7", 154.3, "[lb_av]")).status_code == 201
    assert sent(logs, "ann", entry("8310-5", 98.6, "[degF]")).status_code == 201
    assert key(sent(logs, "ann", entry("8310-5", 98.6, "Cel"))) == (422, "HS-LOG-IMPOSSIBLE")


def test_components_are_judged_like_values(logs: Logs) -> None:
    def pressure(diastolic: int) -> Json:
        both = entry("85354-9", effectiveDateTime=ago(diastolic))
        del both["valueQuantity"]
        both["component"] = [
            {"code": entry(code)["code"], "valueQuantity": entry(code, value, "mm[Hg]")["valueQuantity"]}
            for code, value in (("8480-6", 120), ("8462-4", diastolic))
        ]
        return both

    assert sent(logs, "ann", pressure(80)).status_code == 201
    refused = sent(logs, "ann", pressure(800))
    assert key(refused) == (422, "HS-LOG-IMPOSSIBLE")
    assert refused.json()["issue"][0]["expression"] == ["Observation.component[1].valueQuantity"]


def test_a_batch_tells_of_each_entry_what_became_of_it(logs: Logs) -> None:
    own = device()
    rows = [entry(**own), entry(**own, effectiveDateTime=ago(-60)), entry(**own, effectiveDateTime=ago(9))]
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"resource": row, "request": {"method": "POST", "url": "Observation"}} for row in rows],
    }
    with logs.as_("ann") as ann:
        answer = ann.post("", json=bundle).json()
    assert [row["response"]["status"][:3] for row in answer["entry"]] == ["201", "422", "201"]


def test_what_a_device_sends_again_is_answered_as_such(logs: Logs) -> None:
    own, at = device(), ago(7)
    first = sent(logs, "gateway", entry(**own, effectiveDateTime=at))
    again = sent(logs, "gateway", entry(**own, effectiveDateTime=at), server=1)
    other = sent(logs, "gateway", entry(value=99, **own, effectiveDateTime=at))
    assert first.status_code == 201
    first_id = first.headers["Location"].split("/Observation/")[1].split("/")[0]
    for answer, words in ((again, "same value"), (other, "another value")):
        assert key(answer) == (409, "HS-LOG-DUPLICATE")
        assert answer.json()["issue"][0]["code"] == "duplicate"
        assert words in answer.json()["issue"][0]["diagnostics"]
        assert answer.headers["Location"] == f"Observation/{first_id}"
    assert sent(logs, "gateway", entry(**own, effectiveDateTime=ago(8))).status_code == 201
    assert sent(logs, "gateway", entry("9279-1", 16, **own, effectiveDateTime=at)).status_code == 201


def test_without_a_device_another_value_is_another_measurement(logs: Logs) -> None:
    at = ago(11)
    answers = [sent(logs, "ann", entry(value=value, effectiveDateTime=at)) for value in (70, 71, 70.0)]
    assert [answer.status_code for answer in answers] == [201, 201, 409]


def test_of_many_who_send_the_same_at_once_one_is_taken(logs: Logs) -> None:
    own, at = device(), ago(12)
    requests = [
        server.client.build_request(
            "POST",
            "Observation",
            json=entry(**own, effectiveDateTime=at),
            headers={"Authorization": "Bearer gateway"},
        )
        for server in logs.servers
        for _ in range(5)
    ]

    async def all_at_once() -> list[list[httpx.Response]]:
        halves = [requests[:5], requests[5:]]
        return await asyncio.gather(
            *(asyncio.to_thread(s.gather, *half) for s, half in zip(logs.servers, halves, strict=True))
        )

    statuses = sorted(answer.status_code for half in asyncio.run(all_at_once()) for answer in half)
    assert statuses == [201] + [409] * 9


def test_who_takes_an_entry_back_can_log_that_moment_anew(logs: Logs) -> None:
    own, at = device(), ago(13)
    made = sent(logs, "ann", entry(**own, effectiveDateTime=at))
    with logs.as_("ann") as ann:
        wrong = {**ann.get(made.headers["Location"]).json(), "status": "entered-in-error"}
        assert ann.put(f"Observation/{wrong['id']}", json=wrong).status_code == 200
        again = ann.post("Observation", json=entry(value=80, **own, effectiveDateTime=at))
    assert again.status_code == 201
    assert sent(logs, "ann", entry(value=81, **own, effectiveDateTime=at)).status_code == 409


def test_patients_take_back_their_own_entries_and_change_nothing_else(logs: Logs) -> None:
    own = sent(logs, "ann", entry(effectiveDateTime=ago(14))).headers["Location"]
    foreign = sent(logs, "doc", entry(performer=[{"reference": "Practitioner/doc"}])).headers["Location"]
    with logs.as_("ann") as ann:
        changed = ann.get(own).json()
        changed["valueQuantity"]["value"] = 60
        assert key(ann.put(f"Observation/{changed['id']}", json=changed)) == (403, "HS-LOG-STANDS")
        patch = [{"op": "replace", "path": "/status", "value": "entered-in-error"}]
        headers = {"Content-Type": "application/json-patch+json"}
        for address, status in ((own, 200), (foreign, 403)):
            relative = "Observation/" + address.split("/Observation/")[1].split("/")[0]
            assert ann.patch(relative, json=patch, headers=headers).status_code == status
        taken = ann.get(own.partition("/_history")[0]).json()
    assert (taken["status"], taken["meta"]["tag"][0]["code"]) == ("entered-in-error", "patient-supplied")


@pytest.mark.parametrize("code", MEASURES)
def test_the_bounds_of_each_measure_are_in_a_unit_that_exists(code: str) -> None:
    measure = MEASURES[code]
    assert measure.least < measure.most
    assert in_unit(measure.most, measure.unit, measure.unit) == measure.most
    assert in_unit(measure.most, "cd", measure.unit) is None


KIND = "urn:healthsphere:CodeSystem:log-kind"


@pytest.mark.parametrize(
    ("code", "value", "kind", "usual"),
    [
        ("93832-4", {"valueQuantity": {"value": 7.5, "system": UCUM, "code": "h"}}, "sleep", "activity"),
        ("41950-7", {"valueQuantity": {"value": 9000, "system": UCUM, "code": "{steps}/d"}}, "activity", "activity"),
        ("73985-4", {"valueCodeableConcept": {"text": "Cycling"}}, "exercise", "activity"),
        ("75325-1", {"valueCodeableConcept": {"text": "Cough"}}, "symptom", "survey"),
        ("15074-8", {"valueQuantity": {"value": 6, "system": UCUM, "code": "mmol/L"}}, "glucose", None),
        ("8867-4", {"valueQuantity": {"value": 70, "system": UCUM, "code": "/min"}}, "vital", "vital-signs"),
    ],
)
def test_an_entry_is_found_by_the_part_of_the_log_to_which_it_belongs(
    logs: Logs, code: str, value: Json, kind: str, usual: str | None
) -> None:
    moment = ago(5000 + len(code) + hash(code) % 1000)
    draft = {name: given for name, given in entry(code, effectiveDateTime=moment).items() if name != "valueQuantity"}
    given = {name: one for name, one in draft.items() if name != "category"}
    made = sent(logs, "ann", {**given, **value})
    assert made.status_code == 201, made.text
    name = made.headers["Location"].split("/Observation/")[1].split("/")[0]
    with logs.as_("ann") as ann:
        stored = ann.get(f"Observation/{name}").json()
        codings = [(c["system"], c["code"]) for concept in stored["category"] for c in concept["coding"]]
        assert (KIND, kind) in codings
        assert [c for s, c in codings if s != KIND] == ([usual] if usual else [])
        found = ann.get("Observation", params={"_id": name, "category": f"{KIND}|{kind}"}).json()
        assert found["total"] == 1
        # What was sent without its category can be taken back without it, too.
        answer = ann.put(f"Observation/{name}", json={**given, **value, "id": name, "status": "entered-in-error",
                                                      "performer": stored["performer"]})  # fmt: skip
        assert answer.status_code == 200, answer.text


def test_a_symptom_says_which_one_and_two_of_a_moment_are_two(logs: Logs) -> None:
    moment = ago(9000)
    given = {n: v for n, v in entry("75325-1", effectiveDateTime=moment).items() if n != "valueQuantity"}
    assert key(sent(logs, "ann", given)) == (422, "HS-LOG-SYMPTOM")
    cough = {**given, "valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": "49727002"}]}}
    fever = {**given, "valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": "386661006"}]}}
    assert [sent(logs, "ann", one).status_code for one in (cough, fever, cough)] == [201, 201, 409]
    worse = {"code": {"coding": [{"system": LOINC, "code": "72514-3"}]}}
    worse |= {"valueQuantity": {"value": 11, "system": UCUM, "code": "{score}"}}
    assert key(sent(logs, "ann", {**fever, "effectiveDateTime": ago(9001), "component": [worse]})) == (
        422,
        "HS-LOG-IMPOSSIBLE",
    )


@pytest.mark.parametrize("malformed", [{"category": "x"}, {"category": [1]}, {"code": []}, {"code": {"coding": [1]}}])
def test_an_entry_of_another_shape_is_refused_as_such(logs: Logs, malformed: Json) -> None:
    assert sent(logs, "ann", entry(**malformed)).status_code == 400


def goal(**more: Any) -> Json:
    return {
        "resourceType": "Goal",
        "lifecycleStatus": "active",
        "description": {"text": "10,000 steps a day"},
        "subject": {"reference": "Patient/ann"},
        **more,
    }


def test_patients_set_goals_of_their_own_and_leave_those_of_others(logs: Logs) -> None:
    with logs.as_("ann") as ann, logs.as_("doc") as doc, logs.as_("bob") as bob:
        made = ann.post("Goal", json=goal())
        assert made.status_code == 201, made.text
        place = f"Goal/{made.headers['Location'].split('/Goal/')[1].split('/')[0]}"
        stored = ann.get(place).json()
        assert stored["expressedBy"] == {"reference": "Patient/ann"}
        assert ann.put(place, json={**stored, "lifecycleStatus": "completed"}).status_code == 200
        assert key(bob.put(place, json={**stored, "note": [{"text": "x"}]})) == (403, "HS-LOG-GOAL")
        other = goal(expressedBy={"reference": "Practitioner/doc"})
        assert key(ann.post("Goal", json=other)) == (403, "HS-LOG-GOAL")
        asked = doc.post("Goal", json=other).headers["Location"].split("/Goal/")[1].split("/")[0]
        theirs = ann.get(f"Goal/{asked}").json()
        assert key(ann.put(f"Goal/{asked}", json={**theirs, "lifecycleStatus": "cancelled"})) == (403, "HS-LOG-GOAL")
        mine = {**theirs, "expressedBy": {"reference": "Patient/ann"}}
        assert key(ann.put(f"Goal/{asked}", json=mine)) == (403, "HS-LOG-GOAL")
