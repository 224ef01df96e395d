"""A personal threshold: a CarePlan that holds its rule as a PlanDefinition, readable by everybody who may see it.

R4's PlanDefinition has no patient, and definitions are for everybody to read, so the rule is contained in the plan of
its patient, which says for whom, by whom and whether it is in force. What is a breach is the `goal.target` of the rule:
what is measured, and a quantity with a comparator. The rest is one extension of it.

Spec: https://hl7.org/fhir/R4/careplan.html, https://hl7.org/fhir/R4/plandefinition.html
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import time
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.interactions.stats import Code, scale_of
from fhir_server.model import codec
from fhir_server.model.errors import UnprocessableError
from fhir_server.storage.document import Version
from resources.healthlog.measures import UCUM, in_unit
from resources.monitoring.engine import Criteria
from resources.monitoring.quiet import Quiet

Json = dict[str, Any]

CATEGORY = "urn:healthsphere:CodeSystem:care-plan"
#: Of who cares for the patient; and of the patient, for whom it informs nobody else.
THRESHOLD, OWN_THRESHOLD = "threshold", "own-threshold"
EXTENSION = "urn:healthsphere:StructureDefinition:threshold"

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "wk": 604_800}
_LONGEST_US = 366 * 86_400 * 1_000_000
HOUR_US = 3_600_000_000
_log = logging.getLogger("healthsphere.monitoring")
_PLACE = "CarePlan.contained[0]"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A rule, read.

    Attributes:
        title: what people call it
        code: what is measured
        unit: in which unit it is judged; a UCUM code
        criteria: when an episode begins and ends
        critical: whether it is told in quiet hours, too
        quiet: when nobody is told
        acknowledge_us: how long the first of `tell` has before the next one is told
        tell: who is told, one after another
        own: whether it is the patient's own, that informs and asks nobody to act
    """

    title: str
    code: Code
    unit: str
    criteria: Criteria
    critical: bool
    quiet: Quiet | None
    acknowledge_us: int
    tell: tuple[str, ...]
    own: bool
    subject: str


def kind_of(plan: Mapping[str, Any]) -> str | None:
    """Which kind of threshold a CarePlan is; None where it is none."""
    for category in plan.get("category", ()):
        for coding in category.get("coding", ()):
            if coding.get("system") == CATEGORY and coding.get("code") in (THRESHOLD, OWN_THRESHOLD):
                return str(coding["code"])
    return None


def digest_of(plan: Mapping[str, Any]) -> str:
    """Names what a threshold does: another one when anything of its rule, or whose it is, changes."""
    return hashlib.sha256(codec.encode([plan.get("contained"), plan.get("subject")])).hexdigest()[:32]


def threshold_of(plan: Mapping[str, Any]) -> Threshold:
    """Read the rule of a plan.

    Raises:
        UnprocessableError: 422; it is not complete, or makes no sense.
    """
    rules = [r for r in plan.get("contained", ()) if r.get("resourceType") == "PlanDefinition"]
    if len(rules) != 1:
        raise wrong(f"A threshold has one contained PlanDefinition; there are {len(rules)}.", "CarePlan.contained")
    (rule,) = rules
    targets = [target for goal in rule.get("goal", ()) for target in goal.get("target", ())]
    if len(targets) != 1 or "detailQuantity" not in targets[0]:
        raise wrong("The rule has one goal with one target with a detailQuantity.", f"{_PLACE}.goal.target")
    (target,) = targets
    codings = target.get("measure", {}).get("coding", ())
    if not codings or not codings[0].get("code"):
        raise wrong("The target does not say what is measured.", f"{_PLACE}.goal.target.measure")
    more = _Extension(rule)
    level, unit, comparator = _quantity(target["detailQuantity"])
    baseline_us = more.duration("baseline")
    clear = more.value("clear", "valueQuantity")
    criteria = Criteria(
        comparator=comparator,
        level=level,
        clear=level if clear is None else _in(clear, unit, change=baseline_us is not None),
        times=more.count("times"),
        of=more.count("of"),
        window_us=more.duration("window"),
        mean=more.value("mean", "valueBoolean") is True,
        lasting_us=more.duration("lasting") or 0,
        baseline_us=baseline_us,
        late_us=more.duration("late") or 24 * HOUR_US,
    )
    _require_sense(criteria)
    subject = str(plan.get("subject", {}).get("reference", ""))
    own = kind_of(plan) == OWN_THRESHOLD
    return Threshold(
        title=str(rule.get("title") or plan.get("title") or codings[0].get("display") or codings[0]["code"]),
        code=(codings[0].get("system"), codings[0]["code"]),
        unit=unit,
        criteria=criteria,
        critical=more.value("critical", "valueBoolean") is True,
        quiet=more.quiet(),
        acknowledge_us=more.duration("acknowledge") or 4 * HOUR_US,
        tell=(subject,) if own else tuple(more.told()) or _author(plan),
        own=own,
        subject=subject,
    )


