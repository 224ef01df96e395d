"""The example of an EHR does what its text promises."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import httpx
import pytest

from examples.ehr_exchange import VISIT, RefusedError, correct, exchange, found, send, staff_bundle, visit_bundle


def test_a_visit_is_sent_twice_corrected_once_and_read_back_whole(client: httpx.Client) -> None:
    done = exchange(client)
    assert done.patient.startswith("Patient/")
    assert [address.partition("/")[0] for address in done.results] == ["Observation", "Observation"]
    values = {row["code"]["coding"][0]["code"]: row["valueQuantity"]["value"] for row in done.read_back}
    assert {code: str(value) for code, value in values.items()} == {"29463-7": "70.50", "8867-4": "64"}
    assert {row["subject"]["reference"] for row in done.read_back} == {done.patient}
    assert {row["encounter"]["reference"] for row in done.read_back} == {done.encounter}
    assert done.versions == [('W/"2"', "PUT"), ('W/"1"', "POST")]


def test_sending_a_visit_again_makes_no_second_encounter_and_no_second_result(client: httpx.Client) -> None:
    visit = replace(VISIT, number="V-twice", patient_number="P-twice", staff_number="S-twice")
    visit = replace(visit, results=tuple(replace(r, number=f"{r.number}-twice") for r in visit.results))
    send(client, staff_bundle(visit.staff_number))
    first = send(client, visit_bundle(visit))
    assert send(client, visit_bundle(visit)) == first
    assert len(list(found(client, f"Observation?patient={first[0]}"))) == 2
    assert len(list(found(client, f"Encounter?patient={first[0]}&_count=1"))) == 1


def test_a_visit_by_unknown_staff_is_refused_and_leaves_nothing(client: httpx.Client) -> None:
    visit = replace(VISIT, patient_number="P-nobody", number="V-nobody", staff_number="S-nobody")
    with pytest.raises(RefusedError, match=r"412.*S-nobody"):
        send(client, visit_bundle(visit))
    assert list(found(client, "Patient?identifier=urn:example:clinic:patient|P-nobody")) == []


def test_a_correction_of_a_version_that_is_no_longer_current_is_refused(client: httpx.Client) -> None:
    visit = replace(VISIT, number="V-race", patient_number="P-race", staff_number="S-race")
    visit = replace(visit, results=tuple(replace(r, number=f"{r.number}-race") for r in visit.results))
    send(client, staff_bundle(visit.staff_number))
    address = send(client, visit_bundle(visit))[2]
    stale = client.get(address)
    correct(client, address, Decimal("70"))
    answer = client.put(address, json=stale.json(), headers={"If-Match": stale.headers["ETag"]})
    assert answer.status_code == 412
