"""Retention: what stays although its erasure is asked for, how long, and why. The table is data: `retention.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fhir_server.model.dates import interval_of
from fhir_server.model.errors import InvalidError
from profiles.registry import Registry

Json = dict[str, Any]

BUILT_IN: Final = Path(__file__).with_name("retention.toml")

#: Elements that do not tell when something happened.
NOT_EVENTS: Final = frozenset({"meta", "birthDate", "lastUpdated", "extension"})

#: Elements that name who has written a resource.
WRITERS: Final = ("author", "performer", "source", "recorder", "asserter", "informationSource", "requester", "sender")

#: Elements that tell of a moment by other names than `…DateTime`, `…Date` and `…Instant`.
MOMENTS: Final = frozenset(
    {"start", "end", "date", "issued", "authoredOn", "created", "sent", "received", "recorded", "started", "time"}
    | {"whenHandedOver", "whenPrepared"}
)

_WORDS: Final = {"types", "years", "reason", "of-patient"}


class RetentionError(ValueError):
    """The table cannot be read."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the table."""

    types: frozenset[str]
    years: int
    reason: str
    of_patient: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """Why a resource stays, and until when, as a day."""

    reason: str
    until: str


def load(path: Path, registry: Registry) -> tuple[Rule, ...]:
    """The table of a file.

    Raises:
        RetentionError: a word in it means nothing.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        rows = table.pop("rule", [])
        if table:
            raise RetentionError(f"{path}: {next(iter(table))!r} means nothing")
        return tuple(_rule_of(row, path, registry) for row in rows)
    except (OSError, tomllib.TOMLDecodeError, TypeError, AttributeError) as error:
        raise RetentionError(f"{path}: {error}") from error


def _rule_of(row: Mapping[str, Any], path: Path, registry: Registry) -> Rule:
    if unknown := set(row) - _WORDS:
        raise RetentionError(f"{path}: {sorted(unknown)[0]!r} means nothing")
    types, years, reason = row.get("types"), row.get("years"), row.get("reason")
    if not isinstance(types, list) or not isinstance(years, int) or years < 1 or not isinstance(reason, str):
        raise RetentionError(f"{path}: a rule needs types, years of at least 1, and a reason")
    if strange := [name for name in types if not registry.is_resource_type(name)]:
        raise RetentionError(f"{path}: {strange[0]!r} is no resource type")
    return Rule(frozenset(types), years, reason, bool(row.get("of-patient", False)))


class Retention:
    """Judges resources by the rules."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules: dict[str, list[Rule]] = {}
        for rule in rules:
            for name in rule.types:
                self._rules.setdefault(name, []).append(rule)

    def touches(self, name: str) -> bool:
        return name in self._rules

    def kept(self, resource: Json, patient: str, last_us: int, now_us: int) -> Kept | None:
        """Why a resource stays; None where it goes.

        Args:
            last_us: when it was changed last, which counts where it tells of no other moment
        """
        rules = self._rules.get(resource["resourceType"], [])
        if written_by(resource, patient):
            rules = [rule for rule in rules if rule.of_patient]
        if not rules:
            return None
        rule = max(rules, key=lambda one: one.years)
        # What lies ahead (a prescription that is good until next year) has not happened yet.
        until_us = years_after(min(latest_us(resource) or last_us, now_us), rule.years)
        return Kept(rule.reason, day_of(until_us)) if until_us > now_us else None


def written_by(resource: Json, patient: str) -> bool:
    """Whether the patient has written it, and nobody else."""
    writers: set[str] = set()
    for name in WRITERS:
        value = resource.get(name)
        for one in value if isinstance(value, list) else [value]:
            node = one.get("actor", one) if isinstance(one, dict) else None
            if isinstance(node, dict) and isinstance(node.get("reference"), str):
                writers.add(node["reference"])
    return writers == {patient}


def latest_us(resource: Json) -> int | None:
    """The latest moment that a resource tells of."""
    found: list[int] = []
    waiting: list[tuple[str, Any]] = list(resource.items())
    while waiting:
        name, one = waiting.pop()
        if name in NOT_EVENTS:
            continue
        if isinstance(one, dict):
            waiting += one.items()
        elif isinstance(one, list):
            waiting += [(name, each) for each in one]
        elif isinstance(one, str) and (name in MOMENTS or name.endswith(("DateTime", "Date", "Instant"))):
            with suppress(InvalidError):
                found.append(interval_of(one).end_us)
    return max(found, default=None)


def years_after(moment_us: int, years: int) -> int:
    moment = datetime.fromtimestamp(moment_us / 1e6, UTC)
    day = 28 if (moment.month, moment.day) == (2, 29) else moment.day
    return round(moment.replace(year=min(moment.year + years, 9998), day=day).timestamp() * 1e6)


def day_of(moment_us: int) -> str:
    return datetime.fromtimestamp(moment_us / 1e6, UTC).date().isoformat()
