"""The table of roles, read from `roles.toml` or from the operator's own copy of it.

Every word is looked at when it is read: a mistyped type, verb, relation or search parameter stops the start, since a
rule that silently means nothing is worse than none.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl

from fhir_server.model.access import VERBS, Kept, Role, verbs_of
from fhir_server.policies.consents.decide import ACT_REASON
from fhir_server.policies.reach import Reach
from fhir_server.search.parameters import table_of
from profiles.registry import Registry
from profiles.terminology import terminology

BUILT_IN = Path(__file__).with_name("roles.toml")

#: What may stand in braces beside the names of relations.
PLACEHOLDERS = frozenset(
    {
        *("user", "user-id", "selves", "own-role-ids", "now", "365 days ago"),
        *("organization", "organization-ids", "organization-tag"),
    }
)
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")

#: What a relation may give that no search finds: the user, and for whom the user's account acts.
GIVEN = frozenset({"user", "entrusted"})

THEIR_PATIENTS = "their patients"
ANY_PURPOSE = "*"
ROLE_NAMES: frozenset[str] = frozenset(get_args(Role))

#: All groups of types; every type of FHIR is in one of them.
GROUPS = ("directory", "products", "definitions", "record", "staff", "ledger", "machinery")

#: The groups that hold nothing of patients, so that an app for one patient may read them.
OPEN_GROUPS = ("directory", "products", "definitions")

Pairs = tuple[tuple[str, str], ...]


class RolesError(Exception):
    """The table of roles cannot be used; the text is one line that says where and why."""


@dataclass(frozen=True, slots=True)
class Relation:
    """How resources lead from a user to others.

    Attributes:
        searches: types with their search parameters, in which placeholders stand in braces
        gives: the search parameter whose references are the result; `_id`: what was found; or one of `GIVEN`
        period: whether the resource's own `period` must hold now
    """

    name: str
    about: str
    searches: tuple[tuple[str, Pairs], ...]
    gives: str
    period: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a role: see `roles.toml`."""

    types: tuple[str, ...]
    verbs: str
    of_patients: bool = False
    where: Pairs = ()
    ids: str | None = None


@dataclass(frozen=True, slots=True)
class RoleRules:
    """One role: see `roles.toml`."""

    name: str
    about: str
    purpose: str = ""
    lines: tuple[Line, ...] = ()
    user: frozenset[str] = frozenset()
    patients: tuple[str, ...] = ()
    consents: str = ""
    clears: tuple[tuple[str, frozenset[str]], ...] = ()
    wall: tuple[str, ...] = ()
    wall_open: bool = False
    break_glass: bool = False
    operations: frozenset[str] | None = frozenset()
    everything: bool = False
    others: str = ""
    keeps: tuple[Kept, ...] = ()
    signs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RoleTable:
    """The whole file."""

    groups: Mapping[str, tuple[str, ...]]
    relations: Mapping[str, Relation]
    labels: Mapping[str, str]
    roles: Mapping[str, RoleRules]

    @property
    def open_types(self) -> frozenset[str]:
        """Types that hold nothing of patients."""
        return frozenset(name for group in OPEN_GROUPS for name in self.groups[group])

    @property
    def purposes(self) -> dict[str, str]:
        """By role, the purpose of use of who names none."""
        return {name: role.purpose for name, role in self.roles.items()}

    def relations_in(self, line: Line) -> tuple[str, ...]:
        """The relations that stand in the criteria of a line."""
        names = {name for _, value in line.where for name in PLACEHOLDER.findall(value)}
        return tuple(sorted(names & self.relations.keys()))


