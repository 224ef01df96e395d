"""Answers in the format that the client wants, bodies out of the format that it sends; inside there is JSON alone.

Spec: https://hl7.org/fhir/R4/http.html#mime-type, https://hl7.org/fhir/R4/nd-json.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from urllib.parse import quote

from fhir_server.formats.convert import Converter
from fhir_server.formats.ndjson import line_of, lines_of
from fhir_server.http.negotiate import FHIR_JSON, JSON_TYPES, NDJSON_TYPES, answer_type
from fhir_server.model import codec
from fhir_server.model.errors import FhirError, NotAcceptableError
from fhir_server.model.exchange import Answer

#: Converting more than this would hold the event loop for several milliseconds.
THREAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Presentation:
    """How an answer is shown: its media type, whether it is indented, and the `_format` that was asked for."""

    media_type: str = FHIR_JSON
    pretty: bool = False
    format_parameter: str | None = None

    @property
    def is_json(self) -> bool:
        return self.media_type in JSON_TYPES

    @property
    def relink(self) -> Callable[[str], str] | None:
        """Adds `_format` to the address of another page, so that it is told like this one."""
        return None if self.format_parameter is None else partial(with_format, wanted=self.format_parameter)


#: FHIR JSON on one line.
PLAIN = Presentation()


@lru_cache(maxsize=512)
def accepted(accept: str, lists: bool) -> Presentation:
    """What `Accept` alone asks for.

    Raises:
        NotAcceptableError: 406; nothing of it is spoken.
    """
    return Presentation(answer_type(accept, None, lists=lists))


def presentation_of(accept: str, parameters: list[tuple[str, str]], lists: bool) -> Presentation:
    """What `Accept`, `_format` and `_pretty` ask for.

    Raises:
        NotAcceptableError: 406; nothing of it is spoken.
    """
    wanted = next((value for name, value in parameters if name == "_format" and value), None)
    pretty = any(name == "_pretty" and value == "true" for name, value in parameters)
    return Presentation(answer_type(accept, wanted, lists=lists), pretty, wanted)


def with_format(url: str, wanted: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}_format={quote(wanted, safe='/')}"


async def json_body(converter: Converter, xml: bytes) -> bytes:
    """The JSON of a body in XML."""
    if len(xml) < THREAD_BYTES:
        return converter.json_of(xml)
    return await asyncio.to_thread(converter.json_of, xml)


async def presented(converter: Converter, answer: Answer, how: Presentation) -> Answer:
    """The answer with its body in another format than JSON; what cannot be told in it has become an outcome."""
    if answer.body is None:
        return answer
    try:
        if len(answer.body) < THREAD_BYTES:
            return _converted(converter, answer, how)
        return await asyncio.to_thread(_converted, converter, answer, how)
    except FhirError as error:
        refused = Answer(error.status, codec.encode(error.outcome()), dict(error.headers))
        return _converted(converter, refused, how)


def _converted(converter: Converter, answer: Answer, how: Presentation) -> Answer:
    assert answer.body is not None
    if how.media_type not in NDJSON_TYPES:
        return replace(answer, body=converter.xml_of(answer.body, pretty=how.pretty, relink=how.relink))
    if answer.status >= 400:
        return replace(answer, body=line_of(answer.body))
    lines = lines_of(answer.body, how.relink)
    if lines is None:
        raise NotAcceptableError(
            "The answer is no list of resources, so it cannot be newline-delimited; ask for application/fhir+json.",
            key="HS-HTTP-NDJSON",
        )
    return replace(answer, body=lines.body, headers={**answer.headers, "Link": lines.link})
