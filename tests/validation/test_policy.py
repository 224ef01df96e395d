"""What writes must satisfy is read from a file, of which every word means something."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_server.validation.policy import Demand, Policy, PolicyError, load_policy
from profiles.registry import registry

P = "http://e.example/StructureDefinition/p"


def read(folder: Path, text: str) -> Policy:
    path = folder / "validation.toml"
    path.write_text(text)
    return load_policy(registry(), path)


def test_without_a_file_nothing_beyond_r4_is_asked_but_what_the_setting_says() -> None:
    assert load_policy(registry(), None).of("Patient", "any") == Demand()
    assert not load_policy(registry(), None).of("Patient", "any").is_of_profiles
    asked = load_policy(registry(), None, "refuse").of("Patient", "any")
    assert asked == Demand(claimed="refuse", unknown="warn")


def test_the_nearest_word_is_meant(tmp_path: Path) -> None:
    policy = read(
        tmp_path,
        f"""
        [write]
        claimed = "warn"
        contents = "warn"
        [type.Patient]
        claimed = "refuse"
        required = ["{P}"]
        [client.feed]
        claimed = "ignore"
        base = "warn"
        [client.feed.type.Patient]
        required = ["{P}|1.0", "{P}|2.0"]
        recommended = ["{P}|3.0"]
        """,
    )
    assert policy.of("Observation", "x") == Demand(claimed="warn", contents="warn")
    assert policy.of("Patient", "x") == Demand(claimed="refuse", contents="warn", required=(P,))
    assert policy.of("Observation", "feed") == Demand(claimed="ignore", contents="warn", base="warn")
    assert policy.of("Patient", "feed") == Demand(
        claimed="ignore", contents="warn", base="warn", required=(f"{P}|1.0", f"{P}|2.0"), recommended=(f"{P}|3.0",)
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[write]\nclaimd = 'warn'", "'claimd'; possible are claimed"),
        ("[writes]", "'writes'; possible are write, type, client"),
        ("[write]\nclaimed = 'maybe'", "'maybe'; it is one of ignore, warn, refuse"),
        ("[write]\nbase = 'ignore'", "'ignore'; it is one of warn, refuse"),
        ("[type.Patiens]", "names no resource type"),
        ("[client.a.type.X]", r"client\.a\.type\.X\] names no resource type"),
        ("[type.Patient]\nrequired = 'x'", "no list of canonicals"),
        ("[type.Patient]\nrequired = ['us-core-patient']", "no list of canonicals"),
        ("write = 1", "write is no table"),
        ("[type]\nPatient = 1", r"type\.Patient is no table"),
        ("[", "Invalid initial character"),
    ],
)
def test_a_word_that_means_nothing_stops_the_start(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(PolicyError, match=why):
        read(tmp_path, text)


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="No such file"):
        load_policy(registry(), tmp_path / "absent.toml")
