"""Calendars of others: feeds that they read.

Spec: RFC 5545
"""

from integrations.calendar.feed import routes

__all__ = ["routes"]
