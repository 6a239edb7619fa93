"""What the report says, as facts: every text, table and object is made from this and nothing else.

Values are rounded to what a report states when they are read (`facts.py`). Identifiers stand apart
in `ids`, so that they stay out of the content hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

LUNG_RADS = "Lung-RADS"


@dataclass(frozen=True)
class Model:
    """A network, rule set or algorithm and its version."""

    name: str
    version: str


@dataclass(frozen=True)
class Exam:
    """How the CT was made; None where its headers do not say. mm, kV, mGy, ml."""

    study_date: str
    manufacturer: str
    model: str
    kernel: str
    kvp: float | None
    slice_thickness_mm: float | None
    ctdi_vol_mgy: float | None
    contrast: bool | None
    slice_count: int
    slice_spacing_mm: float
    pixel_spacing_mm: tuple[float, float]
    lung_volume_ml: int


@dataclass(frozen=True)
class QcFinding:
    """One breach of the quality rules."""

    code: str
    severity: str
    message_en: str
    message_zh: str


@dataclass(frozen=True)
class PriorExam:
    """An earlier exam that this one was compared with.

    `method` is how it was laid over this one: affine, deformable or lobes; empty where not told.
    `still_shown_count` of the resolved nodules are at places where this exam shows something alike.
    `warnings` are codes of what makes the two exams unlike.
    """

    ids: dict[str, Any]
    study_date: str
    interval_days: int
    registered: bool
    registration_dice: float
    method: str
    inverse_error_mm: float
    resolved_count: int
    still_shown_count: int
    not_evaluable_count: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Sign:
    """A sign measured from the image; score 0 … 1.

    `probability` is that readers would rate it so, where a map was fitted to readers.
    """

    name: str
    score: float
    present: bool
    model: Model
    probability: float | None


@dataclass(frozen=True)
class Risk:
    """A published model's probability of malignancy, 0 … 1; a range where inputs are missing."""

    model: Model
    source: str
    probability: float | None
    low: float
    high: float
    missing: tuple[str, ...]
    outside_intended_use: tuple[str, ...]


@dataclass(frozen=True)
class Contribution:
    """What one input added to a score's log-odds."""

    feature: str
    value: float
    logit: float


@dataclass(frozen=True)
class ReaderScore:
    """How likely the nodule looks malignant to readers, 0 … 1; no probability of cancer."""

    model: Model
    source: str
    basis: str
    probability: float
    contributions: tuple[Contribution, ...]
    outside_intended_use: tuple[str, ...]


@dataclass(frozen=True)
class PriorMatch:
    """The same nodule in an earlier exam; changes are now minus then.

    A change of volume within ± `volume_error_percent` is within the error of measurement (95 %);
    `growth_probability` is None where no error is known. A bound of the doubling time's 95 %
    interval is None where it reaches "no growth". Masses and their change are None where the
    earlier exam told none.
    """

    ids: dict[str, Any]
    study_date: str
    interval_days: int
    mean_diameter_mm: float
    volume_mm3: int
    solid_mean_diameter_mm: float
    mass_mg: int | None
    diameter_change_mm: float
    solid_diameter_change_mm: float
    volume_change_percent: float
    mass_change_percent: float | None
    volume_doubling_time_days: int | None
    volume_doubling_time_low_days: int | None
    volume_doubling_time_high_days: int | None
    mass_doubling_time_days: int | None
    volume_error_percent: float | None
    growth_probability: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PastSize:
    """The nodule itself in an earlier exam, compared or not."""

    ids: dict[str, Any]
    study_date: str
    interval_days: int
    type: str
    mean_diameter_mm: float
    volume_mm3: int
    mass_mg: int
    solid_mean_diameter_mm: float


@dataclass(frozen=True)
class Correction:
    """What a person said of a nodule, and whether it still counts.

    `number` is the nodule's in this exam, None where it has none any more.
    """

    ids: dict[str, Any]
    kind: str
    number: int | None
    author: str
    at: str
    withdrawn: bool


@dataclass(frozen=True)
class Review:
    """What people changed of a nodule; `status` is confirmed, rejected or empty."""

    status: str
    kinds: tuple[str, ...]
    measured_by_hand: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether a person changed a size, the type or a tie to an earlier exam."""
        return bool(set(self.kinds) - {"confirm", "reject"})


@dataclass(frozen=True)
class NextExam:
    """What the programme's guideline asks for next; no date where it names work-up."""

    guideline: Model
    category: str
    due_date: str
    work_up: bool


@dataclass(frozen=True)
class Fact:
    """An input of a guideline's row, as it was compared."""

    name: str
    value: str
    unit: str


@dataclass(frozen=True)
class Alternative:
    """A category that one changed fact would give."""

    category: str
    row: str
    change: Fact


