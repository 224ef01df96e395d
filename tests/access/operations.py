"""How each operation is asked in the access matrix; what stands in braces is told in `ways`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def parameters(*rows: dict[str, Any]) -> str:
    return json.dumps({"resourceType": "Parameters", "parameter": list(rows)})


#: Operations of which R4 forgot to say that they change something.
LABELLING = frozenset({"meta-add", "meta-delete", "closure"})

_WHO = {"name": "patient", "valueReference": {"reference": "Patient/{who}"}}
_LABEL = {"name": "meta", "valueMeta": {"tag": [{"system": "urn:test", "code": "x"}]}}
_MATCH = {
    "resourceType": "Patient",
    "name": [{"family": "{mark}", "given": ["Kim"]}],
    "birthDate": "1970-01-01",
    "identifier": [{"system": "urn:test:mrn", "value": "{mark}-1"}],
}
_OWN = {"name": "source-patient", "valueReference": {"reference": "Patient/person-a"}}
_OTHER = {"name": "target-patient", "valueReference": {"reference": "Patient/{who}"}}
_CONFIRM = {"name": "confirm", "valueBoolean": True}
_STATS = "subject=Patient/{who}&code=8867-4&system=http://loinc.org&statistic=count&duration=99999"

#: How each operation is asked: by a query, or by a body; at all levels that its definition names.
ASKED: dict[str, list[tuple[str, str]]] = {
    "validate": [("", ""), ("mode=delete", ""), ("", parameters({"name": "resource", "resource": "CONTENT"}))],
    "meta": [("", ""), ("", parameters())],
    "meta-add": [("", parameters(_LABEL))],
    "meta-delete": [("", parameters(_LABEL))],
    "versions": [("", "")],
    "match": [("", parameters({"name": "resource", "resource": _MATCH}))],
    "graphql": [
        ("query=%7BPatientList(_id:%22{who}%22)%7Bid%7D%7D", ""),
        ("", json.dumps({"query": '{ Patient(id: "{who}") { id } }'})),
        ("", json.dumps({"query": '{ PatientList(_tag: "{mark}") { id } ObservationList(_id: "{id}") { id } }'})),
        ("", json.dumps({"query": '{ ObservationList(patient: "{who}") { id subject { resource { id } } } }'})),
        ("", json.dumps({"query": '{ EncounterConnection(_id: "{id}") { count } }'})),
    ],
    "graphql of one": [
        ("query=%7Bid%20resourceType%7D", ""),
        ("", json.dumps({"query": "{ id ObservationList(_reference: patient) { id } }"})),
    ],
    "everything": [("", ""), ("_count=2", ""), ("_type=Observation,Consent", ""), ("", parameters())],
    "lastn": [("patient={who}", ""), ("subject=Patient/{who}&max=2", ""), ("", parameters(_WHO))],
    "stats": [(_STATS, "")],
    "series": [
        ("patient={who}&code=http://loinc.org%7C8867-4", ""),
        ("subject=Patient/{who}&code=8867-4&system=http://loinc.org&timezone=UTC", ""),
    ],
    "back-test": [("", parameters())],
    "progress": [("", "")],
    "document": [("id={id}", ""), ("", ""), ("id={id}&persist=true", "")],
    "docref": [("patient={who}", ""), ("patient={who}&start=1900-01-01", "")],
    "convert": [("", parameters())],
    "reindex": [("", ""), ("", parameters())],
    "diff": [("", ""), ("from=1&to={id}", "")],
    "merge": [
        ("", parameters(_OWN, _OTHER)),
        ("", parameters(_OWN, _OTHER, {"name": "preview", "valueBoolean": True})),
    ],
    "unmerge": [("", parameters({"name": "provenance", "valueReference": {"reference": "Provenance/{id}"}}))],
    "purge": [("", parameters()), ("", parameters(_CONFIRM))],
    "expunge": [("", parameters()), ("", parameters(_CONFIRM))],
    # Who may break a glass is told who exists, and a reviewer of it: the roles that may not are asked.
    "break-glass": [("", parameters(_WHO, {"name": "reason", "valueString": "unconscious on the floor"}))],
    "mend-glass": [("", parameters({"name": "id", "valueString": "{id}"}))],
    "access-ledger": [("", ""), ("start=2000-01-01", "")],
    "purge-status": [("job={id}", "")],
}

#: What parameters of each type are asked with, where an operation has no row of its own. References lead to what is
#: hidden: to the person, and to the resource itself.
_PROBES: dict[str, tuple[Any, ...]] = {
    "Reference": ({"reference": "Patient/{who}"}, {"reference": "{type}/{id}"}),
    "string": ("{id}",),
    "id": ("{id}",),
    "code": ("other",),
    "uri": ("urn:test:x",),
    "boolean": (True,),
    "integer": (1,),
    "positiveInt": (1,),
    "unsignedInt": (1,),
    "decimal": (1,),
    "date": ("2026-01-01",),
    "dateTime": ("2026-01-01T08:00:00Z",),
    "instant": ("2026-01-01T08:00:00Z",),
    "base64Binary": ("eA==",),
    "Identifier": ({"system": "urn:test:mrn", "value": "{mark}-1"},),
    "Quantity": ({"value": 1, "code": "1", "system": "http://unitsofmeasure.org"},),
    "CodeableConcept": ({"text": "x"},),
    "Coding": ({"code": "x"},),
    "Period": ({"start": "2026-01-01"},),
    "Duration": ({"value": 30, "code": "min", "system": "http://unitsofmeasure.org"},),
    "Money": ({"value": 1, "currency": "EUR"},),
    "Annotation": ({"text": "x"},),
    "Attachment": ({"contentType": "text/plain", "data": "eA=="},),
    "Timing": ({"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},),
    "canonical": ("urn:test:x",),
    "url": ("https://example.org",),
}


def derived(definition: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """How an operation is asked by what its definition says: with nothing, and with each kind of parameter filled.

    Raises:
        LookupError: a parameter has a type of which there is no probe.
    """
    told = [row for row in definition if row["use"] == "in" and not row.get("part") and row.get("type")]
    asked = [("", ""), ("", parameters())]
    for number in range(2):
        rows = []
        for row in told:
            kind = row["type"]
            if kind[:1].isupper() and kind not in _PROBES:
                rows.append({"name": row["name"], "resource": {"resourceType": kind}})
                continue
            if kind not in _PROBES:
                raise LookupError(f"parameters of the type {kind} have no probe")
            probes = _PROBES[kind]
            value = probes[min(number, len(probes) - 1)]
            rows.append({"name": row["name"], f"value{kind[0].upper()}{kind[1:]}": value})
        if rows:
            asked.append(("", parameters(*rows)))
    return asked
