"""The signature of a prescription: a detached JWS over the canonical JSON of what was signed.

What is signed is the version with the status `active`, without what a server adds or changes by itself: `id`, `meta`
and the narrative (`text`). Names are sorted, nothing stands between them, numbers keep their digits. So the signature
is good on any server that has the content, and the `identifier` that the signature puts into it, which is nobody
else's, keeps it from being moved to another prescription.

Spec: https://hl7.org/fhir/R4/signatures.html, https://hl7.org/fhir/R4/json.html#canonical (`#static`, without `id`),
RFC 7515 appendix F
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from resources.prescription.keys import ALGORITHM, SigningKey

Json = dict[str, Any]

#: What a server adds, or says in words what the rest says.
LEFT_OUT = frozenset({"id", "meta", "text"})


def canonical(order: Json) -> bytes:
    """What is signed of a resource."""
    return codec.encode(_sorted({name: value for name, value in order.items() if name not in LEFT_OUT}))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_sorted(one) for one in value]
    return value


def signed(order: Json, key: SigningKey) -> str:
    """The detached signature, `header..signature`."""
    header = {"alg": ALGORITHM, "kid": key.kid, "cty": "application/fhir+json"}
    compact = jws.serialize_compact(header, canonical(order), key.jwk, algorithms=[ALGORITHM])
    detached: str = jws.detach_content(compact)
    return detached


def is_good(order: Json, detached: str, public: Json) -> bool:
    """Whether a signature is that of a content by a key."""
    try:
        jws.deserialize_compact(detached, ECKey.import_key(public), algorithms=[ALGORITHM], payload=canonical(order))
    except (JoseError, ValueError):
        return False
    return True


def kid_of(detached: str) -> str | None:
    """The name of the key that signed; None of what is no JWS."""
    try:
        name: Any = jws.extract_compact(detached.encode()).headers().get("kid")
    except (JoseError, ValueError):
        return None
    return name if isinstance(name, str) else None


@dataclass(frozen=True, slots=True)
class Proof:
    """What a Provenance says of a signed prescription."""

    detached: str
    signer: str
    moment_us: int

    def provenance(self, target: str, document: str, digest: str) -> Json:
        """The Provenance of one version.

        Args:
            target: `MedicationRequest/1/_history/2`
            document: the DocumentReference of the signed PDF
            digest: SHA-256 of that PDF, in hexadecimal digits
        """
        moment = instant_of(self.moment_us)
        code = {"system": "http://terminology.hl7.org/CodeSystem/v3-DocumentCompletion", "code": "LA"}
        return {
            "resourceType": "Provenance",
            "target": [{"reference": target}],
            "recorded": moment,
            "activity": {"coding": [{**code, "display": "legally authenticated"}]},
            "agent": [
                {
                    "type": {
                        "coding": [
                            {
                                "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                                "code": "author",
                                "display": "Author",
                            }
                        ]
                    },
                    "who": {"reference": self.signer},
                }
            ],
            "entity": [
                {
                    "role": "derivation",
                    "what": {
                        "reference": document,
                        "identifier": {"system": "urn:healthsphere:sha256", "value": digest},
                    },
                }
            ],
            "signature": [
                {
                    "type": [
                        {
                            "system": "urn:iso-astm:E1762-95:2013",
                            "code": "1.2.840.10065.1.12.1.1",
                            "display": "Author's Signature",
                        }
                    ],
                    "when": moment,
                    "who": {"reference": self.signer},
                    "targetFormat": "application/fhir+json",
                    "sigFormat": "application/jose",
                    "data": base64.b64encode(self.detached.encode()).decode(),
                }
            ],
        }


def detached_in(provenance: Json) -> str | None:
    """The signature in a Provenance."""
    for row in provenance.get("signature", ()):
        if row.get("sigFormat") == "application/jose" and "data" in row:
            return base64.b64decode(row["data"]).decode("ascii", "replace")
    return None
