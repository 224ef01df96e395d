"""The two sides of a batch or transaction entry: a request taken out of it, a response put into it.

Spec: https://hl7.org/fhir/R4/http.html#transaction-response
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any
from urllib.parse import unquote

from fhir_server.interactions.answers import preferences
from fhir_server.interactions.bundle import Entry, joined
from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from fhir_server.model.errors import FhirError, InvalidError, Issue
from fhir_server.model.exchange import Answer, Request

#: What resources in a Bundle are in, whatever the Bundle came in.
FHIR_JSON = "application/fhir+json"

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def request_of_entry(outer: Request, entry: Entry, index: int) -> Request:
    """The entry as a request of its own, with the caller and the preferences of the whole.

    Raises:
        InvalidError: 400; the entry has no request, or one that cannot be read.
    """
    place = f"Bundle.entry[{index}].request"
    if entry.request is None:
        raise InvalidError(
            "The entry has no request; one with method and url was expected.",
            code="required",
            expression=place,
            key="HS-BUNDLE-REQUEST",
        )
    method, url = entry.request.method, entry.request.url
    if method not in METHODS:
        raise InvalidError(
            f"The method is {method[:20]!r}; expected one of {', '.join(METHODS)}.",
            code="value",
            expression=f"{place}.method",
            key="HS-BUNDLE-METHOD",
        )
    path, query = split_url(url, outer.base_url, place)
    if not path and method == "POST":
        raise InvalidError(
            "A Bundle does not carry out another Bundle; POST it to the base by itself.",
            code="not-supported",
            expression=f"{place}.url",
            key="HS-BUNDLE-NESTED",
        )
    headers = (
        {"prefer": f"return={wanted}"} if (wanted := preferences(outer).get("return")) else {"prefer": "return=minimal"}
    )
    for name, value in (
        ("if-none-match", entry.request.ifNoneMatch),
        ("if-match", entry.request.ifMatch),
        ("if-none-exist", entry.request.ifNoneExist),
    ):
        if value is not None:
            headers[name] = value
    if entry.request.ifModifiedSince is not None:
        headers["if-modified-since"] = entry.request.ifModifiedSince
    body, content_type = bytes(entry.resource), FHIR_JSON if entry.resource else ""
    if method == "PATCH":
        body, content_type = patch_of_entry(body, index)
    return Request(
        method="GET" if method == "HEAD" else method,
        head=method == "HEAD",
        path=path,
        query=query,
        headers=headers,
        body=body,
        content_type=content_type,
        base_url=outer.base_url,
        nested=True,
    )


def patch_of_entry(body: bytes, index: int) -> tuple[bytes, str]:
    """The patch of an entry and its media type: what its Binary holds, or the Parameters that it is.

    Raises:
        InvalidError: 400; the Binary has no content type, or data that is no base64.
    """
    resource = codec.decode(body) if body else None
    if type(resource) is not dict or resource.get("resourceType") != "Binary":
        return body, FHIR_JSON
    content_type, data = resource.get("contentType"), resource.get("data")
    try:
        if type(content_type) is not str or type(data) is not str:
            raise ValueError("contentType or data is missing")
        return b64decode("".join(data.split()), validate=True), content_type.partition(";")[0].strip().lower()
    except ValueError as error:
        raise InvalidError(
            f"The Binary of the entry holds no patch: {error}.",
            code="structure",
            expression=f"Bundle.entry[{index}].resource",
            key="HS-BUNDLE-PATCH",
        ) from None


def split_url(url: str, base_url: str, place: str) -> tuple[tuple[str, ...], str]:
    """`Patient?name=x` as path and query; an absolute URL is taken when it is below our own base.

    Raises:
        InvalidError: 400; it leads to another server, or into nowhere.
    """
    local = url.removeprefix(base_url) if url[len(base_url) :][:1] in ("", "/", "?") else url
    if "://" in local.partition("?")[0]:
        raise InvalidError(
            f"The url {url[:200]!r} is not below this server's base {base_url}.",
            code="value",
            expression=f"{place}.url",
            key="HS-BUNDLE-URL",
        )
    path, _, query = local.partition("?")
    parts = tuple(unquote(part) for part in path.strip("/").split("/")) if path.strip("/") else ()
    return parts, query


def response_entry(request: Request, answer: Answer) -> bytes:
    """An answer as `entry.response`, with the resource where there is one."""
    response: dict[str, Any] = {"status": str(answer.status)}
    if location := answer.headers.get("Location"):
        response["location"] = location.removeprefix(f"{request.base_url}/")
    if answer.version is not None:
        response["etag"] = f'W/"{answer.version}"'
    if answer.moment_us is not None:
        response["lastModified"] = instant_of(answer.moment_us)
    if answer.body is None or request.head:
        return codec.encode({"response": response})
    if request.method != "GET" and answer.body.startswith(b'{"resourceType":"OperationOutcome"'):
        return codec.encode({"response": response})[:-2] + b',"outcome":' + answer.body + b"}}"
    return b'{"resource":' + answer.body + b"," + codec.encode({"response": response})[1:]


def failed_entry(error: FhirError) -> bytes:
    return codec.encode({"response": {"status": str(error.status), "outcome": error.outcome()}})


def response_of(kind: str, entries: list[bytes]) -> bytes:
    return joined({"resourceType": "Bundle", "type": kind}, entries)


def at_entry(error: FhirError, index: int) -> FhirError:
    """The same failure, its places told from the Bundle down, and the entry named in its words."""
    issues = []
    for issue in error.issues:
        inside = issue.expression or ""
        if inside.startswith("Bundle.entry["):
            place = inside
        else:
            _, _, rest = inside.partition(".")
            place = f"Bundle.entry[{index}].resource.{rest}" if rest else f"Bundle.entry[{index}]"
        issues.append(Issue(issue.code, f"Entry {index}: {issue.diagnostics}", place, issue.key, issue.severity))
    return error.retold(issues)
