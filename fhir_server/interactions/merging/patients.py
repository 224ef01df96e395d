"""The two records themselves: which they are, whether they can be merged, and what becomes of them.

Spec: https://hl7.org/fhir/R4/patient.html#links, https://hl7.org/fhir/R5/patient-operation-merge.html
"""

from __future__ import annotations

import re
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.matching.facts import rows, text
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError, UnprocessableError
from fhir_server.search.escape import escape
from fhir_server.storage.document import Version

Json = dict[str, Any]
LOCAL = re.compile(r"Patient/([A-Za-z0-9\-.]{1,64})(?:/_history/\d+)?")


async def patient_of(context: Context, inputs: Inputs, name: str, base_url: str) -> Version:
    """The record that `<name>` (a reference) or `<name>-identifier` (one or more) names.

    Raises:
        InvalidError: 400; neither is given, or what is given has another shape.
        UnprocessableError: 422; the identifiers select no record, or several, or another one than the reference.
        NotFoundError, GoneError: 404, 410; the reference leads nowhere.
    """
    given, identifiers = inputs.one(name), inputs.all(f"{name}-identifier")
    reference = given.get("reference") if type(given) is dict else given
    found: Version | None = None
    if reference is not None:
        local = LOCAL.fullmatch(str(reference).removeprefix(f"{base_url}/"))
        if local is None:
            raise InvalidError(
                f"{name!r} is {str(reference)[:80]!r}; a reference to a Patient of this server was expected.",
                expression=f"Parameters.parameter.where(name='{name}')",
                key="HS-OP-PARAMETER",
            )
        found = await context.repository.read("Patient", local[1])
    elif not identifiers:
        inputs.required(name, None)
    for identifier in identifiers:
        found = await same_by_identifier(context, name, identifier, found)
    assert found is not None
    return found


async def same_by_identifier(context: Context, name: str, identifier: Any, found: Version | None) -> Version:
    """The one record with an identifier, which must be the one found before."""
    if type(identifier) is not dict or not text(identifier, "value") or not text(identifier, "system"):
        raise InvalidError(
            f"'{name}-identifier' needs a system and a value.",
            expression=f"Parameters.parameter.where(name='{name}-identifier')",
            key="HS-OP-PARAMETER",
        )
    token = f"{text(identifier, 'system')}|{text(identifier, 'value')}"
    pairs = [("identifier", f"{escape(identifier['system'])}|{escape(identifier['value'])}")]
    page = (await context.searcher.search("Patient", pairs, strict=True, default_count=2, max_count=2)).page
    if len(page.rows) != 1 or (found is not None and page.rows[0]["_id"] != found.id):
        what = "no record" if not page.rows else "several records" if len(page.rows) > 1 else "another record"
        raise UnprocessableError(f"{name}: the identifier {token!r} selects {what}.", key="HS-MERGE-PATIENT")
    return await context.repository.read("Patient", page.rows[0]["_id"])


def require_mergeable(source: Version, target: Version) -> bool:
    """Whether these two were merged before, so that only what came since is to be turned.

    Raises:
        UnprocessableError: 422; they are one record, or one of them is merged into another already.
    """
    if source.id == target.id:
        raise UnprocessableError(f"Source and target are one record: Patient/{source.id}.", key="HS-MERGE-PATIENT")
    into = replaced_by(codec.decode(source.body or b""))
    if into not in (None, f"Patient/{target.id}"):
        raise UnprocessableError(f"Patient/{source.id} is merged into {into} already.", key="HS-MERGE-PATIENT")
    further = replaced_by(codec.decode(target.body or b""))
    if further is not None:
        raise UnprocessableError(
            f"Patient/{target.id} is itself merged into {further}; merge into that one.", key="HS-MERGE-PATIENT"
        )
    return into is not None


def replaced_by(patient: Json) -> str | None:
    """The record that a patient's is replaced by."""
    for link in rows(patient, "link"):
        other = link.get("other")
        if link.get("type") == "replaced-by" and type(other) is dict:
            return text(other, "reference") or None
    return None


def retired(source: Json, target_id: str) -> Json:
    """The source as it is after the merge: not in use, and leading to the target."""
    return with_link({**source, "active": False}, target_id, "replaced-by")


def surviving(target: Json, source: Json, result: Json | None) -> Json:
    """The target as it is after the merge: as the client says, or itself with the source's identifiers as old ones.

    Raises:
        UnprocessableError: 422; the client's result has another id than the target.
    """
    if result is not None:
        if result.get("resourceType") != "Patient" or result.get("id") != target["id"]:
            raise UnprocessableError(
                f"'result-patient' is the target as it is to be, Patient/{target['id']}; found "
                f"{result.get('resourceType')}/{result.get('id')}.",
                expression="Parameters.parameter.where(name='result-patient').resource.id",
                key="HS-MERGE-RESULT",
            )
        return with_link(result, source["id"], "replaces")
    known = {(text(row, "system"), text(row, "value")) for row in rows(target, "identifier")}
    old = [
        {**row, "use": "old"}
        for row in rows(source, "identifier")
        if (text(row, "system"), text(row, "value")) not in known
    ]
    merged = {**target, "identifier": [*target.get("identifier", []), *old]} if old else target
    return with_link(merged, source["id"], "replaces")


def with_link(patient: Json, other_id: str, kind: str) -> Json:
    link = {"other": {"reference": f"Patient/{other_id}"}, "type": kind}
    others = without_link(patient, other_id, kind).get("link", [])
    return {**patient, "link": [*others, link]}


def without_link(patient: Json, other_id: str, kind: str) -> Json:
    """The patient without one link; without the element where it was the only one."""
    reference = f"Patient/{other_id}"
    kept = [
        row
        for row in rows(patient, "link")
        if row.get("type") != kind or (row.get("other") or {}).get("reference") != reference
    ]
    rest = {name: value for name, value in patient.items() if name != "link"}
    return {**rest, "link": kept} if kept else rest
