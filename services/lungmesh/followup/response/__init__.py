"""Response of lesions to treatment: RECIST 1.1 and iRECIST, with volumes beside them."""

from __future__ import annotations

from lungmesh.followup.response.course import LIMITS, ExamResponse, LesionSize, assess
from lungmesh.followup.response.lesions import ExamLesions, Lesion

__all__ = ["LIMITS", "ExamLesions", "ExamResponse", "Lesion", "LesionSize", "assess"]
