"""Backend services that nobody here wrote, against a server process: PyPI `smart-fetch`, and PyPI `fhirpy`.

`smart-fetch crawl` finds the records of patients by searches. What `fhirpy` calls a patch is a merge patch.

Both run in an environment of their own, as they would beside a hospital's other programs: what they need (AWS clients,
Arrow) is nothing for the environment of the server. It is made once for each version, and kept.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/backend-services.html
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from pymongo import MongoClient
from typer.testing import CliRunner

from fhir_server.cli import app

pytestmark = [pytest.mark.slow, pytest.mark.server]

PACKAGES = ("smart-fetch==1.0.3", "fhirpy==2.3.1")
ROOT = Path(__file__).parents[2]
Json = dict[str, Any]

#: What pip says when there is no way to the packages; anything else is a fault.
UNREACHABLE = re.compile(r"NewConnectionError|ConnectTimeout|ReadTimeout|name resolution|ProxyError|unreachable", re.I)


@pytest.fixture(scope="session")
def foreign() -> Path:
    """The folder with the programs of an environment that has the clients."""
    name = "-".join(["healthsphere-test-clients", str(os.getuid()), f"{sys.version_info[0]}.{sys.version_info[1]}"])
    place = Path(tempfile.gettempdir()) / f"{name}-{'-'.join(PACKAGES).replace('==', '-')}"
    with (place.with_suffix(".lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = place / "installed"
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(mode=0o700)
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, capture_output=True, timeout=120)
            installed = subprocess.run(
                [place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES],
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            if installed.returncode and UNREACHABLE.search(installed.stderr):
                pytest.skip(f"the package registry cannot be reached, so {', '.join(PACKAGES)} are not tried")
            assert installed.returncode == 0, installed.stderr
            done.touch()
    return place / "bin"


def run(*command: object, folder: Path) -> str:
    """Run one of these programs in a folder; what it wrote."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Process:
    """A running `healthsphere serve` with two patients in a group, and a third beside them."""

    def __init__(self, uri: str, database: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.base = f"http://127.0.0.1:{port}/fhir"
        self.token_url = f"http://127.0.0.1:{port}/auth/token"
        self.environment = {
            "MONGODB_URI": uri,
            "HEALTHSPHERE_MONGODB_DATABASE": database,
            "HEALTHSPHERE_DATA_DIR": str(folder / "data"),
            "HEALTHSPHERE_BASE_URL": self.base,
        }
        self._log = folder / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fhir_server.cli", "serve", "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=ROOT,
                env={**os.environ, **self.environment},
            )
        self._wait()
        token = (folder / "data" / "access-token").read_text().strip()
        with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=60) as operator:
            answer = operator.post(self.base, json=ward())
            assert answer.status_code == 200, answer.text

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(self.base.replace("/fhir", "/health/ready")).status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(self._log.read_text())

    def register(self, key: Any, folder: Path, scope: str = "system/*.rs") -> str:
        """Register a system with its public key, by the command line; its id."""
        public = {"keys": [{**key.as_dict(private=False), "use": "sig"}]}
        (folder / "public.json").write_text(json.dumps(public))
        given = ("--jwks", str(folder / "public.json"), "--scope", scope)
        made = CliRunner().invoke(app, ["client", "add", "Research", *given], env=self.environment)
        assert made.exit_code == 0, made.output + made.stderr
        return str(json.loads(made.stdout)["client_id"])

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)


def ward() -> Json:
    """A Bundle: three patients with more Observations than fit on a page, and a group of the first two."""
    resources: list[Json] = []
    for name in ("ida", "jonas", "kim"):
        about = {"subject": {"reference": f"Patient/{name}"}}
        resources.append({"resourceType": "Patient", "id": name, "name": [{"family": "Berg", "given": [name]}]})
        resources.append({"resourceType": "Condition", "id": f"asthma-{name}", "code": {"text": "asthma"}, **about})
        vital = {"coding": [{"system": CATEGORY, "code": "vital-signs"}]}
        resources += [
            {
                "resourceType": "Observation",
                "id": f"{name}-{n}",
                "status": "final",
                "category": [vital],
                "code": {"text": "weight"},
                **about,
            }
            for n in range(60)
        ]
    members = [{"entity": {"reference": f"Patient/{name}"}} for name in ("ida", "jonas")]
    resources.append({"resourceType": "Group", "id": "study", "type": "person", "actual": True, "member": members})
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


