"""What an erasure removes, and what it leaves: the record of a patient, judged by the rules of retention."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.interactions.context import Context
from fhir_server.interactions.purging.victims import PORTION, Victims, of_patient
from fhir_server.model import codec
from fhir_server.model.clock import now_us
from fhir_server.storage.document import version_of
from resources.erasure.retention import BUILT_IN, Kept, Retention, load

Json = dict[str, Any]

_BINARY: Final = re.compile(rb'"url":"(?:[^"]*/)?Binary/([A-Za-z0-9\-.]{1,64})(?:/_history/[^"]*)?"')


@dataclass(slots=True)
class Plan:
    """What goes and what stays.

    Attributes:
        victims: what goes
        kept: how many stay, by type, reason and the last day of the longest
    """

    victims: Victims
    kept: Counter[tuple[str, str]] = field(default_factory=Counter)
    until: dict[tuple[str, str], str] = field(default_factory=dict)

    def keep(self, name: str, why: Kept) -> None:
        key = (name, why.reason)
        self.kept[key] += 1
        self.until[key] = max(self.until.get(key, ""), why.until)

    @property
    def whole(self) -> bool:
        """Whether nothing stays."""
        return not self.kept

    def rows(self) -> list[Json]:
        """What stays, as parts of Parameters."""
        return [
            {
                "name": "retained",
                "part": [
                    {"name": "type", "valueCode": name},
                    {"name": "count", "valueInteger": number},
                    {"name": "reason", "valueString": reason},
                    {"name": "until", "valueDate": self.until[name, reason]},
                ],
            }
            for (name, reason), number in sorted(self.kept.items())
        ]


def retention_of(context: Context) -> Retention:
    path = context.limits.retention_file
    return Retention(load(path if path.name else BUILT_IN, context.registry))


async def plan_for(context: Context, patient_id: str, tasks: set[str]) -> Plan:
    """What an erasure of a patient's record would do now.

    Args:
        tasks: the ids of the tasks that ask for it, which stay
    """
    store = context.repository.store
    retention, moment = retention_of(context), now_us()
    found = await of_patient(store, context.registry, patient_id)
    plan = Plan(Victims())
    needed: set[str] = set()
    for name, members in found.ids.items():
        ids = members - tasks if name == "Task" else members
        if not retention.touches(name):
            plan.victims.add(name, ids)
            continue
        ordered = sorted(ids)
        for start in range(0, len(ordered), PORTION):
            portion = ordered[start : start + PORTION]
            rows = await store.find(name, {"_id": {"$in": portion}, "d": None}, sort=[("_id", 1)], limit=len(portion))
            stays: set[str] = set()
            for version in (version_of(name, row) for row in rows):
                body = version.body or b"{}"
                why = retention.kept(codec.decode(body), f"Patient/{patient_id}", version.moment_us, moment)
                if why is not None:
                    plan.keep(name, why)
                    stays.add(version.id)
                    needed |= {i.decode() for i in _BINARY.findall(body)}
            plan.victims.add(name, set(portion) - stays)
    if not plan.whole:
        # The contents of documents that stay, and whose they are.
        plan.victims.ids.get("Binary", set()).difference_update(needed)
        plan.victims.ids.pop("Patient", None)
    return plan
