"""Measurements as a chart draws them, over HTTP."""

from __future__ import annotations

from typing import Any

from pymongo import monitoring

from fhir_server.model.access import AccessPolicy, Caller, Grant, Identity
from tests.conformance.test_command_counts import Listener
from tests.resources.healthlog.test_entries import Callers
from tests.resources.monitoring.conftest import Clock, Ward

Json = dict[str, Any]

SYSTOLIC, DIASTOLIC = "http://loinc.org|8480-6", "http://loinc.org|8462-4"


def lines(ward: Ward, patient: str, **more: Any) -> list[list[Json]]:
    answer = ward.client.get("Observation/$series", params={"patient": patient, "code": SYSTOLIC, **more})
    assert answer.status_code == 200, answer.text
    return [row["part"] for row in answer.json()["parameter"] if row["name"] == "series"]


def of(line: list[Json], name: str) -> list[Any]:
    return [next(v for k, v in part.items() if k != "name") for part in line if part["name"] == name]


def drawn(line: list[Json]) -> list[float]:
    return [next(p["valueDecimal"] for p in point if p["name"] == "value") for point in of(line, "point")]


def test_values_come_in_one_unit_in_order_without_mistakes(ward: Ward, patient: str) -> None:
    ward.measured(patient, 120, 1)
    ward.measured(patient, 16, 3, unit="kPa")
    ward.measured(patient, 130, 2)
    ward.measured(patient, 999, 2, status="entered-in-error")
    [line] = lines(ward, patient)
    assert of(line, "unit")[0]["code"] == "mm[Hg]"
    assert [round(value) for value in drawn(line)] == [120, 130, 120]
    [line] = lines(ward, patient, unit="kPa")
    assert [round(value, 1) for value in drawn(line)] == [16, 17.3, 16]


def test_components_are_lines_of_their_own(ward: Ward, patient: str) -> None:
    quantity = {"system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
    parts = [
        {"code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "valueQuantity": {"value": v, **quantity}}
        for code, v in (("8480-6", 121), ("8462-4", 81))
    ]
    panel = {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}
    ward.measured(patient, 1, 1, code=panel, component=parts)
    found = lines(ward, patient, code=f"{SYSTOLIC},{DIASTOLIC}")
    assert [drawn(line) for line in found] == [[121], [81]]
    assert [of(line, "code")[0]["code"] for line in found] == ["8480-6", "8462-4"]


def test_many_points_become_few_and_the_extremes_stay(ward: Ward, patient: str) -> None:
    entries = []
    for n in range(300):
        resource = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
            "subject": {"reference": patient},
            "effectiveDateTime": f"2026-{1 + n // 28:02}-{1 + n % 28:02}T12:00:00Z",
            "valueQuantity": {"value": {77: 210, 200: 60}.get(n, 120 + n % 7), "code": "mm[Hg]",
                              "system": "http://unitsofmeasure.org"},
        }  # fmt: skip
        entries.append({"resource": resource, "request": {"method": "POST", "url": "Observation"}})
    ward.client.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
    [line] = lines(ward, patient, points=20)
    values = drawn(line)
    assert of(line, "count") == [300]
    assert len(values) <= 20
    assert {210, 60} <= set(values)
    [line] = lines(ward, patient, start="2026-01-02", end="2026-01-04")
    assert of(line, "count") == [3]


def test_bands_pauses_and_nights_are_told(ward: Ward, patient: str) -> None:
    reference = [{"low": {"value": 90, "unit": "mmHg"}, "high": {"value": 130, "unit": "mmHg"}}]
    for hour in (100, 99, 98, 97, 96, 2, 1):
        ward.measured(patient, 120, hour, referenceRange=reference)
    ward.in_force(patient)
    answer = ward.client.get(
        "Observation/$series", params={"patient": patient, "code": SYSTOLIC, "timezone": "Europe/Berlin"}
    )
    line = answer.json()["parameter"][0]["part"]
    assert len(of(line, "gap")) == 1
    bands = [{p["name"]: next(v for k, v in p.items() if k != "name") for p in band} for band in of(line, "band")]
    assert [band["kind"] for band in bands] == ["reference-range", "threshold"]
    assert (bands[0]["high"]["value"], bands[1]["low"]["value"]) == (130, 180)
    nights = [row for row in answer.json()["parameter"] if row["name"] == "night"]
    assert len(nights) in (4, 5)


def test_wrong_parameters_are_told(ward: Ward, patient: str) -> None:
    for wrong in (
        {"points": 3},
        {"points": 99_999},
        {"unit": "mmHg"},
        {"timezone": "Berlin"},
        {"point": 5},
        {"patient": ""},
    ):
        given = {"patient": patient, "code": SYSTOLIC, **wrong}
        answer = ward.client.get("Observation/$series", params={k: v for k, v in given.items() if v})
        assert answer.status_code == 400, wrong


def test_nobody_is_shown_what_they_may_not_see(make_server: Any) -> None:
    def own(patient: str) -> Caller:
        grant = Grant("*", "cruds", compartments=frozenset({patient}))
        return Caller(Identity(patient, "app", "patient"), AccessPolicy(layers=((grant,),)))

    everything = Caller(Identity("system", "app", "system"), AccessPolicy(layers=((Grant("*", "cruds"),),)))
    callers = Callers({"a": own("Patient/a"), "b": own("Patient/b"), "system": everything})
    server = make_server({"gate": callers}, auth="on")
    row = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
        "subject": {"reference": "Patient/b"},
        "effectiveDateTime": "2026-01-01T12:00:00Z",
        "valueQuantity": {"value": 120, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
    }
    for person in ("a", "b"):
        resource = {"resourceType": "Patient", "id": person}
        server.client.put(f"Patient/{person}", json=resource, headers={"Authorization": "Bearer system"})
    server.client.post("Observation", json=row, headers={"Authorization": "Bearer system"})
    counts = []
    for name in ("a", "b"):
        params = {"patient": "b", "code": SYSTOLIC}
        headers = {"Authorization": f"Bearer {name}"}
        answer = server.client.get("Observation/$series", params=params, headers=headers)
        counts.append(of(answer.json()["parameter"][0]["part"], "count"))
    server.close()
    assert counts == [[0], [1]]


def test_two_commands_are_enough_however_much_there_is(make_server: Any) -> None:
    listener = Listener()
    monitoring.register(listener)  # known to every client that is made from now on; it notes one database alone
    ward = Ward(make_server, Clock())
    listener.database = ward.servers[0].settings.mongodb_database
    patient = ward.patient()
    for hour in range(5):
        ward.measured(patient, 120, hour + 1)
    ward.in_force(patient)
    ward.settle()
    lines(ward, patient)
    for codes in (SYSTOLIC, f"{SYSTOLIC},{DIASTOLIC}"):
        with listener.noting() as noted:
            lines(ward, patient, code=codes)
        assert sorted(noted) == ["query CarePlan", "query Observation"]
    ward.servers[0].close()
