"""All rules of contents, over one resource and what is in it.

Spec: https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fhir_server.fhirpath.items import Item
from fhir_server.validation.contents.answers import AnswerRules, look_at_questionnaire
from fhir_server.validation.contents.bundles import BundleRules
from fhir_server.validation.contents.extensions import ExtensionRules, url_of_extension
from fhir_server.validation.contents.measures import look_at_attachment, look_at_unit
from fhir_server.validation.profile.findings import Findings, path_of
from fhir_server.validation.profile.run import Known, Run

if TYPE_CHECKING:
    from fhir_server.validation.profile.shelf import Shelf

Json = dict[str, Any]

_MEASURES = frozenset({"Quantity", "Age", "Count", "Distance", "Duration"})


def questionnaires_of(items: Iterable[Item]) -> list[str]:
    """The canonicals of the Questionnaires that responses answer, those within the response apart."""
    found = [
        item.value.get("questionnaire")
        for item in items
        if item.kind.name == "QuestionnaireResponse" and item.kind.is_resource
    ]
    return list(dict.fromkeys(one for one in found if isinstance(one, str) and not one.startswith("#")))


def canonicals_in(items: Iterable[Item], questionnaires: Iterable[Json | None]) -> tuple[set[str], set[str]]:
    """The extensions whose definitions are needed, and the value sets that answers are of."""
    extensions = {url for item in items if item.kind.name == "Extension" and (url := url_of_extension(item))}
    sets: set[str] = set()
    for questionnaire in questionnaires:
        waiting = list((questionnaire or {}).get("item") or ())
        for question in waiting:  # it grows meanwhile
            if isinstance(value_set := question.get("answerValueSet"), str) and not value_set.startswith("#"):
                sets.add(value_set)
            waiting += question.get("item") or ()
    return extensions, sets


def contents_found(
    shelf: Shelf, items: Sequence[Item], questionnaires: Mapping[str, Json | None], known: Known
) -> Findings:
    """What is found in a resource; `items` are all of it, itself first, and `known` is of this validation alone."""
    run = Run(shelf, known=known)
    findings, extensions = run.findings, ExtensionRules(run, items[0])
    for item in items:
        if type(item.value) is not dict:
            continue
        name = item.kind.name
        if name == "Extension":
            extensions.look_at(item)
        elif name in _MEASURES:
            look_at_unit(item, shelf.units, findings)
        elif name == "Attachment":
            look_at_attachment(item, findings)
        elif not item.kind.is_resource:
            continue
        elif name == "Bundle":
            BundleRules(item, findings).look()
        elif name == "Questionnaire":
            look_at_questionnaire(item.value, path_of(item), findings)
        elif name == "QuestionnaireResponse":
            _look_at_response(item, shelf, questionnaires, findings)
    return findings


def _look_at_response(item: Item, shelf: Shelf, questionnaires: Mapping[str, Json | None], findings: Findings) -> None:
    canonical = item.value.get("questionnaire")
    if not isinstance(canonical, str):
        return
    if canonical.startswith("#"):
        contained = [one for one in item.value.get("contained") or () if isinstance(one, dict)]
        questionnaire = next((one for one in contained if one.get("id") == canonical[1:]), None)
    else:
        questionnaire = questionnaires.get(canonical)
    if questionnaire is None or questionnaire.get("resourceType") != "Questionnaire":
        text = f"Not checked: the Questionnaire {canonical} is not held on this server"
        path = f"{path_of(item)}.questionnaire"
        findings.tell("HS-CONTENT-ANSWER", "informational", path, text, None, severity="information")
        return
    AnswerRules(questionnaire, shelf.terminology, findings).look_at(item.value, path_of(item))
