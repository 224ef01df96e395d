"""What people are told, by which ways, and that it happens once whatever fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import http_ece
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fhir_server.interactions.outlets import Letter, UndeliverableError
from integrations.notify.push import PushOutlet, unpadded
from integrations.notify.sms import SmsOutlet
from resources.notification import notify, notify_within
from resources.notification.events import after
from resources.notification.preferences import Preferences, preferences_of
from resources.notification.words import KINDS, WORDS, letter_of
from smart_auth.outbound import Outbound
from tests.conftest import InProcessServer
from tests.resources.communication.conftest import Clock, Practice, key_of, practice_of

pytestmark = pytest.mark.xdist_group("communication")

NIGHT_US = int(datetime(2031, 3, 1, 23, 30, tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1e6)


class Way:
    """A way that remembers, and fails as often as it is told to."""

    public_key = "key"

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.sent: list[tuple[Any, Letter]] = []
        self.failures = failures
        self.error = error or ConnectionError()

    async def send(self, to: Any, letter: Letter) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error
        self.sent.append((to, letter))


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock(NIGHT_US)


@pytest.fixture(scope="module")
def told(make_server: Callable[..., InProcessServer], clock: Clock) -> Practice:
    """A practice whose timers are due when the test says so."""
    return practice_of(make_server, now=clock)


@pytest.fixture
def ways(told: Practice) -> dict[str, Way]:
    outlets = told.server.context.outlets
    outlets.clear()
    outlets.update({name: Way() for name in ("email", "sms", "push")})
    return outlets  # type: ignore[no-any-return]


def due(told: Practice) -> None:
    """What is due is done, and what failed has been tried."""
    told.server.run(told.server.context.timers.run_due())


def tell(told: Practice, person: str, kind: str, key: str) -> None:
    told.server.run(notify(told.server.context, person, kind, "Appointment/1", key=key))


EMAIL = [{"system": "email", "value": "ida@example.org"}, {"system": "phone", "use": "mobile", "value": "+4930123"}]


def test_what_is_told_twice_is_told_once(told: Practice, ways: dict[str, Way]) -> None:
    patient = told.patient(telecom=EMAIL)
    for _ in range(3):
        tell(told, patient, "appointment-booked", "Appointment/1/1")
        due(told)
    ((to, letter),) = ways["email"].sent
    assert (to, letter.title) == ("ida@example.org", "Your appointment")
    events = told.server.run(after(told.server.context.repository.store, patient, 0))
    assert [(event.number, event.kind) for event in events] == [(1, "appointment-booked")]


def test_what_is_not_committed_is_not_told(told: Practice, ways: dict[str, Way]) -> None:
    patient, context = told.patient(telecom=EMAIL), told.server.context

    async def work(unit: Any) -> None:
        await notify_within(context, unit, patient, "message", "Communication/1", key="1")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        told.server.run(context.repository.store.transact(work))
    due(told)
    assert ways["email"].sent == []
    assert told.server.run(after(context.repository.store, patient, 0)) == []


def test_a_way_that_fails_is_tried_again_and_the_others_are_not(
    told: Practice, ways: dict[str, Way], clock: Clock
) -> None:
    patient = told.patient(telecom=EMAIL)
    ways["email"].failures = 2
    tell(told, patient, "alarm", "1")
    for _ in range(3):
        due(told)
        clock.now_us += 120_000_000
    assert len(ways["email"].sent) == 1
    assert len(ways["sms"].sent) == 1
    answer = told.call(patient, "$deliveries").json()["parameter"]
    channels = {
        part["part"][0]["valueCode"]: part["part"][1:] for part in answer[0]["part"] if part["name"] == "channel"
    }
    assert {name: row[0]["valueCode"] for name, row in channels.items()} == {
        "email": "delivered",
        "sms": "delivered",
        "push": "not-possible",
    }
    assert channels["email"][1]["valueInteger"] == 3


def test_an_address_that_is_none_is_not_tried_again(told: Practice, ways: dict[str, Way], clock: Clock) -> None:
    patient = told.patient(telecom=EMAIL)
    ways["email"].failures, ways["email"].error = 9, UndeliverableError("no")
    tell(told, patient, "appointment", "1")
    for _ in range(3):
        due(told)
        clock.now_us += 120_000_000
    assert ways["email"].failures == 8


def test_everybody_says_how_they_are_told(told: Practice, ways: dict[str, Way], clock: Clock) -> None:
    patient, other = told.patient(telecom=EMAIL), told.patient()
    given = {
        "preference": [{"kind": "message", "channel": []}, {"kind": "appointment", "channel": ["sms"]}],
        "quiet-from": "22:00",
        "quiet-to": "07:00",
        "zone": "Europe/Berlin",
        "language": "de",
    }
    answer = told.call(patient, "$notification-preferences", **given)
    assert answer.status_code == 200, answer.text
    assert told.call(patient, "$notification-preferences").json() == answer.json()
    tell(told, patient, "message", "1")
    tell(told, patient, "appointment", "2")
    due(told)
    assert ways["email"].sent == ways["sms"].sent == []  # it is night
    tell(told, patient, "alarm", "3")
    due(told)
    assert [letter.title for _, letter in ways["email"].sent] == ["Dringend: bitte sofort ansehen"]
    clock.now_us = max(clock.now_us, NIGHT_US) + 8 * 3600 * 1_000_000
    due(told)
    assert [letter.title for _, letter in ways["sms"].sent][-1] == "Ihr Termin"
    refused = told.call(other, "$notification-preferences", person=patient)
    assert (refused.status_code, key_of(refused)) == (403, "HS-NOTIFY-PERSON")
    assert told.call(patient, "$notification-preferences", zone="Mars/Base").status_code == 400


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-01-10T21:59", None),
        ("2026-01-10T22:00", "2026-01-11T07:00"),
        ("2026-01-11T06:59", "2026-01-11T07:00"),
        ("2026-01-11T07:00", None),
        ("2026-03-28T23:00", "2026-03-29T07:00"),  # the night has an hour less
        ("2026-10-24T23:00", "2026-10-25T07:00"),  # and one more
    ],
)
def test_quiet_hours_are_hours_of_the_wall_clock(now: str, until: str | None) -> None:
    zone = ZoneInfo("Europe/Berlin")

    def moment(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1e6)

    preferences = Preferences(quiet=(22 * 60, 7 * 60), zone="Europe/Berlin")
    assert preferences.quiet_until("message", moment(now)) == (None if until is None else moment(until))
    assert preferences.quiet_until("alarm", moment(now)) is None


def test_a_message_of_a_thread_is_told_without_what_it_says(told: Practice, ways: dict[str, Way]) -> None:
    doctor = told.doctor()
    patient = told.patient(telecom=EMAIL, generalPractitioner=[{"reference": doctor}])
    thread = told.thread(doctor, patient)
    message = told.send(doctor, thread, "Your HIV test is back")
    told.server.run(told.server.context.feed.caught_up())
    due(told)
    ((_, letter),) = ways["email"].sent
    assert (letter.title, letter.text) == WORDS["en"]["message"]
    events = told.server.run(after(told.server.context.repository.store, patient, 0))
    assert [(event.kind, event.focus) for event in events] == [("thread", thread), ("message", message)]
    assert "HIV" not in repr(events)


def test_preferences_take_every_kind_that_there_is(told: Practice) -> None:
    patient = told.patient()
    given = [{"kind": kind, "channel": ["sms"]} for kind in KINDS]
    assert told.call(patient, "$notification-preferences", preference=given).status_code == 200
    found = told.server.run(preferences_of(told.server.context.repository.store, patient))
    assert {kind: found.ways(kind) for kind in KINDS} == dict.fromkeys(KINDS, ("sms",))


def test_preferences_refuse_a_kind_that_there_is_not_and_name_those_that_there_are(told: Practice) -> None:
    patient = told.patient()
    taken = [{"kind": kind, "channel": ["sms"]} for kind in ("*", "invitation", "appointment")]
    assert told.call(patient, "$notification-preferences", preference=taken).status_code == 200
    before = told.call(patient, "$notification-preferences").json()
    wrong = [{"kind": "message", "channel": []}, {"kind": "apointment-booked", "channel": ["sms"]}]
    refused = told.call(patient, "$notification-preferences", preference=wrong)
    assert (refused.status_code, key_of(refused)) == (422, "HS-NOTIFY-KIND")
    told_of = refused.json()["issue"][0]["diagnostics"]
    assert all(kind in told_of for kind in (*KINDS, "invitation", "prescription"))
    assert told.call(patient, "$notification-preferences").json() == before


def test_every_language_has_every_kind() -> None:
    for words in WORDS.values():
        assert set(words) == set(WORDS["en"])
    assert letter_of("appointment-booked", "xx", "1").title == WORDS["en"]["appointment"][0]
    assert letter_of("unheard-of", "de", "1").title == WORDS["de"]["*"][0]


def test_a_push_can_be_read_by_its_browser_alone_and_proves_who_sends_it(told: Practice) -> None:
    browser = ec.generate_private_key(ec.SECP256R1())
    point = browser.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    secret = b"0123456789abcdef"
    key = ec.generate_private_key(ec.SECP256R1())
    outlet = PushOutlet(key, "https://example.org/", "https://example.org/", Outbound())
    to = {"endpoint": "https://push.example.org/x", "p256dh": unpadded(point), "auth": unpadded(secret)}
    sealed = outlet._sealed(to, letter_of("message", "en", "k"))
    assert b"message" not in sealed
    told_ = json.loads(http_ece.decrypt(sealed, private_key=browser, auth_secret=secret, version="aes128gcm"))
    assert told_ == {
        "title": "New message",
        "body": "You have a new message.",
        "link": "https://example.org/",
        "key": "k",
    }
    from joserfc import jwt  # noqa: PLC0415
    from joserfc.jwk import ECKey  # noqa: PLC0415

    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(outlet._proof(to["endpoint"]), ECKey.import_key(pem), algorithms=["ES256"]).claims
    assert claims["aud"] == "https://push.example.org"
    assert claims["exp"] < datetime.now(UTC).timestamp() + 86_400


def test_a_push_goes_to_no_address_inside(told: Practice) -> None:
    outlet = PushOutlet(
        ec.generate_private_key(ec.SECP256R1()), "https://example.org/", "x", Outbound(resolve=lambda *_: ["10.0.0.1"])
    )
    point = unpadded(
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    )
    to = {"endpoint": "https://push.example.org/x", "p256dh": point, "auth": unpadded(b"0123456789abcdef")}
    with pytest.raises(UndeliverableError):
        told.server.run(outlet.send(to, letter_of("message", "en", "k")))
    with pytest.raises(UndeliverableError):
        told.server.run(outlet.send({**to, "p256dh": "AAAA"}, letter_of("message", "en", "k")))


def test_an_sms_is_handed_to_the_webhook(told: Practice) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response([202, 422, 500][len(asked) - 1])

    async def three() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            outlet = SmsOutlet("https://sms.example.org/", "https://example.org/", client)
            await outlet.send("+49301", letter_of("message", "en", "k"))
            with pytest.raises(UndeliverableError):
                await outlet.send("no number", letter_of("message", "en", "k"))
            with pytest.raises(httpx.HTTPStatusError):
                await outlet.send("+49301", letter_of("message", "en", "k"))

    told.server.run(three())
    assert json.loads(asked[0].content) == {
        "to": "+49301",
        "text": "You have a new message. https://example.org/",
        "key": "k",
    }
    assert asked[0].headers["idempotency-key"] == "k"
