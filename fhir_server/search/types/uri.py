"""URIs: compared as they are, or by what they begin with.

Spec: https://hl7.org/fhir/R4/search.html#uri
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fhir_server.search.query import TextValue, Value
from fhir_server.search.types.conditions import Filter, any_of, either, starts_with

_BOUNDARY = re.compile(r"(?<=[^/])/(?!/)|[?#|]")


def condition(field: str, modifier: str | None, values: Sequence[Value]) -> Filter:
    """The entries of a field equal one of the values, or are below (begin with it) or above (it begins with them)."""
    uris = [v.text for v in values if isinstance(v, TextValue)]
    if modifier == "below":
        return either([any_of(field, [u]) if u.startswith("urn:") else starts_with(field, u) for u in uris])
    if modifier == "above":
        uris = [above for uri in uris for above in prefixes_of(uri)]
    return any_of(field, list(dict.fromkeys(uris)))


def prefixes_of(uri: str) -> list[str]:
    """A URI and those above it, with and without the slash at the end; a URN has none above.

    >>> prefixes_of("http://x.org/a/b")
    ['http://x.org/a/b', 'http://x.org', 'http://x.org/', 'http://x.org/a', 'http://x.org/a/']
    """
    if uri.startswith("urn:"):
        return [uri]
    ends = [end for found in _BOUNDARY.finditer(uri, uri.find("://") + 3) for end in found.span()]
    return list(dict.fromkeys([uri, *(uri[:end] for end in ends)]))
