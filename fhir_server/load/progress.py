"""What a load shows while it runs, and the summary at its end: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fhir_server.load.options import LoadReport

PLAIN_LINE_EVERY_S = 10.0


class Display:
    """Follows a load; `total_bytes` is what the files have on disk."""

    def __init__(self, console: Console, files: int, total_bytes: int) -> None:
        self._console = console
        self._files = files
        self._total_bytes = max(1, total_bytes)
        self._read_bytes = 0
        self._started = self._told = monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.fields[files]}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[counts]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task("load", total=self._total_bytes, files=f"0/{files} files", counts="")

    def begin(self) -> None:
        """Show the bar: there is a server to load into."""
        if self._bar is not None:
            self._bar.start()

    def note(self, text: str) -> None:
        """Say one line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(self, read_bytes: int, report: LoadReport) -> None:
        """Some more of a file is done; `report` has the counts so far."""
        self._read_bytes += read_bytes
        seconds = max(1e-3, monotonic() - self._started)
        counts = f"{report.accepted} resources, {report.accepted / seconds:.0f}/s"
        if report.rejected:
            counts += f", {report.rejected} rejected"
        files = f"{report.files}/{self._files} files"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._read_bytes, files=files, counts=counts)
        elif monotonic() - self._told >= PLAIN_LINE_EVERY_S:
            self._told = monotonic()
            share = min(1.0, self._read_bytes / self._total_bytes)
            left = f", about {seconds / share - seconds:.0f} s left" if share > 0.01 else ""
            self.note(f"{files}, {counts}{left}")

    def finish(self, report: LoadReport) -> None:
        """Take the bar away and sum up."""
        if self._bar is not None:
            self._bar.stop()
        for line in summary_of(report):
            self.note(line)


def summary_of(report: LoadReport) -> list[str]:
    """The end of a load in a few lines."""
    if report.failure and not report.accepted and not report.rejected:
        return [report.failure]
    parts = [
        f"{count} {name}"
        for name, count in (
            ("created", report.created),
            ("updated", report.updated),
            ("unchanged", report.unchanged),
            ("deleted", report.deleted),
            ("rejected", report.rejected),
            ("loaded before the interruption", report.already_loaded),
        )
        if count
    ]
    lines = [
        f"{report.files} files, {report.accepted} resources in {report.seconds:.1f} s "
        f"({report.resources_per_s:.0f}/s): {', '.join(parts) or 'nothing to do'}."
    ]
    if report.by_type:
        lines.append("By type: " + ", ".join(f"{name} {count}" for name, count in sorted(report.by_type.items())))
    if report.rejects_file:
        lines.append(f"The rejects, with the server's reasons: {report.rejects_file}")
    if report.failure:
        lines.append(report.failure)
    if report.interrupted or (report.failure and report.accepted):
        lines.append("The same command continues where this one stopped (--no-resume begins anew).")
    return lines
