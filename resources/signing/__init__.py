"""Signatures of the server under the PDFs that it issues, and the sheets that these are drawn on. Other parts ask
`signer_of`."""

from resources.signing.pdf import Signer, signer_of

__all__ = ["Signer", "signer_of"]
