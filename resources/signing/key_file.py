"""Files with a key of the server and a certificate that vouches for itself, which the server makes for itself.

Several processes may start together on one data folder: whoever is first makes the key, and it is the key of all.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: How long a certificate is good that the server makes for itself: for as long as what it signs is kept.
DAYS: Final = 365 * 20


def certified(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    """A certificate for signatures that vouches for itself."""
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name[:64]), x509.NameAttribute(NameOID.ORGANIZATION_NAME, name[:64])]
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def pem_of(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bytes:
    """Both, as they lie in a file."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def keep_first(path: Path, name: str) -> None:
    """Make a key and its certificate in a file for the server alone, unless another process was first.

    Raises:
        OSError: the file cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem_of(key, certified(key, name)))
        with suppress(FileExistsError):  # another process was first, and its key is the one
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
