"""What a terminology operation is asked: codes, versions, languages, dates, and the definition that is meant.

Spec: https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.definitions import carried
from fhir_server.interactions.parameters import Inputs, wrong
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.dates import Interval, interval_of
from fhir_server.model.errors import InvalidError, NotFoundError
from fhir_server.model.exchange import Request
from fhir_server.repository.history import HistoryQuery
from fhir_server.terminology.engine import Versions
from fhir_server.terminology.past import PastEngine, lost

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Coded:
    """One code that is asked about."""

    system: str
    code: str
    version: str = ""
    display: str = ""

    def __str__(self) -> str:
        return f"{self.system}|{self.code}" if self.system else self.code


def codings_of(inputs: Inputs, system: str, version: str, *, code: str = "code") -> list[Coded]:
    """What is asked about: exactly one of `code`, `coding` and `codeableConcept`.

    Args:
        system: the system of a `code`
        version: the version of that system that is meant
        code: the name of the parameter with the code, by which that of the Coding is named as well

    Raises:
        InvalidError: 400; none of them is given, or several, or one has no code.
    """
    one, coding = inputs.text(code), inputs.resource(code.replace("code", "coding"))
    concept = inputs.resource("codeableConcept") if code == "code" else None
    given = [name for name, value in (("code", one), ("coding", coding), ("codeableConcept", concept)) if value]
    if len(given) != 1:
        names = "`code`, `coding` and `codeableConcept`" if code == "code" else f"`{code}` and `coding{code[4:]}`"
        raise InvalidError(
            f"One of {names} is needed; given: {', '.join(given) or 'none'}.",
            code="required" if not given else "invalid",
            expression=f"Parameters.parameter.where(name='{code}')",
            key="HS-OP-PARAMETER",
        )
    if one is not None:
        return [Coded(system, one, version, text_in(inputs, "display"))]
    rows = concept.get("coding") if concept is not None else [coding]
    found = [_coded(row, system, version) for row in (rows if type(rows) is list else ()) if type(row) is dict]
    return [row for row in found if row.code] or _refuse(given[0], coding or concept)


def _refuse(name: str, found: object) -> list[Coded]:
    raise wrong(name, found, "a coding with a code")


def _coded(row: Json, system: str, version: str) -> Coded:
    texts = {name: row[name] for name in ("system", "code", "version", "display") if type(row.get(name)) is str}
    return Coded(
        texts.get("system", system), texts.get("code", ""), texts.get("version", version), texts.get("display", "")
    )


def text_in(inputs: Inputs, name: str) -> str:
    return inputs.text(name) or ""


def at_date(context: Context, inputs: Inputs) -> Context:
    """The server with its terminology as it was at the end of the `date` that is asked for; today's is the current one.

    Raises:
        UnprocessableError: 422; the date has passed, and what was so then is not kept here.
    """
    text = inputs.text("date")
    if text is None or (end_us := interval_of(text).end_us) > now_us():
        return context
    if context.terminology.as_of is None:
        raise lost(end_us - 1, "the definitions of the past are not kept")
    return replace(context, terminology=context.terminology.as_of(end_us - 1))


async def _version_of(context: Context, kind: str, resource_id: str) -> bytes:
    """The JSON of a definition by its id, as it is, or as it was at the date that is asked for.

    Raises:
        NotFoundError: 404; there is none, or there was none then.
        GoneError: 410; it is deleted.
    """
    if not isinstance(context.terminology, PastEngine):
        return (await context.repository.read(kind, resource_id)).body or b""
    moment_us = context.terminology.moment_us
    at = Interval(moment_us, moment_us + 1)
    versions = (await context.repository.history(HistoryQuery(kind, resource_id, at=at, count=1))).versions
    body = versions[0].body if versions else None
    if body is None:
        raise NotFoundError(
            f"There was no {kind}/{resource_id} at {instant_of(moment_us)}.",
            key="HS-TERM-DATE",
            expression="Parameters.parameter.where(name='date')",
        )
    return body


async def definition_of(context: Context, request: Request, inputs: Inputs, inline: str, version: str) -> Json | None:
    """The definition that is meant: that of the address, or one that is sent along; None: it is named by its URL.

    Raises:
        InvalidError: 400; the address and the parameters name different ones, or what is sent along is not valid.

    Args:
        inline: the name of the parameter with the definition itself
        version: the name of the parameter with the version of the one that is named
    """
    kind = request.path[0]
    sent = inputs.resource(inline)
    if len(request.path) == 3:
        if sent is not None or inputs.text("url") is not None:
            raise InvalidError(
                f"The address names a {kind}; `url` and `{inline}` go with [base]/{kind}/{request.path[-1]}.",
                expression=f"Parameters.parameter.where(name='{inline if sent is not None else 'url'}')",
                key="HS-OP-PARAMETER",
            )
        try:
            body: bytes | None = await _version_of(context, kind, request.path[1])
        except NotFoundError:
            if (body := carried(kind, request.path[1], request.base_url)) is None:
                raise
        resource: Json = codec.decode(body or b"")
        return resource
    if sent is not None and sent.get("resourceType") != kind:
        raise wrong(inline, sent.get("resourceType"), f"a {kind}")
    if sent is not None:
        faults = [issue for issue in context.repository.issues_of(sent) if issue.severity in ("error", "fatal")]
        if faults:
            raise InvalidError(faults)
    return sent


def canonical_of(inputs: Inputs, version: str, *, needed: str = "") -> str:
    """The canonical URL that `url` and the parameter with its version name; empty where there is none.

    Raises:
        InvalidError: 400; there is none, and `needed` says what it is needed for.
    """
    url, named = text_in(inputs, "url"), text_in(inputs, version)
    if not url and needed:
        raise InvalidError(
            f"`url` is missing: it names the {needed}.",
            code="required",
            expression="Parameters.parameter.where(name='url')",
            key="HS-OP-PARAMETER",
        )
    return f"{url.partition('|')[0]}|{named}" if url and named else url


def not_held(what: str, canonical: str) -> NotFoundError:
    """What is said of a definition that nobody here has."""
    return NotFoundError(
        f"The {what} {canonical[:200]!r} is not held on this server, and no other one knows it.",
        key="HS-TERM-UNKNOWN",
    )


def pairs_of(inputs: Inputs, name: str) -> tuple[tuple[str, str], ...]:
    """The parameters of the form `system|version`.

    Raises:
        InvalidError: 400; one has no version.
    """
    found = []
    for value in inputs.all(name):
        system, _, version = str(value).partition("|")
        if not system or not version:
            raise wrong(name, value, "a code system with its version, system|version,")
        found.append((system, version))
    return tuple(found)


def versions_of(inputs: Inputs) -> Versions:
    """Which versions of code systems an expansion is asked for with."""
    return Versions(
        pairs_of(inputs, "system-version"),
        pairs_of(inputs, "check-system-version"),
        pairs_of(inputs, "force-system-version"),
    )


def optional_flag(inputs: Inputs, name: str) -> bool | None:
    """A boolean that says something else when it is not given."""
    return None if inputs.one(name) is None else inputs.flag(name)
