"""Guidelines as data: one vocabulary, one table a guideline, one engine that reads them all."""

from lungmesh.followup.guidelines.facts import Earlier, NoduleFacts
from lungmesh.followup.guidelines.rows import Guideline, Verdict

__all__ = ["Earlier", "Guideline", "NoduleFacts", "Verdict"]
