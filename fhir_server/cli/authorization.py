"""The authorization server's parts, opened for one command: without its endpoints, on the same rows and keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.requests import Request

from fhir_server.cli.database import reached_database
from fhir_server.cli.say import plain_faults, settings_of
from fhir_server.logging import configure_logging
from fhir_server.settings import Settings
from fhir_server.storage.setup import SetupError
from smart_auth.authorization_server import AuthorizationServer
from smart_auth.clients import ClientError
from smart_auth.model import Account, Session
from smart_auth.store import AuthStore
from smart_auth.vault import Vault, load_or_create


class NobodyThere:
    """Who is signed in, for a command: nobody."""

    async def current(self, _: Request) -> Session | None:
        return None

    async def account(self, _: str) -> Account | None:
        return None

    async def alive(self, _: str) -> bool:
        return False


@contextmanager
def with_authorization(
    data_dir: Path | None, base_url: str | None = None
) -> Iterator[tuple[AuthorizationServer, Settings]]:
    """The parts, open; faults that a person can put right end the command with one line.

    With the embedded MongoDB it works beside a running server, through the key in the data folder.
    """
    from fhir_server.authorization import authorization_server_of  # noqa: PLC0415  (heavy: only when it is used)

    with plain_faults():
        settings = settings_of(data_dir=data_dir, base_url=base_url)
        configure_logging("warning", settings.log_format)
        vault = Vault(load_or_create(settings.vault_key_file))
        with reached_database(settings) as reached:
            assert reached.mongodb_uri is not None, "`reached_database` has put the address of a MongoDB in"
            store = AuthStore.connect(reached.mongodb_uri.get_secret_value(), reached.mongodb_database)
            try:
                server = authorization_server_of(reached, store, vault, NobodyThere())
                server.open()
                yield server, reached
            except ClientError as error:
                raise SetupError(str(error)) from None
            finally:
                store.close()
