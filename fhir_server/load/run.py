"""A load from its first file to its report: what goes first, how much at once, and what becomes of each answer."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from rich.console import Console

from fhir_server.load.journal import Journal, JournalInUseError, state_folder
from fhir_server.load.options import LoadOptions, LoadReport
from fhir_server.load.parcels import Item, Parcel, Unreadable, subset
from fhir_server.load.progress import Display
from fhir_server.load.reading import parcels_of
from fhir_server.load.rejects import Rejects
from fhir_server.load.shapes import Issue
from fhir_server.load.sources import Source, is_foundation, sources_of
from fhir_server.load.transport import MAX_TRIES, LoadStopped, Transport
from fhir_server.load.verdict import Refusal, Verdict, verdict_of

#: A Bundle takes a further place among the jobs for each of these.
BYTES_PER_JOB = 4_000_000
#: Refusals that may be for want of a resource that comes later.
MAY_BE_TOO_EARLY = frozenset({400, 404, 409, 412, 422})

_LOST = (
    "An earlier load was stopped while this was being sent, so it is not known whether the server has stored it. "
    "Look in the server, then load the file anew."
)


def run(options: LoadOptions, console: Console | None = None) -> LoadReport:
    """Load files into a running server and say how it went.

    Shows progress and a summary on `console` (standard output by default). Faults of resources go to the rejects
    file; what stops the load as a whole (no such file, no server, no token) is the report's `failure`.
    """
    console = console or Console()
    try:
        sources = sources_of(options.paths)
    except OSError as error:
        return _failed(console, f"{error}.")
    if not sources:
        return _failed(console, f"There is nothing to load in {', '.join(options.paths)}: no .json or .ndjson file.")
    try:
        load = _Load(options, sources, console)
    except JournalInUseError as error:
        return _failed(console, str(error))
    return asyncio.run(load.run())


def _failed(console: Console, failure: str) -> LoadReport:
    console.print(failure, markup=False, highlight=False, soft_wrap=True)
    return LoadReport(failure=failure)


@dataclass(slots=True)
class _Open:
    """A source under way: the parcels that wait for an answer, and whether there are more to read.

    `counted`: it was counted as a file in the first pass over it.
    """

    source: Source
    counted: bool
    waiting: int = 0
    is_read: bool = False
    told_bytes: int = 0


class _Load:
    def __init__(self, options: LoadOptions, sources: list[Source], console: Console) -> None:
        self._options = options
        self._sources = sources
        self._report = LoadReport()
        self._rejects = Rejects(options.rejects)
        folder = options.state_dir or state_folder()
        self._journal = Journal(folder, options.base_url, options.paths, resume=options.resume)
        self._display = Display(console, len(sources), sum(source.size_bytes for source in sources))
        self._free = asyncio.Semaphore(max(1, options.jobs))
        self._stopping = asyncio.Event()
        self._deferred: list[tuple[Source, Verdict]] = []

    async def run(self) -> LoadReport:
        started = monotonic()
        try:
            with self._interruptible():
                await self._everything()
        except LoadStopped as stop:
            self._report.failure = str(stop)
        except asyncio.CancelledError:
            self._report.interrupted = True
        self._report.seconds = monotonic() - started
        self._report.rejects_file = self._rejects.path
        self._rejects.close()
        self._journal.close(finished=not (self._report.failure or self._report.interrupted))
        self._display.finish(self._report)
        return self._report

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C lets the requests under way finish; the second drops them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def interrupt() -> None:
            if self._report.interrupted and task is not None:
                task.cancel()
                return
            self._report.interrupted = True
            self._stopping.set()
            self._display.note("Stopping when the requests under way are answered; Ctrl-C again stops at once.")

        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    async def _everything(self) -> None:
        if self._journal.continues:
            self._display.note("Continuing a load that was interrupted (--no-resume begins anew).")
        async with Transport(self._options) as transport:
            await transport.check()
            self._display.begin()
            first = [source for source in self._sources if is_foundation(source)]
            await self._pass(transport, first)
            await self._pass(transport, [source for source in self._sources if source not in set(first)])
            while self._deferred and not self._stopping.is_set():
                waiting, self._deferred = self._deferred, []
                await self._pass(transport, [source for source, _ in waiting], again=True)
                if len(self._deferred) == len(waiting):
                    break  # nothing they wait for will come any more
        for source, verdict in self._deferred:
            self._account(source, verdict)

    async def _pass(self, transport: Transport, sources: list[Source], *, again: bool = False) -> None:
        """Send all of these sources and wait for the answers."""
        async with asyncio.TaskGroup() as tasks:
            for source in sources:
                if self._stopping.is_set():
                    return
                await self._send_source(transport, source, tasks, again=again)

    async def _send_source(
        self, transport: Transport, source: Source, tasks: asyncio.TaskGroup, *, again: bool
    ) -> None:
        done, uncertain = self._journal.done(source), self._journal.uncertain(source)
        if not again:
            self._report.already_loaded += len(done)
            if uncertain:
                self._refuse(source, Refusal("", "", 0, [Issue("error", "timeout", _LOST)], len(uncertain)))
        under_way = _Open(source, counted=again)
        parcels = parcels_of(source, done | uncertain, self._options.batch_entries)
        try:
            while (parcel := await asyncio.to_thread(next, parcels, None)) is not None:
                if isinstance(parcel, Unreadable):
                    issues = [Issue("error", "structure", parcel.reason)]
                    self._refuse(source, Refusal(parcel.item.place, parcel.item.type, 0, issues))
                    continue
                weight = min(max(1, self._options.jobs), 1 + len(parcel.body) // BYTES_PER_JOB)
                for _ in range(weight):
                    await self._free.acquire()
                if self._stopping.is_set():
                    return
                under_way.waiting += 1
                tasks.create_task(self._deliver(transport, under_way, parcel, weight))
        finally:
            parcels.close()
        under_way.is_read = True
        self._close_if_done(under_way)

    async def _deliver(self, transport: Transport, under_way: _Open, parcel: Parcel, weight: int) -> None:
        source = under_way.source
        if not parcel.repeatable:
            self._journal.note_sending(source, parcel.items)
        try:
            await self._send(transport, source, parcel)
        except LoadStopped as stop:
            self._report.failure = str(stop)
            self._stopping.set()
            self._journal.note_refused(source, parcel.items)
            return
        finally:
            for _ in range(weight):
                self._free.release()
        under_way.waiting -= 1
        under_way.told_bytes += parcel.read_bytes
        self._display.advance(parcel.read_bytes, self._report)
        self._close_if_done(under_way)

    async def _send(self, transport: Transport, source: Source, parcel: Parcel) -> None:
        """Send a parcel; the entries of a batch that met a passing hindrance are sent again."""
        for tries in range(MAX_TRIES):
            answer = await transport.send(parcel)
            verdict = verdict_of(parcel, answer, last=tries + 1 == MAX_TRIES)
            if answer.status in MAY_BE_TOO_EARLY and source.suffix == ".json" and parcel.awaits_others:
                self._journal.note_refused(source, parcel.items)
                self._deferred.append((source, verdict))
                return
            self._account(source, verdict)
            if not verdict.again:
                return
            await asyncio.sleep(0.1 * 2**tries)
            parcel = subset(parcel, verdict.again)

    def _account(self, source: Source, verdict: Verdict) -> None:
        for item, effect in verdict.taken:
            match effect:
                case "created":
                    self._report.created += 1
                case "updated":
                    self._report.updated += 1
                case "unchanged":
                    self._report.unchanged += 1
                case "deleted":
                    self._report.deleted += 1
            if effect not in ("deleted", "read"):
                self._report.by_type[item.type] += 1
        for _, refusal in verdict.refused:
            if refusal.resources:
                self._refuse(source, refusal)
        refused = [item for item, _ in verdict.refused]
        if refused and not verdict.unknown:
            self._journal.note_refused(source, refused)
        indexes = {item.index for item in refused}
        self._journal.note_done(source, _without(indexes, [item for item, _ in verdict.taken]))

    def _refuse(self, source: Source, refusal: Refusal) -> None:
        self._report.rejected += refusal.resources
        self._rejects.add(source, refusal)

    def _close_if_done(self, under_way: _Open) -> None:
        if under_way.is_read and not under_way.waiting and not under_way.counted:
            under_way.counted = True
            self._report.files += 1
            self._display.advance(under_way.source.size_bytes - under_way.told_bytes, self._report)


def _without(indexes: set[int], items: list[Item]) -> list[Item]:
    return [item for item in items if item.index not in indexes] if indexes else items
