"""`healthsphere client`: the apps and systems that are registered here."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fhir_server.cli.authorization import with_authorization
from fhir_server.cli.say import out, table_of
from fhir_server.cli.trail import tell
from fhir_server.model.happening import Happening
from fhir_server.storage.setup import SetupError
from smart_auth.model import Client

client = typer.Typer(name="client", help="Apps and systems that may ask for access.", no_args_is_help=True)

ClientId = Annotated[str, typer.Argument(help="The id of the client.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the server's own data.")]

APP_SCOPE = (
    "openid fhirUser profile launch launch/patient launch/encounter offline_access online_access "
    "patient/*.cruds user/*.cruds"
)
SYSTEM_SCOPE = "system/*.rs"


class ClientRole(StrEnum):
    SYSTEM = "system"
    PHARMACY = "pharmacy"
    PRACTITIONER = "practitioner"
    FRONT_DESK = "front-desk"
    AUDITOR = "auditor"
    ADMINISTRATOR = "administrator"


@client.command()
def add(
    name: Annotated[str, typer.Argument(help="What people see.")],
    redirect_uri: Annotated[
        list[str] | None, typer.Option(help="Where users come back to; may be repeated. None: a system without users.")
    ] = None,
    client_id: Annotated[str, typer.Option("--id", help="Its id; one is made when there is none.")] = "",
    scope: Annotated[
        str, typer.Option(help="What it may ask for. Empty: all that users may give, or `system/*.rs` of a system.")
    ] = "",
    secret: Annotated[bool, typer.Option("--secret", help="Give it a secret (a program on a server).")] = False,
    jwks: Annotated[Path | None, typer.Option(help="File with its public keys (a JWKS), with which it signs.")] = None,
    jwks_uri: Annotated[str, typer.Option(help="Where it publishes its public keys, with which it signs.")] = "",
    launch_url: Annotated[str, typer.Option(help="Where an EHR launch sends the browser.")] = "",
    logo_uri: Annotated[str, typer.Option(help="Address of its logo.")] = "",
    description: Annotated[str, typer.Option(help="What it does, for people.")] = "",
    publisher: Annotated[str, typer.Option(help="Who makes it.")] = "",
    role: Annotated[ClientRole, typer.Option(help="Of a system: what it may do.")] = ClientRole.SYSTEM,
    organization: Annotated[str, typer.Option(help="Whose system it is, such as Organization/1.")] = "",
    trusted: Annotated[bool, typer.Option("--trusted", help="An app of our own: users are not asked.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Register an app (with `--redirect-uri`) or a system that acts for itself (without).

    The id, and the secret when it has one, are printed as JSON; the secret cannot be shown again.
    """
    uris = tuple(redirect_uri or ())
    signs = jwks is not None or bool(jwks_uri)
    registered = Client(
        client_id=client_id,
        name=name,
        auth_method="private_key_jwt" if signs else "client_secret_basic" if secret or not uris else "none",
        redirect_uris=uris,
        scope=scope or (APP_SCOPE if uris else SYSTEM_SCOPE),
        grant_types=("authorization_code", "refresh_token") if uris else ("client_credentials",),
        launch_url=launch_url,
        logo_uri=logo_uri,
        description=description,
        publisher=publisher,
        jwks=_keys_in(jwks) if jwks is not None else None,
        jwks_uri=jwks_uri,
        role=role.value,
        organization=organization or None,
        trusted=trusted,
    )
    with with_authorization(data_dir) as (server, settings):
        made, new_secret = server.clients.add(registered)
        tell(settings, Happening("client", client_id=made.client_id, detail="registered by operator"))
        shown = {"client_id": made.client_id, **({"client_secret": new_secret} if new_secret else {})}
    typer.echo(json.dumps(shown, indent=2))


def _keys_in(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        raise typer.BadParameter(f"{path} cannot be read as JSON.") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{path} holds no key set.")
    return found if "keys" in found else {"keys": [found]}


@client.command(name="list")
def list_clients(data_dir: DataDir = None) -> None:
    """List the clients."""
    with with_authorization(data_dir) as (server, _):
        found = server.clients.all()
    table = table_of("Id", "Name", "Authenticates by", "May ask for", "Active")
    for one in found:
        table.add_row(one.client_id, one.name, one.auth_method, one.scope, "yes" if one.active else "no")
    out.print(table, highlight=False, markup=False)


@client.command()
def show(client_id: ClientId, data_dir: DataDir = None) -> None:
    """Show all of a client but its secret, as JSON."""
    with with_authorization(data_dir) as (server, _):
        found = server.clients.get(client_id)
        if found is None:
            raise SetupError(f"There is no client {client_id}.")
    shown = {name: value for name, value in asdict(found).items() if name != "secret_hash" and value not in ("", None)}
    typer.echo(json.dumps(shown, indent=2, default=str))


@client.command()
def disable(client_id: ClientId, data_dir: DataDir = None) -> None:
    """Let a client do nothing any more; all that it was given ends at once."""
    with with_authorization(data_dir) as (server, settings):
        if not server.clients.deactivate(client_id):
            raise SetupError(f"There is no client {client_id}.")
        tell(settings, Happening("client", client_id=client_id, detail="disabled by operator"))
    out.print(f"{client_id} is disabled.", highlight=False)


@client.command(name="rotate-secret")
def rotate_secret(client_id: ClientId, data_dir: DataDir = None) -> None:
    """Give a client a new secret, which is printed; the old one is no longer good."""
    with with_authorization(data_dir) as (server, settings):
        secret = server.clients.rotate_secret(client_id)
        tell(settings, Happening("client", client_id=client_id, detail="new secret by operator"))
    typer.echo(secret)
