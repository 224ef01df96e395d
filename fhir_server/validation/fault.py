"""What a check finds: nothing (None), or faults whose place is told relative to the value that was checked.

A valid resource costs no path at all: each level prefixes its own name to the faults that come up through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fhir_server.model.errors import Issue, Severity

Json = dict[str, Any]

#: Values that are shown back to the client are cut at this many characters.
SHOWN_LENGTH = 60


#: What an object may be found with for its invariants still to be asked: nothing that makes its members unreadable.
UNREADABLE = frozenset(
    {
        *("HS-VAL-CHOICE", "HS-VAL-EMPTY", "HS-VAL-JSON-TYPE", "HS-VAL-NULL", "HS-VAL-RESOURCE-TYPE"),
        "HS-VAL-TWIN-LENGTH",
    }
)


class Fault:
    """One thing that is wrong. `path` is relative until it has come all the way up; `rule` as in an `Issue`."""

    __slots__ = ("code", "diagnostics", "key", "path", "rule", "severity")

    def __init__(
        self,
        key: str,
        code: str,
        diagnostics: str,
        *,
        path: str = "",
        severity: Severity = "error",
        rule: tuple[str, str] | None = None,
    ) -> None:
        self.key = key
        self.code = code
        self.diagnostics = diagnostics
        self.path = path
        self.severity = severity
        self.rule = rule

    def under(self, name: str) -> None:
        """Prefix a name (`contact`) or an index (`[0]`)."""
        path = self.path
        self.path = f"{name}.{path}" if path and path[0] != "[" else name + path

    def as_issue(self) -> Issue:
        return Issue(self.code, self.diagnostics, self.path, self.key, self.severity, self.rule)


class NullItem(Fault):
    """A null in an array of primitives: right if the twin array holds an Element at the same index."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        super().__init__(
            "HS-VAL-NULL",
            "structure",
            "Found null without an Element at the same index of the array with the underscore; expected a value.",
            path=f"[{index}]",
        )
        self.index = index


class FragmentReference(Fault):
    """A reference `#id`: right if the enclosing resource contains that id, with an allowed type."""

    __slots__ = ("id", "targets")

    def __init__(self, fragment: str, targets: frozenset[str] | None) -> None:
        super().__init__(
            "HS-VAL-FRAGMENT",
            "not-found",
            f"Found the reference {shown(fragment)}; expected a resource in `contained` with this id.",
        )
        self.id = fragment[1:]
        self.targets = targets


class ConditionalReference(Fault):
    """A reference `Type?criteria`: right in a transaction Bundle only, where the server resolves it."""

    __slots__ = ()


class UnknownMember(Fault):
    """A member that the type does not define; the suggestion is sought late, and only for the first few."""

    __slots__ = ("known", "name")

    def __init__(self, name: str, *known: Iterable[str]) -> None:
        """`known` are the collections of names that would have been right; they are kept, not copied."""
        super().__init__("HS-VAL-UNKNOWN", "structure", "", path=step_of(name))
        self.name = name
        self.known = known


Found = list[Fault] | None
Check = Callable[[Any], Found]


def under(found: list[Fault], name: str, faults: Found) -> list[Fault]:
    """Prefix the name to what was found, and add it to the faults so far."""
    for fault in found:
        fault.under(name)
    if faults is None:
        return found
    faults.extend(found)
    return faults


def also(fault: Fault, faults: Found) -> list[Fault]:
    """Add one fault to those so far."""
    if faults is None:
        return [fault]
    faults.append(fault)
    return faults


def are_readable(faults: Iterable[Fault]) -> bool:
    """Whether what was found leaves the members of the object such as its type has them."""
    return not any(fault.key in UNREADABLE for fault in faults)


def wrong_type(value: Any, expected: str) -> list[Fault]:
    """Another JSON type than the element has (or null, or an empty string, array or object)."""
    if value is None:
        return [Fault("HS-VAL-NULL", "structure", f"Found null; expected {expected}, or no member at all.")]
    if value in ("", [], {}):
        text = f"Found an empty {kind_of(value)}; expected {expected} with content, or no member at all."
        return [Fault("HS-VAL-EMPTY", "structure", text)]
    return [Fault("HS-VAL-JSON-TYPE", "structure", f"Found {kind_of(value)} {shown(value)}; expected {expected}.")]


def kind_of(value: Any) -> str:
    """The JSON name of a Python value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "number"


def shown(value: Any) -> str:
    """A short, printable form of a value: cut, escaped, without the content of arrays and objects."""
    if isinstance(value, str):
        text = value if len(value) <= SHOWN_LENGTH else value[:SHOWN_LENGTH] + "…"
        return repr(text)
    if isinstance(value, dict):
        return f"with {len(value)} members"
    if isinstance(value, list):
        return f"with {len(value)} items"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int) and value.bit_length() > 200:
        return f"with about {value.bit_length() * 3 // 10} digits"
    text = str(value)
    return text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "…"


def step_of(name: str) -> str:
    """A member's name as one step of a FHIRPath; a name that is no identifier is delimited, escaped and cut."""
    if name.isidentifier() and name.isascii() and len(name) <= SHOWN_LENGTH:
        return name
    return f"`{repr(name[:SHOWN_LENGTH])[1:-1].replace('`', chr(92) + '`')}`"
