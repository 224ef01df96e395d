"""Large documents pass through a real server without being in its memory."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import httpx
import pytest

from benchmarks.server import Server
from tests.interactions.test_binary import MEGABYTE, Watch, running, server_pid

__all__ = ["running"]


def dicom(megabytes: int) -> Iterator[bytes]:
    block = random.Random(megabytes).randbytes(MEGABYTE)
    yield bytes(128) + b"DICM" + bytes(MEGABYTE - 132)
    for _ in range(megabytes - 1):
        yield block


def form_of(file: Iterator[bytes]) -> Iterator[bytes]:
    yield b'--frontier\r\nContent-Disposition: form-data; name="patient"\r\n\r\nPatient/large\r\n--frontier\r\n'
    yield b'Content-Disposition: form-data; name="f"; filename="scan.dcm"\r\nContent-Type: application/dicom\r\n\r\n'
    yield from file
    yield b"\r\n--frontier--\r\n"


def sent(server: Server, megabytes: int, *, form: bool) -> int:
    """Upload a document; by how much the server's memory grew."""
    digest = hashlib.sha1(b"".join(dicom(megabytes)), usedforsecurity=False) if megabytes < 50 else None
    with httpx.Client(base_url=server.base_url, timeout=600) as client:
        client.put("Patient/large", json={"resourceType": "Patient", "id": "large"})
        params = {"patient": "Patient/large"}
        client.post(
            "DocumentReference/$upload",
            params=params,
            content=b"what is made once is made",
            headers={"Content-Type": "text/plain"},
        )
        with Watch(server_pid(server.port)) as memory:
            if form:
                kind = "multipart/form-data; boundary=frontier"
                made = client.post(
                    "DocumentReference/$upload", content=form_of(dicom(megabytes)), headers={"Content-Type": kind}
                )
            else:
                made = client.post(
                    "DocumentReference/$upload",
                    params=params,
                    content=dicom(megabytes),
                    headers={"Content-Type": "application/dicom"},
                )
        assert made.status_code == 201, made.text
        attachment = made.json()["content"][0]["attachment"]
        assert attachment["size"] == megabytes * MEGABYTE
        if digest is not None:
            import base64  # noqa: PLC0415

            assert attachment["hash"] == base64.b64encode(digest.digest()).decode()
    return memory.growth


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
def test_two_hundred_megabytes_are_uploaded_with_less_than_a_hundred_of_memory(running: Server, form: bool) -> None:
    assert sent(running, 200, form=form) < 100 * MEGABYTE


@pytest.mark.server
def test_twenty_megabytes_in_a_form_are_uploaded_without_being_in_memory(running: Server) -> None:
    assert sent(running, 20, form=True) < 40 * MEGABYTE
