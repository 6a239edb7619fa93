"""DIMSE answers that are more than a number."""

from __future__ import annotations

from pydicom.dataset import Dataset

# Error Comment (0000,0902) is LO: 64 characters.
_COMMENT_LENGTH = 64


def failure(status: int, comment: str) -> Dataset:
    """Return a status with its Error Comment (PS3.7 Annex C)."""
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:_COMMENT_LENGTH]
    return answer
