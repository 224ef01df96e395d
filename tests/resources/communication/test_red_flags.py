"""The safety net: what it finds, what it lets be, and that negation takes back only what it is about."""

from __future__ import annotations

import httpx
import pytest

from resources.ticket.red_flags import QUESTIONNAIRE, answered_yes, notice_of, red_flags


@pytest.mark.parametrize(
    "text",
    [
        "I have chest pain since an hour",
        "Since this morning I have a Chest  Pain!",
        "pain in my chest",
        "I don\u2019t know what to do. Chest pain!",
        "no fever, but chest pain",
        "I never had this, now chest pain",
        "I can't breathe",
        "I am short of breath",
        "my husband had two seizures",
        "I want to die",
        "no hope, I think of suicide",
        "Ich habe Brustschmerzen",
        "Schmerzen in der Brust",
        "kein Fieber, aber Atemnot",
        "Ich kriege keine Luft",
        "Sie war BEWUSSTLOS",
        "Ich will nicht mehr leben",
        "Thanks for the recipe. By the way, last night I passed out twice.",
    ],
)
def test_what_cannot_wait_is_found_anywhere_in_the_text(text: str) -> None:
    assert red_flags().found(text) != []


@pytest.mark.parametrize(
    "text",
    [
        "I need a new prescription",
        "no chest pain",
        "I have no chest pain, only a cough",
        "denies chest pain",
        "without any shortness of breath",
        "keine Brustschmerzen",
        "Ich habe keine Atemnot",
        "ohne Brustschmerz",
        "the chest freezer is a pain. My back hurts",
        "a masterstroke of the orchestra",
        "Der Termin ist am Montag",
    ],
)
def test_what_can_wait_is_let_be(text: str) -> None:
    assert red_flags().found(text) == []


def test_the_notice_is_in_the_language_of_the_patient() -> None:
    flags = red_flags()
    assert notice_of(flags.found("Ich habe Atemnot")) == flags.notices["de"]
    assert notice_of(flags.found("I have chest pain")) == flags.notices["en"]
    assert notice_of([]) == flags.notices["en"]


def test_a_yes_to_a_structured_question_is_a_red_flag() -> None:
    items = [
        {"linkId": "breath", "answer": [{"valueBoolean": True}]},
        {"linkId": "chest", "answer": [{"valueBoolean": False}]},
    ]
    assert answered_yes({"questionnaire": f"{QUESTIONNAIRE}|1.0.0", "item": items}) == ["breath"]
    assert answered_yes({"questionnaire": "urn:other", "item": items}) == []


def test_the_structured_questions_are_read_from_the_server(client: httpx.Client) -> None:
    answer = client.get("Task/$red-flag-questions")
    assert answer.status_code == 200
    questions = answer.json()
    assert questions["url"] == QUESTIONNAIRE
    assert {item["type"] for item in questions["item"]} == {"boolean"}
    stored = client.post("Questionnaire", json={name: v for name, v in questions.items() if name != "id"})
    assert stored.status_code == 201, stored.text
