"""What happens to an alert with time: it is told when quiet hours are over, and to the next one when nobody answers.

Timers are handled at least once; the row of the alert says what was done already.
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.jobs.timers import Timer
from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from fhir_server.storage.rows import Row
from fhir_server.storage.unit import Unit
from resources.monitoring.alert import UNANSWERED, Alert, with_quiet
from resources.monitoring.ledger import TYPES, Ledger
from resources.monitoring.threshold import Threshold, threshold_of
from resources.monitoring.watch import ESCALATE, tell_of

Json = dict[str, Any]


class Escalation:
    """The handlers of both timers."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tell(self, timer: Timer) -> int | None:
        """Quiet hours are over: who was not told is told now."""

        async def work(unit: Unit) -> None:
            ledger, row, rule = await self._found(unit, timer)
            if row is None or rule is None or not row["held"]:
                return
            now_us = self._context.timers.now_us
            told = {"status": "completed", "sent": instant_of(now_us)}
            await ledger.alter(row["communication"], lambda held: {**held, **told})
            if row["task"] is not None:
                await ledger.alter(
                    row["task"],
                    lambda task: (
                        {**with_quiet(task, held=False), "status": "requested"} if task["status"] == "on-hold" else None
                    ),
                )
                due_us = now_us + rule.acknowledge_us
                await ledger.put(row["_id"], next=due_us)
                await self._context.timers.set_within(unit, ESCALATE, row["_id"], due_us)
            await ledger.put(row["_id"], held=False)
            await tell_of(self._context, unit, rule, row)

        await self._transact(work)
        return None

    async def escalate(self, timer: Timer) -> int | None:
        """Nobody has answered in time: the next one is told, and the Task is theirs; the last one keeps it."""

        async def work(unit: Unit) -> int | None:
            ledger, row, rule = await self._found(unit, timer)
            if row is None or rule is None or row["task"] is None or row["end"] is not None or row["held"]:
                return None
            now_us = self._context.timers.now_us
            if now_us < row["next"]:
                return int(row["next"])
            task = await ledger.read(row["task"])
            if task is None or task["status"] not in UNANSWERED:
                return None
            told = row["told"] + 1
            if told >= len(rule.tell):
                await ledger.alter(row["task"], lambda left: {**left, "priority": "stat"})
                return None
            recipient = rule.tell[told]
            issue_id = row["issue"].partition("/")[2]
            alert = Alert(rule, row["plan"], row["_id"], task["description"])
            await ledger.alter(
                row["task"], lambda left: {**left, "status": "requested", "owner": {"reference": recipient}}
            )
            await ledger.write([alert.communication(issue_id, recipient, now_us, held=False)])
            await tell_of(self._context, unit, rule, {**row, "told": told})
            await ledger.put(row["_id"], told=told, next=now_us + rule.acknowledge_us)
            return now_us + rule.acknowledge_us

        due_us: int | None = await self._transact(work)
        return due_us

    async def _transact(self, work: Any) -> Any:
        store = self._context.repository.store
        for resource_type in TYPES:
            await store.ensure(resource_type)
        return await store.transact(work)

    async def _found(self, unit: Unit, timer: Timer) -> tuple[Ledger, Row | None, Threshold | None]:
        """The alert of a timer, under the lock of its threshold, and its rule as it is now."""
        plan_id = timer.key.partition("/")[0]
        ledger = Ledger(self._context, unit, plan_id)
        await ledger.lock()
        row = await ledger.row(timer.key)
        version = await unit.get("CarePlan", plan_id)
        if version is None or version.body is None:
            return ledger, row, None
        return ledger, row, threshold_of(codec.decode(version.body))
