"""Signatures of the server under the PDFs that it issues. Other parts use `Signer` as it stands in the context."""

from resources.signing.pdf import Signer

__all__ = ["Signer"]
