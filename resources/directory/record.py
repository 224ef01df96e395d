"""What a role, its Practitioner and its services say of themselves: languages, fees, insurances, telehealth, hours.

R4 has no elements for fees and accepted insurances: this server's extensions have them, beside those of Plan-Net.

Spec: https://hl7.org/fhir/R4/practitionerrole.html, https://hl7.org/fhir/R4/healthcareservice.html,
https://hl7.org/fhir/us/davinci-pdex-plan-net/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from resources.codings import codings_of

Json = dict[str, Any]

OWN: Final = "urn:healthsphere:StructureDefinition"
#: What a visit costs, as money; or a ChargeItemDefinition that says it. On a PractitionerRole or HealthcareService.
FEE: Final = f"{OWN}:fee"
#: An InsurancePlan, or the Organization that pays. On a PractitionerRole or HealthcareService.
ACCEPTS: Final = f"{OWN}:accepts-insurance"
#: The networks of insurers that somebody is in.
PLAN_NET: Final = "http://hl7.org/fhir/us/davinci-pdex-plan-net/StructureDefinition"
NETWORK: Final = f"{PLAN_NET}/network-reference"
DELIVERY: Final = f"{PLAN_NET}/delivery-method"
#: Where visits by video are, as R5 has it for Appointments and others for places.
VIRTUAL: Final = "virtualService"
PLACE_TYPE: Final = "http://terminology.hl7.org/CodeSystem/location-physical-type"

#: Words in codes of a service that is given from afar.
AFAR: Final = frozenset({"telehealth", "telemedicine", "virtual", "videoconference", "video", "telephone"})


def extensions(resource: Json, url: str) -> Iterator[Json]:
    for row in resource.get("extension", ()):
        if row.get("url") == url:
            yield row


def reference_of(found: Any) -> str:
    text = found.get("reference", "") if type(found) is dict else ""
    return text if type(text) is str else ""


def references_of(found: Any) -> list[str]:
    return [name for row in found or () if (name := reference_of(row))]


def fees_of(resource: Json, definitions: Mapping[str, Json]) -> list[tuple[Decimal, str]]:
    """What a visit costs, each with its currency."""
    found: list[tuple[Decimal, str]] = []
    for row in extensions(resource, FEE):
        if type(money := row.get("valueMoney")) is dict:
            found += _money(money)
        definition = definitions.get(reference_of(row.get("valueReference")), {})
        for group in definition.get("propertyGroup", ()):
            for component in group.get("priceComponent", ()):
                if component.get("type") == "base":
                    found += _money(component.get("amount", {}))
    return found


def _money(money: Json) -> list[tuple[Decimal, str]]:
    return [(Decimal(str(money["value"])), str(money["currency"]))] if {"value", "currency"} <= money.keys() else []


def payers_of(resource: Json) -> set[str]:
    """Whose insurance is accepted: InsurancePlans, Organizations, networks."""
    rows = (*extensions(resource, ACCEPTS), *extensions(resource, NETWORK))
    return {name for row in rows if (name := reference_of(row.get("valueReference")))}


def programs_of(service: Json) -> set[str]:
    """The codes of the programs that a service takes part in, with and without their system."""
    codings = [coding for program in service.get("program", ()) for coding in codings_of(program)]
    found = {f"{coding.get('system', '')}|{coding.get('code', '')}" for coding in codings}
    return found | {f"|{coding.get('code', '')}" for coding in codings}


def is_afar(resource: Json) -> bool:
    """Whether visits are possible from afar: by an R5 element in R4, a characteristic, a delivery method, a place."""
    for row in resource.get("extension", ()):
        url = str(row.get("url", ""))
        if url.endswith(f".{VIRTUAL}") or url == f"{OWN}:{VIRTUAL}":
            return True
        if url == DELIVERY:
            codes = (
                c.get("code") for part in row.get("extension", ()) for c in codings_of(part.get("valueCodeableConcept"))
            )
            if "virtual" in codes:
                return True
    concepts = [*resource.get("characteristic", ()), *resource.get("type", ())] if _is_service(resource) else []
    if any(str(c.get("code", "")).casefold() in AFAR for concept in concepts for c in codings_of(concept)):
        return True
    place = codings_of(resource.get("physicalType"))
    return any(c.get("system") == PLACE_TYPE and c.get("code") == "vi" for c in place)


def _is_service(resource: Json) -> bool:
    return resource.get("resourceType") == "HealthcareService"


def languages_of(practitioner: Json) -> set[str]:
    """The languages that somebody speaks, as they are written and without their region."""
    found: set[str] = set()
    for concept in practitioner.get("communication", ()):
        for coding in codings_of(concept):
            code = str(coding.get("code", "")).casefold()
            found |= {code, code.partition("-")[0]}
    return found - {""}


def words_of(role: Json, services: Iterable[Json]) -> Iterator[str]:
    """The words by which a specialty can be found that no code tells."""
    concepts = [*role.get("specialty", ()), *role.get("code", ())]
    for service in services:
        concepts += [*service.get("specialty", ()), *service.get("type", ())]
        yield str(service.get("name", ""))
    for concept in concepts:
        yield str(concept.get("text", ""))
        for coding in codings_of(concept):
            yield str(coding.get("display", ""))


def codes_of(role: Json, services: Iterable[Json]) -> set[str]:
    """The codes of the specialties of a role and of its services, as tokens with and without their system."""
    concepts = list(role.get("specialty", ()))
    for service in services:
        concepts += [*service.get("specialty", ()), *service.get("type", ())]
    found: set[str] = set()
    for concept in concepts:
        for coding in codings_of(concept):
            code = str(coding.get("code", "")).casefold()
            found |= {f"{coding.get('system', '')}|{code}", code}
    return found


def called(practitioner: Json) -> str:
    """How somebody is called, the family name first, for an order by names."""
    for name in practitioner.get("name", ()):
        parts = [str(name.get("family", "")), *map(str, name.get("given", ()))]
        if text := " ".join(part for part in parts if part) or str(name.get("text", "")):
            return text
    return ""


def where(organization: Json, places: Iterable[Json]) -> str:
    """The practice in words that tell it from others of the same name: its site and its city."""
    texts = [str(organization.get("name", ""))]
    for place in places:
        address = place.get("address", {})
        lines = " ".join(address.get("line", ()))
        texts += [str(place.get("name", "")), lines, str(address.get("city", ""))]
        break
    return ", ".join(dict.fromkeys(text for text in texts if text))
