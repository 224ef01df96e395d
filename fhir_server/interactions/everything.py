"""`$everything`: the record of a patient, or of an encounter, in pages that follow one another without gap or double.

The resource itself comes first, then its compartment by type and id, then what those resources refer to (practitioners,
organizations, locations, medications), with the search mode `include`.

Spec: https://hl7.org/fhir/R4/patient-operation-everything.html,
https://hl7.org/fhir/R4/encounter-operation-everything.html
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

import msgspec

from fhir_server.interactions.bundle import joined, link
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model.clock import instant_of
from fhir_server.model.dates import Interval, interval_of
from fhir_server.model.errors import GoneError, InvalidError, Issue
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.compartment import Belongings, Member, Place
from fhir_server.repository.records import TRAIL
from fhir_server.repository.repository import not_found

CURSOR = "_cursor"
PARAMETERS = {
    "Patient": ("start", "end", "_since", "_type", "_count", CURSOR),
    "Encounter": ("_since", "_type", "_count", CURSOR),
}
EVER = 2**62


async def everything(context: Context, request: Request) -> Answer:
    """Patient/[id]/$everything, Encounter/[id]/$everything: a searchset with one page of the record."""
    focal = (request.path[0], request.path[1])
    inputs = Inputs.of(request)
    inputs.only(*PARAMETERS[focal[0]])
    given = applied(inputs)
    since = inputs.text("_since")
    types = types_of(context, inputs)
    asked = Belongings(
        context.registry,
        focal,
        frozenset(await context.repository.collections()) - ({TRAIL} if types is None else set()),
        f"{request.base_url}/",
        care=care_of(inputs),
        since_us=interval_of(since).start_us if since else None,
        types=types,
    )
    most = context.limits.max_page_size
    count = min(inputs.whole("_count", least=1) or most, most)
    mark = fingerprint(focal, given)
    cursor = inputs.text(CURSOR)
    after = place_of(cursor, mark) if cursor else None
    document, members, more = await asked.page(context.searcher, after, count)
    if document is None:
        raise not_found(*focal)
    if document.get("d"):
        raise gone(focal, document["t"])
    address = "/".join((request.base_url, *request.path))

    def page_link(relation: str, cursor: str | None) -> dict[str, str]:
        return link(relation, address, [*given, *([(CURSOR, cursor)] if cursor else [])])

    links = [page_link("self", cursor)]
    if cursor:
        links.append(page_link("first", None))
    if more:
        links.append(page_link("next", cursor_of(members[-1].place, mark)))
    head = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(members) if not more and not cursor else None,
        "link": links,
    }
    return Answer(200, joined(head, [entry_of(member, request.base_url) for member in members]))


def entry_of(member: Member, base_url: str) -> bytes:
    place = member.place
    mode = b"include" if place.referred else b"match"
    url = f"{base_url}/{place.type}/{place.id}".encode()
    return b'{"fullUrl":"%b","resource":%b,"search":{"mode":"%b"}}' % (url, member.body, mode)


def applied(inputs: Inputs) -> list[tuple[str, str]]:
    """The parameters as the links repeat them."""
    return [pair for pair in inputs.pairs(without=frozenset({CURSOR, "_format", "_pretty"})) if pair[1]]


def care_of(inputs: Inputs) -> Interval | None:
    """The span of `start` and `end`, both included; None when neither is given."""
    start, end = inputs.text("start"), inputs.text("end")
    if not start and not end:
        return None
    span = Interval(interval_of(start).start_us if start else -EVER, interval_of(end).end_us if end else EVER)
    if span.end_us <= span.start_us:
        raise InvalidError(
            f"The record cannot start at {start} and end before, at {end}.",
            code="value",
            expression="Parameters.parameter.where(name='end')",
            key="HS-OP-PARAMETER",
        )
    return span


def types_of(context: Context, inputs: Inputs) -> frozenset[str] | None:
    """The types of `_type`, given several times or with commas; None for all.

    Raises:
        InvalidError: 400; one is no resource type.
    """
    names = [name for value in inputs.all("_type") for name in str(value).split(",") if name]
    for name in names:
        if not context.registry.is_resource_type(name):
            raise InvalidError(
                f"{name[:80]!r} is no resource type of FHIR R4.",
                code="value",
                expression="Parameters.parameter.where(name='_type')",
                key="HS-OP-PARAMETER",
            )
    return frozenset(names) if names else None


def gone(focal: tuple[str, str], moment_us: int) -> GoneError:
    text = f"{'/'.join(focal)} was deleted at {instant_of(moment_us)}."
    return GoneError([Issue("deleted", text, key="HS-READ-GONE")])


def fingerprint(focal: tuple[str, str], given: list[tuple[str, str]]) -> str:
    """What two pages of the same record under the same conditions share, whatever their size."""
    parts = [focal, sorted(pair for pair in given if pair[0] != "_count")]
    return blake2b(msgspec.json.encode(parts), digest_size=6).hexdigest()


def cursor_of(place: Place, mark: str) -> str:
    row = [mark, place.referred, place.type, place.id]
    return urlsafe_b64encode(msgspec.json.encode(row)).rstrip(b"=").decode()


def place_of(cursor: str, mark: str) -> Place:
    """Where a page ended.

    Raises:
        InvalidError: 400; the cursor is none of ours, or of another record or other conditions.
    """
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        found, referred, name, resource_id = msgspec.json.decode(raw, type=tuple[str, bool, str, str])
    except (UnicodeError, binascii.Error, msgspec.MsgspecError):
        found, referred, name, resource_id = "", False, "", ""
    if found != mark:
        raise InvalidError(
            "`_cursor` is none that this server gave for this record and these conditions; follow the `next` link of a "
            "page instead.",
            code="value",
            key="HS-OP-CURSOR",
        )
    return Place(referred, name, resource_id)
