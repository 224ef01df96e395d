"""Mails as a real SMTP server gets them, and what happens when it takes none."""

from __future__ import annotations

import asyncio
import email
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from smart_auth.mail import MailError, Smtp, SmtpMail
from smart_auth.parts import Visit
from tests.smtp import free_port, smtp_server

SENDER = "HealthSphere Übung <no-reply@example.org>"


def send(smtp: Smtp, to: str = "ida@example.org") -> None:
    async def run() -> None:
        try:
            await SmtpMail(smtp).send(to, "Grüße", "Hello,\n\nÄpfel\n", "<p>Äpfel</p>")
        finally:
            # A connection that was given up is closed by its loop, which needs a few turns for it before it ends.
            await asyncio.sleep(0.05)

    asyncio.run(run())


def test_a_mail_arrives_whole() -> None:
    with smtp_server() as (inbox, port):
        send(Smtp("127.0.0.1", port, SENDER, "none"))
    sender, recipients, message = inbox.taken[0]
    assert (sender, recipients) == ("no-reply@example.org", ["ida@example.org"])
    assert str(email.header.make_header(email.header.decode_header(message["Subject"]))) == "Grüße"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@example.org>")
    plain, html = message.get_payload()
    assert plain.get_payload(decode=True).decode().replace("\r\n", "\n") == "Hello,\n\nÄpfel\n"
    assert html.get_content_type() == "text/html"


def test_user_and_password_are_shown_over_tls_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    shown: list[tuple[bytes, bytes]] = []

    def authenticator(*given: Any) -> AuthResult:
        data = given[-1]
        assert isinstance(data, LoginPassword)
        shown.append((data.login, data.password))
        return AuthResult(success=data.password == b"sesame")

    how = {"tls_context": context, "authenticator": authenticator, "auth_required": True, "require_starttls": True}
    with smtp_server(**how) as (inbox, port):
        send(Smtp("localhost", port, SENDER, "starttls", "me", "sesame"))
        with pytest.raises(MailError):
            send(Smtp("localhost", port, SENDER, "starttls", "me", "wrong"))
    assert len(inbox.taken) == 1
    assert shown[0] == (b"me", b"sesame")


def test_a_server_without_tls_gets_nothing_when_tls_is_asked_for() -> None:
    with smtp_server() as (inbox, port):
        for security in ("starttls", "tls"):
            with pytest.raises(MailError) as error:
                send(Smtp("127.0.0.1", port, SENDER, security))  # type: ignore[arg-type]
            assert "ida@" not in str(error.value)
    assert inbox.taken == []


def test_a_server_that_is_not_there_is_a_mail_error() -> None:
    with pytest.raises(MailError, match="took no mail"):
        send(Smtp("127.0.0.1", free_port(), SENDER, "none"))


def test_accounts_send_by_smtp_where_it_is_set(make_site: Any) -> None:
    with smtp_server() as (inbox, port):
        site = make_site(smtp=Smtp("127.0.0.1", port, SENDER, "none"))
        site.account()
        browser = site.browser()
        browser.get("/auth/forgot")
        browser.send("/auth/forgot", email="ida@example.org")
        text = inbox.taken[0][2].get_payload(decode=True).decode()
        assert "/auth/reset?token=" in text
        assert site.browser().get("/auth/admin/mail").status_code == 404
        assert site.mails("ida@example.org") == []


def test_a_mail_that_cannot_be_sent_is_told_to_the_trail_and_not_to_the_person(make_site: Any) -> None:
    site = make_site(smtp=Smtp("127.0.0.1", free_port(), SENDER, "none"))
    account = site.account()
    site.loop.run(site.side.credentials.forgotten("ida@example.org", Visit()))
    failed = [happening for happening in site.trail.happenings if happening.outcome == 8]
    assert [(happening.account_id, happening.detail) for happening in failed] == [(account.id, "mail not sent")]


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for `localhost` that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    moment = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(days=1))
        .not_valid_after(moment + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "certificate.pem", folder / "key.pem"
