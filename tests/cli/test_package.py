"""`healthsphere package`: packages are installed whole or not at all, and a running server knows them by itself."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from fhir_server.cli import app
from tests.packages import GUIDE, Json, package, parameter, profile, tar_of, value_set
from tests.us_core import Package, us_core

__all__ = ["us_core"]

NAMED: Json = {"resourceType": "Patient", "name": [{"family": "Shaw"}], "gender": "female"}


@dataclass
class Runner:
    """The command line, and the server in the same database; they know nothing of each other."""

    client: httpx.Client
    environment: dict[str, str]

    def __call__(self, *arguments: str, expect: int = 0, **more: str) -> str:
        result = CliRunner().invoke(app, ["package", *arguments], env={**self.environment, **more})
        assert result.exit_code == expect, result.output
        return result.output

    def eventually(self, holds: Callable[[], bool]) -> None:
        """The server asks once a second; a busy machine may take longer."""
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end, "the server does not see it"
            time.sleep(0.1)

    def errors(self, resource: Json, canonical: str) -> list[str] | None:
        """Where a resource breaks a profile; None where the profile is not held."""
        answer = self.client.post(f"{resource['resourceType']}/$validate", params={"profile": canonical}, json=resource)
        if answer.status_code == 400:
            return None
        return sorted(row["expression"][0] for row in answer.json()["issue"] if row["severity"] == "error")


@pytest.fixture
def run(make_server: Callable[..., Any], tmp_path: Path, mongodb_uri: str) -> Runner:
    server = make_server()
    environment = {
        "MONGODB_URI": mongodb_uri,
        "HEALTHSPHERE_MONGODB_DATABASE": server.settings.mongodb_database,
        "HEALTHSPHERE_DATA_DIR": str(tmp_path / "data"),
        "COLUMNS": "240",
    }
    return Runner(server.client, environment)


def named_profile(version: str, *rows: Json) -> Json:
    return profile("named", *rows, version=version)


def test_a_running_server_validates_by_a_package_and_tells_of_it_until_it_is_removed(
    run: Runner, tmp_path: Path
) -> None:
    guide = {
        "resourceType": "ImplementationGuide",
        "id": "a.guide",
        "url": f"{GUIDE}ImplementationGuide/a.guide",
        "version": "1.0.0",
        "name": "AGuide",
        "status": "active",
        "packageId": "a.guide",
        "fhirVersion": ["4.0.1"],
    }
    file = package(tmp_path, named_profile("1.0.0", {"path": "Patient.name", "min": 1}), guide)
    url = f"{GUIDE}StructureDefinition/named"
    assert run.errors(NAMED, url) is None
    assert "Installed a.guide#1.0.0: 1 ImplementationGuide, 1 StructureDefinition." in run("add", str(file))
    run.eventually(lambda: run.errors(NAMED, url) == [])
    assert run.errors({"resourceType": "Patient", "gender": "male"}, f"{url}|1.0.0") == ["Patient.name"]

    def told() -> tuple[list[str], list[str]]:
        """The profiles of Patient, and the guides, that are not this server's own."""
        statement = run.client.get("metadata").json()
        rows = statement["rest"][0]["resource"]
        found = next(row for row in rows if row["type"] == "Patient")["supportedProfile"]
        return [one for one in found if not one.startswith("urn:")], statement.get("implementationGuide", [])

    run.eventually(lambda: told() == ([f"{url}|1.0.0"], [f"{guide['url']}|1.0.0"]))
    assert "a.guide#1.0.0" in run("list")
    assert "Removed" in run("remove", "a.guide#1.0.0")
    run.eventually(lambda: run.errors(NAMED, url) is None and told() == ([], []))
    assert "No package is installed." in run("list")


def test_versions_stand_side_by_side_and_each_means_its_own_definitions(run: Runner, tmp_path: Path) -> None:
    url = f"{GUIDE}StructureDefinition/named"
    bound = {"path": "Patient.maritalStatus", "binding": {"strength": "required", "valueSet": f"{GUIDE}ValueSet/v"}}
    for version, code, element in (
        ("1.2.0", "a", "name"),
        ("1.10.0", "b", "birthDate"),
        ("2.0.0-ballot", "c", "photo"),
    ):
        base = profile("base", {"path": f"Patient.{element}", "min": 1}, version=version)
        derived = profile("named", bound, version=version, base=f"{GUIDE}StructureDefinition/base")
        file = package(tmp_path, base, derived, value_set("v", [code], version), version=version)
        run("add", str(file))
    resource = {**NAMED, "maritalStatus": {"coding": [{"system": "http://c", "code": "a"}]}}
    run.eventually(lambda: run.errors(resource, f"{url}|2.0.0-ballot") is not None)
    assert run.errors(resource, f"{url}|1.2.0") == []
    assert run.errors(resource, f"{url}|1.10.0") == ["Patient.birthDate", "Patient.maritalStatus"]
    assert run.errors(resource, f"{url}|2.0.0-ballot") == ["Patient.maritalStatus", "Patient.photo"]
    assert run.errors(resource, url) == ["Patient.maritalStatus", "Patient.photo"]  # the newest, of those there are


