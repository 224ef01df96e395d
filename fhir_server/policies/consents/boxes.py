"""Which resources of a record a rule is about, as boxes: a type, the verbs, search parameters, ids.

Several boxes say "or"; within one all must hold. A denial is read wide, a permission narrow (see `consents`).

Spec: https://hl7.org/fhir/R4/consent-definitions.html#Consent.provision.class and what follows it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fhir_server.model.access import ANY_TYPE, verbs_of
from fhir_server.model.clock import instant_of
from fhir_server.model.dates import OPEN_END_US, OPEN_START_US, Interval
from fhir_server.policies.consents.provision import Provision
from fhir_server.policies.reach import Reach, portions_of
from fhir_server.repository.compartment import CARE_DATES
from fhir_server.search.charts import CHARTS
from fhir_server.search.escape import escape
from fhir_server.search.parameters import table_of
from profiles.registry import Registry
from profiles.terminology import Terminology

#: What a rule without actions takes away, or gives: all but adding to the record, which shows nothing of it.
DEFAULT_VERBS = "ruds"

#: Codes of http://terminology.hl7.org/CodeSystem/consentaction.
ACTIONS = {"access": "rs", "use": "rs", "disclose": "rs", "collect": "c", "correct": "ruds"}

RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
PROFILES = "http://hl7.org/fhir/StructureDefinition/"
MEDIA_TYPES = "urn:ietf:bcp:13"

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
CONFIDENTIAL = ("U", "L", "M", "N", "R", "V")

#: Parameters that find what a resource is about.
CODE_PARAMETERS = ("code", "combo-code", "vaccine-code", "type", "category", "reason-code")

#: Who wrote a resource, by type: narrow; a denial looks at every reference to the author.
AUTHOR_PARAMETERS = ("author", "performer", "requester", "asserter", "recorder", "source", "assessor", "creator")

#: What no time and no author is a property of: it is there for as long as the patient is.
STANDING = frozenset({"Patient", "RelatedPerson", "Person", "Coverage", "Account", "Group", "Binary"})

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Box:
    """Some resources of a record: see `Grant`, of which it becomes one for each group of patients."""

    type: str
    verbs: str
    criteria: Pairs = ()
    ids: frozenset[str] | None = None
    unless: tuple[Box, ...] = ()


def meet(one: Box, other: Box) -> Box | None:
    """What is in both; None where nothing is."""
    if ANY_TYPE not in (one.type, other.type) and one.type != other.type:
        return None
    verbs = verbs_of(set(one.verbs) & set(other.verbs))
    ids = one.ids if other.ids is None else other.ids if one.ids is None else one.ids & other.ids
    if not verbs or (ids is not None and not ids):
        return None
    return Box(
        other.type if one.type == ANY_TYPE else one.type,
        verbs,
        tuple(dict.fromkeys((*one.criteria, *other.criteria))),
        ids,
        tuple(dict.fromkeys((*one.unless, *other.unless))),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """What one condition of a rule asks of the resources of a type."""

    criteria: Pairs = ()
    ids: frozenset[str] | None = None


ALL: tuple[_Part, ...] = (_Part(),)


class Boxes:
    """Makes the boxes of rules."""

    def __init__(self, registry: Registry, terminology: Terminology, reach: Reach) -> None:
        self._registry = registry
        self._terminology = terminology
        self._reach = reach

    def of(self, rule: Provision, wide: bool) -> tuple[Box, ...]:
        """The resources that a rule is about, whatever its exceptions say."""
        verbs = self._verbs(rule, wide)
        if not verbs:
            return ()
        if not (rule.classes or rule.labels or rule.codes or rule.data_period or rule.data):
            return (Box(ANY_TYPE, verbs),)
        found: list[Box] = []
        for name, classes in self._types(rule, wide):
            parts = [
                classes,
                self._labels(rule, wide),
                self._codes(rule, name),
                self._time(rule, name, wide),
                self._data(rule, name, wide),
            ]
            boxes: list[Box] = [Box(name, verbs)]
            for part in parts:
                joined = (meet(box, Box(name, verbs, p.criteria, p.ids)) for box in boxes for p in part)
                boxes = [box for box in joined if box is not None]
            found += boxes
        return tuple(dict.fromkeys(found))

    @staticmethod
    def _verbs(rule: Provision, wide: bool) -> str:
        if not rule.actions:
            return DEFAULT_VERBS
        verbs = {verb for action in rule.actions for verb in ACTIONS.get(action, "cruds" if wide else "")}
        return verbs_of(verbs)

    def _types(self, rule: Provision, wide: bool) -> Iterator[tuple[str, Sequence[_Part]]]:
        """The types that a rule is about, with what its classes ask of them; `*` where it asks alike of all."""
        by_type: dict[str, list[_Part]] = {}
        for system, code in sorted(rule.classes):
            if self._registry.is_resource_type(code) and (system == RESOURCE_TYPES or PROFILES.startswith(system)):
                by_type.setdefault(code, []).append(_Part())
            elif system.startswith(PROFILES) or code.startswith("http"):
                url = code if code.startswith("http") else f"{system.rstrip('/')}/{code}"
                by_type.setdefault(ANY_TYPE, []).append(_Part((("_profile", escape(url)),)))
            elif system == MEDIA_TYPES:
                by_type.setdefault("DocumentReference", []).append(_Part((("contenttype", escape(code)),)))
            elif wide:
                by_type.setdefault(ANY_TYPE, []).append(_Part())
        if not rule.classes:
            by_type[ANY_TYPE] = [_Part()]
        if not (rule.codes or rule.data_period or rule.data):
            yield from by_type.items()
            return
        everything = by_type.pop(ANY_TYPE, [])
        for name in sorted(self._reach.types if everything else by_type):
            yield name, [*everything, *by_type.get(name, ())]

    def _labels(self, rule: Provision, wide: bool) -> Sequence[_Part]:
        """Resources with one of the labels (wide), or with all of them (narrow).

        Confidentiality is a high water mark: to deny `R` denies what is higher, to permit it permits what is lower, and
        a resource without a label is `N`.
        """
        if not rule.labels:
            return ALL
        parts: list[Pairs] = []
        for system, code in sorted(rule.labels):
            if system == CONFIDENTIALITY and code in CONFIDENTIAL:
                level = CONFIDENTIAL.index(code)
                unlabelled = CONFIDENTIAL.index("N")
                if wide and level <= unlabelled:
                    lower = CONFIDENTIAL[:level]
                    parts.append(((("_security:not", tokens(system, lower)),)) if lower else ())
                elif wide:
                    parts.append((("_security", tokens(system, CONFIDENTIAL[level:])),))
                elif level >= unlabelled:
                    higher = CONFIDENTIAL[level + 1 :]
                    parts.append(((("_security:not", tokens(system, higher)),)) if higher else ())
                else:
                    parts.append((("_security", tokens(system, CONFIDENTIAL[: level + 1])),))
            else:
                below = self._terminology.descendants(system, code) or {code}
                parts.append((("_security", tokens(system, sorted(below))),))
        if wide:
            return [_Part(criteria) for criteria in parts]
        return [_Part(tuple(pair for criteria in parts for pair in criteria))]

    def _codes(self, rule: Provision, name: str) -> Sequence[_Part]:
        """Resources in which one of the codes is found, as far as search parameters look."""
        if not rule.codes:
            return ALL
        parameters = table_of(name, self._registry).parameters
        values = ",".join(token(*coding) for coding in sorted(rule.codes))
        return [
            _Part(((code, values),))
            for code in CODE_PARAMETERS
            if code in parameters and parameters[code].type == "token"
        ]

    def _time(self, rule: Provision, name: str, wide: bool) -> Sequence[_Part]:
        """What was done within a time: wide, what may have been."""
        if rule.data_period is None:
            return ALL
        chart = CHARTS.get(name)
        code = CARE_DATES.get(name) or (chart.dates[0] if chart else None)
        if code is None:
            return ALL if wide and name not in STANDING else ()
        if wide:
            return [_Part(_overlapping(code, rule.data_period)), _Part(((f"{code}:missing", "true"),))]
        if not table_of(name, self._registry).parameters[code].bare:
            return ()  # of several dates, one could be after the start and another before the end
        return [_Part(_within(code, rule.data_period))]

    def _data(self, rule: Provision, name: str, wide: bool) -> Sequence[_Part]:
        """Single resources, what belongs to them, what somebody wrote."""
        if not rule.data:
            return ALL
        parts: list[_Part] = []
        by_code: dict[str, list[str]] = {}
        for meaning, target in sorted(rule.data):
            kind, _, target_id = target.partition("/")
            if meaning == "authoredby":
                if name not in STANDING:
                    codes = self._references(name, kind) if wide else AUTHOR_PARAMETERS
                    for code in (c for c in codes if self._refers(name, c, kind)):
                        by_code.setdefault(code, []).append(target)
                continue
            if kind == name:
                parts.append(_Part(ids=frozenset({target_id})))
            if meaning != "instance":
                for code in self._references(name, kind):
                    by_code.setdefault(code, []).append(target)
        for code, targets in by_code.items():
            parts += [_Part(((code, portion),)) for portion in portions_of(targets)]
        return parts

    def _references(self, name: str, kind: str) -> Iterable[str]:
        """The search parameters of a type by which it can refer to another."""
        return [code for code in table_of(name, self._registry).parameters if self._refers(name, code, kind)]

    def _refers(self, name: str, code: str, kind: str) -> bool:
        parameter = table_of(name, self._registry).parameters.get(code)
        return (
            parameter is not None
            and parameter.type == "reference"
            and not parameter.canonical
            and parameter.within is None  # a wider one finds the same
            and kind in parameter.targets
        )


def token(system: str, code: str) -> str:
    """A code as a value in a search."""
    return f"{escape(system)}|{escape(code)}" if system else escape(code)


def tokens(system: str, codes: Iterable[str]) -> str:
    return ",".join(token(system, code) for code in codes)


def _overlapping(code: str, period: Interval) -> Pairs:
    """What began before the end, and ended after the start."""
    pairs: list[tuple[str, str]] = []
    if period.end_us < OPEN_END_US:
        pairs.append((code, f"lt{instant_of(period.end_us)}"))
    if period.start_us > OPEN_START_US:
        pairs.append((code, f"gt{instant_of(period.start_us - 1000)}"))
    return tuple(pairs)


def _within(code: str, period: Interval) -> Pairs:
    """What began after the start, and ended before the end; a date there must be."""
    pairs: list[tuple[str, str]] = [(f"{code}:missing", "false")]
    if period.end_us < OPEN_END_US:
        pairs.append((code, f"eb{instant_of(period.end_us)}"))
    if period.start_us > OPEN_START_US:
        pairs.append((code, f"sa{instant_of(period.start_us - 1000)}"))
    return tuple(pairs)
