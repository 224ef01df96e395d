"""An entry of a health log: an Observation by a patient, somebody who acts for them, or a device.

What makes an Observation such an entry is who writes it, or its tag: `patient-supplied`, which the server adds to all
that patients write, and which an app that speaks for them may set itself.

Spec: US Core, Writing Vital Signs (https://hl7.org/fhir/us/core/writing-vital-signs.html)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from fhir_server.interactions.stats import scale_of
from fhir_server.model.access import Caller, Identity
from fhir_server.model.clock import now_us
from fhir_server.model.dates import interval_of
from fhir_server.model.errors import ForbiddenError, UnprocessableError
from fhir_server.repository.changes import Change, Json
from fhir_server.repository.ownership import with_tag
from fhir_server.repository.rules import Write
from resources.codings import codings_of
from resources.healthlog.measures import (
    CATEGORIES,
    CATEGORY,
    KINDS,
    LOINC,
    MEASURES,
    SYMPTOM,
    UCUM,
    in_unit,
    kind_of,
)

TAGS = "http://hl7.org/fhir/us/core/CodeSystem/us-core-tags"
SUPPLIED = "patient-supplied"

#: Whose writes are entries of a log.
BY_THEMSELVES = frozenset({"patient", "proxy"})
MISTAKE = "entered-in-error"

#: Clocks of devices are a little ahead at times.
AHEAD_US = 5 * 60 * 1_000_000

#: What may differ when an entry is taken back: a note may say why.
_TAKEN_BACK = frozenset({"status", "meta", "note", "text", "id"})


def supplied(resource: Mapping[str, Any]) -> bool:
    """Whether it is marked as supplied by the patient."""
    tags = resource.get("meta", {}).get("tag", ())
    return any(tag.get("system") == TAGS and tag.get("code") == SUPPLIED for tag in tags)


def themselves(identity: Identity) -> bool:
    """Whether somebody writes in a log of their own, or of whom they act for."""
    return identity.role in BY_THEMSELVES and identity.fhir_user is not None


def is_entry(resource: Mapping[str, Any], caller: Caller) -> bool:
    """Whether an Observation, as somebody writes it, is an entry of a log."""
    if themselves(caller.identity) or supplied(resource):
        return True
    return caller.identity.role == "system" and "device" in resource


def concerns(change: Change, caller: Caller) -> bool:
    """Whether a change may claim a moment (`resources.healthlog.duplicates`)."""
    return change.resource is not None and is_entry(change.resource, caller)


def entry_rule(write: Write) -> Json | None:
    """Holds entries to what makes them usable, and those who write them to their own.

    Raises:
        ForbiddenError: 403; it is in somebody else's name, or changes what stands there.
        UnprocessableError: 422; it has no moment, one that is still to come, or a value that cannot be.
    """
    new, old = write.new, write.old
    if new is None or not is_entry(new, write.caller):
        return new
    new = sorted_in(new)
    if themselves(write.caller.identity):
        if old is not None:
            _require_taken_back(old, new, write)
        new = _in_their_name(new, str(write.caller.identity.fhir_user))
    if old is not None and supplied(old):
        new = with_tag(new, TAGS, SUPPLIED)
    if old is None or new.get("status") != MISTAKE:
        _require_moment(new, fresh=old is None)
        for node, place in _nodes(new):
            _require_possible(node, place)
        _require_named(new)
    return new


def sorted_in(resource: Json) -> Json:
    """The same, in the categories of the part of the log to which its code belongs; itself where it is in them."""
    kind = kind_of(_loinc(resource))
    if kind is None:
        return resource
    categories = resource.get("category", [])
    if not isinstance(categories, list) or not all(isinstance(one, dict) for one in categories):
        return resource  # which the validation refuses
    known = {(c.get("system"), c.get("code")) for one in categories for c in codings_of(one)}
    wanted = [(CATEGORIES, CATEGORY[kind]), (KINDS, kind)] if kind in CATEGORY else [(KINDS, kind)]
    missing = [{"coding": [{"system": system, "code": code}]} for system, code in wanted if (system, code) not in known]
    return {**resource, "category": [*categories, *missing]} if missing else resource


def _loinc(node: Mapping[str, Any]) -> list[str]:
    return [str(coding.get("code")) for coding in codings_of(node.get("code")) if coding.get("system") == LOINC]


def _require_named(resource: Json) -> None:
    """Raises UnprocessableError: 422; a symptom of which nobody says what it is."""
    if SYMPTOM in _loinc(resource) and not any(
        name in resource for name in ("valueCodeableConcept", "valueString", "dataAbsentReason")
    ):
        raise UnprocessableError(
            "The entry does not say which symptom; valueCodeableConcept or valueString was expected.",
            code="business-rule",
            key="HS-LOG-SYMPTOM",
            expression="Observation.value",
        )


def _in_their_name(resource: Json, user: str) -> Json:
    """The same, tagged and performed by whoever writes it."""
    performers = resource.get("performer", [])
    if any(not _is(reference, user) for reference in performers):
        raise ForbiddenError(
            f"What you log is your own: the performer can only be {user}.",
            key="HS-LOG-PERFORMER",
            expression="Observation.performer",
        )
    if not performers:
        resource = {**resource, "performer": [{"reference": user}]}
    return with_tag(resource, TAGS, SUPPLIED)


def _is(reference: Mapping[str, Any], user: str) -> bool:
    return f"/{reference.get('reference', '')}".endswith(f"/{user}")


def _require_taken_back(old: Json, new: Json, write: Write) -> None:
    """What stands in a record is not rewritten; who logged something wrong takes it back and logs it anew."""
    if _untouched(old) == _untouched(new) and old.get("status") == new.get("status"):
        return
    own = any(_is(reference, str(write.caller.identity.fhir_user)) for reference in old.get("performer", ()))
    if not own or new.get("status") != MISTAKE or _untouched(old) != _untouched(new):
        raise ForbiddenError(
            f"{write.reference} stands as it was logged. Your own entries you may set to {MISTAKE!r}, changing nothing "
            "else, and log them anew.",
            key="HS-LOG-STANDS",
            expression="Observation.status",
        )


def _untouched(resource: Json) -> Json:
    return {name: value for name, value in resource.items() if name not in _TAKEN_BACK}


def _require_moment(resource: Json, *, fresh: bool) -> None:
    start_us = moment_of(resource)
    if start_us is None:
        raise UnprocessableError(
            "The entry does not say when it was measured; effectiveDateTime, -Instant or -Period.start was expected.",
            code="business-rule",
            key="HS-LOG-TIME",
            expression="Observation.effective",
        )
    if fresh and start_us > now_us() + AHEAD_US:
        raise UnprocessableError(
            "The moment of measurement is still to come; five minutes ahead are the most that is taken.",
            code="business-rule",
            key="HS-LOG-FUTURE",
            expression="Observation.effective",
        )


def moment_of(resource: Mapping[str, Any]) -> int | None:
    """When it was measured, or began to be; microseconds since 1970 UTC."""
    period = resource.get("effectivePeriod") or {}
    text = resource.get("effectiveDateTime") or resource.get("effectiveInstant") or period.get("start")
    return interval_of(text).start_us if isinstance(text, str) else None


def _nodes(resource: Json) -> Iterator[tuple[Json, str]]:
    yield resource, "Observation"
    for index, component in enumerate(resource.get("component", ())):
        yield component, f"Observation.component[{index}]"


def _require_possible(node: Json, place: str) -> None:
    """Hold a value to the unit and the bounds of what its code measures."""
    quantity = node.get("valueQuantity")
    if not isinstance(quantity, dict) or quantity.get("value") is None:
        return
    value, code, system = Decimal(quantity["value"]), quantity.get("code"), quantity.get("system")
    if system == UCUM and (not isinstance(code, str) or scale_of((UCUM, code)) is None):
        raise _unit(f"{code!r} is no unit of UCUM.", place)
    measure = next((MEASURES[code] for code in _loinc(node) if code in MEASURES), None)
    if measure is None:
        return
    if system != UCUM or not isinstance(code, str):
        raise _unit(f"A {measure.name} needs a unit of UCUM ({measure.unit}, or one like it).", place)
    converted = in_unit(value, code, measure.unit)
    if converted is None:
        raise _unit(f"{code!r} is no unit of {measure.name}; {measure.unit}, or one like it, was expected.", place)
    if not measure.least <= converted <= measure.most:
        raise UnprocessableError(
            f"{value} {code} cannot be a {measure.name}: it is outside of {measure.least} to {measure.most} "
            f"{measure.unit}.",
            code="business-rule",
            key="HS-LOG-IMPOSSIBLE",
            expression=f"{place}.valueQuantity",
        )


def _unit(words: str, place: str) -> UnprocessableError:
    return UnprocessableError(words, code="business-rule", key="HS-LOG-UNIT", expression=f"{place}.valueQuantity.code")
