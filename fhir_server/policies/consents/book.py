"""The Consents that are in force, of all patients, in memory: each rule once, with the patients who have it.

Every process keeps its own. Once a second, while somebody asks, it fetches what was written since; the process that
writes a Consent is told. Once a minute it compares all ids and writes, which finds what a transaction committed long
after it was numbered. A version is known by the write that made it: what was removed for good may be made again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable

from fhir_server.model import codec
from fhir_server.model.clock import now_us
from fhir_server.policies.consents.decide import Tree
from fhir_server.policies.consents.provision import Json, Provision, provision_of
from fhir_server.storage.finding import Finds

TYPE = "Consent"

FRESH_S = 1.0
COMPARED_S = 60.0

#: What was numbered before the newest that was seen, and committed after it, is found for so long.
OVERLAP_US = 10_000_000

PORTION = 1000

IN_FORCE = {"x.status": "=active"}

#: A rule, ready to be asked, and the patients who have it.
Entry = tuple[Tree, set[str]]


class ConsentBook:
    """All rules in force. `epoch` grows when any changes."""

    def __init__(self, store: Finds, grown: Callable[[Provision], Tree], base_url: str, *, base_permits: bool) -> None:
        self._store = store
        self._grown = grown
        self._base_url = base_url
        self._base_permits = base_permits
        self._held: dict[str, tuple[bytes, tuple[str, Provision] | None]] = {}
        self._rules: dict[Provision, Entry] = {}
        self._naming: dict[str, dict[Provision, Entry]] = {}
        self._identifying = 0
        self._of_patient: dict[str, dict[Provision, int]] = {}
        self._newest_us = 0
        self._fresh_until = 0.0
        self._compare_at = 0.0
        self._turn = asyncio.Lock()
        self._told = 0
        self.epoch = 0

    @property
    def entries(self) -> Collection[Entry]:
        """The rules, each with the patients (`Patient/1`) who have it."""
        return self._rules.values()

    @property
    def by_identifier(self) -> bool:
        """Whether a rule names anybody by an identifier, so that those of a reader matter."""
        return self._identifying > 0

    def naming(self, names: Iterable[str]) -> list[Entry]:
        """The rules that name one of these, each once."""
        found = {rule: entry for name in names for rule, entry in self._naming.get(name, {}).items()}
        return list(found.values())

    def forget(self) -> None:
        """A Consent was written: look again when next asked."""
        self._fresh_until = 0.0
        self._told += 1

    async def refresh(self) -> None:
        """Take up what was written, unless that was looked for a moment ago."""
        if time.monotonic() < self._fresh_until:
            return
        async with self._turn:
            now = time.monotonic()
            if now < self._fresh_until:
                return
            told = self._told
            if now >= self._compare_at:
                await self._compare()
                self._compare_at = now + COMPARED_S
            else:
                await self._follow()
            self._fresh_until = now + FRESH_S if told == self._told else 0.0

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """What was written since."""
        since = self._newest_us - OVERLAP_US
        changed: list[str] = []
        while True:
            rows = await self._store.find(
                TYPE,
                {"t": {"$gte": since}},
                sort=[("t", 1), ("_id", 1)],
                limit=PORTION,
                fields={"w": 1, "t": 1},
            )
            changed += [row["_id"] for row in rows if self._held.get(row["_id"], (b"",))[0] != row["w"]]
            if len(rows) < PORTION or rows[-1]["t"] == since:
                break
            since = rows[-1]["t"]
        if rows:
            self._newest_us = max(self._newest_us, rows[-1]["t"])
        if len(rows) == PORTION:  # more of one moment than a portion holds
            await self._compare()
        else:
            await self._take(dict.fromkeys(changed))

    async def _compare(self) -> None:
        """All ids in force and the writes that made them, beside those that are held."""
        began_us = now_us()
        found: dict[str, bytes] = {}
        after = ""
        while True:
            rows = await self._store.find(
                TYPE,
                {**IN_FORCE, "_id": {"$gt": after}},
                sort=[("_id", 1)],
                limit=PORTION,
                fields={"w": 1},
            )
            found.update((row["_id"], row["w"]) for row in rows)
            if len(rows) < PORTION:
                break
            after = rows[-1]["_id"]
        gone = [i for i, held in self._held.items() if held[1] is not None and i not in found]
        changed = [i for i, write in found.items() if self._held.get(i, (b"",))[0] != write]
        self._newest_us = max(self._newest_us, began_us)
        await self._take([*gone, *changed])

    async def _take(self, ids: Iterable[str]) -> None:
        """Read some Consents, and put what they say in place of what they said."""
        wanted = list(ids)
        for start in range(0, len(wanted), PORTION):
            portion = wanted[start : start + PORTION]
            rows = await self._store.find(
                TYPE, {"_id": {"$in": portion}}, sort=[], limit=len(portion), fields={"w": 1, "r": 1}
            )
            by_id = {row["_id"]: row for row in rows}
            for consent_id in portion:
                self._put(consent_id, by_id.get(consent_id))
            await asyncio.sleep(0)

    def _put(self, consent_id: str, row: Json | None) -> None:
        old = self._held.get(consent_id)
        said = None
        if row is not None and row.get("r") is not None:
            said = provision_of(codec.decode(row["r"]), self._base_url, base_permits=self._base_permits)
        if said is not None and self._base_permits and all(rule.permits for rule in said[1].all()):
            said = None  # what is permitted anyway needs no rule
        before = old[1] if old is not None else None
        if row is None:
            self._held.pop(consent_id, None)
        else:
            self._held[consent_id] = (row["w"], said)
        if before == said:
            return
        if before is not None:
            self._remove(*before)
        if said is not None:
            self._add(*said)
        self.epoch += 1

    def _add(self, patient: str, rule: Provision) -> None:
        """Count a rule for a patient."""
        entry = self._rules.get(rule)
        if entry is None:
            entry = self._rules[rule] = (self._grown(rule), set())
            for name in entry[0].names:
                self._naming.setdefault(name, {})[rule] = entry
                self._identifying += "|" in name
        entry[1].add(patient)
        counts = self._of_patient.setdefault(patient, {})
        counts[rule] = counts.get(rule, 0) + 1

    def _remove(self, patient: str, rule: Provision) -> None:
        counts = self._of_patient[patient]
        counts[rule] -= 1
        if counts[rule]:
            return
        del counts[rule]
        if not counts:
            del self._of_patient[patient]
        tree, patients = self._rules[rule]
        patients.discard(patient)
        if patients:
            return
        del self._rules[rule]
        for name in tree.names:
            self._identifying -= "|" in name
            del self._naming[name][rule]
            if not self._naming[name]:
                del self._naming[name]
