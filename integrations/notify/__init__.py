"""The ways out of this server by which people are told of things: mail, SMS, web push."""

from integrations.notify.outlets import outlets_of

__all__ = ["outlets_of"]
