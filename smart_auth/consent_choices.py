"""What a user can choose on the consent page: each scope by itself, and finer ones where a scope is wide.

A scope for all types can be narrowed to some of them; one for Conditions or Observations to some of the categories that
US Core names; one that writes to reading. What is chosen always lies within what was asked for.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#finer-grained-resource-constraints-using-search-parameters,
https://hl7.org/fhir/us/core/STU6.1/scopes.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from fhir_server.model.access import ANY_TYPE, Scope, verbs_of
from smart_auth import scopes
from smart_auth.scope_words import THINGS, VALUES, words_of

_CONDITION: Final = "http://terminology.hl7.org/CodeSystem/condition-category"
_US_CONDITION: Final = "http://hl7.org/fhir/us/core/CodeSystem/condition-category"
_OBSERVATION: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_US_CATEGORY: Final = "http://hl7.org/fhir/us/core/CodeSystem/us-core-category"
_US_OBSERVATION: Final = "http://hl7.org/fhir/us/core/CodeSystem/us-core-observation-category"

#: The categories by which US Core lets a scope be narrowed.
CATEGORIES: Final[Mapping[str, tuple[str, ...]]] = {
    "Condition": (
        f"{_CONDITION}|encounter-diagnosis",
        f"{_CONDITION}|problem-list-item",
        f"{_US_CONDITION}|health-concern",
        f"{_US_CATEGORY}|sdoh",
    ),
    "Observation": (
        f"{_OBSERVATION}|vital-signs",
        f"{_OBSERVATION}|laboratory",
        f"{_OBSERVATION}|social-history",
        f"{_OBSERVATION}|survey",
        f"{_US_CATEGORY}|sdoh",
        f"{_US_OBSERVATION}|clinical-test",
        f"{_OBSERVATION}|imaging",
        f"{_OBSERVATION}|procedure",
        f"{_OBSERVATION}|exam",
        f"{_OBSERVATION}|therapy",
        f"{_OBSERVATION}|activity",
        f"{_US_CATEGORY}|functional-status",
        f"{_US_CATEGORY}|disability-status",
        f"{_US_CATEGORY}|cognitive-status",
    ),
}

Group = Literal["you", "context", "records", "administration", "time"]

GROUPS: Final[Mapping[str, Group]] = {
    scopes.OPENID: "you",
    scopes.FHIR_USER: "you",
    scopes.PROFILE: "you",
    scopes.LAUNCH: "context",
    scopes.LAUNCH_PATIENT: "context",
    scopes.LAUNCH_ENCOUNTER: "context",
    scopes.ACCOUNTS: "administration",
    scopes.OFFLINE: "time",
    scopes.ONLINE: "time",
}


class ChoiceError(Exception):
    """What was chosen does not go together; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Option:
    """Something to which a scope can be narrowed.

    Attributes:
        field: its name in the form
        scope: what is then granted, but for the interactions
        options: finer ones still
    """

    field: str
    title: str
    scope: Scope
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """One scope that was asked for.

    Attributes:
        word: the scope, which is its value in the form
        field: its name in the form
        reading: the field that leaves only reading of it; empty where it only reads, or only writes
        options: to what it can be narrowed
    """

    word: str
    field: str
    title: str
    text: str
    group: Group
    reading: str = ""
    options: tuple[Option, ...] = ()


def choices_of(scope: str, types: Collection[str] | None = None) -> list[Choice]:
    """The choices that the scopes of a request leave.

    Args:
        scope: what was asked for
        types: the resource types that there are; None: any
    """
    return [_choice_of(word, types) for word in scopes.words_in(scope)]


def _choice_of(word: str, types: Collection[str] | None) -> Choice:
    title, text = words_of(word)
    read = scopes.scope_of(word)
    choice = Choice(word, f"give {word}", title, text, GROUPS.get(word, "records"))
    if read is None:
        return choice
    reads, writes = set(read.verbs) & set("rs"), set(read.verbs) & set("cud")
    options: tuple[Option, ...] = ()
    if read.type == ANY_TYPE:
        there = [name for name in THINGS if types is None or name in types]
        options = tuple(_type_option(word, read, name) for name in sorted(there, key=THINGS.__getitem__))
    elif not read.criteria:
        options = tuple(_category_options(word, read))
    return replace(choice, reading=f"read {word}" if reads and writes else "", options=options)


def _type_option(word: str, wide: Scope, name: str) -> Option:
    narrowed = replace(wide, type=name)
    title = THINGS[name]
    return Option(
        f"only {word} {name}", f"{title[0].upper()}{title[1:]}", narrowed, tuple(_category_options(word, narrowed))
    )


def _category_options(word: str, wide: Scope) -> Iterable[Option]:
    for category in CATEGORIES.get(wide.type, ()):
        code = category.rpartition("|")[2]
        title = VALUES.get(code, code)
        yield Option(
            f"only {word} {wide.type} {category}",
            f"{title[0].upper()}{title[1:]}",
            replace(wide, criteria=(("category", category),)),
        )


def granted_by(choices: Iterable[Choice], ticked: Collection[str]) -> str:
    """The scopes that the user allows.

    Args:
        choices: what there was to choose
        ticked: the fields of the form that were ticked

    Raises:
        ChoiceError: nothing is left, or one choice undoes another.
    """
    kept: dict[str, Scope | None] = {}
    narrowed: list[Scope] = []
    for choice in choices:
        if choice.field not in ticked:
            continue
        read = scopes.scope_of(choice.word)
        if read is None:
            kept[choice.word] = None
            continue
        picked = list(_picked(choice.options, ticked)) or [read]
        verbs = verbs_of(set(read.verbs) & set("rs")) if choice.reading and choice.reading in ticked else read.verbs
        for scope in (replace(one, verbs=verbs) for one in picked):
            kept[choice.word if scope == read else scopes.text_of(scope, like=choice.word)] = scope
            if scope.criteria and scope.criteria != read.criteria:
                narrowed.append(scope)
    granted = " ".join(_without_wider(kept, narrowed))
    if not granted:
        raise ChoiceError("Allow at least one thing, or press “Do not allow”.")
    return granted


def _picked(options: Iterable[Option], ticked: Collection[str]) -> Iterable[Scope]:
    """What was ticked; of an option with finer ones ticked, those alone."""
    for option in options:
        finer = list(_picked(option.options, ticked))
        if finer:
            yield from finer
        elif option.field in ticked:
            yield option.scope


def _without_wider(kept: Mapping[str, Scope | None], narrowed: Iterable[Scope]) -> Iterable[str]:
    """The scopes, without what would give the rest of a type of which only some categories were chosen.

    An app may ask for the same type twice, in both versions: who narrows one of them means the type.

    Raises:
        ChoiceError: a scope for everything would give it.
    """
    for word, scope in kept.items():
        verbs = set(scope.verbs) if scope is not None and not scope.criteria else set()
        for finer in narrowed:
            if scope is None or not verbs or scope.level != finer.level or not verbs & set(finer.verbs):
                continue
            if scope.type == ANY_TYPE:
                raise ChoiceError(
                    f"You chose some of the {THINGS[finer.type]} only, but “{words_of(word)[0]}” would give all of "
                    "them. Untick that, or choose kinds of information below it."
                )
            if scope.type == finer.type:
                verbs -= set(finer.verbs)
        if scope is None or scope.criteria or verbs == set(scope.verbs):
            yield word
        elif verbs:
            yield scopes.text_of(replace(scope, verbs=verbs_of(verbs)), like=word)
