"""Packages are read whole or refused; versions have an order, and canonicals mean those of their own package."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import httpx
import pytest

from fhir_server.package_sources import Sources
from profiles.package import PackageError, package_of
from profiles.pinning import pinned
from profiles.versions import newest_of, rank_of
from tests.packages import GUIDE, package, profile, tar_of, value_set

VERSIONS = {f"{GUIDE}StructureDefinition/base": "1.0.0", f"{GUIDE}ValueSet/v": "2.0.0"}


def test_a_package_has_its_definitions_and_none_of_its_examples(tmp_path: Path) -> None:
    found = package_of(package(tmp_path, profile("a"), value_set("v", ["x"]), needs={"b": "1"}).read_bytes())
    assert (found.id, found.dependencies) == ("a.guide#1.0.0", {"b": "1"})
    assert [(one.type, one.url, one.version) for one in found.definitions] == [
        ("StructureDefinition", f"{GUIDE}StructureDefinition/a", "1.0.0"),
        ("ValueSet", f"{GUIDE}ValueSet/v", "1.0.0"),
    ]


def test_of_two_definitions_of_one_url_and_version_one_is_taken() -> None:
    definition = json.dumps(profile("a")).encode()
    files = {"package/package.json": b'{"name": "a", "version": "1"}', "package/a.json": definition}
    assert len(package_of(tar_of({**files, "package/b.json": definition})).definitions) == 1


def test_no_package_unpacks_to_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiles.package.MAX_UNPACKED", 1000)
    with pytest.raises(PackageError, match="more than any package has"):
        package_of(tar_of({"package/package.json": b'{"name": "a", "version": "1"}', "package/x.json": b" " * 2000}))


def test_links_in_a_package_lead_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "linked.tgz"
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("package/package.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(PackageError, match=r"no package/package\.json"):
        package_of(path.read_bytes())


def test_versions_are_ordered_by_their_numbers_and_releases_come_after_what_leads_to_them() -> None:
    versions = ["1.10.0", "2.0.0", "1.2.0", "2.0.0-ballot", "2.0.0-ballot2", "draft"]
    assert sorted(versions, key=rank_of) == ["draft", "1.2.0", "1.10.0", "2.0.0-ballot", "2.0.0-ballot2", "2.0.0"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("1.0.0", "1.0.0"),
        ("1.0.x", "1.0.10"),
        ("1.x", "1.1.0"),
        ("latest", "2.0.0"),
        ("current", "2.0.0"),
        ("3.0.0", None),
    ],
)
def test_a_wish_is_for_one_version_or_for_the_newest_of_some(wanted: str, found: str | None) -> None:
    assert newest_of(["1.0.0", "1.0.10", "1.0.9", "1.1.0", "2.0.0"], wanted) == found


def test_canonicals_get_the_version_that_is_meant_and_keep_the_one_they_have() -> None:
    base, bound = f"{GUIDE}StructureDefinition/base", f"{GUIDE}ValueSet/v"
    types = [{"code": "Reference", "targetProfile": [base, "http://other"], "profile": [f"{base}|0.9"]}]
    definition = profile(
        "a", {"path": "Patient.link", "type": types, "binding": {"strength": "required", "valueSet": bound}}, base=base
    )
    found = pinned(definition, VERSIONS.get)
    row = found["differential"]["element"][1]
    assert found["baseDefinition"] == f"{base}|1.0.0"
    assert row["type"] == [
        {"code": "Reference", "targetProfile": [f"{base}|1.0.0", "http://other"], "profile": [f"{base}|0.9"]}
    ]
    assert row["binding"]["valueSet"] == f"{bound}|2.0.0"
    assert definition["baseDefinition"] == base  # what is given stays as it is


def test_value_sets_import_those_of_their_own_package() -> None:
    given = {
        "resourceType": "ValueSet",
        "compose": {"include": [{"valueSet": [f"{GUIDE}ValueSet/v"]}, {"system": "x"}]},
    }
    include = pinned(given, VERSIONS.get)["compose"]["include"]
    assert include == [{"valueSet": [f"{GUIDE}ValueSet/v|2.0.0"]}, {"system": "x"}]
    other = {"resourceType": "CodeSystem", "url": f"{GUIDE}ValueSet/v"}
    assert pinned(other, VERSIONS.get) is other


class Registry:
    """A package registry: names with their versions, and files."""

    def __init__(self, *files: Path) -> None:
        self.files = {path.name.removesuffix(".tgz"): path.read_bytes() for path in files}
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        name, *version = request.url.path.removeprefix("/packages/").split("/")
        if version:
            raw = self.files.get(f"{name}-{version[0]}")
            return httpx.Response(200, content=raw) if raw is not None else httpx.Response(404)
        versions = {key.removeprefix(f"{name}-"): {} for key in self.files if key.startswith(f"{name}-")}
        return httpx.Response(200, json={"name": name, "versions": versions}) if versions else httpx.Response(404)


def sources(registry: Registry, *folders: Path) -> Sources:
    return Sources(folders, "http://registry.example/packages/", httpx.MockTransport(registry))


def test_a_registry_is_asked_for_what_no_folder_has(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    registry = Registry(
        package(tmp_path / "there", profile("a"), version="1.0.1"),
        package(tmp_path / "there", profile("a"), version="1.0.2"),
    )
    package(tmp_path, profile("a"), version="1.0.0")
    found = sources(registry, tmp_path)
    local = found.find("a.guide", "1.0.0")
    assert local is not None
    assert (local.id, registry.asked) == ("a.guide#1.0.0", [])
    fetched = found.find("a.guide", "1.0.2")
    assert fetched is not None
    assert (fetched.id, registry.asked[-1]) == ("a.guide#1.0.2", "/packages/a.guide/1.0.2")
    assert found.find("a.guide", "9.x") is None
    assert found.find("b.guide", "1.0.0") is None


def test_without_a_registry_nobody_is_asked(tmp_path: Path) -> None:
    assert Sources([tmp_path]).find("a.guide", "1.0.0") is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.Response(500), "does not give a.guide"),
        (httpx.Response(200, text="<html>"), "does not give a.guide"),
        (httpx.Response(200, json=[]), "does not give a.guide"),
    ],
)
def test_a_registry_that_does_not_answer_is_told(answer: httpx.Response, why: str) -> None:
    asked = Sources([], "http://registry.example", httpx.MockTransport(lambda request: answer))
    with pytest.raises(PackageError, match=why):
        asked.find("a.guide", "1.0.0")


def test_what_is_fetched_is_what_was_asked_for(tmp_path: Path) -> None:
    other = package(tmp_path, profile("a"), name="other", version="1.0.0")
    registry = Registry(other)
    registry.files["a.guide-1.0.0"] = other.read_bytes()
    with pytest.raises(PackageError, match=r"filed as a.guide#1\.0\.0 is other#1\.0\.0"):
        sources(registry).find("a.guide", "1.0.0")


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(package(tmp_path, profile("a")))
    monkeypatch.setattr("fhir_server.package_sources._MAX_BYTES", 100)
    with pytest.raises(PackageError, match="larger than any package"):
        sources(registry).find("a.guide", "1.0.0")


def test_the_cache_of_other_tools_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "a.guide#1.0.0" / "package"
    folder.mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "a.guide", "version": "1.0.0"}')
    (folder / "StructureDefinition-a.json").write_text(json.dumps(profile("a")))
    found = Sources([tmp_path]).find("a.guide", "1.0.0")
    assert found is not None
    assert [one.url for one in found.definitions] == [f"{GUIDE}StructureDefinition/a"]
