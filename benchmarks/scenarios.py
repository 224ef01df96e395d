"""What is measured: the requests of each scenario, what a right answer is, and the baseline to compare with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from benchmarks.data import batch_of_puts, observation, patient, transaction
from benchmarks.driver_baseline import DriverPlan, Kind
from benchmarks.target import COPY, HISTORY, Document, Target
from benchmarks.wide import Paths, has_entries, is_a_bundle

Json = dict[str, Any]
SAMPLES = 2000
RECORDED = 60
TRANSACTION_ENTRIES = 20
OK, CREATED, GONE = frozenset({200}), frozenset({201}), frozenset({200, 204})


@dataclass(frozen=True)
class Settings:
    """How long and with how many callers each scenario runs."""

    seconds: float
    concurrency: int


@dataclass(frozen=True)
class Scenario:
    """`check` tells what is wrong with a sampled answer to a request, by its index; `driver` makes the baseline."""

    name: str
    requests: list[bytes]
    statuses: frozenset[int]
    check: Callable[[int, Json], str | None]
    driver: Callable[[], DriverPlan]
    cycle: bool = True
    resources: int = 1


class Scenarios:
    """All scenarios over a loaded server, each made when it is its turn."""

    def __init__(self, target: Target, settings: Settings) -> None:
        self._target = target
        self._settings = settings
        self._patients: list[str] = []
        self._wide = Paths(target)

    def makers(self) -> dict[str, Callable[[], Scenario | tuple[Scenario, Scenario]]]:
        """By the name of `--only`, in the order in which they run: reading first, deleting last; two are compared."""
        return {
            "read": self.read,
            "identifier": self.identifier_search,
            "chart": self.chart_search,
            "count": self.count,
            "chained": lambda: self._search("chained", "Observation", self._wide.chained(), is_a_bundle),
            "has": lambda: self._search("_has", "Patient", self._wide.has(), has_entries),
            "wide-has": lambda: self._search("_has by a wide date", "Patient", self._wide.wide_has(), has_entries),
            "include": lambda: self._search("two-level _include", "Observation", self._wide.include(), has_entries),
            "revinclude": lambda: self._search("_revinclude", "Encounter", self._wide.revinclude(), has_entries),
            "everything": lambda: self._search("$everything, 50", "Patient", self._wide.everything(), has_entries),
            "deep": lambda: (
                self._search("first page of 50", "Observation", [self._wide.first_page()], has_entries),
                self._search("100th page of 50", "Observation", [self._wide.deep_page()], has_entries),
            ),
            "words": lambda: self._search("_text", "Patient", self._wide.words(), is_a_bundle),
            "create": self.create_observation,
            "create-patient": self.create_patient,
            "transaction": self.transactions,
            "update": self.update,
            "vread": self.vread,
            "delete": self.delete,
        }

    def seed(self) -> None:
        """Store a few patients with observations, for a run without a load."""
        names = [f"bench-p-{number}" for number in range(100)]
        self._target.store(batch_of_puts([(name, patient(number)) for number, name in enumerate(names)]))
        self._prepared("s", SAMPLES)

    def read(self) -> Scenario:
        ids = [row["_id"] for row in self._target.sample("Observation", SAMPLES, _id=1)]
        return Scenario(
            "read",
            [self._get(f"/Observation/{name}") for name in ids],
            OK,
            lambda index, body: _unless(body.get("id") == ids[index], "another resource"),
            lambda: self._driver("find", "Observation", ids),
        )

    def identifier_search(self) -> Scenario:
        rows = self._target.sample("Patient", SAMPLES, r=1)
        identifiers = [
            (one["system"], one["value"])
            for row in rows
            for one in json.loads(row["r"]).get("identifier", [])[:1]
            if "system" in one and "value" in one
        ]
        paths = [f"/Patient?identifier={quote(f'{system}|{value}', safe='')}" for system, value in identifiers]

        def check(index: int, body: Json) -> str | None:
            found = [i.get("value") for e in body.get("entry", []) for i in e["resource"]["identifier"]]
            return _unless(identifiers[index][1] in found, "the patient is not in the answer")

        return self._search("identifier search", "Patient", paths, check)

    def chart_search(self) -> Scenario:
        rows = [json.loads(row["r"]) for row in self._target.sample("Observation", SAMPLES, r=1)]
        facts = [
            (row["subject"]["reference"], row["code"]["coding"][0], int(row["effectiveDateTime"][:4]) - 1)
            for row in rows
            if "T" in row.get("effectiveDateTime", "") and row["subject"]["reference"].startswith("Patient/")
        ]
        paths = []
        for who, code, year in facts:
            token = quote(f"{code['system']}|{code['code']}", safe="")
            criteria = f"patient={who.removeprefix('Patient/')}&code={token}&date=ge{year}"
            paths.append(f"/Observation?{criteria}&_sort=-date")

        def check(index: int, body: Json) -> str | None:
            who, code, _ = facts[index]
            found = [entry["resource"] for entry in body.get("entry", [])]
            right = all(
                r["subject"]["reference"] == who and any(c["code"] == code["code"] for c in r["code"]["coding"])
                for r in found
            )
            moments = [datetime.fromisoformat(r["effectiveDateTime"]) for r in found]
            in_order = moments == sorted(moments, reverse=True)
            return _unless(bool(found) and right and in_order, "no entry, a wrong one, or a wrong order")

        return self._search("patient + code + date, sorted", "Observation", paths, check)

    def count(self) -> Scenario:
        rows = [json.loads(row["r"]) for row in self._target.sample("Observation", 200, r=1)]
        codes = sorted({row["code"]["coding"][0]["code"] for row in rows})
        patients = sorted({row["subject"]["reference"] for row in rows if "subject" in row})
        paths = [f"/Observation?code={quote(code)}&_summary=count" for code in codes[:20]]
        paths += [f"/Observation?subject={who}&_summary=count" for who in patients[:100]]
        return self._search(
            "count", "Observation", paths, lambda _, body: _unless(body.get("total", 0) > 0, "a total of nothing")
        )

    def create_observation(self) -> Scenario:
        patients = self._patient_references()
        bodies = [observation(number, patients[number % len(patients)]) for number in range(SAMPLES)]
        return self._create("create Observation", "Observation", bodies)

    def create_patient(self) -> Scenario:
        return self._create("create Patient", "Patient", [patient(number) for number in range(SAMPLES)])

    def transactions(self) -> Scenario:
        bodies = [transaction(number, TRANSACTION_ENTRIES) for number in range(500)]

        def check(_: int, body: Json) -> str | None:
            entries = body.get("entry", [])
            right = all(entry["response"]["status"].startswith("201") for entry in entries)
            return _unless(len(entries) == TRANSACTION_ENTRIES and right, "not all entries were created")

        def driver() -> DriverPlan:
            people, findings = self._documents("Patient", 50), self._documents("Observation", 950)
            size = TRANSACTION_ENTRIES - 1
            items = [
                [("Patient", [people[n % len(people)]]), ("Observation", findings[n * size : (n + 1) * size])]
                for n in range(max(1, len(findings) // size))
            ]
            return self._driver("transaction", "Observation", items, COPY)

        requests = [self._send("POST", "", body) for body in bodies]
        name = f"transaction of {TRANSACTION_ENTRIES}"
        return Scenario(name, requests, OK, check, driver, resources=TRANSACTION_ENTRIES)

    def update(self) -> Scenario:
        names = self._prepared("u", SAMPLES)
        patients = self._patient_references()
        bodies = [  # several values an id, so that no update finds what it would write
            {**observation(number + turn, patients[number % len(patients)]), "id": name}
            for turn in (1, 2, 3)
            for number, name in enumerate(names)
        ]
        requests = [self._send("PUT", f"/Observation/{body['id']}", msgspec.json.encode(body)) for body in bodies]

        def check(index: int, body: Json) -> str | None:
            right = body.get("valueQuantity", {}).get("value") == bodies[index]["valueQuantity"]["value"]
            return _unless(right, "another value")

        return Scenario("update", requests, OK, check, lambda: self._replacing(names, deleting=False))

    def vread(self) -> Scenario:
        names = self._prepared("u", SAMPLES)
        for start in range(0, SAMPLES, 100):  # a second version, so that the first is one of the past
            rows = [(name, observation(n + 50, "Patient/nobody")) for n, name in enumerate(names[start : start + 100])]
            self._target.store(batch_of_puts(rows))
        keys = [f"Observation/{name}/1" for name in names]
        return Scenario(
            "vread (a past version)",
            [self._get(f"/Observation/{name}/_history/1") for name in names],
            OK,
            lambda _, body: _unless(body.get("meta", {}).get("versionId") == "1", "another version"),
            lambda: self._driver("find", HISTORY, keys),
        )

    def delete(self) -> Scenario:
        names = self._prepared("d", int(SAMPLES * self._settings.seconds))
        requests = [self._send("DELETE", f"/Observation/{name}", None) for name in names]
        driver_names = self._prepared("u", SAMPLES)
        return Scenario(
            "delete",
            requests,
            GONE,
            lambda _index, _body: None,
            lambda: self._replacing(driver_names, deleting=True),
            cycle=False,
        )

    def _search(
        self, name: str, collection: str, paths: list[str], check: Callable[[int, Json], str | None]
    ) -> Scenario:
        commands = [self._target.commands_of(path) for path in paths[:RECORDED]]
        requests = [self._get(path) for path in paths]
        return Scenario(name, requests, OK, check, lambda: self._driver("command", collection, commands))

    def _create(self, name: str, resource_type: str, bodies: list[Json]) -> Scenario:
        requests = [self._send("POST", f"/{resource_type}", msgspec.json.encode(body)) for body in bodies]
        return Scenario(
            name,
            requests,
            CREATED,
            lambda _, body: _unless(body.get("resourceType") == resource_type and "id" in body, "no resource"),
            lambda: self._driver("insert", resource_type, self._documents(resource_type, 1000), COPY),
        )

    def _replacing(self, names: list[str], *, deleting: bool) -> DriverPlan:
        rows = list(self._target.database["Observation"].find({"_id": {"$in": names}, "r": {"$exists": True}}))
        self._target.copied("Observation", rows)
        self._target.copied(HISTORY, [])
        past = [{"y": "Observation", "i": row["_id"], **_without(row, "_id", "x")} for row in rows]
        if deleting:
            rows = [{**_without(row, "r", "x"), "d": True} for row in rows]
        return self._driver("replace", "Observation", list(zip(past, rows, strict=True)), COPY)

    def _documents(self, collection: str, count: int) -> list[Document]:
        self._target.copied(collection, [])
        return self._target.sample(collection, count)

    def _driver(self, kind: Kind, collection: str, items: list[Any], database: str | None = None) -> DriverPlan:
        name = database or self._target.name
        settings = self._settings
        return DriverPlan(self._target.uri, name, kind, collection, items, settings.seconds, settings.concurrency)

    def _prepared(self, group: str, count: int) -> list[str]:
        """The ids of observations that stand ready to be changed or deleted."""
        names = [f"bench-{group}-{number}" for number in range(count)]
        there = {row["_id"] for row in self._target.database["Observation"].find({"_id": {"$in": names}}, {"_id": 1})}
        missing = [(n, name) for n, name in enumerate(names) if name not in there]
        patients = self._patient_references()
        for start in range(0, len(missing), 200):
            rows = [(name, observation(n, patients[n % len(patients)])) for n, name in missing[start : start + 200]]
            self._target.store(batch_of_puts(rows))
        return names

    def _patient_references(self) -> list[str]:
        if not self._patients:
            self._patients = [f"Patient/{row['_id']}" for row in self._target.sample("Patient", 100, _id=1)]
        return self._patients

    def _get(self, path: str) -> bytes:
        return self._send("GET", path, None)

    def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        lines = [f"{method} /fhir{path} HTTP/1.1", f"Host: 127.0.0.1:{self._target.port}"]
        lines.append("Accept: application/fhir+json")
        if body is not None:
            lines += ["Content-Type: application/fhir+json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def _without(document: Document, *names: str) -> Document:
    return {name: value for name, value in document.items() if name not in names}


def _unless(right: bool, fault: str) -> str | None:
    return None if right else fault
