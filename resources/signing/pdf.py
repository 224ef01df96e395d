"""PAdES: PDFs signed with the server's certificate, and what their signatures are worth.

The key and its certificate lie in one file (PEM), which is made with a certificate that vouches for itself when it is
first needed; an operator puts a key and the certificates of an authority there instead.

Spec: ETSI EN 319 142-1 (PAdES B-B)
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from asn1crypto import keys as asn1_keys
from asn1crypto import pem
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign import signers
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko.sign.validation.errors import SignatureValidationError
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.registry import SimpleCertificateStore

from fhir_server.interactions.ports import Signature

#: How long the certificate is good that the server makes for itself.
DAYS: Final = 3650

logging.getLogger("pyhanko").setLevel(logging.CRITICAL)  # what it finds is told by `verify_pdf`, not to the log
logging.getLogger("pyhanko_certvalidator").setLevel(logging.CRITICAL)


class Signer:
    """Signs in the name of the server, and tells what a signature is worth.

    Args:
        path: the file with the key, its certificate, and those above it
        name: of the server, for the certificate that it makes
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._lock = threading.Lock()
        self._loaded: tuple[signers.SimpleSigner, tuple[asn1_x509.Certificate, ...]] | None = None

    async def sign_pdf(self, data: bytes, reason: str) -> bytes:
        """The PDF with a signature that covers all of it."""
        return await asyncio.to_thread(self._signed, data, reason)

    async def verify_pdf(self, data: bytes) -> list[Signature]:
        """The signatures of a PDF, the first one first; none where it has none or is no PDF."""
        return await asyncio.to_thread(self._verified, data)

    def _signed(self, data: bytes, reason: str) -> bytes:
        signer, _ = self._ready()
        about = signers.PdfSignatureMetadata(
            field_name="HealthSphere",
            md_algorithm="sha256",
            reason=reason,
            name=self._name,
            subfilter=SigSeedSubFilter.PADES,
        )
        out = BytesIO()
        signers.sign_pdf(IncrementalPdfFileWriter(BytesIO(data)), about, signer=signer, output=out)
        return out.getvalue()

    def _verified(self, data: bytes) -> list[Signature]:
        _, trusted = self._ready()
        try:
            found = list(PdfFileReader(BytesIO(data)).embedded_signatures)
        except (PdfError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            return []  # no PDF that can be read: nobody has signed it
        return [self._judged(one, trusted) for one in found]

    def _judged(self, one: Any, trusted: tuple[asn1_x509.Certificate, ...]) -> Signature:
        context = ValidationContext(trust_roots=list(trusted), allow_fetching=False)
        reason = str(one.sig_object.get("/Reason", ""))
        try:
            status = validate_pdf_signature(one, context)
        except (SignatureValidationError, PdfError, ValueError):
            return Signature(False, False, "", reason)
        signed_by = str(status.signing_cert.subject.native.get("common_name", ""))
        whole = status.coverage is not None and status.coverage.name == "ENTIRE_FILE"
        return Signature(bool(status.bottom_line), whole, signed_by, reason)

    def _ready(self) -> tuple[signers.SimpleSigner, tuple[asn1_x509.Certificate, ...]]:
        with self._lock:
            if self._loaded is None:
                if not self._path.exists():
                    make(self._path, self._name)
                self._loaded = load(self._path)
            return self._loaded


def load(path: Path) -> tuple[signers.SimpleSigner, tuple[asn1_x509.Certificate, ...]]:
    """The signer of a file, and all of its certificates, which are believed.

    Raises:
        ValueError: the file has no key, or no certificate.
    """
    text = path.read_bytes()
    key = serialization.load_pem_private_key(text, password=None)
    found = [
        asn1_x509.Certificate.load(der) for kind, _, der in pem.unarmor(text, multiple=True) if kind == "CERTIFICATE"
    ]
    if not found:
        raise ValueError(f"{path} has no certificate")
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    store = SimpleCertificateStore()  # type: ignore[no-untyped-call]
    store.register_multiple(found[1:])
    signer = signers.SimpleSigner(
        signing_cert=found[0], signing_key=asn1_keys.PrivateKeyInfo.load(der), cert_registry=store
    )
    return signer, tuple(found)


def make(path: Path, name: str) -> None:
    """Make a key and a certificate that vouches for itself; whoever is first makes them for all processes."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name[:64]), x509.NameAttribute(NameOID.ORGANIZATION_NAME, name[:64])]
    )
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=True,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass  # another process was first, and its key is the one
    finally:
        fresh.unlink()
