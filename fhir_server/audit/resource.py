"""AuditEvents made of the events of a batch: the shapes of IHE's Basic Audit Log Patterns.

One for each Patient whose data was shown or changed, so that a Patient who reads them learns nothing of the others; one
for each entry of a Bundle. What only failures have in common with the patterns carries no profile. The id is made of
the place in the chain, the contents of nothing but the batch: made twice, it is the same twice.

Spec: https://hl7.org/fhir/R4/auditevent.html, https://profiles.ihe.net/ITI/BALP/
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from fhir_server.audit import codes
from fhir_server.audit.chain import Link
from fhir_server.audit.codes import Json, Kind, concept, kind_of
from fhir_server.audit.event import DONE, Event, Part, Who, unpack
from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from fhir_server.repository.records import MADE_BY_TRAIL, TRAIL

TYPE = TRAIL
PREFIX = MADE_BY_TRAIL

#: So many halves are kept; callers and addresses make them.
MOST_SHARED = 4096

#: Types that `AuditEvent.agent.who` may refer to; a Person goes by identifier.
AGENTS = frozenset({"PractitionerRole", "Practitioner", "Organization", "Device", "Patient", "RelatedPerson"})


@dataclass(frozen=True, slots=True)
class Shared:
    """What many AuditEvents have in common: by whom, from where, what kind of act, how it went.

    Attributes:
        meta: further members of `meta`, as JSON with a comma before
        head: the members before `recorded`, as JSON
        tail: the members between `recorded` and `entity`
        indexed: the members that search parameters look at, with the types and roles of the entities
    """

    meta: bytes
    head: bytes
    tail: bytes
    indexed: Json


@dataclass(frozen=True, slots=True)
class Made:
    """One AuditEvent: the resource as JSON, and the members of its own that search parameters look at.

    The rest of what they look at is in `shared`, so that index entries of it are made once.
    """

    id: str
    body: bytes
    shared: Shared
    indexed: Json


def id_range_of(number: int) -> tuple[str, str]:
    """All ids of a batch's AuditEvents lie between these, the second excluded."""
    return f"{PREFIX}{number:010d}-", f"{PREFIX}{number:010d}."


class Maker:
    """Makes AuditEvents; keeps the halves that repeat."""

    def __init__(self) -> None:
        self._shared: dict[tuple[object, ...], Shared] = {}

    def made_of(self, link: Link) -> Iterator[Made]:
        """The AuditEvents of a batch: version 1, made when the batch was written.

        Raises:
            ValueError: its bytes are no events.
        """
        written, batch = instant_of(link.moment_us), unpack(link.packed)
        for index, event in enumerate(batch.events):
            number, recorded = 0, instant_of(event.moment_us)
            for part in (event.what, *event.entries):
                for patient in part.patients or ("",):
                    made_id = f"{PREFIX}{link.number:010d}-{index:04d}-{number:05d}"
                    yield self._made(made_id, batch.base_url, written, recorded, event, part, patient)
                    number += 1

    def _made(
        self, made_id: str, base_url: str, written: str, recorded: str, event: Event, part: Part, patient: str
    ) -> Made:
        shared = self._shared_of(base_url, event, part, patient)
        entities = entities_of(event, part, patient, base_url)
        told = "" if part.outcome == DONE else " ".join(t for t in (str(part.status or ""), part.detail) if t)
        body = b"".join(
            (
                f'{{"resourceType":"{TYPE}","id":"{made_id}","meta":{{"versionId":"1","lastUpdated":"{written}"'.encode(),
                shared.meta,
                b"},",
                shared.head,
                f',"recorded":"{recorded}",'.encode(),
                shared.tail,
                b',"outcomeDesc":' + codec.encode(told) if told else b"",
                b',"entity":' + codec.encode(entities) if entities else b"",
                b"}",
            )
        )
        about = [{"what": entity["what"]} for entity in entities if "what" in entity]
        return Made(made_id, body, shared, {"recorded": recorded, "entity": about})

    def _shared_of(self, base_url: str, event: Event, part: Part, patient: str) -> Shared:
        frame = (bool(part.targets), bool(patient), bool(part.method), bool(part.detail), bool(event.request_id))
        key = (base_url, part.kind, event.who, event.address, part.outcome, frame)
        shared = self._shared.get(key)
        if shared is None:
            if len(self._shared) >= MOST_SHARED:
                self._shared.clear()
            shared = self._shared[key] = share(base_url, event, part, patient)
        return shared


