"""Tickets: questions to a pool of people, with a clock, and a safety net under them."""

from resources.ticket.part import PART

__all__ = ["PART"]
