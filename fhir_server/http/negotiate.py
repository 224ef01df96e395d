"""Which format a client sends and wants.

FHIR JSON is spoken; XML and Turtle are refused by name (406 for an answer, 415 for a body), never answered with JSON in
their stead.

Spec: https://hl7.org/fhir/R4/http.html#mime-type, https://hl7.org/fhir/R4/http.html#parameters
"""

from __future__ import annotations

from functools import lru_cache

from fhir_server.model.errors import NotAcceptableError, UnsupportedMediaTypeError

FHIR_JSON = "application/fhir+json"
FORM = "application/x-www-form-urlencoded"
JSON_TYPES = frozenset({FHIR_JSON, "application/json", "text/json"})

#: Values of `_format` beside the media types themselves.
FORMAT_CODES = {"json": FHIR_JSON}
SPOKEN = "application/fhir+json (or json)"
R4 = frozenset({"4.0", "4.0.1"})


@lru_cache(maxsize=512)
def answer_type(accept: str, format_parameter: str | None) -> str:
    """The media type of the answer: `_format` wins over `Accept`, the highest quality among what is spoken.

    Raises:
        NotAcceptableError: 406; nothing that the client accepts is spoken.
    """
    if format_parameter is not None:
        # A plus sign in an unescaped query reads as a space.
        wanted = format_parameter.strip().replace(" ", "+").partition(";")[0].lower()
        chosen = FORMAT_CODES.get(wanted, wanted if wanted in JSON_TYPES else None)
        if chosen is None:
            raise NotAcceptableError(
                f"`_format` is {format_parameter[:80]!r}; this server speaks {SPOKEN}.", key="HS-HTTP-FORMAT"
            )
        return chosen
    best: tuple[float, int, str] | None = None
    for place, piece in enumerate(accept.split(",")):
        name, *parameters = (part.strip() for part in piece.split(";"))
        name = name.lower()
        options = {k.strip().lower(): v.strip().strip('"') for k, _, v in (p.partition("=") for p in parameters)}
        if options.get("fhirversion", "4.0") not in R4:
            continue
        chosen_type = FHIR_JSON if name in ("", "*/*", "application/*") else name
        quality = quality_of(options.get("q"))
        if chosen_type in JSON_TYPES and quality > 0 and (best is None or quality > best[0]):
            best = (quality, -place, chosen_type)
    if best is None:
        raise NotAcceptableError(
            f"The client accepts {accept[:200]!r}; this server speaks {SPOKEN}, FHIR version 4.0.",
            key="HS-HTTP-ACCEPT",
        )
    return best[2]


def quality_of(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0


@lru_cache(maxsize=512)
def body_type(content_type: str, *, form: bool) -> str:
    """The media type of a request's body, without parameters; a body without one is taken as FHIR JSON.

    `form` tells whether a form may be sent there: parameters of a search.

    Raises:
        UnsupportedMediaTypeError: 415; the body is in a format, character set or FHIR version that is not spoken.
    """
    name, *parameters = (part.strip() for part in content_type.split(";"))
    name = name.lower()
    if name not in JSON_TYPES and name != "" and not (form and name == FORM):
        raise UnsupportedMediaTypeError(
            f"The body is {name[:80]!r}; this server reads {SPOKEN}.", key="HS-HTTP-CONTENT-TYPE"
        )
    options = {k.strip().lower(): v.strip().strip('"').lower() for k, _, v in (p.partition("=") for p in parameters)}
    if options.get("charset", "utf-8") not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaTypeError(
            f"The body is in the character set {options['charset'][:40]!r}; JSON is sent as UTF-8.",
            key="HS-HTTP-CHARSET",
        )
    if options.get("fhirversion", "4.0") not in R4:
        raise UnsupportedMediaTypeError(
            f"The body is of FHIR version {options['fhirversion'][:20]!r}; this server reads 4.0.",
            key="HS-HTTP-FHIR-VERSION",
        )
    return name
