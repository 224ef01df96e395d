"""`healthsphere keys`: the keys that sign tokens, and the key that encrypts what is stored."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography.fernet import Fernet

from fhir_server.cli.authorization import with_authorization
from fhir_server.cli.say import out, table_of
from fhir_server.cli.trail import tell
from fhir_server.model.happening import Happening
from smart_auth.keys import ALGORITHMS, LEAD_S, SPREAD_S
from smart_auth.rows import now

keys = typer.Typer(name="keys", help="Keys that sign tokens, and the vault's key.", no_args_is_help=True)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the server's own data.")]


@keys.command(name="list")
def list_keys(data_dir: DataDir = None) -> None:
    """List the signing keys."""
    with with_authorization(data_dir) as (server, _):
        found = server.keys.all()
        signing = {server.keys.signing(algorithm).kid for algorithm in ALGORITHMS}
    table = table_of("Key", "Algorithm", "Signs from", "Published until", "State")
    moment = now()
    for key in found:
        ended = key.published_until is not None and key.published_until <= moment
        state = (
            "signs" if key.kid in signing else "ended" if ended else "later" if key.signs_from > moment else "verifies"
        )
        until = _said(key.published_until) if key.published_until else ""
        table.add_row(key.kid, key.algorithm, _said(key.signs_from), until, state)
    out.print(table, highlight=False, markup=False)


def _said(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


@keys.command()
def rotate(
    compromised: Annotated[
        bool,
        typer.Option("--compromised", help="Others know the old keys: new ones sign at once, and all old tokens end."),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make new signing keys. They are published for ten minutes before they sign; old ones verify for another day.

    With `--compromised` every user and every system needs new access tokens; apps get them by their refresh tokens.
    """
    with with_authorization(data_dir) as (server, settings):
        for algorithm in ALGORITHMS:
            server.keys.rotate(algorithm, lead_s=SPREAD_S if compromised else LEAD_S, drop_older=compromised)
        why = "since others know the old ones" if compromised else "in good order"
        tell(settings, Happening("keys", detail=f"signing keys rotated by operator, {why}"))
    out.print("New signing keys are made.", highlight=False)


@keys.command(name="new-vault-key")
def new_vault_key() -> None:
    """Print a new key for the vault.

    Put it as the first line into the file HEALTHSPHERE_VAULT_KEY_FILE, above the old one, and restart the server: it
    encrypts with the first key, and decrypts with all. `healthsphere keys reseal` then makes the old one needless.
    """
    typer.echo(Fernet.generate_key().decode())


@keys.command()
def reseal(data_dir: DataDir = None) -> None:
    """Encrypt all stored secrets again with the first key of the vault's file; then remove the other keys from it.

    Run it when every server process has been restarted with the new key. Servers may run meanwhile.
    """
    from smart_auth.resealing import seal_again  # noqa: PLC0415  (heavy: only when it is used)

    with with_authorization(data_dir) as (server, settings):
        count = seal_again(server.store, server.vault)
        tell(settings, Happening("keys", detail=f"{count} secrets encrypted again by operator"))
    out.print(f"{count} stored secrets are encrypted with the first key of the vault's file.", highlight=False)
