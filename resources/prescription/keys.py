"""The key by which the server signs prescriptions in the name of those who prescribe.

An elliptic curve (P-256), made by the server when it is first needed, kept in the data folder for the server alone,
with a certificate that vouches for itself, which is published with it (`x5c`). Public keys are published in the
database, so that every server of one database verifies what another one has signed, and stay there: a prescription is
verified for as long as it is kept. A folder of its own means a key of its own; nothing secret is in the database.

Spec: RFC 7517, RFC 7518 (ES256)
"""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from fhir_server.interactions.context import Context
from fhir_server.model.errors import UnavailableError
from fhir_server.storage.rows import Rows
from fhir_server.storage.setup import SetupError
from resources.signing.key_file import certified, keep_first

_log = logging.getLogger("healthsphere.prescription")

#: Public keys by their names (`kid`).
KEYS = "_prescription_keys"

FILE = "prescription-key.pem"
NAME = "HealthSphere prescriptions"
ALGORITHM = "ES256"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs, and its certificate."""

    private: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def jwk(self) -> ECKey:
        return ECKey.import_key(
            self.private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    @property
    def kid(self) -> str:
        return self.jwk.thumbprint()

    def public(self) -> dict[str, Any]:
        """As a JWK, with the certificate."""
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return {
            **self.jwk.as_dict(private=False),
            "kid": self.kid,
            "use": "sig",
            "alg": ALGORITHM,
            "x5t#S256": _base64url(self.certificate.fingerprint(hashes.SHA256())),
            "x5c": [_base64(der)],
        }


async def signing_key(context: Context) -> SigningKey:
    """The key of this server, published.

    Raises:
        UnavailableError: 503; it cannot be used.
    """
    try:
        key = key_in(context.data_dir)
    except SetupError as error:
        _log.error("%s", error)
        raise UnavailableError(
            "The key that signs prescriptions cannot be used; the log of the server says why.", key="HS-RX-KEY"
        ) from error
    await rows_of(context).make(key.kid, {"jwk": key.public()})
    return key


async def published(context: Context, kid: str) -> dict[str, Any] | None:
    """A public key by its name."""
    row = await rows_of(context).get(kid)
    return None if row is None else row["jwk"]


async def all_published(context: Context) -> list[dict[str, Any]]:
    """All keys that have signed prescriptions of this database."""
    return [row["jwk"] for row in await rows_of(context).all()]


def rows_of(context: Context) -> Rows:
    return context.repository.store.unguarded.rows(KEYS)


@lru_cache(maxsize=64)
def key_in(folder: Path | None) -> SigningKey:
    """The key in a data folder, made there when there is none; without a folder, one that lives as long as the process.

    Several processes may call it at once.

    Raises:
        SetupError: the file cannot be read or written.
    """
    if folder is None:
        return _made()
    path = folder / FILE
    try:
        if not path.exists():
            keep_first(path, NAME)
        return _read(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SetupError(
            f"The key that signs prescriptions, {path}, cannot be used: correct the rights, or restore it from your "
            "backup."
        ) from error


def _made() -> SigningKey:
    private = ec.generate_private_key(ec.SECP256R1())
    return SigningKey(private, certified(private, NAME))


def _read(pem: bytes) -> SigningKey:
    private = serialization.load_pem_private_key(pem, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError("no key of an elliptic curve")
    return SigningKey(private, x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERTIFICATE") :]))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _base64url(data: bytes) -> str:
    return _base64(data).replace("+", "-").replace("/", "_").rstrip("=")
