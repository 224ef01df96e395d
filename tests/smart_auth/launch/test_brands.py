"""The User Access Brand bundle."""

from __future__ import annotations

from typing import Any

from smart_auth.brands import Brand, BrandBundle, bundle_of, identifier_of
from smart_auth.terms import Terms


def test_discovery_leads_to_a_bundle_whose_one_brand_has_the_identifier_that_discovery_names(launch_site: Any) -> None:
    found = launch_site.http.get("/fhir/.well-known/smart-configuration").json()
    answer = launch_site.http.get(found["user_access_brand_bundle"])
    assert answer.headers["content-type"] == "application/fhir+json"
    assert answer.headers["access-control-allow-origin"] == "*"
    bundle = answer.json()
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    assert bundle["timestamp"].endswith("Z")
    brands = [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Organization"]
    assert found["user_access_brand_identifier"] == {
        "system": "urn:ietf:rfc:3986",
        "value": "https://goodhealth.example.org",
    }
    assert [found["user_access_brand_identifier"] in brand["identifier"] for brand in brands] == [True]
    assert brands[0]["name"] == "Good Health"
    assert brands[0]["telecom"] == [{"system": "url", "value": "https://www.goodhealth.example.org/home"}]


def test_the_endpoint_is_the_fhir_base_and_the_portal_leads_to_it(launch_site: Any) -> None:
    bundle = launch_site.http.get("/auth/brands.json").json()
    organization, endpoint = (entry["resource"] for entry in bundle["entry"])
    assert endpoint["address"] == launch_site.issuer
    assert endpoint["extension"][0]["valueCode"] == "4.0.1"
    portal = organization["extension"][1]["extension"]
    assert {"url": "portalEndpoint", "valueReference": {"reference": f"Endpoint/{endpoint['id']}"}} in portal
    for entry in bundle["entry"]:
        assert entry["fullUrl"].endswith(f"{entry['resource']['resourceType']}/{entry['resource']['id']}")


def test_who_has_the_bundle_already_is_told_so(launch_site: Any) -> None:
    etag = launch_site.http.get("/auth/brands.json").headers["etag"]
    assert etag.startswith('W/"')
    answer = launch_site.http.get("/auth/brands.json", headers={"If-None-Match": f'"other", {etag}'})
    assert (answer.status_code, answer.content) == (304, b"")


def test_the_timestamp_changes_when_the_contents_do_and_only_then(launch_site: Any) -> None:
    terms = Terms("https://fhir.example.org/fhir")

    def timestamp(brand: Brand) -> str:
        bundle = BrandBundle(brand, terms, launch_site.store)
        bundle.open()
        return str(bundle.contents["timestamp"])

    first = timestamp(Brand(name="One"))
    assert timestamp(Brand(name="One")) == first
    assert timestamp(Brand(name="Two")) > first


def test_all_that_a_provider_may_say_is_in_the_bundle() -> None:
    brand = Brand(
        name="Good Health",
        website="https://www.good.example.org/",
        aliases=("Goodies",),
        categories=("clinical", "laboratory"),
        identifiers=({"system": "http://hl7.org/fhir/sid/us-npi", "value": "1"},),
        addresses=({"city": "Boston", "state": "MA"},),
        logo="https://good.example.org/logo.svg",
        logo_license="https://good.example.org/license",
        portal_name="Central",
        portal_description="For patients",
        portal_url="https://central.example.org",
        portal_logo="https://central.example.org/logo.svg",
        developers="https://developers.example.org",
    )
    terms = Terms("https://fhir.example.org/fhir")
    said = str(bundle_of(brand, terms))
    for words in ("Goodies", "Laboratory", "us-npi", "Boston", "logo.svg", "license", "Central", "For patients"):
        assert words in said
    assert "https://developers.example.org" in said
    assert identifier_of(brand, terms)["value"] == "https://good.example.org"
