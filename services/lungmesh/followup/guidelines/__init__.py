"""Guidelines as data: rows with bounds, and one small engine that reads them."""

from lungmesh.followup.guidelines.facts import Earlier, NoduleFacts
from lungmesh.followup.guidelines.rows import Guideline, Verdict

__all__ = ["Earlier", "Guideline", "NoduleFacts", "Verdict"]
