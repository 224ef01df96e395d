"""Telling people that there is something to look at: now, where they are connected, and by mail, SMS and web push."""

from resources.notification.everybody import tell_all, tell_all_within
from resources.notification.forgetting import forget, pushes_of
from resources.notification.outbox import notify, notify_within
from resources.notification.part import PART

__all__ = ["PART", "forget", "notify", "notify_within", "pushes_of", "tell_all", "tell_all_within"]
