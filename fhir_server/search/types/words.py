"""The expressions of `_text` and `_content`: `(bone OR liver) AND metast* NOT "follow up"`.

Words side by side must all be there. `AND` binds closer than `OR`; a minus before a word is `NOT`; a word may end with
an asterisk; what stands in quotation marks is a phrase.

Spec: https://hl7.org/fhir/R4/search.html#text
"""

from __future__ import annotations

import re
from collections.abc import Collection
from math import sqrt
from typing import Any

from fhir_server.search.query import Words
from fhir_server.search.types.conditions import Filter, either, malformed, starts_with
from fhir_server.search.words import IN_ORDER, words_of

SHAPE = 'words with AND, OR, NOT and parentheses, or phrases in quotation marks, such as (bone OR liver) AND "ct scan"'

MAX_TERMS = 50
MAX_DEPTH = 20

_TOKEN = re.compile(r'"[^"]*"?|[()]|-?[^\s()"]+')


def parse_words(field: str, name: str, text: str) -> Words:
    """Read an expression.

    Raises:
        InvalidError: 400; it has no word that must be there, too many words, or parentheses that do not close.
    """
    tokens: list[str] = _TOKEN.findall(text)
    if len(tokens) > 4 * MAX_TERMS:
        raise malformed(name, text, f"at most {MAX_TERMS} words", "HS-SEARCH-TEXT")
    reader = _Reader(field, name, text, tokens)
    condition = reader.any_of(0)
    if reader.tokens or condition is None or not reader.terms:
        raise malformed(name, text, SHAPE, "HS-SEARCH-TEXT")
    if len(reader.terms) > MAX_TERMS:
        raise malformed(name, text, f"at most {MAX_TERMS} words", "HS-SEARCH-TEXT")
    return Words(field, condition, tuple(dict.fromkeys(reader.terms)))


class _Reader:
    def __init__(self, field: str, name: str, text: str, tokens: list[str]) -> None:
        self._field, self._name, self._text = field, name, text
        self.tokens = tokens[::-1]
        self.terms: list[str] = []

    def any_of(self, depth: int) -> Filter | None:
        if depth > MAX_DEPTH:
            raise malformed(self._name, self._text, f"at most {MAX_DEPTH} parentheses in each other", "HS-SEARCH-TEXT")
        choices = [self._all_of(depth)]
        while self._takes("or"):
            choices.append(self._all_of(depth))
        found = [choice for choice in choices if choice is not None]
        return either(found) if found else None

    def _all_of(self, depth: int) -> Filter | None:
        found: list[Filter] = []
        while self.tokens and self.tokens[-1] != ")" and self.tokens[-1].lower() != "or":
            if self._takes("and"):
                continue
            condition = self._term(depth)
            if condition is not None:
                found.append(condition)
        return {"$and": found} if len(found) > 1 else found[0] if found else None

    def _term(self, depth: int) -> Filter | None:
        if self._takes("not"):
            count = len(self.terms)
            refused = self._term(depth) if self.tokens else None
            del self.terms[count:]
            return None if refused is None else {"$nor": [refused]}
        token = self.tokens.pop()
        if token == "(":
            inner = self.any_of(depth + 1)
            if not self._takes(")"):
                raise malformed(self._name, self._text, SHAPE, "HS-SEARCH-TEXT")
            return inner
        if token == ")":
            raise malformed(self._name, self._text, SHAPE, "HS-SEARCH-TEXT")
        if token.startswith("-") and len(token) > 1:
            self.tokens += [token[1:], "not"]
            return self._term(depth)
        return self._words(token)

    def _words(self, token: str) -> Filter | None:
        words = words_of(token)
        if not words:
            return None
        self.terms += words
        if token.endswith("*"):
            return starts_with(self._field, words[-1]) if len(words) == 1 else None
        conditions: list[Filter] = [{self._field: {"$all": words}}] if len(words) > 1 else [{self._field: words[0]}]
        if len(words) > 1:  # a phrase, or a word with a hyphen
            conditions.append({self._field + IN_ORDER: {"$regex": re.escape(f" {' '.join(words)} ")}})
            return {"$and": conditions}
        return conditions[0]

    def _takes(self, word: str) -> bool:
        if self.tokens and self.tokens[-1].lower() == word:
            self.tokens.pop()
            return True
        return False


def score_of(words: Collection[str], terms: tuple[str, ...]) -> float:
    """As `score`, of the words that a document has."""
    found = len(set(words) & set(terms)) / len(terms)
    return (found + 1 / sqrt(1 + len(words))) / 2


def score(field: str, terms: tuple[str, ...]) -> dict[str, Any]:
    """The expression for how well a document matches, from 0 to 1: the terms that it has, more in a shorter text."""
    words = {"$ifNull": [f"${field}", []]}
    found = {"$divide": [{"$size": {"$setIntersection": [words, list(terms)]}}, len(terms)]}
    return {"$divide": [{"$add": [found, {"$divide": [1, {"$sqrt": {"$add": [1, {"$size": words}]}}]}]}, 2]}