def share(base_url: str, event: Event, part: Part, patient: str) -> Shared:
    """The half of an AuditEvent that many have in common."""
    kind, who = kind_of(part.kind), event.who
    head: Json = {"type": kind.type}
    if kind.subtypes:
        head["subtype"] = list(kind.subtypes)
    head["action"] = kind.action
    tail: Json = {"outcome": str(part.outcome)}
    if who.purpose:
        tail["purposeOfEvent"] = [purpose_of(who)]
    tail["agent"] = agents_of(kind, event, base_url)
    tail["source"] = {
        "site": urlsplit(base_url).netloc,
        "observer": {"display": base_url},
        "type": [codes.SERVER_TYPE],
    }
    profile = profile_of(kind, part, patient, event)
    meta = {"profile": [profile]} if profile else {}
    frames = [
        {name: entity[name] for name in ("type", "role") if name in entity}
        for entity in entities_of(event, part, patient, base_url)
    ]
    return Shared(
        b"," + codec.encode(meta)[1:-1] if meta else b"",
        codec.encode(head)[1:-1],
        codec.encode(tail)[1:-1],
        {"meta": meta, **head, **tail, "entity": frames},
    )


def agents_of(kind: Kind, event: Event, base_url: str) -> list[Json]:
    """Who took part: the client, the server, the user, and for which organization."""
    who = event.who
    person = bool(who.name) or (bool(who.subject) and who.subject != who.client_id)
    client: Json = {"type": kind.client}
    client["who"] = {"identifier": {"value": who.client_id}} if who.client_id else {"display": "unknown client"}
    client["requestor"] = not person
    if event.address:
        client["network"] = {"address": event.address, "type": "2"}
    server = {
        "type": kind.server,
        "who": {"display": base_url},
        "requestor": False,
        "network": {"address": base_url, "type": "5"},
    }
    agents = [client, server]
    # Of a client that acts for itself the purpose and the policy are told at the client.
    acting = user_of(kind, who) if person else client
    if not person and who.role and kind.action != "D":
        acting["role"] = [concept(codes.ROLE, who.role)]
    if kind.action != "D":
        if policies := policies_of(who):
            acting["policy"] = policies
        if who.purpose:
            acting["purposeOfUse"] = [purpose_of(who)]
    if person:
        agents.append(acting)
    if who.organization:
        agents.append(
            {"type": codes.PROVIDER, "who": {"reference": who.organization}, "requestor": False},
        )
    return agents


def user_of(kind: Kind, who: Who) -> Json:
    """The agent that is a person."""
    identifier: Json = {"identifier": {"value": who.subject}} if who.subject else {}
    known = who.fhir_user.partition("/")[0] in AGENTS
    user: Json = {"type": kind.user}
    if who.role:
        user["role"] = [concept(codes.ROLE, who.role)]
    if known or identifier:
        user["who"] = {"reference": who.fhir_user, **identifier} if known else identifier
    if who.name:
        user["name"] = who.name
    user["requestor"] = True
    return user


def policies_of(who: Who) -> list[str]:
    """What the access was allowed by: the token, and the policy that was made for it."""
    named = []
    if who.token_id:
        named.append(f"urn:ietf:params:oauth:jti:{who.token_id}")
    if who.policy:
        named.append(f"urn:healthsphere:policy:{who.policy}")
    return named


def purpose_of(who: Who) -> Json:
    purpose = concept(codes.REASON, who.purpose)
    return purpose | {"text": who.reason} if who.reason else purpose


def profile_of(kind: Kind, part: Part, patient: str, event: Event) -> str:
    """The pattern that an AuditEvent conforms to; empty where it is none."""
    if not kind.profile or part.outcome != DONE or not event.address:
        return ""
    if kind.profile != "Query" and not part.targets:
        return ""
    return f"{codes.BALP}/StructureDefinition/IHE.BasicAudit.{'Patient' if patient else ''}{kind.profile}"


def entities_of(event: Event, part: Part, patient: str, base_url: str) -> list[Json]:
    """What it was about: the resources, the patient, the query, the request."""
    entities: list[Json] = [
        {"what": {"reference": target}, "type": codes.OBJECT, "role": codes.DOMAIN_RESOURCE} for target in part.targets
    ]
    if patient:
        entities.append({"what": {"reference": f"Patient/{patient}"}, "type": codes.PERSON, "role": codes.PATIENT_ROLE})
    if not part.targets and part.method:
        asked = f"{part.method} {base_url}/{part.path}" + (f"?{part.query}" if part.query else "")
        entities.append(
            {
                "type": codes.OBJECT,
                "role": codes.QUERY_ROLE,
                "description": f"{part.method} {part.path}",
                "query": b64encode(asked.encode()).decode(),
            }
        )
    if part.detail and part.outcome == DONE:
        entities.append({"type": codes.OBJECT, "description": part.detail})
    if event.request_id:
        entities.append({"what": {"identifier": {"value": event.request_id}}, "type": codes.REQUEST_ID})
    return entities
