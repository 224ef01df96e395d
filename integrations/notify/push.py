"""Letters by web push: encrypted for the one browser, and sent to the push service that it names.

Who subscribes names an address, so connections go to addresses of the Internet alone (`smart_auth.outbound`).

Spec: RFC 8030 (web push), RFC 8188 and RFC 8291 (encryption), RFC 8292 (VAPID)
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import http_ece
import httpcore
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey

from fhir_server.interactions.outlets import Letter, UndeliverableError
from smart_auth.outbound import AsyncGuardedBackend, Outbound, OutboundError

TIMEOUT_S = 10.0

#: For so long a push service keeps a letter for a browser that is away.
KEPT_S = 86_400

#: How long a proof of who pushes holds; a day at most (RFC 8292, section 2).
PROOF_S = 12 * 3600

#: The subscription has ended.
ENDED = frozenset({404, 410})


class PushOutlet:
    """Pushes to browsers.

    Args:
        key: of this server, by which push services know it
        contact: `mailto:` or https address of who runs it
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, contact: str, link: str, outbound: Outbound) -> None:
        self._key = key
        self._contact = contact
        self._link = link
        self._pool = httpcore.AsyncConnectionPool(
            network_backend=AsyncGuardedBackend(outbound), max_connections=20, keepalive_expiry=30
        )
        point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        self.public_key = unpadded(point)

    async def send(self, to: dict[str, Any], letter: Letter) -> None:
        """Push.

        Raises:
            UndeliverableError: the browser is no longer subscribed, or where it says is nowhere.
        """
        try:
            body = await asyncio.to_thread(self._sealed, to, letter)
        except (ValueError, http_ece.ECEException) as error:
            raise UndeliverableError("the keys of the subscription are none") from error
        headers: dict[str | bytes, str | bytes] = {
            "Content-Type": "application/octet-stream",
            "Content-Encoding": "aes128gcm",
            "TTL": str(KEPT_S),
            "Topic": letter.key[:32],  # a service that still has one of that name replaces it
            "Urgency": "high" if letter.urgent else "normal",
            "Authorization": f"vapid t={self._proof(to['endpoint'])}, k={self.public_key}",
        }
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_S)
        try:
            answer = await self._pool.request(
                "POST", to["endpoint"], headers=headers, content=body, extensions={"timeout": timeouts}
            )
        except OutboundError as error:
            raise UndeliverableError(str(error)) from error
        if answer.status in ENDED:
            raise UndeliverableError("the subscription has ended")
        if answer.status not in (200, 201, 202, 204):
            raise PushError(f"the push service answers {answer.status}")

    def _sealed(self, to: dict[str, Any], letter: Letter) -> bytes:
        """What only that browser can read."""
        told = json.dumps({"title": letter.title, "body": letter.text, "link": self._link, "key": letter.key})
        body: bytes = http_ece.encrypt(
            told.encode(),
            salt=os.urandom(16),
            private_key=ec.generate_private_key(ec.SECP256R1()),
            dh=from_unpadded(to["p256dh"]),
            auth_secret=from_unpadded(to["auth"]),
            version="aes128gcm",
        )
        return body

    def _proof(self, endpoint: str) -> str:
        """Who pushes, signed for that push service (RFC 8292)."""
        place = urlsplit(endpoint)
        claims = {
            "aud": f"{place.scheme}://{place.netloc}",
            "exp": int(time.time()) + PROOF_S,
            "sub": self._contact,
        }
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return jwt.encode({"typ": "JWT", "alg": "ES256"}, claims, ECKey.import_key(pem))


class PushError(Exception):
    """A push service did not take it; it may tomorrow."""


def load_or_create(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key by which push services know this server; all subscriptions end with it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(made)
        except FileExistsError:
            pass  # another process of this server was faster: its key is the one
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