@pytest.fixture(scope="module")
def process(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    name = f"hs_test_{uuid.uuid4().hex[:12]}"
    there = Process(mongodb_uri, name, tmp_path_factory.mktemp("backend"))
    yield there
    there.close()
    with MongoClient[Json](mongodb_uri) as client:
        client.drop_database(name)


@pytest.fixture(params=["ES384", "RS384"])
def key(request: pytest.FixtureRequest) -> Any:
    """A key of each kind that SMART asks for."""
    named = {"kid": uuid.uuid4().hex, "alg": request.param}
    if request.param == "ES384":
        return ECKey.generate_key("P-384", named, private=True)
    return RSAKey.generate_key(2048, named, private=True)


def lines_of(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ids_of(path: Path) -> set[str]:
    return {row["id"] for row in lines_of(path)}


def test_smart_fetch_registers_its_key_gets_a_token_and_fetches_the_records_of_some_patients(
    process: Process, foreign: Path, key: Any, tmp_path: Path
) -> None:
    (tmp_path / "private.jwks").write_text(json.dumps({"keys": [{**key.as_dict(private=True), "key_ops": ["sign"]}]}))
    signing = ("--smart-client-id", process.register(key, tmp_path), "--smart-key", "private.jwks")
    at = ("--fhir-url", process.base, *signing)
    single = json.loads(run(foreign / "smart-fetch", "single", *at, "--compact", "Patient/kim", folder=tmp_path))
    assert (single["resourceType"], single["id"]) == ("Patient", "kim")
    members = members_of_group(process, signing[1], key)
    assert members == ["ida", "jonas"]
    wanted = ("--id-list", ",".join(members), "--type", "Patient,Condition,Observation", "--no-compression")
    said = run(foreign / "smart-fetch", "crawl", *at, *wanted, "fetched", folder=tmp_path)
    assert "Done" in said
    fetched = tmp_path / "fetched"
    assert ids_of(fetched / "Patient.ndjson") == {"ida", "jonas"}
    assert ids_of(fetched / "Condition.ndjson") == {"asthma-ida", "asthma-jonas"}
    assert ids_of(fetched / "Observation.ndjson") == {f"{name}-{n}" for name in members for n in range(60)}
    log = lines_of(fetched / "log.ndjson")
    assert log
    assert not [row for row in log if "error" in row["eventId"].lower()], log


def test_smart_fetch_with_the_key_of_another_gets_nothing(process: Process, foreign: Path, tmp_path: Path) -> None:
    own, other = (ECKey.generate_key("P-384", {"kid": "k", "alg": "ES384"}, private=True) for _ in range(2))
    client_id = process.register(own, tmp_path)
    (tmp_path / "private.jwks").write_text(json.dumps({"keys": [{**other.as_dict(private=True), "key_ops": ["sign"]}]}))
    at = ("--fhir-url", process.base, "--smart-client-id", client_id, "--smart-key", "private.jwks")
    with pytest.raises(AssertionError, match="signature of the assertion cannot be verified"):
        run(foreign / "smart-fetch", "single", *at, "Patient/kim", folder=tmp_path)


def token_of(process: Process, client_id: str, key: Any, scope: str) -> str:
    moment = int(time.time())
    claims = {"iss": client_id, "sub": client_id, "aud": process.token_url, "exp": moment + 240}
    alg = "ES384" if key.key_type == "EC" else "RS384"
    header = {"alg": alg, "kid": key.kid, "typ": "JWT"}
    assertion = jwt.encode(header, {**claims, "iat": moment, "jti": uuid.uuid4().hex}, key, algorithms=[alg])
    form = {
        "grant_type": "client_credentials",
        "scope": scope,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    }
    answer = httpx.post(process.token_url, data=form)
    assert answer.status_code == 200, answer.text
    assert answer.json()["scope"] == scope
    return str(answer.json()["access_token"])


def members_of_group(process: Process, client_id: str, key: Any) -> list[str]:
    """Who is in the group, as the same system reads it; smart-fetch itself asks for no scope for Groups."""
    header = {"Authorization": f"Bearer {token_of(process, client_id, key, 'system/Group.rs')}"}
    group = httpx.get(f"{process.base}/Group/study", headers=header).json()
    return [member["entity"]["reference"].removeprefix("Patient/") for member in group["member"]]


FHIRPY = """
import sys
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import ForbiddenError, OperationOutcome, ResourceNotFound

client = SyncFHIRClient(sys.argv[1], authorization=f"Bearer {sys.argv[2]}")
ida = client.resources("Patient").search(family="berg", given="ida").get()
assert ida.id == "ida", ida
found = client.resources("Observation").search(patient="ida").limit(25).fetch_all()
assert sorted(o.id for o in found) == sorted(f"ida-{n}" for n in range(60)), len(found)
assert client.resources("Observation").search(patient="ida").count() == 60
made = client.resource("Observation", status="final", code={"text": "height"}, subject=ida.to_reference())
made["bodySite"] = {"text": "all of it"}
made.save()
assert made.id and made.meta["versionId"] == "1", made
made["status"] = "amended"
made.save()
assert client.reference("Observation", made.id).to_resource()["status"] == "amended"
patched = client.patch("Observation", made.id, note=[{"text": "standing"}], bodySite=None)
assert patched["note"] == [{"text": "standing"}] and patched["status"] == "amended", patched
assert "bodySite" not in patched, patched
made.delete()
try:
    client.reference("Observation", made.id).to_resource()
except (OperationOutcome, ResourceNotFound):
    pass
else:
    raise SystemExit("a deleted resource was read")
try:
    client.resource("Condition", subject=ida.to_reference()).save()
except ForbiddenError as refused:
    assert "HS-ACCESS-TYPE" in str(refused), refused
else:
    raise SystemExit("a Condition was written without a scope for it")
print("fhirpy is content")
"""


def test_fhirpy_reads_searches_pages_and_writes_what_its_scopes_allow(
    process: Process, foreign: Path, key: Any, tmp_path: Path
) -> None:
    scope = "system/Patient.rs system/Observation.cruds"
    token = token_of(process, process.register(key, tmp_path, scope), key, scope)
    assert "fhirpy is content" in run(foreign / "python", "-c", FHIRPY, process.base, token, folder=tmp_path)
