"""Mutators: each puts one kind of fault into a resource, and declares the issue that a validator must tell of it.

What is expected is written here and in the rows of `faults.txt`, from the specification; nothing of it is asked of the
validator.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

Json = dict[str, Any]
FOLDER = Path(__file__).parent
TYPES = "http://hl7.org/fhir/StructureDefinition/"
STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


@dataclass(frozen=True)
class Expected:
    """All that an issue says besides its words; `rule` is the canonical and the key of an invariant."""

    severity: str
    code: str
    key: str
    path: str
    rule: tuple[str, str] | None = None


@dataclass(frozen=True)
class Mutator:
    """How a value changes, and the severity, the code and the key of what is told; `below` is where, from the value."""

    change: Callable[[Any], Any]
    code: str
    key: str
    severity: str = "error"
    below: str = ""


class Drop:
    """What a change gives for a value that goes."""


def put(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


def with_members(**members: Any) -> Callable[[Any], Any]:
    return lambda value: {**value, **members}


def other_code(value: Any) -> Any:
    """A code, Coding, CodeableConcept or array of those, with a code that no value set has."""
    if isinstance(value, list):
        return [other_code(item) for item in value]
    if isinstance(value, dict):
        return {
            name: other_code(item) if name in ("coding", "code", "currency") else item for name, item in value.items()
        }
    return "no-such-code"


VALUE, STRUCTURE = "value", "structure"

MUTATORS: dict[str, Mutator] = {
    # What is there and what is not
    "absent": Mutator(put(Drop), "required", "HS-VAL-REQUIRED"),
    "unknown": Mutator(with_members(colour="red"), STRUCTURE, "HS-VAL-UNKNOWN", below="colour"),
    "null": Mutator(put(None), STRUCTURE, "HS-VAL-NULL"),
    "empty object": Mutator(put({}), STRUCTURE, "HS-VAL-EMPTY"),
    "empty array": Mutator(put([]), STRUCTURE, "HS-VAL-EMPTY"),
    "empty string": Mutator(put(""), STRUCTURE, "HS-VAL-EMPTY"),
    "id alone": Mutator(put({"id": "x"}), STRUCTURE, "HS-VAL-EMPTY"),
    "several": Mutator(lambda value: [value], STRUCTURE, "HS-VAL-JSON-TYPE"),
    "not several": Mutator(lambda value: value[0], STRUCTURE, "HS-VAL-JSON-TYPE"),
    # Types
    "number": Mutator(put(17), STRUCTURE, "HS-VAL-JSON-TYPE"),
    "text": Mutator(put("17"), STRUCTURE, "HS-VAL-JSON-TYPE"),
    "truth": Mutator(put(True), STRUCTURE, "HS-VAL-JSON-TYPE"),
    "fraction": Mutator(put(Decimal("1.5")), STRUCTURE, "HS-VAL-JSON-TYPE"),
    # Formats
    "no such day": Mutator(put("2023-02-29"), VALUE, "HS-VAL-DATE"),
    "no such dateTime": Mutator(put("2023-04-31T10:00:00Z"), VALUE, "HS-VAL-DATETIME"),
    "no zone": Mutator(put("2024-05-01T10:00:00"), VALUE, "HS-VAL-DATETIME"),
    "no time": Mutator(put("2024-05-01"), VALUE, "HS-VAL-INSTANT"),
    "no such hour": Mutator(put("24:00:00"), VALUE, "HS-VAL-TIME"),
    "time of a date": Mutator(put("2024-05-01T10:00:00Z"), VALUE, "HS-VAL-DATE"),
    "zero": Mutator(put(0), VALUE, "HS-VAL-POSITIVE-INT"),
    "negative": Mutator(put(-1), VALUE, "HS-VAL-UNSIGNED-INT"),
    "too large": Mutator(put(2**31), VALUE, "HS-VAL-INTEGER"),
    "spaced uri": Mutator(put("http://e.example/a b"), VALUE, "HS-VAL-URI"),
    "spaced code": Mutator(put("a  b"), VALUE, "HS-VAL-CODE"),
    "bad id": Mutator(put("a_b"), VALUE, "HS-VAL-ID"),
    "control character": Mutator(put("a\u0007b"), VALUE, "HS-VAL-CHARACTER"),
    "blank": Mutator(put("  "), VALUE, "HS-VAL-BLANK", "warning"),
    "not base64": Mutator(put("SGVsbG8"), VALUE, "HS-VAL-BASE64"),
    # Codes, references, extensions, narrative, contained resources
    "other code": Mutator(other_code, "code-invalid", "HS-VAL-BINDING"),
    "wrong target": Mutator(
        put({"reference": "ValueSet/x"}), VALUE, "HS-VAL-TARGET", severity="warning", below="reference"
    ),
    "wrong target type": Mutator(put({"type": "ValueSet"}), VALUE, "HS-VAL-TARGET", severity="warning", below="type"),
    "no resource type": Mutator(put({"reference": "Doctor/x"}), VALUE, "HS-VAL-REFERENCE", below="reference"),
    "no reference": Mutator(put({"reference": "somebody"}), VALUE, "HS-VAL-REFERENCE", below="reference"),
    "condition": Mutator(put({"reference": "Patient?identifier=1"}), VALUE, "HS-VAL-CONDITIONAL", below="reference"),
    "dangling": Mutator(put({"reference": "#nobody"}), "not-found", "HS-VAL-FRAGMENT", below="reference"),
    "contrary type": Mutator(lambda value: {**value, "type": "ValueSet"}, VALUE, "HS-VAL-REFERENCE-TYPE", below="type"),
    "two contents": Mutator(
        with_members(extension=[{"url": "http://e.example/x", "valueCode": "x"}]), "invariant", "HS-VAL-EXTENSION"
    ),
    "no content": Mutator(put({"url": "http://e.example/x"}), "invariant", "HS-VAL-EXTENSION"),
    "no url": Mutator(put({"valueString": "x"}), "required", "HS-VAL-REQUIRED", below="url"),
    "script": Mutator(
        put('<div xmlns="http://www.w3.org/1999/xhtml"><script>x</script></div>'),
        "invariant",
        "HS-VAL-NARRATIVE-ELEMENT",
    ),
    "event handler": Mutator(
        put('<div xmlns="http://www.w3.org/1999/xhtml" onclick="x">x</div>'), "invariant", "HS-VAL-NARRATIVE-ATTRIBUTE"
    ),
    "no namespace": Mutator(put("<div>x</div>"), STRUCTURE, "HS-VAL-NARRATIVE-ROOT"),
    "no xml": Mutator(put("<div>"), STRUCTURE, "HS-VAL-NARRATIVE-XML"),
    "no resource": Mutator(
        put({"resourceType": "Pacient", "id": "home"}), STRUCTURE, "HS-VAL-RESOURCE-TYPE", below="resourceType"
    ),
}


@dataclass(frozen=True)
class Row:
    """One fault: where it is put, and the one issue that it makes."""

    line: int
    type: str
    mutator: str
    place: str
    argument: str
    expected: Expected

    def applied_to(self, example: Json) -> Json:
        """A copy of the example with the fault in it."""
        resource = deepcopy(example)
        if self.mutator in MUTATORS:
            _change(resource, self.place, MUTATORS[self.mutator].change)
        else:
            _change(resource, self.place, lambda value: _merged(value, json.loads(self.argument, parse_float=Decimal)))
        return resource


def rows() -> Iterator[Row]:
    """The rows of `faults.txt`: mutator, place, what it is told of (if another place), argument."""
    type_name = ""
    for line, text in enumerate((FOLDER / "faults.txt").read_text("utf-8").splitlines(), 1):
        if not text or text.startswith("#"):
            continue
        if text.startswith("["):
            type_name = text.strip("[]")
            continue
        name, place, told, argument = [*(cell.strip() for cell in text.split("|", 3)), "", "", ""][:4]
        yield Row(line, type_name, name, place, argument, _expected(type_name, name, told or place))


def _expected(type_name: str, name: str, told: str) -> Expected:
    if name in MUTATORS:
        mutator = MUTATORS[name]
        path = ".".join(step for step in (type_name, told, mutator.below) if step)
        return Expected(mutator.severity, mutator.code, mutator.key, path)
    # `breaks OWNER KEY` and `warns OWNER KEY`: an invariant; `doubles of ELEMENT`: a second value of a choice
    first, owner, last = name.split()
    match first:
        case "breaks" | "warns":
            path = type_name if told in ("", "-") else f"{type_name}.{told}"
            severity = "error" if first == "breaks" else "warning"
            return Expected(severity, "invariant", "HS-VAL-INVARIANT", path, (TYPES + owner, last))
        case "doubles":
            return Expected("error", STRUCTURE, "HS-VAL-CHOICE", f"{type_name}.{last}")
    raise ValueError(f"No mutator is called {name!r}.")


def _change(resource: Json, place: str, change: Callable[[Any], Any]) -> None:
    """Put what a change makes of a value at its place; the place with no steps is the resource itself."""
    steps = [int(index) if index else name for index, name in STEP.findall(place)]
    if not steps:
        made = change(resource)
        resource.clear()
        resource.update(made)
        return
    node: Any = resource
    for step in steps[:-1]:
        node = node[step]
    made = change(node[steps[-1]])
    if made is Drop:
        del node[steps[-1]]
    else:
        node[steps[-1]] = made


def _merged(value: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    found = dict(value) if isinstance(value, dict) else {}
    for name, item in patch.items():
        if item is None:
            found.pop(name, None)
        else:
            found[name] = _merged(found.get(name), item)
    return found