@dataclass(frozen=True)
class Category:
    """One guideline's word on a nodule or on the exam."""

    guideline: Model
    source: str
    category: str
    row: str
    row_zh: str
    management_en: str
    management_zh: str
    next_exam_months: int | None
    needs: tuple[str, ...]
    facts: tuple[Fact, ...]
    alternatives: tuple[Alternative, ...]

    @property
    def nearest(self) -> tuple[Alternative, ...]:
        """Its alternatives, those by a size first: a size a little off is likelier than a type."""
        return tuple(sorted(self.alternatives, key=lambda other: not other.change.unit))


@dataclass(frozen=True)
class Nodule:
    """A nodule as the report states it; positions in LPS mm, sizes in mm, volumes in mm³."""

    ids: dict[str, Any]
    number: int
    type: str
    lobe: str
    # InstanceNumber of the slice that the sizes were taken on.
    slice_number: int
    center_lps_mm: tuple[float, ...]
    bbox_lps_mm: tuple[float, ...]
    long_axis_mm: float
    short_axis_mm: float
    mean_diameter_mm: float
    volume_mm3: int
    mean_hu: int
    mass_mg: int
    solid_long_axis_mm: float
    solid_mean_diameter_mm: float
    solid_volume_mm3: int
    consolidation_to_tumour_ratio: float
    long_axis_lps_mm: tuple[float, ...]
    short_axis_lps_mm: tuple[float, ...]
    detection_score: float
    detector: Model
    signs: tuple[Sign, ...]
    risks: tuple[Risk, ...]
    reader_score: ReaderScore | None
    growth: str
    # What it is to the nodules of the earlier exams; empty where not told.
    outcome: str
    shown_earlier: bool
    priors: tuple[PriorMatch, ...]
    # Every earlier self, most recent first.
    history: tuple[PastSize, ...]
    review: Review | None
    categories: tuple[Category, ...]

    @property
    def uncompared(self) -> tuple[PastSize, ...]:
        """Its earlier selves in exams that were not laid over this one."""
        compared = {prior.ids["study_id"] for prior in self.priors}
        return tuple(past for past in self.history if past.ids["study_id"] not in compared)

    def category_of(self, guideline: str) -> str:
        """Return a guideline's category for this nodule; empty when it gave none."""
        return next((c.category for c in self.categories if c.guideline.name == guideline), "")


@dataclass(frozen=True)
class OutsideUse:
    """Why nodules lie outside what a model was made for."""

    model: Model
    reason: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Content:
    """The whole report."""

    ids: dict[str, Any]
    exam: Exam
    clinical: dict[str, Any]
    series_choice: dict[str, Any]
    qc: tuple[QcFinding, ...]
    priors: tuple[PriorExam, ...]
    nodules: tuple[Nodule, ...]
    categories: tuple[Category, ...]
    models: tuple[Model, ...]
    # Nodules that a radiologist rejected: they take part in nothing.
    rejected: tuple[Nodule, ...]
    corrections: tuple[Correction, ...]
    next: NextExam | None
    # Digest of the hospital's own templates; empty where the packaged ones speak.
    templates: str = ""

    @property
    def edition(self) -> int:
        """1 at first, one more for each corrected report of the same revision."""
        return int(self.ids["edition"])

    @property
    def guideline(self) -> str:
        """The guideline that the programme follows; Lung-RADS where none is told."""
        names = [category.guideline.name for category in self.categories]
        if self.next and self.next.guideline.name in names:
            return self.next.guideline.name
        return LUNG_RADS if LUNG_RADS in names or not names else names[0]

    @property
    def dominant(self) -> Nodule | None:
        """The nodule that decides the exam's category, the largest where several do."""
        name = self.guideline
        exam = next((c.category for c in self.categories if c.guideline.name == name), "")
        deciding = [n for n in self.nodules if exam and n.category_of(name) == exam]
        return max(
            deciding or self.nodules, key=lambda n: (n.mean_diameter_mm, -n.number), default=None
        )

    @property
    def outside_use(self) -> tuple[OutsideUse, ...]:
        """Every reason why a model was not made for a nodule here, each once."""
        found: dict[tuple[Model, str], list[int]] = {}
        for nodule in self.nodules:
            scores: list[Risk | ReaderScore] = [*nodule.risks]
            if nodule.reader_score:
                scores.append(nodule.reader_score)
            for score in scores:
                for reason in score.outside_intended_use:
                    found.setdefault((score.model, reason), []).append(nodule.number)
        return tuple(
            OutsideUse(model, reason, tuple(numbers)) for (model, reason), numbers in found.items()
        )


def content_sha256(content: Content, written: Iterable[str]) -> str:
    """Return the hash of what was found, measured, categorised and written.

    No identifier enters it, so the same pixels sent as another study give the same hash.

    Parameters
    ----------
    written
        The report's texts below their headings of identity.
    """
    facts = {"facts": _without_ids(asdict(content)), "written": list(written)}
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_ids(item) for name, item in value.items() if name != "ids"}
    if isinstance(value, list | tuple):
        return [_without_ids(item) for item in value]
    return value
