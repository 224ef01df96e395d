"""References: by id, by type and id, by URL, by canonical URL.

Spec: https://hl7.org/fhir/R4/search.html#reference
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fhir_server.search.escape import unescape
from fhir_server.search.query import Parameter, ReferenceValue, TokenValue, Value
from fhir_server.search.types import token
from fhir_server.search.types.conditions import Filter, any_of, either, malformed, starts_with
from profiles.registry import Registry
from profiles.terminology import Terminology

SHAPE = "an id, Type/id, an absolute URL or a URN"

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_LOCAL = re.compile(r"([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_HISTORY = re.compile(r"/_history/[A-Za-z0-9\-.]{1,64}$")


def parse_value(
    parameter: Parameter, name: str, modifier: str | None, text: str, base_url: str, registry: Registry
) -> ReferenceValue | TokenValue:
    """Read a reference; one below our own base URL becomes relative, and a version is dropped.

    Raises:
        InvalidError: 400; no reference, or one to another type than the modifier names.
    """
    if modifier == "identifier":
        return token.parse_token(name, text)
    plain = unescape(text)
    if parameter.canonical:
        return ReferenceValue((plain,))
    if base_url and plain.startswith(base_url):
        plain = plain[len(base_url) :].lstrip("/")
    if ":" in plain:
        return ReferenceValue((_HISTORY.sub("", plain),))
    local = _LOCAL.fullmatch(plain)
    if local is not None:
        target, logical_id = local.groups()
        if not registry.is_resource_type(target):
            raise malformed(name, text, f"{SHAPE}; {target!r} is no resource type")
        if modifier is not None and target != modifier:
            raise malformed(name, text, f"a reference to {modifier}, as the modifier says")
        return ReferenceValue((f"{target}/{logical_id}",))
    if _ID.fullmatch(plain) is None:
        raise malformed(name, text, SHAPE)
    targets = parameter.targets if modifier is None else (modifier,)
    return ReferenceValue(tuple([f"{target}/{plain}" for target in targets]))


def condition(field: str, modifier: str | None, values: Sequence[Value], terminology: Terminology) -> Filter:
    """The entries of a field are one of the references."""
    if modifier == "identifier":
        return token.condition(f"{field}:identifier", None, values, terminology)
    entries = [entry for v in values if isinstance(v, ReferenceValue) for entry in v.entries]
    if modifier == "below":
        return either([_below(field, entry) for entry in entries])
    if modifier == "above":
        entries = [above for entry in entries for above in _versions_above(entry)]
    return any_of(field, list(dict.fromkeys(entries)))


def _below(field: str, canonical: str) -> Filter:
    """`url` is above all its versions; `url|1.2` is above `url|1.2` and `url|1.2.3`."""
    if "|" not in canonical:
        return any_of(field, [canonical])
    return either([any_of(field, [canonical]), starts_with(field, f"{canonical}.")])


def _versions_above(canonical: str) -> list[str]:
    url, bar, version = canonical.partition("|")
    parts = version.split(".") if bar else []
    return [f"{url}|{'.'.join(parts[:n])}" for n in range(len(parts), 0, -1)] or [canonical]
