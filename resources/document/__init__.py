"""Documents: uploaded, examined, reviewed, replaced, shown, issued."""

from resources.document.part import PART

__all__ = ["PART"]
