"""ClamAV: looks for viruses in contents that are uploaded, by the socket of its daemon."""

from integrations.clamd.client import Clamd, clamd_of

__all__ = ["Clamd", "clamd_of"]