def test_a_setting_says_which_version_is_meant_where_none_is_named(
    make_server: Callable[..., Any], mongodb_uri: str, tmp_path: Path
) -> None:
    server = make_server(package_versions="a.guide#1.0.0")
    environment = {"MONGODB_URI": mongodb_uri, "HEALTHSPHERE_MONGODB_DATABASE": server.settings.mongodb_database}
    run = Runner(server.client, {**environment, "HEALTHSPHERE_DATA_DIR": str(tmp_path)})
    for version, element in (("1.0.0", "name"), ("2.0.0", "photo")):
        rows = [{"path": f"Patient.{element}", "min": 1}]
        run("add", str(package(tmp_path, named_profile(version, *rows), version=version)))
    url = f"{GUIDE}StructureDefinition/named"
    run.eventually(lambda: run.errors(NAMED, f"{url}|2.0.0") == ["Patient.photo"])
    assert run.errors(NAMED, url) == []


def test_what_a_package_needs_is_installed_along_or_told_as_missing(run: Runner, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    package(cache, profile("base", {"path": "Patient.name", "min": 1}), name="a.base", version="1.0.3")
    package(cache, profile("base", {"path": "Patient.photo", "min": 1}), name="a.base", version="1.1.0")
    derived = profile("named", {"path": "Patient.gender", "min": 1}, base=f"{GUIDE}StructureDefinition/base")
    needs = {"hl7.fhir.r4.core": "4.0.1", "a.base": "1.0.x", "a.terminology": "7.0.0"}
    package(cache, derived, needs=needs)
    told = run("add", "a.guide#1.0.0", "--from", str(cache))
    assert told.index("Installed a.base#1.0.3") < told.index("Installed a.guide#1.0.0")
    assert "a.guide#1.0.0 needs what is not there: a.terminology#7.0.0" in told
    run.eventually(
        lambda: run.errors({"resourceType": "Patient"}, derived["url"]) == ["Patient.gender", "Patient.name"]
    )
    assert "a.terminology#7.0.0" in run("list")
    assert "is needed by" not in run("remove", "a.guide#1.0.0")


def test_what_others_need_is_removed_by_force_alone(run: Runner, tmp_path: Path) -> None:
    package(tmp_path, profile("base"), name="a.base")
    run("add", str(package(tmp_path, profile("named"), needs={"a.base": "1.0.0"})))
    assert "a.base#1.0.0 is needed by a.guide#1.0.0" in run("remove", "a.base#1.0.0", expect=1)
    run("remove", "a.base#1.0.0", "--force")
    assert "installed are" not in run("remove", "a.base#1.0.0", expect=1)
    assert "not installed; installed are a.guide#1.0.0" in run("remove", "a.guide#9", expect=1)


def test_a_search_parameter_of_a_package_finds_what_was_stored_before(run: Runner, tmp_path: Path) -> None:
    flagged = {**NAMED, "extension": [{"url": "http://flag", "valueCode": "red"}]}
    made = run.client.post("Patient", json=flagged).json()["id"]
    run.client.post("Patient", json=NAMED)
    told = run(
        "add",
        str(
            package(
                tmp_path,
                parameter("flag", "Patient.extension.where(url = 'http://flag').valueCode"),  # as many guides have it
                parameter("gender", "Patient.gender"),  # what the specification has stays as it is
                parameter("broken", "Patient.nothing.at.all"),
            )
        ),
    )
    assert "Search parameters: Patient:flag." in told
    assert "SearchParameter-Patient-broken.json" in told

    def found() -> list[str] | None:
        answer = run.client.get("Patient?flag=red", headers={"Prefer": "handling=strict"})
        rows = answer.json().get("entry", []) if answer.status_code == 200 else None
        return None if rows is None else [r["resource"]["id"] for r in rows if r["search"]["mode"] == "match"]

    run.eventually(lambda: found() == [made])
    rows = run.client.get("metadata").json()["rest"][0]["resource"]
    named = {row["name"]: row["definition"] for row in next(r for r in rows if r["type"] == "Patient")["searchParam"]}
    assert named["flag"] == f"{GUIDE}SearchParameter/Patient-flag"
    assert named["gender"].startswith("http://hl7.org/fhir/")
    run("remove", "a.guide#1.0.0")
    run.eventually(lambda: found() is None)


def test_without_indexing_the_command_to_do_so_is_told(run: Runner, tmp_path: Path) -> None:
    file = package(tmp_path, parameter("flag", "Patient.extension.where(url = 'http://flag').value.ofType(code)"))
    assert "healthsphere reindex Patient" in run("add", str(file), "--no-reindex")


def test_installing_a_version_again_puts_it_in_the_place_of_the_one_before(run: Runner, tmp_path: Path) -> None:
    url = f"{GUIDE}StructureDefinition/named"
    run("add", str(package(tmp_path, named_profile("1.0.0", {"path": "Patient.photo", "min": 1}), profile("other"))))
    run.eventually(lambda: run.errors(NAMED, url) == ["Patient.photo"])
    run("add", str(package(tmp_path, named_profile("1.0.0", {"path": "Patient.birthDate", "min": 1}))))
    run.eventually(lambda: run.errors(NAMED, url) == ["Patient.birthDate"])
    assert run.errors(NAMED, f"{GUIDE}StructureDefinition/other") is None


BROKEN_DEFINITION = tar_of(
    {
        "package/package.json": b'{"name": "a.guide", "version": "1.0.0"}',
        "package/StructureDefinition-x.json": b'{"resourceType": "StructureDefinition", "url": "http://x", "name": 7}',
    }
)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"no tar file", "no gzipped tar file"),
        (gzip.compress(b"no tar file", mtime=0), "no gzipped tar file"),
        (tar_of({"package/package.json": b"{}" * 1000})[:-40], "not a whole one"),
        (tar_of({"package/other.json": b"{}"}), "no package/package.json"),
        (tar_of({"package/package.json": b"{"}), "no JSON"),
        (tar_of({"package/package.json": b"[1]"}), "no JSON object"),
        (tar_of({"package/package.json": b'{"name": "../x", "version": "1"}'}), "the name '../x'"),
        (tar_of({"package/package.json": b'{"name": "a", "version": ""}'}), "the version ''"),
        (tar_of({"package/package.json": b'{"name": "a", "version": "1"}'}), "no definitions"),
        (tar_of({"package/package.json": b'{"name": "a", "version": "1", "dependencies": [1]}'}), "no table"),
        (tar_of({"package/package.json": b'{"name": "a", "version": "1", "fhirVersions": ["5.0.0"]}'}), "FHIR 5.0.0"),
        (BROKEN_DEFINITION, "StructureDefinition-x.json cannot be read: StructureDefinition.name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_package_is_refused_and_nothing_of_it_is_installed(
    run: Runner, tmp_path: Path, raw: bytes, why: str
) -> None:
    file = tmp_path / "broken.tgz"
    file.write_bytes(raw)
    told = run("add", str(file), expect=1)
    assert why in told
    assert "Traceback" not in told
    assert "No package is installed." in run("list")


