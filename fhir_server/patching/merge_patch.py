"""JSON Merge Patch: a document like the resource that says what is to be there; null is what is to be gone.

R4 does not name it, and lets servers take other formats. Clients of R4B and R5 send it for what it is good at, a few
elements of a resource. A list is replaced as a whole.

Spec: https://www.rfc-editor.org/rfc/rfc7396 (which took the place of RFC 7386), https://hl7.org/fhir/R4/http.html#patch
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fhir_server.patching.document import Json, copied, same_resource
from fhir_server.patching.fault import malformed


@dataclass(frozen=True, slots=True)
class MergePatch:
    """One patch, read."""

    document: Json

    def apply(self, resource: Json) -> Json:
        """The resource with the patch merged into it; the one that is handed in stays as it is.

        Raises:
            UnprocessableError: 422; it would be another resource then.
        """
        return same_resource(resource, merged(resource, self.document))

    def linked(self, rewrite: Callable[[Json], bool]) -> MergePatch:
        """The patch with the links in it rewritten."""
        document = copied(self.document)
        rewrite(document)
        return MergePatch(document)


def merge_patch_of(document: Any) -> MergePatch:
    """Read a patch from its JSON.

    Raises:
        InvalidError: 400; it is no object: all else would put something in place of the whole resource.
    """
    if type(document) is not dict:
        raise malformed("A JSON Merge Patch is an object, as the resource is; something else was found.")
    return MergePatch(document)


def merged(target: Any, patch: Any) -> Any:
    """What a patch makes of a value (RFC 7396, section 2); both stay as they are.

    >>> merged({"a": "b", "c": {"d": "e", "f": "g"}}, {"a": "z", "c": {"f": None}})
    {'a': 'z', 'c': {'d': 'e'}}
    """
    if type(patch) is not dict:
        return copied(patch)
    made = {**target} if type(target) is dict else {}
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = merged(made.get(name), value)
    return made
