"""Real time: what happens for somebody, told to who is connected."""

from integrations.realtime.routes import routes

__all__ = ["routes"]
