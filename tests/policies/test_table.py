"""The table of roles: every type has its place, every word means something, and the documentation says the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from fhir_server.policies.policies import MADE_OF
from fhir_server.policies.reach import Reach
from fhir_server.policies.roles import BUILT_IN, GROUPS, RoleRules, RolesError, RoleTable, load_roles
from profiles.registry import registry
from resources.parts import OPERATIONS

ROOT = Path(__file__).parents[2]
TABLE = load_roles(registry())


def test_every_type_is_in_one_group_and_what_can_belong_to_a_patient_is_not_open_to_all() -> None:
    grouped = [name for group in GROUPS for name in TABLE.groups[group]]
    assert sorted(grouped) == sorted(registry().resource_types)
    assert TABLE.open_types & Reach(registry()).types == {"Schedule"}


def test_the_operations_of_roles_are_those_that_need_a_permission() -> None:
    elevated = {operation.code for operation in OPERATIONS if operation.elevated}
    named = {code.rpartition("/")[2] for role in TABLE.roles.values() for code in role.operations or ()}
    assert named <= elevated
    # What no role of the table may call is left to the operator.
    assert elevated - named == {"merge", "unmerge", "purge", "expunge", "purge-status"}


def test_what_relations_are_made_of_is_noticed_when_it_is_written() -> None:
    searched = {resource_type for relation in TABLE.relations.values() for resource_type, _ in relation.searches}
    assert searched | {"Consent"} == MADE_OF - {"Practitioner"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('may = "rs"', 'may = "rx"', "no verbs"),
        ('"Observation", "Patient"', '"Observatoin", "Patient"', "Observatoin"),
        ('gives = "focus"', 'gives = "focsu"', "focsu"),
        ("performer={user}", "performr={user}", "performr"),
        ("performer={user}", "performer={usr}", "{usr}"),
        ('patients = ["itself"]', 'patients = ["himself"]', "himself"),
        ('of = "their patients"', 'of = "their patient"', "their patient"),
        ("[roles.auditor]", "[roles.auditer]", "auditer"),
        ('clears = { R = ["*"], V = ["*"] }', 'clears = { X = ["*"] }', "'X'"),
        ('purpose = "PATADMIN"', 'purpose = "PATADMN"', "PATADMN"),
        ('purpose = "PATADMIN"', "", "roles.front-desk.purpose"),
        ('"ETREAT", "COC"', '"ETREET", "COC"', "ETREET"),
        ("break-glass = true", "brake-glass = true", "brake-glass"),
        ('"Endpoint", "Schedule"', '"Schedule"', "Endpoint"),
        ('what = ["Medication"]\nmay = "c"', 'what = ["Medication"]\nof = "their patients"\nmay = "c"', "Medication"),
        ("[groups]", "[groups", "cannot be read"),
        ('"deceased[x]"', '"deceased"', "'deceased'"),
        ('"meta.security"', '"meta.securety"', "'meta.securety'"),
        ('Observation = ["performer"]', 'Observatoin = ["performer"]', "Observatoin"),
        ('others = "proxy"', 'others = "proxies"', "'proxies'"),
    ],
)
def test_a_word_that_means_nothing_stops_the_start(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = BUILT_IN.read_text("utf-8")
    assert old in text
    changed = tmp_path / "roles.toml"
    changed.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(RolesError) as caught:
        load_roles(registry(), changed)
    assert told in str(caught.value)
    assert str(changed) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- docs/access.md -------------------------------------------------------------------------------------------------


def spoken(types: tuple[str, ...], table: RoleTable) -> str:
    """Types as people read them: whole groups by their names."""
    left = list(types)
    words: list[str] = []
    for group, members in table.groups.items():
        missing = [name for name in members if name not in left]
        if len(members) > 3 and len(missing) <= 3 and len(left) > len(missing):
            words.append(group + (f" but {', '.join(missing)}" if missing else ""))
            left = [name for name in left if name not in members]
    return "; ".join([*words, *([", ".join(left)] if left else [])])


def elements_of(rules: Iterable[tuple[str, str]]) -> str:
    """Elements as people read them, by their type."""
    by_type: dict[str, list[str]] = {}
    for resource_type, path in rules:
        by_type.setdefault(resource_type, []).append(f"`{path}`")
    return "; ".join(f"of {name} {', '.join(paths)}" for name, paths in by_type.items())


def rows_of(role: RoleRules, table: RoleTable) -> list[str]:
    rows = []
    for line in role.lines:
        limits = ["their patients"] if line.of_patients else []
        limits += [f"`{code}={value}`".replace("|", r"\|") for code, value in line.where]
        limits += [f"those of *{line.ids}*"] if line.ids else []
        rows.append(f"| {spoken(line.types, table)} | `{line.verbs}` | {' and '.join(limits) or 'all'} |")
    return rows


def section_of(role: RoleRules, table: RoleTable) -> str:
    """What docs/access.md says of a role."""
    lines = [f"### {role.name}", "", role.about, ""]
    if role.user:
        lines.append(f"- `fhirUser`: {' or '.join(sorted(role.user))}; without one, nothing.")
    lines.append(f"- Purpose of use, where none is named: `{role.purpose}`.")
    if role.patients:
        lines.append(f"- Their patients: {', '.join(f'*{name}*' for name in role.patients)}.")
    if role.others:
        lines.append(f"- For those who are *entrusted* to their account: what a {role.others} may, and sees.")
    if role.keeps:
        lines.append(
            f"- Leaves as it is, and leaves out of what is new: {elements_of((k.type, k.path) for k in role.keeps)}."
        )
    if role.signs:
        lines.append(f"- Names nobody else in: {elements_of(role.signs)}.")
    if role.consents:
        lines.append(f"- Consents take away: `{role.consents}`.")
    cleared = [
        f"{label} for {', '.join(sorted(purposes)).replace('*', 'any purpose')}" for label, purposes in role.clears
    ]
    lines.append(f"- Sees in spite of labels: {'; '.join(cleared) or 'nothing'}.")
    if role.wall:
        alone = "sees all" if role.wall_open else "sees none that are marked"
        lines.append(
            f"- Does not see, when marked by another organization: {spoken(role.wall, table)}; who has no organization "
            f"{alone}."
        )
    if role.operations is None:
        lines.append("- All operations.")
    elif role.operations:
        lines.append(f"- Operations: {', '.join(f'`{called(code)}`' for code in sorted(role.operations))}.")
    if role.everything:
        lines += ["", "Everything that the scopes allow."]
    else:
        lines += ["", "| what | may | of |", "|---|---|---|", *rows_of(role, table)]
    return "\n".join(lines)


def called(name: str) -> str:
    """`$book`; of an operation that several types have, `Appointment/$accept`."""
    of, _, code = name.rpartition("/")
    return f"{of}/${code}" if of else f"${code}"


def table_text() -> str:
    relations = [f"| *{r.name}* | {r.about} |" for r in TABLE.relations.values()]
    roles = [section_of(role, TABLE) for role in TABLE.roles.values()]
    return "\n\n".join([*roles, "### Relations", "\n".join(["| relation | leads to |", "|---|---|", *relations])])


def test_the_documented_table_of_roles_equals_the_code() -> None:
    page = (ROOT / "docs" / "access.md").read_text("utf-8")
    found = re.search(r"<!-- roles: begin -->\n\n(.*)\n\n<!-- roles: end -->", page, re.DOTALL)
    assert found is not None
    assert found.group(1) == table_text(), "docs/access.md: put this between the marks:\n\n" + table_text()
