"""Which format a client sends and wants.

FHIR JSON and XML are spoken, and newline-delimited JSON where resources are listed; all else (Turtle) is refused by
name (406 for an answer, 415 for a body), never answered with JSON in its stead.

Spec: https://hl7.org/fhir/R4/http.html#mime-type, https://hl7.org/fhir/R4/http.html#parameters
"""

from __future__ import annotations

from functools import lru_cache

from fhir_server.model.errors import NotAcceptableError, UnsupportedMediaTypeError

FHIR_JSON = "application/fhir+json"
FHIR_XML = "application/fhir+xml"
FHIR_NDJSON = "application/fhir+ndjson"
FORM = "application/x-www-form-urlencoded"
GRAPHQL = "application/graphql"
JSON_TYPES = frozenset({FHIR_JSON, "application/json", "text/json"})
XML_TYPES = frozenset({FHIR_XML, "application/xml", "text/xml"})
NDJSON_TYPES = frozenset({FHIR_NDJSON, "application/ndjson", "application/x-ndjson"})
RESOURCE_TYPES = JSON_TYPES | XML_TYPES

#: Values of `_format` beside the media types themselves.
FORMAT_CODES = {"json": FHIR_JSON, "xml": FHIR_XML, "ndjson": FHIR_NDJSON}
WILDCARDS = frozenset({"", "*/*", "application/*"})
SPOKEN = "application/fhir+json (or json) and application/fhir+xml (or xml)"
NDJSON_PLACE = "; application/fhir+ndjson on searches and histories alone"
R4 = frozenset({"4.0", "4.0.1"})


@lru_cache(maxsize=512)
def answer_type(accept: str, format_parameter: str | None, *, lists: bool = False) -> str:
    """The media type of the answer: `_format` wins over `Accept`, the highest quality among what is spoken.

    A wildcard means JSON, or XML where the client excludes JSON (`q=0`). `lists` tells whether the answer lists
    resources, so that it can be newline-delimited.

    Raises:
        NotAcceptableError: 406; nothing that the client accepts is spoken.
    """
    spoken = RESOURCE_TYPES | NDJSON_TYPES if lists else RESOURCE_TYPES
    if format_parameter is not None:
        # A plus sign in an unescaped query reads as a space.
        wanted = format_parameter.strip().replace(" ", "+").partition(";")[0].lower()
        chosen = FORMAT_CODES.get(wanted, wanted)
        if chosen not in spoken:
            raise NotAcceptableError(
                f"`_format` is {format_parameter[:80]!r}; this server speaks {SPOKEN}{NDJSON_PLACE}.",
                key="HS-HTTP-FORMAT",
            )
        return chosen
    ranges = ranges_of(accept)
    refused = {name for name, quality in ranges if quality <= 0}
    best: tuple[float, str] | None = None
    for name, quality in ranges:
        chosen_type = name
        if name in WILDCARDS:
            chosen_type = next((one for one in (FHIR_JSON, FHIR_XML) if one not in refused), "")
        if chosen_type in spoken and quality > 0 and (best is None or quality > best[0]):
            best = (quality, chosen_type)
    if best is None:
        raise NotAcceptableError(
            f"The client accepts {accept[:200]!r}; this server speaks {SPOKEN}{NDJSON_PLACE}, FHIR version 4.0.",
            key="HS-HTTP-ACCEPT",
        )
    return best[1]


def ranges_of(accept: str) -> list[tuple[str, float]]:
    """The media ranges of an `Accept` header with their qualities, without those of other FHIR versions."""
    ranges = []
    for piece in accept.split(","):
        name, *parameters = (part.strip() for part in piece.split(";"))
        options = {k.strip().lower(): v.strip().strip('"') for k, _, v in (p.partition("=") for p in parameters)}
        if options.get("fhirversion", "4.0") in R4:
            ranges.append((name.lower(), quality_of(options.get("q"))))
    return ranges


def quality_of(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0


def lists_resources(method: str, path: tuple[str, ...]) -> bool:
    """Whether an address is one of a search (of the system, a type or a compartment) or a history."""
    last = path[-1] if path else ""
    if method == "POST":
        return last == "_search"
    if method not in ("GET", "HEAD"):
        return False
    return last == "_history" or (len(path) in (0, 1, 3) and last != "metadata" and not last.startswith("$"))


@lru_cache(maxsize=512)
def body_type(content_type: str, *, form: bool, patch: bool = False, graphql: bool = False) -> str:
    """The media type of a request's body, without parameters; a body without one is taken as FHIR JSON.

    `form` tells whether a form may be sent there: parameters of a search; `patch` that it is a patch, whose formats are
    known to who reads it; `graphql` that a query of that language may be sent.

    Raises:
        UnsupportedMediaTypeError: 415; the body is in a format, character set or FHIR version that is not spoken.
    """
    name, *parameters = (part.strip() for part in content_type.split(";"))
    name = name.lower()
    known = (form and name == FORM) or (graphql and name == GRAPHQL) or patch
    if name not in RESOURCE_TYPES and name != "" and not known:
        raise UnsupportedMediaTypeError(
            f"The body is {name[:80]!r}; this server reads {SPOKEN}.", key="HS-HTTP-CONTENT-TYPE"
        )
    options = {k.strip().lower(): v.strip().strip('"').lower() for k, _, v in (p.partition("=") for p in parameters)}
    if options.get("charset", "utf-8") not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaTypeError(
            f"The body is in the character set {options['charset'][:40]!r}; JSON and XML are sent as UTF-8.",
            key="HS-HTTP-CHARSET",
        )
    if options.get("fhirversion", "4.0") not in R4:
        raise UnsupportedMediaTypeError(
            f"The body is of FHIR version {options['fhirversion'][:20]!r}; this server reads 4.0.",
            key="HS-HTTP-FHIR-VERSION",
        )
    return name
