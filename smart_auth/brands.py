"""The User Access Brand bundle: who runs this server, as apps show it to people who look for their records.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/brands.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from pymongo import ReturnDocument
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smart_auth.rows import now
from smart_auth.store import AuthStore, Row
from smart_auth.terms import Terms

PATH: Final = "/auth/brands.json"
BRANDS: Final = "brands"
MAX_AGE_S: Final = 3600

BRAND: Final = "http://hl7.org/fhir/StructureDefinition/organization-brand"
PORTAL: Final = "http://hl7.org/fhir/StructureDefinition/organization-portal"
FHIR_VERSION: Final = "http://hl7.org/fhir/StructureDefinition/endpoint-fhir-version"
CATEGORY: Final = "http://hl7.org/fhir/smart-app-launch/CodeSystem/user-access-category"
PROFILES: Final = "http://hl7.org/fhir/smart-app-launch/StructureDefinition"

#: What the standard calls the kinds of data that a brand has.
CATEGORIES: Final = {
    "clinical": "Clinical",
    "insurance": "Insurance",
    "laboratory": "Laboratory",
    "imaging": "Imaging",
    "pharmacy": "Pharmacy",
    "network": "Network",
    "aggregator": "Aggregator",
}


@dataclass(frozen=True, slots=True)
class Brand:
    """Who runs this server.

    Attributes:
        name: by which people know it
        website: of the organization; empty: this server's own address
        aliases: further names, also former ones
        categories: what kinds of data it has, see `CATEGORIES`
        identifiers: further ones beside the website, `{"system": …, "value": …}`
        addresses: FHIR Addresses, for looking it up by place
        logo, logo_license: address of a square picture, and of the terms for using it
        portal_name, portal_description, portal_url, portal_logo: where people manage their accounts; this server's own
            account page when nothing is said
        developers: where developers of apps find out more; empty: this server's own address
    """

    name: str = "HealthSphere"
    website: str = ""
    aliases: tuple[str, ...] = ()
    categories: tuple[str, ...] = ("clinical",)
    identifiers: tuple[dict[str, str], ...] = ()
    addresses: tuple[dict[str, Any], ...] = ()
    logo: str = ""
    logo_license: str = ""
    portal_name: str = ""
    portal_description: str = ""
    portal_url: str = ""
    portal_logo: str = ""
    developers: str = ""


def identifier_of(brand: Brand, terms: Terms) -> dict[str, str]:
    """What names the brand everywhere: its website without `www.` and path."""
    parts = urlsplit(brand.website or terms.root)
    return {"system": "urn:ietf:rfc:3986", "value": f"{parts.scheme}://{parts.netloc.removeprefix('www.')}"}


def configuration_of(brand: Brand, terms: Terms) -> dict[str, Any]:
    """What discovery says of it."""
    return {"user_access_brand_bundle": terms.at(PATH), "user_access_brand_identifier": identifier_of(brand, terms)}


def bundle_of(brand: Brand, terms: Terms) -> dict[str, Any]:
    """The bundle, but for its timestamp."""
    endpoint, organization = _endpoint(brand, terms), _organization(brand, terms)
    return {
        "resourceType": "Bundle",
        "id": "brands",
        "meta": {"profile": [f"{PROFILES}/user-access-brands-bundle"]},
        "type": "collection",
        "entry": [
            {"fullUrl": f"{terms.issuer}/{resource['resourceType']}/{resource['id']}", "resource": resource}
            for resource in (organization, endpoint)
        ],
    }


def _organization(brand: Brand, terms: Terms) -> dict[str, Any]:
    reference = {"reference": "Endpoint/endpoint"}
    portal = [
        {"url": "portalName", "valueString": brand.portal_name or brand.name},
        *(
            [{"url": "portalDescription", "valueMarkdown": brand.portal_description}]
            if brand.portal_description
            else []
        ),
        {"url": "portalUrl", "valueUrl": brand.portal_url or terms.at("/auth/account")},
        *([{"url": "portalLogo", "valueUrl": brand.portal_logo}] if brand.portal_logo else []),
        {"url": "portalEndpoint", "valueReference": reference},
    ]
    looks = [{"url": "brandLogo", "valueUrl": brand.logo}] if brand.logo else []
    looks += [{"url": "brandLogoLicense", "valueUrl": brand.logo_license}] if brand.logo_license else []
    looks.append({"url": "brandBundle", "valueUrl": terms.at(PATH)})
    organization: dict[str, Any] = {
        "resourceType": "Organization",
        "id": "brand",
        "meta": {"profile": [f"{PROFILES}/user-access-brand"]},
        "extension": [{"url": BRAND, "extension": looks}, {"url": PORTAL, "extension": portal}],
        "identifier": [identifier_of(brand, terms), *brand.identifiers],
        "active": True,
        "type": [
            {"coding": [{"system": CATEGORY, "code": code, "display": CATEGORIES.get(code, code)}]}
            for code in brand.categories
        ],
        "name": brand.name,
        "alias": list(brand.aliases),
        "telecom": [{"system": "url", "value": brand.website or terms.root}],
        "address": list(brand.addresses),
        "endpoint": [reference],
    }
    return {name: value for name, value in organization.items() if value != []}


def _endpoint(brand: Brand, terms: Terms) -> dict[str, Any]:
    payload = {"system": "http://terminology.hl7.org/CodeSystem/endpoint-payload-type", "code": "none"}
    return {
        "resourceType": "Endpoint",
        "id": "endpoint",
        "meta": {"profile": [f"{PROFILES}/user-access-endpoint"]},
        "extension": [{"url": FHIR_VERSION, "valueCode": "4.0.1"}],
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "hl7-fhir-rest",
        },
        "name": f"FHIR R4 endpoint of {brand.name}",
        "managingOrganization": {"reference": "Organization/brand"},
        "contact": [{"system": "url", "value": brand.developers or terms.root}],
        "payloadType": [{"coding": [payload]}],
        "address": terms.issuer,
    }


class BrandBundle:
    """Serves the bundle. Its timestamp is when the contents last changed, the same for all workers.

    Attributes:
        contents: the whole bundle, once it is open
    """

    def __init__(self, brand: Brand, terms: Terms, store: AuthStore) -> None:
        self._bundle = bundle_of(brand, terms)
        self._digest = sha256(json.dumps(self._bundle, sort_keys=True).encode()).hexdigest()[:32]
        self._store = store
        self.contents: dict[str, Any] = {}
        self._body = b""

    def open(self) -> None:
        """Look since when the contents are as they are; blocking."""
        rows = self._store.rows(BRANDS)
        rows.update_one(
            {"_id": "bundle", "digest": {"$ne": self._digest}}, {"$set": {"digest": self._digest, "since": now()}}
        )
        row: Row | None = rows.find_one_and_update(
            {"_id": "bundle"},
            {"$setOnInsert": {"digest": self._digest, "since": now()}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        assert row is not None  # it was made if it was not there
        since: datetime = row["since"]
        head = {name: self._bundle[name] for name in ("resourceType", "id", "meta", "type")}
        self.contents = {
            **head,
            "timestamp": since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "entry": self._bundle["entry"],
        }
        self._body = json.dumps(self.contents, indent=1).encode()

    def routes(self) -> list[Route]:
        return [Route(PATH, self.serve, methods=["GET"])]

    async def serve(self, request: Request) -> Response:
        etag = f'W/"{self._digest}"'
        headers = {
            "ETag": etag,
            "Cache-Control": f"public, max-age={MAX_AGE_S}",
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": "ETag",
        }
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if known & {"*", etag.removeprefix("W/")}:
            return Response(status_code=304, headers=headers)
        return Response(self._body, media_type="application/fhir+json", headers=headers)