def load_roles(registry: Registry, path: Path | None = None) -> RoleTable:
    """Read the table; the built-in one when no path is given.

    Raises:
        RolesError: the file cannot be read, or something in it means nothing.
    """
    source = path or BUILT_IN
    try:
        content = tomllib.loads(source.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RolesError(f"The table of roles {source} cannot be read: {error}.") from error
    try:
        return _Reading(content, registry).table()
    except RolesError as error:
        raise RolesError(f"The table of roles {source}: {error}") from None


class _Reading:
    def __init__(self, content: dict[str, Any], registry: Registry) -> None:
        self._content = content
        self._registry = registry
        self._reach = Reach(registry)
        self._groups: dict[str, tuple[str, ...]] = {}
        self._relations: dict[str, Relation] = {}
        self._labels: dict[str, str] = {}

    def table(self) -> RoleTable:
        self._only("the file", self._content, "groups", "relations", "labels", "roles")
        self._groups = dict(self._read_groups(self._content.get("groups", {})))
        named = self._content.get("relations", {})
        self._relations = {name: self._relation(name, row, frozenset(named)) for name, row in named.items()}
        self._labels = {str(name): self._label(name, text) for name, text in self._content.get("labels", {}).items()}
        rows = self._content.get("roles", {})
        unknown = sorted(rows.keys() ^ ROLE_NAMES)
        if unknown:
            raise RolesError(f"roles are {', '.join(sorted(ROLE_NAMES))}, each once; look at {', '.join(unknown)}.")
        roles = {name: self._role(name, row) for name, row in rows.items()}
        for name, row in rows.items():
            if "like" in row:
                of = roles[row["like"]]
                roles[name] = replace(
                    roles[name],
                    lines=tuple(self._lines_without(name, of.lines, row)),
                    keeps=roles[name].keeps or of.keeps,
                    signs=roles[name].signs or of.signs,
                )
        return RoleTable(self._groups, self._relations, self._labels, roles)

    # --- groups, relations, labels ----------------------------------------------------------------------------------

    def _read_groups(self, rows: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
        if set(rows) != set(GROUPS):
            raise RolesError(f"groups are {', '.join(GROUPS)}.")
        seen: dict[str, str] = {}
        for name, types in rows.items():
            for resource_type in types:
                self._require_type(resource_type, f"groups.{name}")
                if resource_type in seen:
                    raise RolesError(f"{resource_type} is in two groups, {seen[resource_type]} and {name}.")
                seen[resource_type] = name
            yield name, tuple(types)
        missing = sorted(self._registry.resource_types - seen.keys())
        if missing:
            raise RolesError(f"no group has {', '.join(missing)}.")

    def _relation(self, name: str, row: dict[str, Any], names: frozenset[str]) -> Relation:
        place = f"relations.{name}"
        self._only(place, row, "about", "search", "gives", "period")
        searches: list[tuple[str, Pairs]] = []
        gives = str(row.get("gives", ""))
        for text in row.get("search", ()):
            resource_type, _, query = text.partition("?")
            self._require_type(resource_type, place)
            pairs = tuple(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
            for code, value in pairs:
                self._require_parameter(resource_type, code, place)
                self._require_placeholders(value, place, names)
            if gives != "_id":
                self._require_parameter(resource_type, gives, place)
            searches.append((resource_type, pairs))
        if not searches and gives not in GIVEN:
            raise RolesError(f"{place} has no search.")
        return Relation(name, str(row.get("about", "")), tuple(searches), gives, bool(row.get("period", False)))

    @staticmethod
    def _label(name: str, text: object) -> str:
        if not isinstance(text, str) or text.count("|") != 1:
            raise RolesError(f"labels.{name} must be system|code.")
        return text

    # --- roles ------------------------------------------------------------------------------------------------------

    def _role(self, name: str, row: dict[str, Any]) -> RoleRules:
        place = f"roles.{name}"
        self._only(
            place,
            row,
            *("about", "purpose", "user", "patients", "like", "without", "consents", "clears", "wall", "lines"),
            *("wall-without-organization", "break-glass", "operations", "everything", "others", "keeps", "signs"),
        )
        for relation in row.get("patients", ()):
            self._require_relation(relation, place)
        self._require_purpose(row.get("purpose"), f"{place}.purpose")
        for label, purposes in row.get("clears", {}).items():
            if label not in self._labels:
                raise RolesError(f"{place}.clears names {label!r}, which is no label of this file.")
            for purpose in purposes:
                if purpose != ANY_PURPOSE:
                    self._require_purpose(purpose, f"{place}.clears")
        for resource_type in row.get("user", ()):
            self._require_type(resource_type, place)
        everything = bool(row.get("everything", False))
        lines = row.get("lines", ())
        if everything and lines:
            raise RolesError(f"{place} allows everything, and has lines that would mean nothing.")
        operations = frozenset(row.get("operations", ()))
        return RoleRules(
            name=name,
            about=str(row.get("about", "")),
            purpose=row["purpose"],
            lines=tuple(self._line(f"{place}.lines[{n}]", line) for n, line in enumerate(lines)),
            user=frozenset(row.get("user", ())),
            patients=tuple(row.get("patients", ())),
            consents=self._verbs(row.get("consents", ""), place) if row.get("consents") else "",
            clears=tuple((label, frozenset(purposes)) for label, purposes in row.get("clears", {}).items()),
            wall=self._types(row.get("wall", ()), (), place),
            wall_open=self._choice(row, "wall-without-organization", ("unmarked-only", "open"), place) == "open",
            break_glass=bool(row.get("break-glass", False)),
            operations=None if "*" in operations else operations,
            everything=everything,
            others=self._choice(row, "others", ("", *sorted(ROLE_NAMES)), place),
            keeps=tuple(Kept(*rule) for rule in self._elements(row.get("keeps", {}), f"{place}.keeps")),
            signs=tuple(self._elements(row.get("signs", {}), f"{place}.signs")),
        )

    def _elements(self, rows: Mapping[str, Iterable[str]], place: str) -> Iterator[tuple[str, str]]:
        """Elements by the type that they are of, `Patient = ["identifier", "meta.security"]`."""
        for resource_type, paths in rows.items():
            self._require_type(resource_type, place)
            for path in paths:
                self._require_element(resource_type, path, place)
                yield resource_type, path

    def _line(self, place: str, row: dict[str, Any]) -> Line:
        self._only(place, row, "what", "but", "may", "of", "where", "ids")
        types = self._types(row.get("what", ()), row.get("but", ()), place)
        if not types:
            raise RolesError(f"{place} names no types.")
        pairs: list[tuple[str, str]] = []
        for text in row.get("where", ()):
            code, equal, value = str(text).partition("=")
            if not equal:
                raise RolesError(f"{place}: {text!r} must look like parameter=value.")
            for resource_type in types:
                self._require_parameter(resource_type, code, place)
            self._require_placeholders(value, place, frozenset(self._relations))
            pairs.append((code, value))
        if (ids := row.get("ids")) is not None:
            self._require_relation(ids, place)
        of_patients = self._choice(row, "of", ("anybody", THEIR_PATIENTS), place) == THEIR_PATIENTS
        if of_patients and (loose := [name for name in types if not self._reach.can_belong(name)]):
            raise RolesError(f"{place}: {', '.join(loose)} can belong to no patient.")
        return Line(types, self._verbs(row.get("may", ""), place), of_patients, tuple(pairs), ids)

    def _lines_without(self, name: str, lines: Iterable[Line], row: dict[str, Any]) -> Iterator[Line]:
        """The lines of another role, less what `without` names (`RelatedPerson:cu`)."""
        less: dict[str, str] = {}
        for text in row.get("without", ()):
            resource_type, _, verbs = str(text).partition(":")
            self._require_type(resource_type, f"roles.{name}.without")
            less[resource_type] = self._verbs(verbs, f"roles.{name}.without")
        for line in lines:
            kept = tuple(t for t in line.types if t not in less)
            if kept:
                yield replace(line, types=kept)
            for resource_type in (t for t in line.types if t in less):
                if verbs := verbs_of(set(line.verbs) - set(less[resource_type])):
                    yield replace(line, types=(resource_type,), verbs=verbs)

    # --- words ------------------------------------------------------------------------------------------------------

    @staticmethod
    def _only(place: str, row: Mapping[str, Any], *names: str) -> None:
        for name in row:
            if name not in names:
                raise RolesError(f"{place} has {name!r}, which means nothing; known are {', '.join(names)}.")

    @staticmethod
    def _choice(row: Mapping[str, Any], name: str, choices: tuple[str, ...], place: str) -> str:
        value = row.get(name, choices[0])
        if value not in choices:
            raise RolesError(f"{place}.{name} is {value!r}; possible are {', '.join(choices)}.")
        return str(value)

    @staticmethod
    def _verbs(text: object, place: str) -> str:
        if not isinstance(text, str) or not text or not set(text) <= set(VERBS):
            raise RolesError(f"{place}: {text!r} are no verbs; they are {VERBS}.")
        return verbs_of(text)

    def _types(self, what: Iterable[str], but: Iterable[str], place: str) -> tuple[str, ...]:
        def expanded(names: Iterable[str]) -> Iterator[str]:
            for name in names:
                if name in self._groups:
                    yield from self._groups[name]
                else:
                    self._require_type(name, place)
                    yield name

        left_out = set(expanded(but))
        return tuple(dict.fromkeys(name for name in expanded(what) if name not in left_out))

    def _require_type(self, name: object, place: str) -> None:
        if not isinstance(name, str) or not self._registry.is_resource_type(name):
            raise RolesError(f"{place} names {name!r}, which is neither a resource type nor a group.")

    def _require_element(self, resource_type: str, path: str, place: str) -> None:
        at = resource_type
        for name in path.split("."):
            within = at.partition(".")[0]
            element = self._registry.types[within].elements.get(f"{at}.{name}")
            if element is None:
                raise RolesError(f"{place}: {resource_type} has no element {path!r}.")
            # Below an element of a data type (`meta`) it goes on in that type.
            inside = [one.code for one in element.types if one.code in self._registry.types]
            nested = any(p.startswith(f"{at}.{name}.") for p in self._registry.types[within].elements)
            at = f"{at}.{name}" if nested or not inside else inside[0]

    def _require_relation(self, name: object, place: str) -> None:
        if name not in self._relations:
            raise RolesError(f"{place} names {name!r}, which is no relation of this file.")

    @staticmethod
    def _require_purpose(code: object, place: str) -> None:
        if code not in (terminology().descendants(ACT_REASON, "PurposeOfUse") or ()):
            raise RolesError(f"{place} is {code!r}, which is no purpose of use of v3-ActReason.")

    def _require_parameter(self, resource_type: str, code: str, place: str) -> None:
        if code.partition(":")[0] not in table_of(resource_type, self._registry).parameters:
            raise RolesError(f"{place}: {resource_type} has no search parameter {code!r}.")

    @staticmethod
    def _require_placeholders(value: str, place: str, names: frozenset[str]) -> None:
        found = PLACEHOLDER.findall(value)
        for name in found:
            if name not in PLACEHOLDERS and name not in names:
                raise RolesError(f"{place}: nothing stands for {{{name}}}.")
        if len(found) > 1:
            raise RolesError(f"{place}: {value!r} has two placeholders.")
