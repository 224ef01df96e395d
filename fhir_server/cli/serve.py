"""`healthsphere serve`: takes the port, gets a database, and runs the workers until it is told to stop."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import threading
import time
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from fhir_server.audit.keys import load_or_create_keys
from fhir_server.cli.certificate import tls_context_of
from fhir_server.cli.companion import Companion
from fhir_server.cli.database import started_database
from fhir_server.cli.say import err, plain_faults, say_error, say_warning, settings_of
from fhir_server.cli.workers import Workers
from fhir_server.logging import configure_logging
from fhir_server.secret_files import PREFIX, secret_file_variables, variable_of
from fhir_server.settings import Settings, is_loopback, secret_settings
from fhir_server.storage.embedded import EmbeddedMongo
from fhir_server.storage.folder import prepare_folder
from fhir_server.storage.setup import SetupError
from smart_auth.operator_token import load_or_create

SAME_SIGNAL_S = 0.3

#: For the server to stop when its MongoDB is gone.
WITHOUT_DATABASE_S = 30.0
OTHER_VARIABLES = {f"{PREFIX}TOKEN", f"{PREFIX}TEST_DATA"}


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="TCP port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Server processes.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the server's own data.")] = None,
    base_url: Annotated[str | None, typer.Option(help="FHIR base as clients see it, behind a proxy.")] = None,
    auth: Annotated[
        Switch | None, typer.Option(help="Ask for access tokens; `off` on a loopback address only.")
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, max=10_000, help="Load this many synthetic patients the first time.")
    ] = 0,
) -> None:
    """Run the server until Ctrl-C or SIGTERM. `healthsphere config` lists all settings, with their variables."""
    with plain_faults():
        settings = settings_of(
            host=host,
            port=port,
            workers=workers,
            data_dir=data_dir,
            base_url=base_url,
            auth=auth.value if auth else None,
        )
        configure_logging(settings.log_level, settings.log_format)
        _warn_of_unknown_variables()
        try:
            status = _serve(settings, examples)
        except KeyboardInterrupt:
            status = 130
    raise typer.Exit(status)


def _serve(settings: Settings, examples: int) -> int:
    """Run everything in the order in which it can fail with the least to undo. Returns the exit status."""
    signal.signal(signal.SIGTERM, _leave)
    require_encryption(settings)
    require_certificate(settings)
    listener = bound_socket(settings.host, settings.port)
    prepare_folder(settings.data_dir)
    if settings.auth == "on":
        load_or_create(settings.access_token_file)
    if settings.audit == "on":
        load_or_create_keys(settings.audit_key_file)
    with listener, started_database(settings) as (ready, embedded):
        os.environ.update(ready.as_environment())
        if settings.workers > 1:
            # Each process counts for itself, in files here; `/metrics` of any of them adds up all.
            counts = settings.data_dir / "metrics"
            shutil.rmtree(counts, ignore_errors=True)
            counts.mkdir(mode=0o700)
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counts)
        workers = Workers(ready, listener)
        database_ended = _watch(embedded, workers)
        with Companion(ready, embedded, examples):
            workers.run()
        err.print("Stopping", highlight=False)
    return 1 if database_ended else 0


def require_encryption(settings: Settings) -> None:
    """Refuse to send tokens and records over a network for everybody on it to read.

    Raises:
        SetupError: others reach the server, and nothing says that they do so by https.
    """
    if is_loopback(settings.host) or settings.is_https or settings.plain_http == "allow":
        return
    raise SetupError(
        f"Others can reach {settings.host}, and would send passwords, tokens and health records unencrypted: set "
        "HEALTHSPHERE_TLS_CERT_FILE; or, with a proxy in front that ends TLS, HEALTHSPHERE_BASE_URL to its https "
        "address; or HEALTHSPHERE_PLAIN_HTTP=allow if the network is safe by other means."
    )


def require_certificate(settings: Settings) -> None:
    """See that certificate and key can be used, before anything is started.

    Raises:
        SetupError: they cannot.
    """
    if settings.tls_cert_file == Path():
        return
    try:
        tls_context_of(settings)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        key = settings.tls_key_file if settings.tls_key_file != Path() else settings.tls_cert_file
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "wrong password"
        raise SetupError(
            f"The certificate {settings.tls_cert_file} with the key {key} cannot be used ({reason}): correct "
            "HEALTHSPHERE_TLS_CERT_FILE, HEALTHSPHERE_TLS_KEY_FILE and HEALTHSPHERE_TLS_KEY_PASSWORD."
        ) from error


def bound_socket(host: str, port: int) -> socket.socket:
    """The address of the server, taken before anything else is started.

    Raises:
        SetupError: another program has it, or it is none of this machine's addresses.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        reason = {
            errno.EADDRINUSE: "is taken by another program: stop that, or choose another with --port",
            errno.EACCES: "needs more rights: choose one above 1023 with --port",
            errno.EADDRNOTAVAIL: "is not on this machine: correct --host",
        }.get(error.errno or 0, f"cannot be used ({error.strerror or error}): correct --host or --port")
        raise SetupError(f"Port {port} of {host} {reason}.") from error
    return listener


def _watch(embedded: EmbeddedMongo | None, workers: Workers) -> list[int]:
    """Stop the server when the embedded MongoDB ends by itself; the list then holds its exit code."""
    ended: list[int] = []

    def stop(code: int) -> None:
        time.sleep(SAME_SIGNAL_S)
        # Nothing can be saved any more. All has been seen to end by itself within twelve seconds, since whoever waits
        # for the database is let go (`storage.database.given_up`); this is for what nobody has seen yet.
        guard = threading.Timer(WITHOUT_DATABASE_S, _end, (ended,))
        guard.daemon = True
        guard.start()
        if workers.stopping:
            return  # Ctrl-C goes to the whole process group, so MongoDB was told at the same moment
        ended.append(code)
        say_error(f"The embedded MongoDB ended (exit code {code}), so the server stops: see mongodb.log.")
        os.kill(os.getpid(), signal.SIGTERM)

    if embedded is not None:
        embedded.on_exit(stop)
    return ended


def _end(database_ended: list[int]) -> None:
    """End the process as it would end by itself, had all its tasks let go of the database."""
    err.print("Stopping", highlight=False)
    os._exit(1 if database_ended else 0)


def _warn_of_unknown_variables() -> None:
    known = {variable_of(name) for name in Settings.model_fields} | OTHER_VARIABLES
    known |= {variable for name in secret_settings() for variable in secret_file_variables(name)}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            say_warning(f"{name} is no setting of HealthSphere and does nothing; `healthsphere config` lists them.")


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
