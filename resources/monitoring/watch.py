"""Watching: each measurement that is written has the thresholds of its patient judged, and alerts follow.

A follower of the change feed: it is told at least once, and judging again changes nothing. Judged is what is stored, in
the order of measurement; so it does not matter in which order measurements arrive, and one that is taken back is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.jobs.follower import Changed
from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from fhir_server.model.dates import interval_of
from fhir_server.storage.rows import Row
from fhir_server.storage.unit import Unit
from resources.healthlog.measures import UCUM
from resources.healthlog.points import points_of, readings
from resources.monitoring.alert import Alert, with_quiet
from resources.monitoring.compare import Step, steps
from resources.monitoring.engine import Episode, episodes
from resources.monitoring.ledger import TYPES, Ledger, raised_of, row_id
from resources.monitoring.threshold import Threshold, kind_of, threshold_of
from resources.notification import tell_all_within

Json = dict[str, Any]

#: Kinds of timers: telling after quiet hours, and telling the next one.
TELL, ESCALATE = "alert-tell", "alert-escalate"

#: The collection of thresholds in force, by whose they are; this follower keeps it, of the plans that it is told of, so
#: that a measurement of somebody without any costs one look at an index.
IN_FORCE = "_thresholds"

#: How far back measurements are judged anew.
HORIZON_US = 90 * 86_400_000_000

#: Patients whose thresholds are looked for with one command.
AT_ONCE = 50
MOST_PLANS = 1000


class Watch:
    """Judges, and raises, clears and withdraws alerts."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle(self, changes: Sequence[Changed]) -> None:
        """Have all thresholds judged that changes may concern."""
        codes: dict[str, set[str]] = {}
        plans: set[str] = set()
        for changed in changes:
            for body in (changed.body, changed.before):
                if body is None:
                    continue
                resource = codec.decode(body)
                if changed.type == "CarePlan":
                    plans |= {changed.id} if kind_of(resource) is not None else set()
                elif subject := resource.get("subject", {}).get("reference"):
                    codes.setdefault(subject, set()).update(_codes(resource))
        subjects = sorted(codes)
        for start in range(0, len(subjects), AT_ONCE):
            plans |= await self._plans(subjects[start : start + AT_ONCE], codes)
        for plan_id in sorted(plans):
            await self.judge(plan_id)

    async def _plans(self, subjects: Sequence[str], codes: dict[str, set[str]]) -> set[str]:
        """The thresholds in force of some patients that judge what was measured; one database command."""
        whose = {digest_of_subject(subject): subject for subject in subjects}
        rows = self._context.repository.store.rows(IN_FORCE)
        found = await rows.first({"whose": {"$in": sorted(whose)}}, "_id", MOST_PLANS)
        return {row["_id"] for row in found if row["code"] in codes[whose[row["whose"]]]}

    async def judge(self, plan_id: str) -> None:
        """Have the alerts of a threshold be those that its patient's measurements call for."""
        store = self._context.repository.store
        for resource_type in TYPES:
            await store.ensure(resource_type)

        async def work(unit: Unit) -> None:
            await self._judge_within(unit, plan_id)

        await store.transact(work)

    async def _judge_within(self, unit: Unit, plan_id: str) -> None:
        context = self._context
        ledger = Ledger(context, unit, plan_id)
        await ledger.lock()
        rows = {row["_id"]: row for row in await ledger.rows()}
        version = await unit.get("CarePlan", plan_id)
        plan = codec.decode(version.body) if version is not None and version.body is not None else None
        now_us = context.timers.now_us
        if plan is None or plan.get("status") != "active":
            await unit.remove_row(IN_FORCE, plan_id)
            for row in rows.values():
                if row["end"] is None:
                    await self._clear(ledger, unit, row, now_us)
            return
        rule = threshold_of(plan)
        await unit.put_row(IN_FORCE, plan_id, {"whose": digest_of_subject(rule.subject), "code": rule.code[1]})
        began_us = interval_of(plan["period"]["start"]).start_us
        horizon_us = max(began_us, now_us - HORIZON_US)
        recent = [r for r in rows.values() if not r["withdrawn"] and (r["end"] is None or r["end"] >= horizon_us)]
        from_us = min([horizon_us, *(row["start"] for row in recent)])
        seen = context.within(unit).searcher
        found = await readings(seen, rule.subject, [rule.code], from_us - rule.criteria.span_us, None)
        points = points_of(found, rule.code, rule.unit, UCUM)
        called_for = episodes(rule.criteria, points, from_us=from_us)
        there = [raised_of(row) for row in recent]
        for step in steps(called_for, there, from_us):
            await self._take(step, ledger, unit, rule, plan_id, rows, now_us)

    async def _take(
        self,
        step: Step,
        ledger: Ledger,
        unit: Unit,
        rule: Threshold,
        plan_id: str,
        rows: dict[str, Row],
        now_us: int,
    ) -> None:
        episode = step.episode
        if step.do == "withdraw":
            assert step.raised is not None
            await self._withdraw(ledger, unit, rows[step.raised.id])
            return
        assert episode is not None
        start_us, end_us = episode.start.moment_us, episode.end.moment_us if episode.end else None
        if step.raised is None:
            alert_id = row_id(plan_id, episode.start.id)
            while alert_id in rows:  # it began another one before, which was withdrawn or has moved
                alert_id += "/again"
            rows[alert_id] = await self._raise(ledger, unit, rule, plan_id, alert_id, episode, now_us)
            if end_us is not None:
                await self._clear(ledger, unit, rows[alert_id], end_us)
            return
        row = rows[step.raised.id]
        if step.do == "clear":
            await self._clear(ledger, unit, {**row, "start": start_us}, end_us or now_us)
        else:
            await ledger.alter(row["flag"], lambda flag: _standing(flag, start_us, end_us))
        await ledger.put(row["_id"], start=start_us, end=end_us)

    async def _raise(
        self,
        ledger: Ledger,
        unit: Unit,
        rule: Threshold,
        plan_id: str,
        alert_id: str,
        episode: Episode,
        now_us: int,
    ) -> Row:
        """Say that it happened, and have those told whom it concerns: now, or when quiet hours are over."""
        quiet_us = rule.quiet.ends_us(now_us) if rule.quiet is not None and not rule.critical else None
        held = quiet_us is not None
        alert = Alert.of(rule, plan_id, alert_id, episode)
        issue, flag = alert.issue(episode), alert.flag(episode)
        made = [issue, flag, alert.communication(issue["id"], rule.tell[0], now_us, held=held)]
        row: Row = {
            "_id": alert_id,
            "plan": plan_id,
            "start": episode.start.moment_us,
            "end": None,
            "withdrawn": False,
            "issue": f"DetectedIssue/{issue['id']}",
            "flag": f"Flag/{flag['id']}",
            "communication": f"Communication/{made[2]['id']}",
            "task": None,
            "told": 0,
            "held": held,
            "next": now_us + rule.acknowledge_us,
        }
        if not rule.own:
            task = alert.task(issue["id"], now_us, held=held)
            made.append(task)
            row["task"] = f"Task/{task['id']}"
        await ledger.add(row)
        await ledger.write(made)
        if not held:
            await tell_of(self._context, unit, rule, row)
        if quiet_us is not None:
            await self._context.timers.set_within(unit, TELL, alert_id, quiet_us)
        elif not rule.own:
            await self._context.timers.set_within(unit, ESCALATE, alert_id, row["next"])
        return row

    async def _clear(self, ledger: Ledger, unit: Unit, row: Row, end_us: int) -> None:
        """It is over: the flag goes. What nobody was told of yet, nobody is told; a Task that is told stays to do."""
        await ledger.alter(row["flag"], lambda flag: _standing(flag, row["start"], end_us))
        await ledger.put(row["_id"], end=end_us)
        if row["held"]:
            await self._drop(ledger, row, "cleared during quiet hours")
        await self._still(unit, row)

    async def _withdraw(self, ledger: Ledger, unit: Unit, row: Row) -> None:
        """It did not happen: what called for it was entered in error."""
        for name in ("issue", "flag"):
            await ledger.alter(row[name], lambda resource: {**resource, "status": "entered-in-error"})
        await self._drop(ledger, row, "the measurement was entered in error")
        await ledger.put(row["_id"], end=row["end"] or row["start"], withdrawn=True)
        await self._still(unit, row)

    async def _drop(self, ledger: Ledger, row: Row, why: str) -> None:
        reason = {"text": why}
        await ledger.alter(
            row["communication"],
            lambda told: (
                {**told, "status": "not-done", "statusReason": reason} if told["status"] == "on-hold" else None
            ),
        )
        if row["task"] is not None:
            await ledger.alter(
                row["task"],
                lambda task: (
                    {**with_quiet(task, held=False), "status": "cancelled", "statusReason": reason}
                    if task["status"] not in ("completed", "cancelled", "failed", "entered-in-error")
                    else None
                ),
            )
        await ledger.put(row["_id"], held=False)

    async def _still(self, unit: Unit, row: Row) -> None:
        for kind in (TELL, ESCALATE):
            await self._context.timers.cancel_within(unit, kind, row["_id"])


async def tell_of(context: Context, unit: Unit, rule: Threshold, row: Row) -> None:
    """Notify whose turn it is, once for each episode: of what is critical as of what cannot wait."""
    kind, turn = "alarm" if rule.critical else "alert", row["told"]
    await tell_all_within(context, unit, [rule.tell[turn]], kind, row["issue"], key=f"{row['_id']}/{turn}")


def digest_of_subject(subject: str) -> str:
    """Whose a row is, without saying it: rows outlive a purge."""
    return hashlib.sha256(subject.encode()).hexdigest()[:32]


def _codes(resource: Json) -> set[str]:
    nodes = (resource, *resource.get("component", ()))
    return {c["code"] for node in nodes for c in node.get("code", {}).get("coding", ()) if "code" in c}


def _standing(flag: Json, start_us: int, end_us: int | None) -> Json:
    """A flag from one moment on, and until another if it is over."""
    period = {"start": instant_of(start_us)}
    if end_us is None:
        return {**flag, "status": "active", "period": period}
    return {**flag, "status": "inactive", "period": {**period, "end": instant_of(end_us)}}
