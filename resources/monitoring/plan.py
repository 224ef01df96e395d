"""What a CarePlan that is a threshold must be, for every way to write it.

It begins as a draft. Before it is in force it is tried on the patient's own history (`$back-test`), in the version that
is put in force: the server keeps which one was tried, and takes nobody else's word for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.dates import interval_of
from fhir_server.model.errors import ForbiddenError, UnprocessableError
from fhir_server.repository.changes import Json
from fhir_server.repository.rules import Write
from resources.healthlog.entry import BY_THEMSELVES
from resources.monitoring.threshold import OWN_THRESHOLD, digest_of, kind_of, threshold_of
from resources.states import StateMachine

BACK_TEST = "back-test"
TESTED = "urn:healthsphere:StructureDefinition:back-test"

#: A write that is tried again is still the same one.
_SAME_WRITE_US = 60_000_000

#: The states of a threshold. Its rule is changed while it is a draft or on hold.
PLANS = StateMachine(
    "CarePlan",
    {
        "draft": ("active", "revoked"),
        "active": ("on-hold", "revoked", "completed"),
        "on-hold": ("active", "revoked", "completed"),
        "revoked": (),
        "completed": (),
    },
    {},
)


def plan_rule(write: Write) -> Json | None:
    """Holds thresholds to what they must be.

    Raises:
        ForbiddenError: 403; a patient's own one reaches beyond the patient.
        UnprocessableError: 422; the rule makes no sense, was not tried, or the state does not follow.
    """
    new, old = write.new, write.old
    was = old is not None and kind_of(old) is not None
    if new is None or (kind_of(new) is None and not was):
        return new
    if old is not None and kind_of(new) != kind_of(old):
        raise UnprocessableError(
            "What kind of plan it is stays: a threshold cannot become another, and no other plan becomes one.",
            code="business-rule",
            key="HS-MONITOR-KIND",
            expression="CarePlan.category",
        )
    if was:
        PLANS.rule(write)
    threshold_of(new)
    new = _in_their_name(new, write)
    if write.by != BACK_TEST:
        new = with_tested(new, trial_in(old) if old is not None else None)
    if new.get("status") == "active":
        new = _put_in_force(new, old)
    return new


def _in_their_name(new: Json, write: Write) -> Json:
    identity = write.caller.identity
    if identity.fhir_user is None or write.old is not None:
        return new
    if identity.role in BY_THEMSELVES and kind_of(new) != OWN_THRESHOLD:
        raise ForbiddenError(
            "A threshold of your own informs you; have one that others act on set by who cares for you.",
            key="HS-MONITOR-OWN",
            expression="CarePlan.category",
        )
    return {**new, "author": {"reference": identity.fhir_user}}


def _put_in_force(new: Json, old: Json | None) -> Json:
    if old is not None and old.get("status") == "active" and digest_of(old) == digest_of(new):
        return new
    tested = trial_in(new)
    if tested is None or digest_in(tested) != digest_of(new):
        raise UnprocessableError(
            "This version of the rule was not tried on the patient's history: call $back-test, look at what it says, "
            "and put it in force then.",
            code="business-rule",
            key="HS-MONITOR-UNTESTED",
            expression="CarePlan.status",
        )
    period = new.get("period", {})
    started_us = interval_of(period["start"]).start_us if "start" in period else 0
    if now_us() - _SAME_WRITE_US <= started_us <= now_us():
        return new
    return {**new, "period": {**period, "start": instant_of(now_us())}}


def trial_in(plan: Mapping[str, Any]) -> Json | None:
    """What the last trial of a plan came to, as the server keeps it."""
    found: Json | None = next((e for e in plan.get("extension", ()) if e.get("url") == TESTED), None)
    return found


def digest_in(tested: Json) -> str | None:
    return next((part.get("valueString") for part in tested.get("extension", ()) if part.get("url") == "rule"), None)


def with_tested(plan: Json, tested: Json | None) -> Json:
    """The same plan with what a trial came to, or without."""
    if trial_in(plan) == tested:
        return plan
    others = [e for e in plan.get("extension", ()) if e.get("url") != TESTED]
    extensions = [*others, tested] if tested is not None else others
    bare = {name: value for name, value in plan.items() if name != "extension"}
    return {**bare, "extension": extensions} if extensions else bare
