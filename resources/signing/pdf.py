"""PAdES: PDFs signed with the server's certificate, and what their signatures are worth.

The key and its certificate lie in one file (PEM), which is made with a certificate that vouches for itself when it is
first needed; an operator puts a key and the certificates of an authority there instead.

Spec: ETSI EN 319 142-1 (PAdES B-B)
"""

from __future__ import annotations

import asyncio
import logging
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

from asn1crypto import keys as asn1_keys
from asn1crypto import pem
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives import serialization
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign import signers
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko.sign.validation.errors import SignatureValidationError
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.registry import SimpleCertificateStore

from fhir_server.interactions.context import Context
from fhir_server.interactions.ports import PdfSigner, Signature
from fhir_server.model.errors import UnavailableError
from resources.signing.key_file import keep_first

_log = logging.getLogger("healthsphere.signing")

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
        """The key and the certificates, read once.

        Raises:
            UnavailableError: 503; the file cannot be used.
        """
        with self._lock:
            if self._loaded is None:
                try:
                    if not self._path.exists():
                        keep_first(self._path, self._name)
                    self._loaded = load(self._path)
                except (OSError, ValueError, TypeError) as error:
                    _log.error("The key that signs PDFs, %s, cannot be used: %s", self._path, error)
                    raise UnavailableError(
                        "The key that signs PDFs cannot be used; the log of the server says why.", key="HS-DOCUMENT-KEY"
                    ) from error
            return self._loaded


def signer_of(context: Context) -> PdfSigner:
    """Who signs the papers of this server."""
    assert context.signer is not None, "`app` gives every server a signer"
    return context.signer


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
