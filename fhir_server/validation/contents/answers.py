"""QuestionnaireResponses: answers are those that the questions of their Questionnaire ask for.

Spec: https://hl7.org/fhir/R4/questionnaireresponse.html, https://hl7.org/fhir/R4/questionnaire.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fhir_server.model.errors import Severity
from fhir_server.validation.contents.enabling import is_enabled, is_same, value_of
from fhir_server.validation.profile.findings import Findings, Place
from fhir_server.validation.profile.values import shown
from profiles.terminology import Terminology

Json = dict[str, Any]

#: What an answer to a question of each type may be.
ANSWERS = {
    "boolean": ("valueBoolean",),
    "decimal": ("valueDecimal", "valueInteger"),
    "integer": ("valueInteger",),
    "date": ("valueDate",),
    "dateTime": ("valueDateTime",),
    "time": ("valueTime",),
    "string": ("valueString",),
    "text": ("valueString",),
    "url": ("valueUri",),
    "choice": ("valueCoding", "valueString", "valueDate", "valueTime", "valueInteger", "valueReference"),
    "open-choice": ("valueCoding", "valueString", "valueDate", "valueTime", "valueInteger", "valueReference"),
    "attachment": ("valueAttachment",),
    "reference": ("valueReference",),
    "quantity": ("valueQuantity",),
}

#: Responses that are said to be whole: nothing that must be answered is missing.
_WHOLE = frozenset({"completed", "amended"})

_MAX_DEPTH = 50


class AnswerRules:
    """Looks at one QuestionnaireResponse by its Questionnaire."""

    def __init__(self, questionnaire: Json, terminology: Terminology, findings: Findings) -> None:
        url, version = questionnaire.get("url") or "the Questionnaire", questionnaire.get("version")
        self._canonical = f"{url}|{version}" if version else url
        self._questions: list[Json] = questionnaire.get("item") or []
        self._places = {str(q.get("linkId")) for q in _all_of(self._questions)}
        self._terminology = terminology
        self._findings = findings
        self._answers: dict[str, list[Any]] = {}
        self._is_whole = False

    def look_at(self, response: Json, path: str) -> None:
        items = response.get("item") or []
        self._is_whole = response.get("status") in _WHOLE
        for item in _all_of(items):
            found = [value_of(answer, "value") for answer in item.get("answer") or () if isinstance(answer, dict)]
            self._answers.setdefault(str(item.get("linkId")), []).extend(value for value in found if value is not None)
        self._items(self._questions, items, path, 0)

    def _tell(self, path: str, text: str, link: str, code: str = "value", severity: Severity = "error") -> None:
        self._findings.tell("HS-CONTENT-ANSWER", code, path, text, Place(self._canonical, link), severity=severity)

    def _items(self, questions: Sequence[Json], items: Sequence[Json], path: str, depth: int) -> None:
        """The items of a group, or below an answer."""
        if depth > _MAX_DEPTH:
            return
        known = {str(question.get("linkId")): at for at, question in enumerate(questions)}
        found: dict[str, list[tuple[str, Json]]] = {}
        last = -1
        for at, item in enumerate(items):
            link, here = str(item.get("linkId")), f"{path}.item[{at}]"
            if link not in known:
                where = "elsewhere in it" if link in self._places else "not in it"
                text = f"Found the linkId {shown(link)}, which is {where}; expected one of {_listed(known)}"
                self._tell(f"{here}.linkId", text, link, "not-found")
                continue
            if known[link] < last:
                text = f"Found the item {shown(link)} after a later one; expected the order of the Questionnaire"
                self._tell(here, text, link, "structure", "warning")
            last = max(last, known[link])
            found.setdefault(link, []).append((here, item))
        for question in questions:
            self._question(question, found.get(str(question.get("linkId")), []), path, depth)

    def _question(self, question: Json, items: list[tuple[str, Json]], path: str, depth: int) -> None:
        link, kind = str(question.get("linkId")), question.get("type")
        enabled = is_enabled(question, self._answers)
        if not items:
            if question.get("required") and enabled and self._is_whole and kind != "display":
                text = f"Found no item {shown(link)}; expected one, since it is required"
                self._tell(f"{path}.item", text, link, "required")
            return
        if enabled is False and any(item.get("answer") or item.get("item") for _, item in items):
            text = f"Found the item {shown(link)}; expected none, since what enables it is not so"
            self._tell(items[0][0], text, link, "business-rule")
        if len(items) > 1 and not (kind == "group" and question.get("repeats")):
            text = f"Found {len(items)} items {shown(link)}; expected one"
            text += "" if kind == "group" else ", with all its answers"
            self._tell(items[1][0], text, link, "structure")
        for here, item in items:
            answers = item.get("answer") or []
            if kind in ("group", "display"):
                if answers:
                    self._tell(f"{here}.answer", f"Found an answer; expected none to a {kind}", link, "structure")
                self._items(question.get("item") or [], item.get("item") or [], here, depth + 1)
                continue
            self._number(question, answers, here, link, is_enabled=bool(enabled))
            for at, answer in enumerate(answers):
                self._answer(question, answer, f"{here}.answer[{at}]", link)
                self._items(question.get("item") or [], answer.get("item") or [], f"{here}.answer[{at}]", depth + 1)

    def _number(self, question: Json, answers: list[Json], here: str, link: str, *, is_enabled: bool) -> None:
        if not answers and question.get("required") and is_enabled and self._is_whole:
            self._tell(f"{here}.answer", "Found no answer; expected one, since it is required", link, "required")
        if len(answers) > 1 and not question.get("repeats"):
            text = f"Found {len(answers)} answers; expected one, since the question does not repeat"
            self._tell(f"{here}.answer", text, link, "structure")

    def _answer(self, question: Json, answer: Json, here: str, link: str) -> None:
        key = next((key for key in answer if key.startswith("value")), None)
        if key is None:
            return
        value, kind = answer[key], str(question.get("type"))
        allowed = ANSWERS.get(kind, ())
        if allowed and key not in allowed:
            text = f"Found {key}; expected {' | '.join(allowed)}, since the question is of the type {kind}"
            self._tell(f"{here}.value", text, link, "structure")
            return
        most = question.get("maxLength")
        if isinstance(value, str) and isinstance(most, int) and len(value) > most:
            self._tell(f"{here}.value", f"Found {len(value)} characters; expected at most {most}", link)
        if kind == "open-choice" and key == "valueString":
            return
        self._option(question, value, here, link)

    def _option(self, question: Json, value: Any, here: str, link: str) -> None:
        """Whether an answer is one of those that may be chosen."""
        options = [value_of(option, "value") for option in question.get("answerOption") or ()]
        if options:
            if not any(is_same(value, option) for option in options):
                text = f"Found {shown(value)}; expected one of {', '.join(map(shown, options[:8]))}"
                self._tell(f"{here}.value", text, link, "code-invalid")
            return
        value_set = question.get("answerValueSet")
        if not isinstance(value_set, str) or not isinstance(value, dict) or "code" not in value:
            return
        is_member = self._terminology.member(value_set, value.get("system"), value["code"])
        if is_member is False:
            text = f"Found {value.get('system')}|{value['code']}; expected a code of the value set {value_set}"
            self._tell(f"{here}.value", text, link, "code-invalid")
        elif is_member is None:
            text = f"Not checked: the codes of the value set {value_set} are not all known here"
            self._tell(f"{here}.value", text, link, "informational", "information")


def look_at_questionnaire(questionnaire: Json, path: str, findings: Findings) -> None:
    """What conditions of a Questionnaire ask about is in it."""
    place = Place("http://hl7.org/fhir/StructureDefinition/Questionnaire", "Questionnaire.item.enableWhen.question")
    questions = list(_all_of(questionnaire.get("item") or []))
    known = {str(question.get("linkId")) for question in questions}
    for question in questions:
        for condition in question.get("enableWhen") or ():
            if str(condition.get("question")) not in known:
                link, on = question.get("linkId"), condition.get("question")
                text = f"Found a condition of the item {shown(link)} on {shown(on)}; expected the linkId of a question"
                findings.tell("HS-CONTENT-ANSWER", "not-found", f"{path}.item", text, place)


def _all_of(items: Sequence[Json]) -> Iterator[Json]:
    """Items with those below them, and below their answers."""
    waiting: list[Any] = list(items)
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, dict):
            yield item
            waiting += item.get("item") or []
            for answer in item.get("answer") or ():
                waiting += answer.get("item") or []


def _listed(links: dict[str, int]) -> str:
    named = [shown(link) for link in links]
    return ", ".join(named[:8]) + (", …" if len(named) > 8 else "") if named else "none here"
