"""`healthsphere feed`: how far the followers of changes are, what could not be handled, and to have it handled again.

With the embedded MongoDB it works beside a running server, through the key in the data folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fhir_server.cli.database import reached_database
from fhir_server.cli.say import out, plain_faults, settings_of, table_of
from fhir_server.logging import configure_logging
from fhir_server.model.clock import instant_of, now_us

if TYPE_CHECKING:
    from fhir_server.background import Background

feed = typer.Typer(
    name="feed", help="Followers of changes, and timers: how far they are, and what they could not handle.",
    no_args_is_help=True,
)  # fmt: skip

DataDir = Annotated[Path | None, typer.Option(help="Folder of the server's own data.")]
Name = Annotated[str | None, typer.Argument(help="A follower, or a kind of timers; all when none is named.")]

#: Of what was set aside, the status counts so many.
_MOST_TOLD = 1000


@feed.command()
def status(data_dir: DataDir = None) -> None:
    """Show how far each follower is, and whether something was set aside."""

    async def work(background: Background) -> None:
        table = Table()
        for title in ("follower", "part", "handled until", "behind", "state"):
            table.add_column(title)
        for lane in await background.feed.position():
            state = "reads the collections" if lane.scanning else "follows" if lane.held else "nobody has it"
            behind_s = max(0, now_us() - lane.through_us) // 1_000_000
            part = f"{lane.part + 1} of {lane.parts}"
            table.add_row(lane.follower, part, instant_of(lane.through_us), f"{behind_s:,} s", state)
        out.print(table if table.row_count else "Nobody follows the changes.", highlight=False, markup=False)
        if found := len(await background.set_aside(limit=_MOST_TOLD)):
            told = f"{found}" if found < _MOST_TOLD else f"{found} or more"
            out.print(f"Set aside: {told}, which `healthsphere feed dead` lists.", highlight=False, markup=False)

    _run(work, data_dir)


@feed.command()
def dead(
    name: Name = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    data_dir: DataDir = None,
) -> None:
    """List the changes and the timers that were set aside, those that failed last first."""

    async def work(background: Background) -> None:
        table = table_of("of", "what", "failed", "tries", "error")
        for one in await background.set_aside(name, limit):
            failed = f"{instant_of(one.at_us)}{', asked for again' if one.asked else ''}"
            table.add_row(one.of, one.what, failed, str(one.tries), one.error)
        out.print(table if table.row_count else "Nothing was set aside.", highlight=False, markup=False)

    _run(work, data_dir)


@feed.command()
def replay(name: Name = None, data_dir: DataDir = None) -> None:
    """Have what was set aside handled again, by the server that runs or is started next."""

    async def work(background: Background) -> None:
        changes, timers = await background.handle_again(name)
        out.print(f"Handled again: {changes:,} of changes, {timers:,} of timers.", highlight=False)

    _run(work, data_dir)


def _run(work: Callable[[Background], Awaitable[None]], data_dir: Path | None) -> None:
    with plain_faults():
        settings = settings_of(data_dir=data_dir)
        configure_logging("warning", settings.log_format)
        with reached_database(settings) as ready:
            from fhir_server.background import apart  # noqa: PLC0415  (heavy: only when it is used)

            async def run() -> None:
                async with apart(ready) as background:
                    await work(background)

            asyncio.run(run())
