"""A Consent, read into a tree of rules that compares equal where the rules are the same, whoever the patient is.

Spec: https://hl7.org/fhir/R4/consent-definitions.html#Consent.provision
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from fhir_server.model.dates import OPEN_END_US, OPEN_START_US, Interval, interval_of
from fhir_server.model.errors import InvalidError

Json = dict[str, Any]
Coding = tuple[str, str]

ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
PRIVACY = ("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy")

#: How an actor takes part: who keeps the data, who wrote them. All others receive them.
CUSTODIANS = frozenset({"CST", "CUST"})
AUTHORS = frozenset({"AUT", "AUTHOR"})

#: What a base policy says by itself.
POLICIES: dict[str, bool] = {"OPTIN": True, "OPTOUT": False}

#: How deep rules may stand within rules, and how many of them; more than that says "no" to all.
DEEPEST = 12
MOST = 300

Meaning = Literal["instance", "related", "dependents", "authoredby"]


@dataclass(frozen=True, slots=True)
class Provision:
    """One rule.

    Attributes:
        permits: whether it permits; else it denies
        period: when it holds; None: always
        recipients: whom it is about, as references, or as identifiers `system|value`, of which `|value` has no
            system; None: anybody
        unsure: whether it names somebody who cannot be told, or says something that is not understood
        actions: codes of consentaction; empty: all
        purposes: why somebody reads; empty: whyever
        classes, codes, labels: what resources it is about; empty: all
        data_period: when what it is about was done
        data: single resources, what belongs to them, or what somebody wrote
        exceptions: rules within this one, which go before it
    """

    permits: bool
    period: Interval | None = None
    recipients: frozenset[str] | None = None
    unsure: bool = False
    actions: frozenset[str] = frozenset()
    purposes: frozenset[Coding] = frozenset()
    classes: frozenset[Coding] = frozenset()
    codes: frozenset[Coding] = frozenset()
    labels: frozenset[Coding] = frozenset()
    data_period: Interval | None = None
    data: frozenset[tuple[Meaning, str]] = frozenset()
    exceptions: tuple[Provision, ...] = ()

    def all(self) -> Iterator[Provision]:
        """The rule and all within it."""
        yield self
        for exception in self.exceptions:
            yield from exception.all()


def provision_of(consent: Json, base_url: str, *, base_permits: bool) -> tuple[str, Provision] | None:
    """The patient of a Consent, and its rules; None where it is not in force, or not about privacy.

    What its policy says (`OPTIN`, `OPTOUT`) is the first rule; a provision with a type of its own is an exception to
    it, one without says to whom and what the policy applies.

    Args:
        base_permits: what holds where neither the Consent's policy nor its first rule says it
    """
    patient = _local(consent.get("patient"), base_url)
    if consent.get("status") != "active" or patient is None or not patient.startswith("Patient/"):
        return None
    if PRIVACY not in _codings(consent.get("scope")):
        return None
    policy = {code for system, code in _codings(consent.get("policyRule")) if system == ACT_CODE} & POLICIES.keys()
    stands = POLICIES[policy.pop()] if len(policy) == 1 else base_permits
    row = consent.get("provision")
    if row is None:
        return (patient, Provision(stands)) if policy or "policyRule" in consent else None
    if _count(row) > MOST:
        return patient, Provision(permits=False)
    rule = _read(row, base_url, otherwise=stands)
    if policy and "type" in row:
        rule = Provision(stands, rule.period, unsure=rule.period is None and "period" in row, exceptions=(rule,))
    return patient, rule


def _count(row: Json) -> int:
    """How many rules there are; counted no further than need be."""
    waiting, found = [(row, 0)], 0
    while waiting and found <= MOST:
        one, depth = waiting.pop()
        found += 1 if depth <= DEEPEST else MOST
        waiting += [(inner, depth + 1) for inner in one.get("provision", ())]
    return found


def _read(row: Json, base_url: str, *, otherwise: bool) -> Provision:
    recipients, authors, unsure = _actors(row.get("actor", ()), base_url)
    data = {(entry.get("meaning"), _local(entry.get("reference"), base_url)) for entry in row.get("data", ())}
    known = frozenset((meaning, target) for meaning, target in data if target is not None)
    period, data_period = _period(row.get("period")), _period(row.get("dataPeriod"))
    kind = row.get("type")
    return Provision(
        permits=kind == "permit" if kind is not None else otherwise,
        period=period,
        recipients=recipients,
        unsure=unsure
        or len(known) < len(data)
        or (period is None and "period" in row)
        or (data_period is None and "dataPeriod" in row),
        actions=frozenset(code for concept in row.get("action", ()) for _, code in _codings(concept, text="?")),
        purposes=frozenset(coding for one in row.get("purpose", ()) for coding in _codings({"coding": [one]})),
        classes=frozenset(coding for one in row.get("class", ()) for coding in _codings({"coding": [one]})),
        codes=frozenset(coding for concept in row.get("code", ()) for coding in _codings(concept, text="?")),
        labels=frozenset(coding for one in row.get("securityLabel", ()) for coding in _codings({"coding": [one]})),
        data_period=data_period,
        data=frozenset({*known, *(("authoredby", author) for author in authors)}),
        # Its type is required there: without one, it denies.
        exceptions=tuple(_read(inner, base_url, otherwise=False) for inner in row.get("provision", ())),
    )


def _actors(rows: list[Json], base_url: str) -> tuple[frozenset[str] | None, frozenset[str], bool]:
    """Who receives (None: anybody), who wrote, and whether somebody could not be told."""
    recipients: set[str] = set()
    authors: set[str] = set()
    unsure = anybody = False
    named = False
    for row in rows:
        roles = {code for _, code in _codings(row.get("role"))}
        if roles & CUSTODIANS:
            unsure = True  # all data here have one custodian, this server; which it stands for cannot be told
            continue
        named = named or not roles & AUTHORS
        names = _names(row.get("reference"), base_url)
        if roles & AUTHORS:
            names = [name for name in names if "|" not in name]  # data name their authors by reference
        unsure = unsure or not names
        anybody = anybody or (not names and not roles & AUTHORS)
        (authors if roles & AUTHORS else recipients).update(names)
    return (None if anybody or not named else frozenset(recipients)), frozenset(authors), unsure


def _names(reference: Any, base_url: str) -> list[str]:
    """What a reference calls somebody: `Type/id`, or an identifier."""
    found = [local] if (local := _local(reference, base_url)) is not None else []
    identifier = reference.get("identifier") if isinstance(reference, dict) else None
    if isinstance(identifier, dict) and identifier.get("value"):
        found.append(f"{identifier.get('system', '')}|{identifier['value']}")
    return found


def _local(reference: Any, base_url: str) -> str | None:
    text = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(text, str):
        return None
    parts = text.removeprefix(base_url.rstrip("/") + "/").split("/")
    if len(parts) == 4 and parts[2] == "_history":
        parts = parts[:2]
    return "/".join(parts) if len(parts) == 2 and all(parts) else None


def _codings(concept: Any, *, text: str | None = None) -> list[Coding]:
    """The codings of a concept; with `text`, one that stands for a concept that has none."""
    found = [
        (str(coding.get("system", "")), str(coding["code"]))
        for coding in (concept or {}).get("coding", ())
        if "code" in coding
    ]
    return found or ([("", text)] if text is not None else [])


def _period(row: Json | None) -> Interval | None:
    if row is None:
        return None
    try:
        return Interval(
            interval_of(row["start"]).start_us if "start" in row else OPEN_START_US,
            interval_of(row["end"]).end_us if "end" in row else OPEN_END_US,
        )
    except InvalidError:
        return None
