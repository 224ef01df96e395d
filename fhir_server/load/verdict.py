"""What an answer means for each resource of a parcel: taken, refused and why, or worth another try.

Spec: https://hl7.org/fhir/R4/http.html#transaction-response
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from fhir_server.load.parcels import Item, Parcel
from fhir_server.load.shapes import AnswerEntry, Issue, answer_decoder, outcome_decoder
from fhir_server.load.transport import TEMPORARY, Answer

Effect = Literal["created", "updated", "unchanged", "deleted", "read"]
_ENTRY = re.compile(r"entry\[\d+\]")

UNKNOWN_OUTCOME = (
    "The connection broke after the request was sent, so it is not known whether the server has stored it ({reason}). "
    "It is not sent again by itself, because it holds creates that would double: look in the server, then load the "
    "file anew."
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused request or entry. `status` 0: no answer; `resources`: how many were refused by it."""

    place: str
    type: str
    status: int
    issues: list[Issue]
    resources: int = 1


@dataclass(slots=True)
class Verdict:
    """`again` holds positions in a batch whose entries met a passing hindrance."""

    taken: list[tuple[Item, Effect]] = field(default_factory=list)
    refused: list[tuple[Item, Refusal]] = field(default_factory=list)
    again: list[int] = field(default_factory=list)
    unknown: bool = False


def verdict_of(parcel: Parcel, answer: Answer, *, last: bool = False) -> Verdict:
    """Judge an answer; with `last`, nothing is worth another try."""
    if answer.status == 0:
        reason = UNKNOWN_OUTCOME.format(reason=answer.body.decode(errors="replace"))
        verdict = _all_refused(parcel, 0, [Issue("error", "timeout", reason)])
        verdict.unknown = True
        return verdict
    if not 200 <= answer.status < 300:
        return _all_refused(parcel, answer.status, issues_of(answer))
    if parcel.kind == "resource":
        return Verdict(taken=[(parcel.items[0], _effect(parcel.items[0], answer.status))])
    return _bundle_verdict(parcel, answer, last=last)


def _bundle_verdict(parcel: Parcel, answer: Answer, *, last: bool) -> Verdict:
    try:
        entries = answer_decoder.decode(answer.body).entry
    except msgspec.DecodeError as error:
        return _all_refused(parcel, answer.status, [Issue("error", "processing", f"The answer is no Bundle: {error}.")])
    if len(entries) != len(parcel.items):
        text = f"The answer holds {len(entries)} entries for the {len(parcel.items)} of the request."
        return _all_refused(parcel, answer.status, [Issue("error", "processing", text)])
    verdict = Verdict()
    for position, (item, entry) in enumerate(zip(parcel.items, entries, strict=True)):
        status = _status(entry)
        if 200 <= status < 300 or status == 304:
            verdict.taken.append((item, _effect(item, status)))
        elif status in TEMPORARY and not last:
            verdict.again.append(position)
        else:
            outcome = entry.response.outcome
            issues = outcome.issue if outcome else [Issue("error", "", f"The server answered {entry.response.status}.")]
            verdict.refused.append((item, Refusal(item.place, item.type, status, issues)))
    return verdict


def _all_refused(parcel: Parcel, status: int, issues: list[Issue]) -> Verdict:
    """One refusal for the whole request; its place is the entry that the outcome names, if it does."""
    if len(parcel.items) == 1:
        place, name = parcel.items[0].place, parcel.items[0].type
    else:
        named = [m.group() for issue in issues for text in issue.expression for m in _ENTRY.finditer(text)]
        place, name = (named[0] if named else ""), ("" if parcel.kind == "batch" else "Bundle")
    if not parcel.items:
        return Verdict(refused=[(Item(0, "", "Bundle"), Refusal("", "Bundle", status, issues))])
    first, *rest = parcel.items
    whole = Refusal(place, name, status, issues, len(parcel.items))
    return Verdict(refused=[(first, whole), *((item, Refusal("", "", status, [], 0)) for item in rest)])


def issues_of(answer: Answer) -> list[Issue]:
    """The issues of an OperationOutcome; of anything else the beginning of its text."""
    try:
        issues = outcome_decoder.decode(answer.body).issue
    except msgspec.DecodeError:
        issues = []
    text = answer.body[:300].decode(errors="replace").strip()
    return issues or [Issue("error", "", text or "The answer has no body.")]


def _status(entry: AnswerEntry) -> int:
    digits = entry.response.status[:3]
    return int(digits) if digits.isdigit() else 500


def _effect(item: Item, status: int) -> Effect:
    if item.method == "DELETE":
        return "deleted"
    if item.method in ("GET", "HEAD"):
        return "read"
    if status == 201:
        return "created"
    return "unchanged" if item.method == "POST" or status == 304 else "updated"
