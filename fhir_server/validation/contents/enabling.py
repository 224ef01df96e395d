"""Whether a question is asked: its conditions on the answers to others.

Spec: https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

Json = dict[str, Any]

#: Expressions of other guides, which say more than `enableWhen`.
_BY_EXPRESSION = frozenset(
    f"http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-{name}"
    for name in ("enableWhenExpression", "calculatedExpression")
)


def is_enabled(question: Json, answers: Mapping[str, Sequence[Any]]) -> bool | None:
    """Whether a question is asked, by the answers to all questions; None where that cannot be told."""
    if any(extension.get("url") in _BY_EXPRESSION for extension in question.get("extension", ())):
        return None
    conditions = question.get("enableWhen") or ()
    if not conditions:
        return True
    met = [_is_met(condition, answers.get(str(condition.get("question")), ())) for condition in conditions]
    if question.get("enableBehavior") == "all":
        return False if False in met else None if None in met else True
    return True if True in met else None if None in met else False


def _is_met(condition: Json, answers: Sequence[Any]) -> bool | None:
    wanted = value_of(condition, "answer")
    operator = condition.get("operator")
    if operator == "exists":
        return bool(answers) is wanted
    verdicts = [_compared(operator, answer, wanted) for answer in answers]
    if operator == "!=":
        return all(verdict is True for verdict in verdicts) if None not in verdicts else None
    return True if True in verdicts else None if None in verdicts else False


def _compared(operator: Any, answer: Any, wanted: Any) -> bool | None:
    if operator in ("=", "!="):
        same = is_same(answer, wanted)
        return None if same is None else same is (operator == "=")
    ours, theirs = _orderable(answer), _orderable(wanted)
    if ours is None or theirs is None or ours[0] != theirs[0]:
        return None
    match operator:
        case ">":
            return bool(ours[1] > theirs[1])
        case "<":
            return bool(ours[1] < theirs[1])
        case ">=":
            return bool(ours[1] >= theirs[1])
        case "<=":
            return bool(ours[1] <= theirs[1])
    return None


def is_same(answer: Any, wanted: Any) -> bool | None:
    """Whether two values are the same answer; of codes, the display does not count."""
    if isinstance(answer, dict) and isinstance(wanted, dict):
        if "code" in answer or "code" in wanted:
            keys: Iterable[str] = ("system", "code", *(("value",) if "value" in answer or "value" in wanted else ()))
            return all(answer.get(key) == wanted.get(key) for key in keys)
        return answer == wanted
    if isinstance(answer, bool) or isinstance(wanted, bool):
        return answer is wanted
    return bool(answer == wanted)


def _orderable(value: Any) -> tuple[str, Any] | None:
    """What a value is compared by, and with what it can be compared."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, Decimal)):
        return "number", value
    if isinstance(value, str):
        return f"text of {len(value)}", value  # dates and times of one precision
    if isinstance(value, dict) and isinstance(value.get("value"), (int, Decimal)):
        return f"quantity in {value.get('system')}|{value.get('code') or value.get('unit')}", value["value"]
    return None


def value_of(holder: Json, stem: str) -> Any:
    """The value of a choice, `answerCoding` say, whatever its type."""
    return next((v for k, v in holder.items() if k.startswith(stem) and k[len(stem) : len(stem) + 1].isupper()), None)