def test_where_a_package_is_not_found_is_told(run: Runner, tmp_path: Path) -> None:
    assert "--from FOLDER" in run("add", "a.guide#1.0.0", expect=1)
    assert f"none in {tmp_path}" in run("add", "a.guide#1.0.0", "--from", str(tmp_path), expect=1)
    assert "cannot be read: No such file" in run("add", str(tmp_path / "absent.tgz"), expect=1)
    (tmp_path / "a.guide-2.0.0.tgz").write_bytes(package(tmp_path, profile("named")).read_bytes())
    assert "filed as a.guide#2.0.0 is a.guide#1.0.0" in run("add", "a.guide#2.0.0", "--from", str(tmp_path), expect=1)


@pytest.mark.slow
def test_two_versions_of_us_core_are_installed_validate_and_search(
    run: Runner, us_core: Callable[[str], Package]
) -> None:
    url = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"
    # Its claim, without a version, would mean the newest.
    patient = {key: value for key, value in us_core("6.1.0").examples["Patient-example"].items() if key != "meta"}
    made = run.client.put(f"Patient/{patient['id']}", json=patient)
    assert made.status_code == 201
    for version in ("6.1.0", "8.0.0"):
        told = run("add", str(us_core(version).path))
        assert f"Installed hl7.fhir.us.core#{version}" in told
        assert "hl7.terminology.r4" in told  # which is not there
    run.eventually(lambda: run.errors(patient, f"{url}|8.0.0") is not None)
    assert run.errors(patient, f"{url}|6.1.0") == []
    unnamed = {key: value for key, value in patient.items() if key != "name"}
    assert run.errors(unnamed, f"{url}|6.1.0") == ["Patient.name"]
    answer = run.client.get("Patient?race=2106-3", headers={"Prefer": "handling=strict"})
    assert [row["resource"]["id"] for row in answer.json()["entry"]] == [patient["id"]]
    rows = run.client.get("metadata").json()["rest"][0]["resource"]
    supported = next(row for row in rows if row["type"] == "Observation")["supportedProfile"]
    assert {f"{url.replace('patient', 'smokingstatus')}|{version}" for version in ("6.1.0", "8.0.0")} <= set(supported)
