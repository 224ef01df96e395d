"""The records worth comparing, each found by an index: comparing everybody with everybody is not possible.

A record is a candidate when it shares an identifier, a telephone number or mail address, the birth date together with
the beginning of a name, or both names, or the postal code and a name. A slip in the birth date is met by the names, a
slip in the name by the birth date.

Spec: https://hl7.org/fhir/R4/patient-operation-match.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.matching.facts import Facts, rows, text
from fhir_server.search.escape import escape

Json = dict[str, Any]
Pairs = list[tuple[str, str]]

#: Records that one way of looking may bring. A way that finds more says too little to go by, and the answer says so.
MOST = 200

#: Characters of a name that must be right for the birth date to lead to it.
BEGINNING = 2


async def candidates_of(context: Context, patient: Json, facts: Facts) -> tuple[dict[str, bytes], bool]:
    """The candidates' JSON by id, and whether some way of looking found more than it may bring."""
    found: dict[str, bytes] = {}
    cut = False
    for pairs in searches_of(patient, facts):
        result = await context.searcher.search(
            "Patient", [*pairs, ("_total", "none")], strict=True, default_count=MOST, max_count=MOST
        )
        cut = cut or result.page.next is not None
        found.update((row["_id"], row["r"]) for row in result.page.rows)
    return found, cut


def searches_of(patient: Json, facts: Facts) -> Iterator[Pairs]:
    """The searches, the most telling first; a fact that is not known makes none."""
    identifiers = [
        f"{escape(text(row, 'system'))}|{escape(value)}" if text(row, "system") else escape(value)
        for row in rows(patient, "identifier")
        if (value := text(row, "value"))
    ]
    if identifiers:
        yield [("identifier", ",".join(identifiers))]
    telecoms = {escape(value) for row in rows(patient, "telecom") if (value := text(row, "value"))}
    if telecoms:
        yield [("telecom", ",".join(sorted(telecoms)))]
    families = ",".join(escape(f) for f in family_spellings(patient))
    givens = ",".join(escape(g) for g in facts.givens if len(g) > 1)
    if facts.birth:
        names = [f.split()[0][:BEGINNING] for f in facts.families] + [g[:BEGINNING] for g in facts.givens]
        beginnings = ",".join(sorted({escape(n) for n in names}))
        yield [("birthdate", facts.birth), *([("name", beginnings)] if beginnings else [])]
    if families and givens:
        yield [("family", families), ("given", givens)]
    codes = {escape(code) for row in rows(patient, "address") if (code := text(row, "postalCode"))}
    if codes and (families or givens):
        yield [("address-postalcode", ",".join(sorted(codes))), ("family", families) if families else ("given", givens)]


def family_spellings(patient: Json) -> list[str]:
    """Family names as they are written, and the last words of names that are bare text."""
    families = []
    for name in rows(patient, "name"):
        family = text(name, "family").strip()
        if not family and "given" not in name:
            family = " ".join(text(name, "text").split()[-1:])
        if family:
            families.append(family)
    return families
