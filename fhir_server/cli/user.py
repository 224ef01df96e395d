"""`healthsphere user`: accounts from the command line, the first administrator's above all.

With the embedded MongoDB it works beside a running server, through the key in the data folder.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhir_server.cli.database import reached_database
from fhir_server.cli.say import SETUP_FAULT, WRONG_SETTING, out, plain_faults, say_error, settings_of, table_of
from fhir_server.logging import configure_logging
from fhir_server.storage.setup import SetupError

if TYPE_CHECKING:
    from smart_auth.account_side import AccountSide

OPERATOR = "operator"

user = typer.Typer(name="user", help="Accounts: who can sign in.", no_args_is_help=True)

Email = Annotated[str, typer.Argument(help="The e-mail address of the account.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the server's own data.")]
BaseUrl = Annotated[str | None, typer.Option(help="FHIR base as browsers see it, for the links in mails.")]


class RoleName(StrEnum):
    PATIENT = "patient"
    PROXY = "proxy"
    PRACTITIONER = "practitioner"
    PHARMACY = "pharmacy"
    FRONT_DESK = "front-desk"
    ADMINISTRATOR = "administrator"
    AUDITOR = "auditor"


@user.command()
def add(
    email: Email,
    name: Annotated[str, typer.Option(help="The person's name.", prompt="Name")],
    role: Annotated[RoleName, typer.Option(help="What the person may do.")] = RoleName.ADMINISTRATOR,
    fhir_user: Annotated[str, typer.Option(help="The person's resource, such as Practitioner/12.")] = "",
    organization: Annotated[str, typer.Option(help="Whose staff the person is, such as Organization/1.")] = "",
    patient: Annotated[list[str] | None, typer.Option(help="Of a proxy: for whom they act; may be repeated.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Make an account with a password, which is asked for, or read from standard input when that is no terminal."""
    password = _asked_password()

    async def work(side: AccountSide) -> None:
        from smart_auth.passwords import faults_of  # noqa: PLC0415

        fields = await side.administration.checked(email, name, role.value, fhir_user, organization, patient or [])
        if faults := faults_of(password, email, name):
            raise SetupError(" ".join(faults))
        row = await side.registrar.add(**fields, password=password, by=OPERATOR)
        out.print(f"{row['email']} can sign in now as {row['role']}.", highlight=False)
        if row["role"] in side.parts.rules.second_factor_roles:
            out.print("At the first sign-in an authenticator app is set up.", highlight=False)

    _run(work, data_dir)


@user.command()
def invite(
    email: Email,
    name: Annotated[str, typer.Option(help="The person's name.", prompt="Name")],
    role: Annotated[RoleName, typer.Option(help="What the person may do.")],
    fhir_user: Annotated[str, typer.Option(help="The person's resource; staff without one get one.")] = "",
    organization: Annotated[str, typer.Option(help="Whose staff the person is, such as Organization/1.")] = "",
    patient: Annotated[list[str] | None, typer.Option(help="Of a proxy: for whom they act; may be repeated.")] = None,
    data_dir: DataDir = None,
    base_url: BaseUrl = None,
) -> None:
    """Mail somebody a link by which they choose a password; the link is printed, too."""

    async def work(side: AccountSide) -> None:
        from smart_auth.parts import Visit  # noqa: PLC0415

        _, token = await side.administration.invite(
            email=email,
            name=name,
            role=role.value,
            fhir_user=fhir_user,
            organization=organization,
            patients=patient or [],
            by=OPERATOR,
            inviter="The operator",
            visit=Visit(),
        )
        _print_link(side, "/auth/invitation", token)

    _run(work, data_dir, base_url)


@user.command(name="list")
def list_users(
    text: Annotated[str, typer.Argument(help="Beginning of a name or an address.")] = "",
    role: Annotated[RoleName | None, typer.Option(help="Only accounts with this role.")] = None,
    state: Annotated[str, typer.Option(help="Only accounts in this state.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    data_dir: DataDir = None,
) -> None:
    """List accounts."""

    async def work(side: AccountSide) -> None:
        rows = await side.administration.search(
            text=text, role=role.value if role else "", state=state, after="", limit=limit
        )
        table = table_of("E-mail", "Name", "Role", "State", "Record", "Second factor")
        for row in rows:
            second = "yes" if row.get("totp") or row.get("passkeys") else "no"
            table.add_row(row["email"], row["name"], row["role"], row["state"], row.get("fhir_user") or "", second)
        out.print(table, highlight=False, markup=False)

    _run(work, data_dir)


@user.command()
def disable(email: Email, data_dir: DataDir = None) -> None:
    """Lock somebody out at once: sessions and what was allowed to apps end, too."""

    async def work(side: AccountSide) -> None:
        from smart_auth.parts import Visit  # noqa: PLC0415

        await side.administration.disable(await _id_of(side, email), by=OPERATOR, visit=Visit())
        out.print(f"{email} is disabled.", highlight=False)

    _run(work, data_dir)


@user.command(name="reset-password")
def reset_password(email: Email, data_dir: DataDir = None, base_url: BaseUrl = None) -> None:
    """Mail somebody a link that sets a new password; the link is printed, too."""

    async def work(side: AccountSide) -> None:
        from smart_auth.parts import Visit  # noqa: PLC0415

        account_id = await _id_of(side, email)
        state = (await side.administration.row(account_id))["state"]
        token = await side.administration.send_link(account_id, by=OPERATOR, visit=Visit())
        _print_link(side, "/auth/invitation" if state == "unverified" else "/auth/reset", token)

    _run(work, data_dir, base_url)


async def _id_of(side: AccountSide, email: str) -> str:
    row = side.parts.accounts.row_of_email(email)
    if row is None:
        raise SetupError(f"There is no account with the address {email}.")
    return str(row["_id"])


def _print_link(side: AccountSide, path: str, token: str) -> None:
    out.print(f"{side.parts.origin}{path}?token={token}", highlight=False, soft_wrap=True)


def _asked_password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _run(work: Callable[[AccountSide], Awaitable[None]], data_dir: Path | None, base_url: str | None = None) -> None:
    with plain_faults(), _field_faults():
        settings = settings_of(data_dir=data_dir, base_url=base_url)
        configure_logging("warning", settings.log_format)
        with reached_database(settings) as ready:
            from fhir_server.cli.accounts import with_account_side  # noqa: PLC0415  (heavy: only when it is used)

            async def run() -> None:
                async with with_account_side(ready) as side:
                    await work(side)

            asyncio.run(run())


@contextmanager
def _field_faults() -> Iterator[None]:
    """Turn what is wrong with the given values into one line."""
    from smart_auth.accounts import EmailTakenError  # noqa: PLC0415
    from smart_auth.administration import FieldError, StateError  # noqa: PLC0415

    try:
        yield
    except EmailTakenError:
        say_error("Another account has this address.")
        raise typer.Exit(SETUP_FAULT) from None
    except (FieldError, StateError) as error:
        say_error(str(error))
        raise typer.Exit(WRONG_SETTING if isinstance(error, FieldError) else SETUP_FAULT) from None
