"""The ways that the settings of this server open."""

from __future__ import annotations

from urllib.parse import urlsplit

from fhir_server.interactions.outlets import Outlet
from fhir_server.settings import Settings
from integrations.notify.mail import Mail, MailOutlet
from integrations.notify.push import PushOutlet, load_or_create
from integrations.notify.sms import SmsOutlet
from smart_auth.outbound import Outbound

#: The key of web push, in the data folder.
KEY = "push-key.pem"


def outlets_of(settings: Settings, mail: Mail | None) -> dict[str, Outlet]:
    """The ways by which people are told.

    Args:
        mail: the mail of the sign-in side; None where there is none
    """
    place = urlsplit(settings.base_url)
    link = settings.brand_website or f"{place.scheme}://{place.netloc}/"
    outlets: dict[str, Outlet] = {}
    if mail is not None:
        outlets["email"] = MailOutlet(mail, link)
    if settings.sms_webhook is not None:
        outlets["sms"] = SmsOutlet(settings.sms_webhook.get_secret_value(), link)
    if place.scheme == "https":  # browsers subscribe on such pages alone
        key = load_or_create(settings.data_dir / KEY)
        outlets["push"] = PushOutlet(key, link, link, Outbound(settings.outbound_allow))
    return outlets
