"""`DocumentReference/$upload`: a document as it is, as a browser's form, or within a DocumentReference.

    POST DocumentReference/$upload?patient=Patient/1&title=Letter     Content-Type: application/pdf, and the bytes
    POST DocumentReference/$upload                                    multipart/form-data: fields and one file
    POST DocumentReference/$upload                                    a DocumentReference with `attachment.data`

The content streams into quarantine, and is examined at once where that is quick. What it is about is said by parameters
of the same names in the address or the form.

Our own operation; a DocumentReference with data as in IHE MHD's Simplified Publish [ITI-105]:
https://profiles.ihe.net/ITI/MHD/ITI-105.html
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any, Final

from fhir_server.interactions.answers import about, location_of, resource_in, touched_by
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model.errors import InvalidError, NotFoundError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change, Committed
from resources.document.examine import examined_soon
from resources.document.form import Form
from resources.document.making import (
    BY,
    Stored,
    documented,
    keep_or_discard,
    require_same,
    stored,
    subject_of,
)
from resources.document.states import inline_data
from resources.document.words import TYPE

Json = dict[str, Any]

NAMES: Final = (
    "patient",
    "title",
    "description",
    "type",
    "category",
    "date",
    "encounter",
    "label",
    "review",
    "replaces",
    "hash",
    "language",
)

CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"

#: For whom somebody else looks at what they send.
REVIEWED: Final = frozenset({"patient", "proxy"})

#: A piece of inline data that is taken in at a time.
SLICE: Final = 1024 * 1024


async def upload(context: Context, request: Request) -> Answer:
    """Take a document in: 201 with the DocumentReference.

    Raises:
        NotFoundError: 404; the patient, or what it replaces, is none that the caller sees.
        UnprocessableError: 422; it is empty, or not of the type that it is said to be.
        UnsupportedMediaTypeError: 415; documents of that type are not taken.
    """
    if request.content is None:
        return await uploaded_resource(context, request)
    plain = request.content_type.partition(";")[0].strip().lower()
    pairs = list(request.parameters)
    if plain == "multipart/form-data":
        form = Form(request.content, request.content_type)
        await require_known(context, values_of(pairs, partial=True), request)
        content = await stored_form(context, form)
        pairs += form.fields
        pairs += [("title", form.filename)] if form.filename and not any(n == "title" for n, _ in pairs) else []
    else:
        await require_known(context, values_of(pairs), request)
        content = await stored(context, request.content, request.content_type)
    answer: Answer = await keep_or_discard(context, [(0, content)], finished(context, request, pairs, content))
    return answer


async def stored_form(context: Context, form: Form) -> Stored:
    """The file of a form, in quarantine, under the type that the browser says or the bytes tell."""
    pieces = form.file()
    first = await anext(pieces, b"")

    async def all_pieces() -> AsyncIterator[bytes]:
        if first:
            yield first
        async for piece in pieces:
            yield piece

    return await stored(context, all_pieces(), form.content_type)


async def finished(context: Context, request: Request, pairs: list[tuple[str, str]], content: Stored) -> Answer:
    """What follows when the content lies in quarantine."""
    values = values_of(pairs)
    await require_known(context, values, request)
    require_same(values.get("hash"), content.blob)
    document = document_of(values)
    reviewed = "review" in values or context.caller.identity.role in REVIEWED
    outcomes = await documented(context, document, [(0, content)], review=values.get("review"), reviewed=reviewed)
    return await answered(context, request, outcomes, [content])


async def uploaded_resource(context: Context, request: Request) -> Answer:
    """A DocumentReference with data in it, by itself or as the parameter `document`."""
    resource = Inputs.of(request, bare="document").resource("document")
    if resource is None:
        raise InvalidError(
            "There is no document: its bytes, a form with a file, or a DocumentReference with data was expected.",
            code="required",
            key="HS-DOCUMENT-NONE",
        )
    return await published(context, request, resource)


async def published(context: Context, request: Request, resource: Json) -> Answer:
    """Store a DocumentReference, its data as Binaries beside it."""
    if resource.get("resourceType") != TYPE:
        raise InvalidError(
            f"The document is a {resource.get('resourceType')!r}; a DocumentReference was expected.",
            code="structure",
            key="HS-DOCUMENT-NONE",
        )
    context.repository.check(
        Change("POST", TYPE, "0", resource, by=BY)
    )  # its faults are told before anything is stored
    await require_seen(context, subject_of(resource.get("subject", {}).get("reference")), request)
    contents: list[tuple[int, Stored]] = []
    blobs = context.repository.store.blobs
    try:
        for number, row in enumerate(resource["content"]):
            attachment = row["attachment"]
            if "data" in attachment:
                content = await stored(context, decoded(attachment["data"]), attachment.get("contentType", ""))
                contents.append((number, content))
                require_same(attachment.get("hash"), content.blob)
        if not contents:
            raise UnprocessableError(
                "The DocumentReference has no data: create it as any resource.",
                key="HS-DOCUMENT-NONE",
                expression=f"{TYPE}.content.attachment.data",
            )
        bare = {name: value for name, value in resource.items() if name not in ("id", "status")}
        bare |= {"status": resource.get("status", "current")}
        reviewed = context.caller.identity.role in REVIEWED
        outcomes = await documented(context, bare, contents, review=None, reviewed=reviewed)
    except BaseException:
        for _, content in contents:
            await blobs.discard(content.blob)
        raise
    return await answered(context, request, outcomes, [content for _, content in contents])


async def decoded(text: str) -> AsyncIterator[bytes]:
    plain = "".join(text.split())
    try:
        data = b64decode(plain, validate=True)
    except binascii.Error:
        raise InvalidError(
            "The data is no base64.",
            code="value",
            key="HS-DOCUMENT-DATA",
            expression=f"{TYPE}.content.attachment.data",
        ) from None
    for start in range(0, len(data), SLICE):
        yield data[start : start + SLICE]


async def answered(context: Context, request: Request, outcomes: list[Committed], contents: list[Stored]) -> Answer:
    """201 with the DocumentReference as it is after the examination, where that was quick."""
    made = outcomes[0].version
    await examined_soon(context, [content.blob for content in contents])
    now = await context.repository.current(TYPE, made.id)
    version = made if now is None or now.deleted else now
    answer = about(201, version.body, version)
    answer.headers["Location"] = location_of(version, request.base_url)
    answer.headers["X-Content-Location"] = f"{request.base_url}/Binary/{contents[0].binary_id}"
    answer.touched = touched_by(outcomes)
    return answer


async def creating(context: Context, request: Request, resource: Json) -> Answer | None:
    """POST DocumentReference with data in it: a Simplified Publish, or somebody's who is no system.

    What systems and the operator send without that profile is stored as it is: records of elsewhere are not changed.
    """
    if not has_data(resource) or not split(context, resource):
        return None
    if "if-none-exist" in request.headers:
        return None
    beyond = context.beyond()
    return await published(beyond, request, resource_in(request, TYPE))


def split(context: Context, resource: Json) -> bool:
    role = context.caller.identity.role
    meta = resource.get("meta")
    profiles = meta.get("profile") if isinstance(meta, dict) else None
    return role not in ("system", "operator") or "IHE.MHD.SimplifiedPublish" in str(profiles)


def has_data(resource: Json) -> bool:
    """Whether a DocumentReference holds a content itself."""
    return any(data is not None for data in inline_data(resource))


# --- what is said of a document -------------------------------------------------------------------------------------


def values_of(pairs: list[tuple[str, str]], *, partial: bool = False) -> dict[str, str]:
    """The parameters by name; those of a form are told in it or in the address.

    Raises:
        InvalidError: 400; one is unknown or given twice, or `patient` is missing.
    """
    rows = Inputs(list(pairs))
    rows.only(*NAMES)
    values = {name: value for name in NAMES if (value := rows.text(name))}
    if not partial:
        rows.required("patient", values.get("patient"))
    return values


async def require_known(context: Context, values: dict[str, str], request: Request) -> None:
    """All that a document is said to be about is there for the caller.

    Raises:
        NotFoundError: 404; it is not.
    """
    if "patient" in values:
        await require_seen(context, subject_of(reference_of(values["patient"], "Patient")), request)
    for name, kind in (("encounter", "Encounter"), ("replaces", TYPE)):
        if name in values:
            await require_seen(context, reference_of(values[name], kind), request)


async def require_seen(context: Context, reference: str, request: Request) -> None:
    kind, _, resource_id = reference.removeprefix(f"{request.base_url}/").partition("/")
    version = (
        await context.seen.repository.current(kind, resource_id) if context.registry.is_resource_type(kind) else None
    )
    if version is None or version.deleted:
        raise NotFoundError(f"There is no {reference[:120]} on this server.", key="HS-READ-NOT-FOUND")


def reference_of(text: str, kind: str) -> str:
    return text if "/" in text else f"{kind}/{text}"


def document_of(values: dict[str, str]) -> Json:
    """The DocumentReference that the parameters speak of, its content left out."""
    attachment = {name: values[name] for name in ("title", "language") if name in values}
    document: Json = {
        "resourceType": TYPE,
        "status": "current",
        "subject": {"reference": reference_of(values["patient"], "Patient")},
        "content": [{"attachment": attachment}],
    }
    if "type" in values:
        document["type"] = concept_of(values["type"])
    if "category" in values:
        document["category"] = [concept_of(values["category"])]
    if "description" in values:
        document["description"] = values["description"]
    if "date" in values:
        document["date"] = values["date"]
    if "encounter" in values:
        document["context"] = {"encounter": [{"reference": reference_of(values["encounter"], "Encounter")}]}
    if "label" in values:
        label = concept_of(values["label"])["coding"][0]
        document["meta"] = {"security": [{"system": CONFIDENTIALITY, **label}]}
    if "replaces" in values:
        target = {"reference": reference_of(values["replaces"], TYPE)}
        document["relatesTo"] = [{"code": "replaces", "target": target}]
    return document


def concept_of(text: str) -> Json:
    """`system|code`, or a code alone."""
    system, bar, code = text.rpartition("|")
    return {"coding": [{"system": system, "code": code} if bar and system else {"code": code}]}
