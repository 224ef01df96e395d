"""Index entries of uri parameters: the strings as they are; a versioned canonical is found without its version as well.

Spec: https://hl7.org/fhir/R4/search.html#uri
"""

from __future__ import annotations

from typing import Any

from fhir_server.search.entries import INSIDE, Further, Make


def maker_of(type_name: str) -> Make | None:
    """The maker for `uri`, `url`, `canonical`, `oid` or `uuid`."""
    if type_name == "canonical":
        return canonical
    return _uri if type_name in ("uri", "url", "oid", "uuid") else None


def canonical(value: Any, main: list[Any], further: Further) -> None:
    """`url`, and `url|version` for one with a version; a fragment points into its own resource."""
    if value.startswith("#"):
        fragment(value, further)
        return
    url, bar, _ = value.partition("|")
    if url:
        main.append(url)
    if bar:
        main.append(value)


def _uri(value: Any, main: list[Any], further: Further) -> None:
    main.append(value)


def fragment(reference: str, further: Further) -> None:
    """`#m1` leads to a contained resource; `#` alone to what contains it, which leaves nothing."""
    if len(reference) > 1:
        further.setdefault(INSIDE, []).append(reference[1:])
