"""The database of a command: the one that MONGODB_URI names, or an embedded one for as long as the command runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from fhir_server.cli.say import err
from fhir_server.settings import Settings
from fhir_server.storage.check import check_mongodb
from fhir_server.storage.embedded import EmbeddedMongo
from fhir_server.storage.running import running_uri


@contextmanager
def with_database(settings: Settings) -> Iterator[Settings]:
    """The settings with a `mongodb_uri` that answers.

    Raises:
        SetupError: there is no usable database.
    """
    with started_database(settings) as (ready, _):
        yield ready


@contextmanager
def reached_database(settings: Settings) -> Iterator[Settings]:
    """As `with_database`; the embedded one of a server that is running is used beside it.

    Raises:
        SetupError: there is no usable database.
    """
    if settings.mongodb_uri is None and (uri := running_uri(settings.data_dir)):
        yield settings.model_copy(update={"mongodb_uri": SecretStr(uri)})
        return
    with with_database(settings) as ready:
        yield ready


@contextmanager
def started_database(settings: Settings) -> Iterator[tuple[Settings, EmbeddedMongo | None]]:
    """As `with_database`, and the embedded MongoDB when it is one."""
    if settings.mongodb_uri is not None:
        with err.status("Looking for MongoDB"):
            check_mongodb(settings.mongodb_uri.get_secret_value())
        yield settings, None
        return
    with err.status("Starting the embedded MongoDB") as status:
        embedded = EmbeddedMongo.start(settings.data_dir, cache_mb=settings.mongodb_cache_mb, progress=status.update)
    with embedded:
        yield settings.model_copy(update={"mongodb_uri": SecretStr(embedded.uri)}), embedded