def in_force(plans: Iterable[Version]) -> Iterator[tuple[str, Threshold]]:
    """The thresholds of plans by their ids. One that cannot be read, because it was stored before there were rules for
    it, is left out: it must not keep the others from being judged."""
    for version in plans:
        try:
            yield version.id, threshold_of(codec.decode(version.body or b""))
        except UnprocessableError:
            _log.warning("CarePlan/%s is no threshold that can be read", version.id)


def _author(plan: Mapping[str, Any]) -> tuple[str, ...]:
    reference = plan.get("author", {}).get("reference")
    if not reference:
        raise wrong("Nobody is to be told: the rule names nobody (`tell`), and the plan has no author.", _PLACE)
    return (str(reference),)


def _require_sense(criteria: Criteria) -> None:
    if criteria.times > criteria.of:
        raise wrong(f"{criteria.times} of the last {criteria.of} cannot be.", f"{_PLACE}.extension")
    if criteria.comparator[0] == ">" and criteria.clear > criteria.level:
        raise wrong("It clears at a value that is still a breach: `clear` is above the level.", f"{_PLACE}.extension")
    if criteria.comparator[0] == "<" and criteria.clear < criteria.level:
        raise wrong("It clears at a value that is still a breach: `clear` is below the level.", f"{_PLACE}.extension")
    if criteria.mean and criteria.window_us is None and criteria.of == 1:
        raise wrong("A mean needs a `window`, or a number of measurements (`of`).", f"{_PLACE}.extension")


def _quantity(quantity: Mapping[str, Any]) -> tuple[Fraction, str, Any]:
    comparator = quantity.get("comparator")
    if comparator not in ("<", "<=", ">", ">="):
        raise wrong(
            "The quantity of the target has no comparator (<, <=, >, >=).", f"{_PLACE}.goal.target.detailQuantity"
        )
    code = quantity.get("code")
    if quantity.get("system") != UCUM or quantity.get("value") is None or scale_of((UCUM, code or "")) is None:
        raise wrong("The quantity of the target has no value in a UCUM unit.", f"{_PLACE}.goal.target.detailQuantity")
    return Fraction(Decimal(quantity["value"])), str(code), comparator


def _in(quantity: Mapping[str, Any], unit: str, *, change: bool) -> Fraction:
    """A quantity in the unit of the level; a change of a temperature must be in that very unit."""
    value, code = quantity.get("value"), quantity.get("code")
    if value is not None and code == unit:
        return Fraction(Decimal(value))
    converted = in_unit(Decimal(value), str(code), unit) if value is not None and not change else None
    if converted is None:
        raise wrong(f"`clear` is not in {unit}, or in a unit like it.", f"{_PLACE}.extension")
    return converted


class _Extension:
    """The extension of a rule, by the names of its parts."""

    def __init__(self, rule: Mapping[str, Any]) -> None:
        found = next((e for e in rule.get("extension", ()) if e.get("url") == EXTENSION), None)
        self._parts: list[Json] = found.get("extension", []) if found else []

    def value(self, name: str, kind: str) -> Any:
        return next((part.get(kind) for part in self._parts if part.get("url") == name), None)

    def told(self) -> list[str]:
        named = (part.get("valueReference", {}).get("reference") for part in self._parts if part.get("url") == "tell")
        return [str(reference) for reference in named if reference]

    def count(self, name: str) -> int:
        value = self.value(name, "valuePositiveInt")
        if value is None:
            return 1
        if int(value) > 100:
            raise wrong(f"`{name}` is {value}; 100 are the most.", f"{_PLACE}.extension")
        return int(value)

    def duration(self, name: str) -> int | None:
        """A while in microseconds."""
        quantity = self.value(name, "valueDuration")
        if quantity is None:
            return None
        seconds = _SECONDS.get(str(quantity.get("code")))
        if seconds is None or quantity.get("value") is None:
            raise wrong(f"`{name}` is no Duration in s, min, h, d or wk.", f"{_PLACE}.extension")
        moment_us = int(Decimal(quantity["value"]) * seconds * 1_000_000)
        if not 0 < moment_us <= _LONGEST_US:
            raise wrong(f"`{name}` is not between a moment and a year.", f"{_PLACE}.extension")
        return moment_us

    def quiet(self) -> Quiet | None:
        found = next((part for part in self._parts if part.get("url") == "quiet"), None)
        if found is None:
            return None
        given = {part.get("url"): part for part in found.get("extension", ())}
        try:
            return Quiet(
                time.fromisoformat(given["start"]["valueTime"]),
                time.fromisoformat(given["end"]["valueTime"]),
                ZoneInfo(given["zone"]["valueCode"]),
            )
        except (KeyError, ValueError, OSError) as error:
            raise wrong(
                "`quiet` has a `start` and an `end` (valueTime), and a `zone` (valueCode, such as Europe/Berlin).",
                f"{_PLACE}.extension",
            ) from error


def wrong(words: str, place: str) -> UnprocessableError:
    return UnprocessableError(words, code="business-rule", key="HS-MONITOR-RULE", expression=place)
