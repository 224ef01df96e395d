"""What a write must satisfy, and what is only told: by type and by client, from a TOML file.

    [write]                                  # every write
    claimed = "warn"                         # profiles that a resource claims: ignore, warn or refuse
    unknown = "warn"                         # a claim of a profile that is not held
    contents = "warn"                        # what data says of itself: units, hashes, answers, extensions
    base = "refuse"                          # invariants and codes of FHIR R4 itself: warn or refuse

    [type.Patient]                           # of one type
    required = ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient|6.1.0"]
    recommended = []                         # as required, and only told

    [client.lab-feed]                        # of one client
    claimed = "refuse"

    [client.lab-feed.type.Observation]       # of one client and one type
    required = []

Of each word the nearest is meant: client and type, then client, then type, then all.

Spec: https://hl7.org/fhir/R4/validation.html, https://hl7.org/fhir/R4/resource.html#Meta
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from profiles.registry import Registry

Level: TypeAlias = Literal["ignore", "warn", "refuse"]

#: What may be in force for some writes, each with what it may be.
_LEVELS: Mapping[str, tuple[str, ...]] = {
    "claimed": get_args(Level),
    "unknown": get_args(Level),
    "contents": get_args(Level),
    "base": ("warn", "refuse"),
}
_LISTS = frozenset({"required", "recommended"})
_CANONICAL = re.compile(r"[a-z][a-z0-9+.\-]*:[^\s|#]+(\|[^\s|#]+)?")


class PolicyError(Exception):
    """The file cannot be used; the text is one line that says where and why."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the writes of one type by one client must satisfy."""

    claimed: Level = "ignore"
    unknown: Level = "ignore"
    contents: Level = "ignore"
    base: Level = "refuse"
    required: tuple[str, ...] = ()
    recommended: tuple[str, ...] = ()

    @property
    def is_of_profiles(self) -> bool:
        """Whether anything beyond FHIR R4 itself is to be looked at."""
        told = (self.claimed, self.unknown, self.contents)
        return bool(self.required or self.recommended) or any(level != "ignore" for level in told)


Table: TypeAlias = Mapping[str, Any]


class Policy:
    """The demands of all types and clients."""

    def __init__(
        self,
        everywhere: Demand | None = None,
        of_types: Mapping[str, Table] | None = None,
        of_clients: Mapping[str, Table] | None = None,
        of_both: Mapping[tuple[str, str], Table] | None = None,
    ) -> None:
        self._everywhere = everywhere or Demand()
        self._of_types = of_types or {}
        self._of_clients = of_clients or {}
        self._of_both = of_both or {}
        self._known: dict[tuple[str, str], Demand] = {}

    def of(self, resource_type: str, client: str) -> Demand:
        """What a client's writes of a type must satisfy."""
        key = resource_type, client if client in self._of_clients else ""
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = replace(
                self._everywhere,
                **{
                    **self._of_types.get(resource_type, {}),
                    **self._of_clients.get(client, {}),
                    **self._of_both.get((client, resource_type), {}),
                },
            )
        return found


def load_policy(registry: Registry, path: Path | None, claimed: Level = "ignore") -> Policy:
    """Read a policy; `claimed` is in force where the file says nothing of claims, or there is none.

    Every word is looked at: one that silently means nothing is worse than none.

    Raises:
        PolicyError: the file cannot be read, or has a word or a type that is none.
    """
    everywhere = Demand(claimed=claimed, unknown="warn" if claimed != "ignore" else "ignore")
    if path is None:
        return Policy(everywhere)
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PolicyError(f"{path}: {error}") from None
    reader = _Reader(path, registry)
    reader.require_known(content, ("write", "type", "client"), "the file")
    clients = reader.tables(content, "client")
    of_both = {
        (client, name): reader.demand(table, f"client.{client}.type.{name}")
        for client, row in clients.items()
        for name, table in reader.types(row, f"client.{client}.").items()
    }
    return Policy(
        replace(everywhere, **reader.demand(reader.table(content, "write"), "write")),
        {name: reader.demand(table, f"type.{name}") for name, table in reader.types(content, "").items()},
        {name: reader.demand(row, f"client.{name}", also=("type",)) for name, row in clients.items()},
        of_both,
    )


class _Reader:
    def __init__(self, path: Path, registry: Registry) -> None:
        self._path = path
        self._registry = registry

    def table(self, content: Table, name: str) -> Table:
        found = content.get(name, {})
        if not isinstance(found, dict):
            raise PolicyError(f"{self._path}: {name} is no table")
        return found

    def tables(self, content: Table, name: str) -> dict[str, Table]:
        found = self.table(content, name)
        for key, row in found.items():
            if not isinstance(row, dict):
                raise PolicyError(f"{self._path}: {name}.{key} is no table")
        return dict(found)

    def types(self, content: Table, where: str) -> dict[str, Table]:
        found = self.tables(content, "type")
        for name in found:
            if not self._registry.is_resource_type(name):
                raise PolicyError(f"{self._path}: [{where}type.{name}] names no resource type of FHIR R4")
        return found

    def demand(self, table: Table, where: str, also: Iterable[str] = ()) -> dict[str, Any]:
        """The fields of a demand that a table has."""
        self.require_known(table, (*_LEVELS, *sorted(_LISTS), *also), f"[{where}]")
        found: dict[str, Any] = {}
        for name, allowed in _LEVELS.items():
            if name in table:
                if table[name] not in allowed:
                    raise PolicyError(
                        f"{self._path}: [{where}] has {name} = {table[name]!r}; it is one of {', '.join(allowed)}"
                    )
                found[name] = table[name]
        for name in _LISTS & table.keys():
            listed = table[name]
            if not isinstance(listed, list) or not all(isinstance(c, str) and _CANONICAL.fullmatch(c) for c in listed):
                raise PolicyError(f"{self._path}: [{where}] has a {name} that is no list of canonicals of profiles")
            found[name] = tuple(listed)
        return found

    def require_known(self, table: Table, words: Iterable[str], where: str) -> None:
        known = list(words)
        if unknown := [word for word in table if word not in known]:
            raise PolicyError(f"{self._path}: {where} has {unknown[0]!r}; possible are {', '.join(known)}")
