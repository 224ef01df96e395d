"""The safety net: words of a message, and answers to structured questions, that may not wait.

A search of subject lines for keywords finds a seventh of what matters
(https://pmc.ncbi.nlm.nih.gov/articles/PMC3822104); so the whole text is read, and questions are asked besides. It errs
to the side of calling somebody.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Json = dict[str, Any]

DATA = Path(__file__).with_name("data") / "red-flags.toml"
QUESTIONS = Path(__file__).with_name("data") / "questions.json"

#: The structured questions of ours; any of them answered with yes is a red flag.
QUESTIONNAIRE = "urn:healthsphere:Questionnaire:red-flags"

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_END = re.compile(r"[.!?;:\n]+")


@dataclass(frozen=True, slots=True)
class Language:
    """The list of one language, its phrases as words."""

    name: str
    negations: frozenset[str]
    turns: frozenset[str]
    phrases: tuple[tuple[str, ...], ...]
    always: frozenset[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RedFlags:
    """Attributes:
    gap: how many other words may stand between two words of a phrase
    reach: how many words before a phrase a negation is looked for
    notices: what a patient is told at once, by language
    """

    languages: tuple[Language, ...]
    gap: int
    reach: int
    notices: dict[str, str]

    def found(self, text: str) -> list[tuple[str, str]]:
        """The phrases that a text has, each with its language."""
        hits: dict[tuple[str, str], None] = {}
        for sentence in _END.split(normal(text)):
            words = _WORD.findall(sentence)
            for language in self.languages:
                for phrase in (*language.phrases, *language.always):
                    if self._has(words, phrase, language):
                        hits[" ".join(phrase), language.name] = None
        return list(hits)

    def _has(self, words: list[str], phrase: tuple[str, ...], language: Language) -> bool:
        for start, word in enumerate(words):
            if not (meets(word, phrase[0]) and self._goes_on(words, start + 1, phrase[1:])):
                continue
            if phrase in language.always or not self._taken_back(words[:start], language):
                return True
        return False

    def _goes_on(self, words: list[str], start: int, rest: tuple[str, ...]) -> bool:
        if not rest:
            return True
        return any(
            meets(words[place], rest[0]) and self._goes_on(words, place + 1, rest[1:])
            for place in range(start, min(len(words), start + self.gap + 1))
        )

    def _taken_back(self, before: list[str], language: Language) -> bool:
        """Whether a negation stands before, and nothing turns it round again."""
        for word in reversed(before[-self.reach :]):
            if word in language.turns:
                return False
            if word in language.negations:
                return True
        return False


def meets(word: str, wanted: str) -> bool:
    return word.startswith(wanted[:-1]) if wanted.endswith("*") else word == wanted


def normal(text: str) -> str:
    """Small letters, one kind of apostrophe, composed accents."""
    return unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'").replace("\u2018", "'")


@cache
def red_flags() -> RedFlags:
    table = tomllib.loads(DATA.read_text("utf-8"))
    languages = [
        Language(
            name,
            frozenset(map(normal, rows["negations"])),
            frozenset(map(normal, rows["turns"])),
            tuple(tuple(normal(phrase).split()) for phrase in rows["phrases"]),
            frozenset(tuple(normal(phrase).split()) for phrase in rows["always"]),
        )
        for name, rows in table.items()
        if isinstance(rows, dict) and "phrases" in rows
    ]
    return RedFlags(tuple(languages), table["gap"], table["reach"], dict(table["notice"]))


def answered_yes(response: Json) -> list[str]:
    """The questions of ours that a QuestionnaireResponse answers with yes."""
    if str(response.get("questionnaire", "")).partition("|")[0] != QUESTIONNAIRE:
        return []
    return [
        str(item.get("linkId"))
        for item in response.get("item", [])
        if any(answer.get("valueBoolean") is True for answer in item.get("answer", []))
    ]


def notice_of(flags: list[tuple[str, str]]) -> str:
    """What a patient is told, in the language in which they wrote."""
    notices = red_flags().notices
    spoken = [language for _, language in flags if language in notices]
    return notices[spoken[0]] if spoken else notices["en"]
