"""Conversations: threads of Communications that those who take part see, and nobody else."""

from resources.communication.part import PART

__all__ = ["PART"]
