"""Conversations over HTTP, each caller with what the table of roles gives them."""

from __future__ import annotations

from typing import Any

import pytest

from resources.communication.rules import communication_rule
from resources.communication.words import HIDDEN_TEXT, RETRACTED_TEXT
from tests.resources.communication.conftest import Practice, key_of

Json = dict[str, Any]

pytestmark = pytest.mark.xdist_group("communication")


@pytest.fixture(scope="module")
def cast(practice: Practice) -> tuple[str, str, str, str]:
    """A patient, her doctor, another doctor of the same organization who treats her, and somebody else's patient."""
    organization = practice.put("Organization", name="Practice")
    doctor, colleague = practice.doctor(organization), practice.doctor(organization)
    patient = practice.patient(generalPractitioner=[{"reference": doctor}, {"reference": colleague}])
    return patient, doctor, colleague, practice.patient()


def test_who_takes_part_sees_the_thread_and_nobody_else(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, colleague, stranger = cast
    thread = practice.thread(patient, doctor, topic="Cough", message="I cough.")
    answer = practice.send(doctor, thread, "Since when?")
    question = practice.found(patient, f"Communication?part-of={thread}&_sort=_id")[0]
    for one in (thread, answer, f"Communication/{question['id']}"):
        assert practice.read(patient, one).status_code == 200, one
        assert practice.read(doctor, one).status_code == 200, one
        # Neither her other doctor, of the same organization, nor somebody else.
        assert practice.read(colleague, one).status_code == 404, one
        assert practice.read(stranger, one).status_code == 404, one
    assert practice.found(colleague, f"Communication?part-of={thread}") == []
    assert len(practice.found(doctor, f"Communication?part-of={thread}")) == 2
    refused = practice.call(colleague, f"{thread}/$send", message="Hello")
    assert (refused.status_code, key_of(refused)) == (404, "HS-READ-NOT-FOUND")


def test_the_server_says_who_speaks_and_when(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, colleague, _ = cast
    thread = practice.thread(patient, doctor)
    said = {
        "resourceType": "Communication",
        "status": "completed",
        "partOf": [{"reference": thread}],
        "recipient": [{"reference": doctor}],
        "sender": {"reference": colleague},
        "sent": "2001-01-01T00:00:00Z",
        "payload": [{"contentString": "a\x07b\u202ec\r\nd"}],
    }
    with practice.as_(patient) as client:
        made = client.post("Communication", json=said)
    assert made.status_code == 201, made.text
    stored = made.json()
    assert stored["sender"] == {"reference": patient}
    assert stored["sent"] > "2026"
    assert stored["payload"] == [{"contentString": "abc\nd"}]


def test_a_message_is_for_all_who_take_part(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, colleague, _ = cast
    thread = practice.thread(patient, doctor, colleague)
    said = {
        "resourceType": "Communication",
        "status": "completed",
        "partOf": [{"reference": thread}],
        "recipient": [{"reference": doctor}],
        "payload": [{"contentString": "Only you"}],
    }
    with practice.as_(patient) as client:
        refused = client.post("Communication", json=said)
        assert (refused.status_code, key_of(refused)) == (422, "HS-CHAT-RECIPIENTS")
        assert colleague in refused.text


def test_a_plain_thread_is_a_thread(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, _, _ = cast
    header = {"resourceType": "Communication", "status": "in-progress", "recipient": [{"reference": doctor}]}
    with practice.as_(patient) as client:
        made = client.post("Communication", json=header)
        assert made.status_code == 201, made.text
        thread = f"Communication/{made.json()['id']}"
        assert {row["reference"] for row in made.json()["recipient"]} == {patient, doctor}
    practice.send(doctor, thread, "Hello")


def test_a_closed_thread_takes_no_messages_until_it_is_opened_again(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, _, _ = cast
    thread = practice.thread(patient, doctor)
    assert practice.call(doctor, f"{thread}/$close-thread").json()["status"] == "completed"
    refused = practice.call(patient, f"{thread}/$send", message="One more")
    assert (refused.status_code, key_of(refused)) == (422, "HS-CHAT-CLOSED")
    assert practice.call(doctor, f"{thread}/$reopen-thread").json()["status"] == "in-progress"
    practice.send(patient, thread, "One more")


def test_a_patient_does_not_close_what_somebody_else_began(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, _, _ = cast
    thread = practice.thread(doctor, patient)
    refused = practice.call(patient, f"{thread}/$close-thread")
    assert (refused.status_code, key_of(refused)) == (422, "HS-CHAT-OWNER")


def test_who_comes_sees_everything_and_who_goes_nothing(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, colleague, _ = cast
    thread = practice.thread(doctor, patient, message="Hello")
    before = practice.send(patient, thread, "Hello, too")
    assert practice.read(colleague, before).status_code == 404
    assert practice.call(doctor, f"{thread}/$participants", add=colleague).status_code == 200
    assert practice.read(colleague, before).status_code == 200
    assert practice.call(doctor, f"{thread}/$participants", remove=colleague).status_code == 200
    assert practice.read(colleague, before).status_code == 404
    assert practice.read(colleague, thread).status_code == 404


def test_an_edited_message_keeps_what_it_was_for_who_takes_part(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, colleague, _ = cast
    thread = practice.thread(patient, doctor)
    message = practice.send(patient, thread, "It hurts left")
    refused = practice.call(doctor, f"{message}/$edit", message="It does not")
    assert (refused.status_code, key_of(refused)) == (403, "HS-CHAT-SENDER")
    edited = practice.call(patient, f"{message}/$edit", message="It hurts right")
    assert edited.status_code == 200, edited.text
    history = practice.read(doctor, f"{message}/_history").json()
    texts = [row["resource"]["payload"][0]["contentString"] for row in history["entry"]]
    assert texts == ["It hurts right", "It hurts left"]
    assert practice.read(colleague, f"{message}/_history").status_code == 404


def test_a_plain_write_does_not_change_what_was_said(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, _, _ = cast
    thread = practice.thread(patient, doctor)
    message = practice.send(patient, thread, "Yes")
    stored = practice.read(patient, message).json()
    with practice.as_(patient) as client:
        changed = client.put(message, json={**stored, "payload": [{"contentString": "No"}]})
        assert (changed.status_code, key_of(changed)) == (422, "HS-CHAT-EDIT")
        assert client.delete(message).status_code == 403


def test_a_retracted_message_shows_a_notice(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, _, _ = cast
    message = practice.send(patient, practice.thread(patient, doctor), "Oh no")
    assert practice.call(patient, f"{message}/$retract").status_code == 200
    shown = practice.read(doctor, message).json()
    assert (shown["status"], shown["payload"][0]["contentString"]) == ("entered-in-error", RETRACTED_TEXT)
    again = practice.call(patient, f"{message}/$edit", message="Back")
    assert (again.status_code, key_of(again)) == (422, "HS-CHAT-GONE")


def test_only_documents_that_the_sender_sees_are_attached(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, _, stranger = cast
    content = [{"attachment": {"contentType": "text/plain", "title": "x"}}]
    mine = practice.put("DocumentReference", status="current", subject={"reference": patient}, content=content)
    other = practice.put("DocumentReference", status="current", subject={"reference": stranger}, content=content)
    thread = practice.thread(patient, doctor)
    practice.send(patient, thread, "See this", attachment=mine)
    refused = practice.call(patient, f"{thread}/$send", message="See this", attachment=other)
    assert (refused.status_code, key_of(refused)) == (422, "HS-CHAT-ATTACHMENT")
    said = {
        "resourceType": "Communication",
        "status": "completed",
        "partOf": [{"reference": thread}],
        "recipient": [{"reference": doctor}],
        "payload": [{"contentReference": {"reference": other}}],
    }
    with practice.as_(patient) as client:
        assert key_of(client.post("Communication", json=said)) == "HS-CHAT-ATTACHMENT"
        said["payload"] = [{"contentAttachment": {"title": "x"}}]
        assert key_of(client.post("Communication", json=said)) == "HS-CHAT-ATTACHMENT"
        said["payload"] = [{"contentReference": {"reference": mine}}]
        assert client.post("Communication", json=said).status_code == 201


def test_each_has_read_up_to_a_message_and_never_goes_back(practice: Practice, cast: tuple[str, ...]) -> None:
    _, doctor, _, _ = cast
    patient = practice.patient(generalPractitioner=[{"reference": doctor}])
    thread = practice.thread(doctor, patient)
    first, second = practice.send(doctor, thread, "One"), practice.send(doctor, thread, "Two")

    def unread() -> int:
        with practice.as_(patient) as client:
            return int(client.get("Communication/$unread").json()["parameter"][0]["valueInteger"])

    assert unread() == 2
    assert practice.call(patient, f"{second}/$mark-read").status_code == 200
    assert unread() == 0
    receipt = practice.call(patient, f"{first}/$mark-read").json()
    assert receipt["executionPeriod"]["end"] == practice.read(patient, second).json()["sent"]
    assert unread() == 0
    state = practice.read(doctor, f"{thread}/$read-state").json()["parameter"]
    read_by = {row["part"][0]["valueReference"]["reference"]: len(row["part"]) for row in state}
    assert read_by == {patient: 2, doctor: 1}
    assert len(practice.found(patient, f"Task?code=urn:healthsphere:task|read&focus={thread}")) == 1


def test_a_hidden_message_is_there_for_moderators_alone(practice: Practice, cast: tuple[str, ...]) -> None:
    patient, doctor, _, _ = cast
    moderator = practice.administrator()
    thread = practice.thread(patient, doctor)
    message = practice.send(patient, thread, "Something vile")
    assert practice.read(moderator, message).status_code == 404
    refused = practice.call(moderator, f"{message}/$hide", reason="vile")
    assert refused.status_code == 404  # nobody has reported it
    review = practice.call(doctor, f"{message}/$report", reason="It is vile")
    assert review.status_code == 201, review.text
    (task,) = practice.found(moderator, f"Task?focus={message}&status=requested")
    assert task["id"] == review.json()["id"]
    assert practice.read(moderator, message).status_code == 200
    assert practice.call(doctor, f"{message}/$hide", reason="vile").status_code == 403
    hidden = practice.call(moderator, f"{message}/$hide", reason="vile")
    assert hidden.status_code == 200, hidden.text
    for somebody in (patient, doctor):
        assert practice.read(somebody, message).status_code == 404
        assert practice.read(somebody, f"{message}/_history/1").status_code == 404
        texts = [
            one["payload"][0]["contentString"] for one in practice.found(somebody, f"Communication?part-of={thread}")
        ]
        assert texts == [HIDDEN_TEXT]
    assert practice.read(moderator, message).json()["payload"][0]["contentString"] == "Something vile"
    assert practice.read(moderator, f"Task/{task['id']}").json()["status"] == "completed"
    assert practice.call(moderator, f"{message}/$unhide").status_code == 200
    assert practice.read(patient, message).status_code == 200
    assert len(practice.found(patient, f"Communication?part-of={thread}")) == 1


def test_the_rule_done_twice_changes_nothing_more(practice: Practice, cast: tuple[str, ...]) -> None:
    from fhir_server.model.access import Caller, Identity  # noqa: PLC0415
    from fhir_server.repository.rules import Write  # noqa: PLC0415

    caller = Caller(Identity("x", "app", "patient", fhir_user="Patient/1"))
    given = {"resourceType": "Communication", "status": "in-progress", "recipient": [{"reference": "Practitioner/1"}]}
    once = communication_rule(Write("Communication", "1", None, given, caller))
    assert communication_rule(Write("Communication", "1", None, once, caller)) == once
