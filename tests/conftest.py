"""What tests share: one MongoDB for all of them, the application in this process, and the unpacked test data."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import httpx
import hypothesis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr
from pymongo import MongoClient

from fhir_server.settings import Settings
from fhir_server.storage.embedded import EmbeddedMongo
from tests.real_data import ARCHIVES, unpacked

# The machine may be busy: how long an example takes says nothing about the code.
# Continuous integration tries the same examples each time; everybody else tries new ones.
hypothesis.settings.register_profile("untimed", deadline=None, derandomize=os.environ.get("CI") == "true")
hypothesis.settings.load_profile("untimed")

T = TypeVar("T")

BASE_URL = "http://test/fhir"
ROOT = Path(__file__).parents[1]


class _SharedMongo:
    """The MongoDB of the whole test run: the one that MONGODB_URI names, or one that starts when first needed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._uri = os.environ.get("MONGODB_URI", "")

    def uri(self) -> str:
        if not self._uri:
            folder = Path(tempfile.mkdtemp(prefix="healthsphere-tests-"))
            self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
            self._uri = self._stack.enter_context(EmbeddedMongo.start(folder, cache_mb=512)).uri
        return self._uri

    def close(self) -> None:
        self._stack.close()


SHARED_MONGO = pytest.StashKey[_SharedMongo]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SHARED_MONGO] = _SharedMongo()
    config.pluginmanager.register(SERVERS, "healthsphere-servers")
    os.environ["COLUMNS"] = "200"  # rich reads it once; a narrow terminal would fold what tests look for
    for name in [name for name in os.environ if name.startswith("HEALTHSPHERE_") and name != "HEALTHSPHERE_TEST_DATA"]:
        del os.environ[name]  # the settings of the person who runs the tests are none of the tests' business


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Called by xdist in the controlling process, once for each worker."""
    node.workerinput["mongodb_uri"] = node.config.stash[SHARED_MONGO].uri()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[SHARED_MONGO].close()


@pytest.fixture(scope="session")
def mongodb_uri(request: pytest.FixtureRequest) -> str:
    """The address of a MongoDB replica set; use a database of your own in it."""
    from_controller = getattr(request.config, "workerinput", {}).get("mongodb_uri")
    return from_controller or request.config.stash[SHARED_MONGO].uri()


@pytest.fixture
def mongodb_database(mongodb_uri: str) -> Iterator[str]:
    """The name of a database for one test, removed afterwards."""
    name = f"hs_test_{uuid.uuid4().hex[:12]}"
    yield name
    _drop(mongodb_uri, name)


def _drop(uri: str, database: str) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        client.drop_database(database)


class _OneLoopTransport(httpx.BaseTransport):
    """Lets blocking clients, in any number of threads, call an application that lives in another thread's loop."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, httpx.Response]], httpx.Response], app: Any) -> None:
        self._run = run
        self._transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self._run(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._transport.handle_async_request(request)
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        body = b"".join([chunk async for chunk in answer.stream])
        return httpx.Response(answer.status_code, headers=answer.headers.raw, stream=httpx.ByteStream(body))


class InProcessServer:
    """The application, started and stopped as a server would, with an event loop of its own in a thread.

    `client` is a blocking client whose relative URLs start at the FHIR base; `gather` sends many requests at once.
    """

    def __init__(self, settings: Settings, **parts: Any) -> None:
        from fhir_server.app import create_app  # noqa: PLC0415  (tests of other packages do not need it)

        self.settings = settings
        self.base_url = settings.base_url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="in-process-server", daemon=True)
        self._thread.start()
        self.app = create_app(settings, **parts)
        self._life = _lifespan(self.app)
        self.run(self._life.__aenter__())
        self.client = httpx.Client(
            transport=_OneLoopTransport(self.run, self.app), base_url=self.base_url, headers={"Accept": "*/*"}
        )

    @property
    def context(self) -> Any:
        """What the interactions of this server work with."""
        front = self.app
        while hasattr(front, "app"):
            front = front.app  # what stands before it: hosts, CORS
        return front._fhir._context

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's event loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=120)

    def gather(self, *requests: httpx.Request) -> list[httpx.Response]:
        """Send the requests all at once; build them with `client.build_request`."""

        async def send_all() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport) as client:
                return list(await asyncio.gather(*(client.send(request) for request in requests)))

        return self.run(send_all())

    def close(self) -> None:
        """Stop it; the fixture that made it does so in the end, if nobody has before."""
        if self._loop.is_closed():
            return
        self.client.close()
        self.run(self._life.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    """Play the server's part of the ASGI lifespan protocol."""
    to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    task = asyncio.ensure_future(app(scope, to_app.get, from_app.put))

    async def expect(phase: str) -> None:
        await to_app.put({"type": f"lifespan.{phase}"})
        answer = asyncio.ensure_future(from_app.get())
        await asyncio.wait({task, answer}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            await task
            raise RuntimeError(f"the application ended during {phase}")
        message = answer.result()
        assert message["type"] == f"lifespan.{phase}.complete", message.get("message")

    await expect("startup")
    yield
    await expect("shutdown")
    await task


class _Servers:
    """Servers that run in this process, by how long they are wanted.

    A server holds some megabytes, and threads of its database's driver: those of a module end with it. One that a
    fixture of the session makes while it is set up lasts as long as that.
    """

    def __init__(self) -> None:
        self.of_run, self.of_module = ExitStack(), ExitStack()
        self.being_set_up: list[str] = []

    @property
    def fitting(self) -> ExitStack:
        return self.of_run if {"session", "package"} & set(self.being_set_up) else self.of_module

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        """Know for whom a server is made. Of fixtures of the session, pytest tells no conftest: this is a plugin."""
        self.being_set_up.append(fixturedef.scope)
        try:
            return (yield)
        finally:
            self.being_set_up.pop()


SERVERS = _Servers()


@pytest.fixture(scope="module", autouse=True)
def _servers_end_with_their_module() -> Iterator[None]:
    yield
    SERVERS.of_module.close()


@pytest.fixture(scope="session")
def make_server(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., InProcessServer]]:
    """Makes applications with settings of your choice, each with a database of its own.

    They are gone at the end of the module; those of a fixture of the session at the end of the run. `parts` replace
    parts of the server: see `create_app`.
    """
    with SERVERS.of_run, SERVERS.of_module:

        def make(parts: dict[str, Any] | None = None, **given: Any) -> InProcessServer:
            name = f"hs_test_{uuid.uuid4().hex[:12]}"
            settings = Settings(
                **{
                    "auth": "off",
                    "audit": "off",
                    "base_url": BASE_URL,
                    "data_dir": tmp_path_factory.mktemp("data"),
                    "mongodb_uri": SecretStr(mongodb_uri),
                    "mongodb_database": name,
                    **given,
                }
            )
            stack = SERVERS.fitting
            stack.callback(_drop, mongodb_uri, settings.mongodb_database)
            server = InProcessServer(settings, **(parts or {}))
            stack.callback(server.close)
            return server

        yield make


@pytest.fixture(scope="session")
def server(make_server: Callable[..., InProcessServer]) -> InProcessServer:
    """An application without access control that all tests of this process share: count only what is your own."""
    return make_server()


@pytest.fixture
def client(server: InProcessServer) -> Iterator[httpx.Client]:
    """The blocking client of `server`; relative URLs start at the FHIR base, cookies and headers are as at first."""
    headers = server.client.headers.copy()
    yield server.client
    server.client.headers = headers
    server.client.cookies.clear()


@pytest.fixture(scope="session")
def make_certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    """Makes a certificate that vouches for itself, and its key: the two files. `password` locks the key's."""

    def make(*names: str, password: str = "") -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("certificate")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        moment = datetime.now(UTC)
        alternatives = [x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names]
        made = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(moment - timedelta(days=1))
            .not_valid_after(moment + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        locked = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
        (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (folder / "key.pem").write_bytes(private)
        return folder / "certificate.pem", folder / "key.pem"

    return make


@pytest.fixture(scope="session", autouse=True)
def unpacked_test_data() -> Path | None:
    """The test data, which HEALTHSPHERE_TEST_DATA names afterwards; None when they are not there."""
    folder = unpacked()
    if folder is not None:
        os.environ["HEALTHSPHERE_TEST_DATA"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def test_data(unpacked_test_data: Path | None) -> Path:
    """The folder with `synthea-blaze`, `r4-examples` and `fhir-test-cases-r4`; the test is skipped without them."""
    if unpacked_test_data is None:
        pytest.skip(f"the test data is not there: set HEALTHSPHERE_TEST_DATA to a folder with {', '.join(ARCHIVES)}")
    return unpacked_test_data
