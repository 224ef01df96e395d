"""The server that speaks https itself, and starts that are refused since others would read along."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import pytest
from cryptography import x509

from fhir_server.cli.certificate import Certificate
from fhir_server.cli.serve import require_certificate, require_encryption
from fhir_server.settings import Settings
from fhir_server.storage.setup import SetupError

MakeCertificate = Callable[..., tuple[Path, Path]]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fhir.example.org"])
def test_a_server_that_others_reach_does_not_start_without_encryption(host: str) -> None:
    with pytest.raises(SetupError, match=r"HEALTHSPHERE_TLS_CERT_FILE.*HEALTHSPHERE_BASE_URL.*HEALTHSPHERE_PLAIN_HTTP"):
        require_encryption(Settings(host=host))


@pytest.mark.parametrize(
    "given",
    [
        {"host": "127.0.0.1"},
        {"host": "::1"},
        {"host": "0.0.0.0", "base_url": "https://fhir.example.org/fhir"},
        {"host": "0.0.0.0", "plain_http": "allow"},
        {"host": "0.0.0.0", "tls_cert_file": Path("/etc/tls/server.pem")},
    ],
)
def test_it_starts_for_this_machine_or_with_encryption_or_when_the_operator_says_so(given: dict[str, object]) -> None:
    require_encryption(Settings(**given))  # type: ignore[arg-type]


def test_a_certificate_makes_the_address_https(tmp_path: Path) -> None:
    settings = Settings(port=8443, tls_cert_file=tmp_path / "server.pem")
    assert settings.base_url == "https://127.0.0.1:8443/fhir"


def test_a_key_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tls_cert_file is not"):
        Settings(tls_key_file=tmp_path / "key.pem")


def test_a_certificate_that_cannot_be_used_stops_the_start_and_tells_no_secret(
    make_certificate: MakeCertificate,
) -> None:
    certificate, key = make_certificate("fhir.example.org")
    locked, locked_key = make_certificate("fhir.example.org", password="open sesame")
    require_certificate(Settings(tls_cert_file=certificate, tls_key_file=key))
    require_certificate(Settings(tls_cert_file=locked, tls_key_file=locked_key, tls_key_password="open sesame"))  # type: ignore[arg-type]
    for given in (
        {"tls_cert_file": certificate, "tls_key_file": locked_key, "tls_key_password": "open sesame"},  # another's key
        {"tls_cert_file": locked, "tls_key_file": locked_key, "tls_key_password": "close sesame"},
        {"tls_cert_file": locked, "tls_key_file": locked_key},
        {"tls_cert_file": certificate},  # without a key
        {"tls_cert_file": certificate.with_name("none.pem")},
    ):
        with pytest.raises(SetupError, match=r"certificate.*cannot be used \(.+\)") as refused:
            require_certificate(Settings(**given))  # type: ignore[arg-type]
        assert "sesame" not in str(refused.value)


def subject_of(context: ssl.SSLContext, name: str | None = None) -> str:
    """Whose certificate a client of a context is shown, in a handshake of two ends in memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    server = context.wrap_bio(there, back, server_side=True)
    client = trusting.wrap_bio(back, there, server_hostname=name)
    for _ in range(3):
        for end in (client, server):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return str(x509.load_der_x509_certificate(shown).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


@pytest.mark.parametrize("name", ["fhir.example.org", None])
def test_a_renewed_certificate_is_taken_up_when_it_can_be_used(
    make_certificate: MakeCertificate, tmp_path: Path, name: str | None
) -> None:
    place, key_place = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(certificate: Path | None, key: Path | None) -> None:
        for source, target in ((certificate, place), (key, key_place)):
            if source is not None:
                shutil.copy(source, target.with_suffix(".new"))
                target.with_suffix(".new").replace(target)

    put(*make_certificate("first.example.org"))
    kept = Certificate(Settings(tls_cert_file=place, tls_key_file=key_place))
    assert not kept.look()
    assert subject_of(kept.context, name) == "first.example.org"
    second, second_key = make_certificate("second.example.org")
    put(second, None)
    assert not kept.look(), "the key is the first one's"
    assert subject_of(kept.context, name) == "first.example.org"
    put(None, second_key)
    assert kept.look()
    assert subject_of(kept.context, name) == "second.example.org"
    place.unlink()
    assert not kept.look()
    assert subject_of(kept.context, name) == "second.example.org"
    put(*make_certificate("third.example.org"))
    assert kept.look()
    assert subject_of(kept.context, name) == "third.example.org"


class SecureServer:
    """A running `healthsphere serve` with a certificate."""

    def __init__(self, folder: Path, certificate: Path, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._certificate = certificate
        self.log = folder / "output"
        command = [sys.executable, "-m", "fhir_server.cli", "serve", "--port", str(self.port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(folder / "data")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **environment},
                cwd=Path(__file__).parents[2],
            )

    def get(self, path: str) -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=str(self._certificate))
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def renew(self, certificate: Path, key: Path) -> None:
        """Put another certificate into the place of the first; clients of this test trust that one alone from now."""
        for source, target in ((certificate, self._certificate), (key, self._certificate.with_name("key.pem"))):
            draft = target.with_suffix(".new")
            shutil.copy(source, draft)
            draft.replace(target)

    def wait(self, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError, HTTPException):
                if until():
                    return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def version_with(self, version: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=str(self._certificate))
        context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection(("127.0.0.1", self.port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            return secure.version()


@pytest.fixture
def secure(
    tmp_path: Path, make_certificate: MakeCertificate, mongodb_uri: str, mongodb_database: str
) -> Iterator[Callable[..., SecureServer]]:
    with ExitStack() as stack:

        def start(**environment: str) -> SecureServer:
            certificate, key = make_certificate("127.0.0.1", password="open sesame")
            password = tmp_path / "password"
            password.write_text("open sesame\n")
            server = SecureServer(
                tmp_path,
                certificate,
                MONGODB_URI=mongodb_uri,
                HEALTHSPHERE_MONGODB_DATABASE=mongodb_database,
                HEALTHSPHERE_TLS_CERT_FILE=str(certificate),
                HEALTHSPHERE_TLS_KEY_FILE=str(key),
                HEALTHSPHERE_TLS_KEY_PASSWORD_FILE=str(password),
                **environment,
            )

            def end() -> None:
                with suppress(ProcessLookupError):
                    os.killpg(server.process.pid, signal.SIGKILL)
                server.process.wait(30)

            stack.callback(end)
            return server

        yield start


@pytest.mark.server
@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_speaks_https_of_today_alone_with_one_process_and_with_several(
    secure: Callable[..., SecureServer], make_certificate: MakeCertificate, workers: str
) -> None:
    server = secure(HEALTHSPHERE_WORKERS=workers)
    server.wait(lambda: server.get("/health/ready")[0] == 200)
    base = f"https://127.0.0.1:{server.port}"
    assert json.loads(server.get("/fhir/metadata")[1])["implementation"]["url"] == f"{base}/fhir"
    discovery = json.loads(server.get("/fhir/.well-known/smart-configuration")[1])
    assert discovery["token_endpoint"] == f"{base}/auth/token"
    assert server.version_with(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert server.version_with(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises(OSError), pytest.warns(DeprecationWarning, match="TLSv1_1"):  # noqa: PT011  (a reset, or an alert)
        server.version_with(ssl.TLSVersion.TLSv1_1)
    server.wait(lambda: f"{base}/fhir" in server.log.read_text())  # the greeting, which waits for an answer by https
    assert "sesame" not in server.log.read_text()
    # A renewed certificate is served without a restart, by every process: with several, many times in a row.
    server.renew(*make_certificate("127.0.0.1", password="open sesame"))
    deadline = time.monotonic() + 90
    in_a_row = 0
    while in_a_row < 20:
        assert time.monotonic() < deadline, server.log.read_text()
        try:
            in_a_row = in_a_row + 1 if server.get("/health/live")[0] == 200 else 0
        except ssl.SSLCertVerificationError:  # the old one
            in_a_row = 0
            time.sleep(0.1)
