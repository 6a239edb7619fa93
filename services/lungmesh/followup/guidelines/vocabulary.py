"""The one vocabulary that every guideline's table is written in: a nodule's and an exam's state.

A table names facts (`FACTS`) and compares them with numbers, words or true and false. None is a
fact that nobody knows: the engine that meets it asks for it and does not guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import GrowthClass, NoduleType

Value = float | bool | str | frozenset[str]
Facts = Mapping[str, Value | None]

# The word for the past of a nodule that has none.
NONE = "none"
_TYPE, _GROWTH = "NODULE_TYPE_", "GROWTH_CLASS_"
TYPE_WORDS: Mapping[int, str] = {
    number: name.removeprefix(_TYPE).lower() for name, number in NoduleType.items() if number
}
GROWTH_WORDS: Mapping[int, str] = {
    number: name.removeprefix(_GROWTH).lower() for name, number in GrowthClass.items() if number
}
# Growth that compares a nodule with an earlier self.
COMPARED = frozenset({"stable", "growing", "slowly_growing", "shrinking"})
FIRST_SEEN = frozenset({"baseline", "new"})


@dataclass(frozen=True)
class Kind:
    """What values a fact takes.

    Attributes
    ----------
    words
        The words it may be; empty for numbers and for true and false.
    unit
        Of a number; empty where it has none.
    flag
        True for true and false.
    """

    words: tuple[str, ...] = ()
    unit: str = ""
    flag: bool = False

    @property
    def number(self) -> bool:
        """Whether the fact is a number."""
        return not self.words and not self.flag


_FLAG = Kind(flag=True)
_MM, _MM3, _DAYS = Kind(unit="mm"), Kind(unit="mm3"), Kind(unit="days")
# Signs that tables ask for; those which nobody looked for count as absent.
SIGNS = (
    "spiculation",
    "lobulation",
    "smooth_margin",
    "juxtapleural",
    "lymphadenopathy",
    "metastasis",
)
# Findings of the quality rules that say the lungs are not fully there.
QC_CODES = ("lungs_cut_off", "one_lung", "missing_slices")
FACTS: Mapping[str, Kind] = {
    "type": Kind(tuple(TYPE_WORDS.values())),
    "mean_diameter_mm": _MM,
    "solid_mean_diameter_mm": _MM,
    "long_axis_mm": _MM,
    "volume_mm3": _MM3,
    "solid_volume_mm3": _MM3,
    "growth": Kind(tuple(GROWTH_WORDS.values())),
    "vdt_days": _DAYS,
    "volume_change_percent": Kind(unit="%"),
    "doubled_in_a_year": _FLAG,
    **dict.fromkeys(SIGNS, _FLAG),
    "days_in_category": _DAYS,
    "days_since_first": _DAYS,
    "several_solid": _FLAG,
    "several_subsolid": _FLAG,
    "round": Kind(("baseline", "annual")),
    "age_years": Kind(unit="years"),
    "risk": Kind(("low", "high")),
    "known_cancer": _FLAG,
    "immunosuppressed": _FLAG,
    "suspected_infection": _FLAG,
    "proven_benign": _FLAG,
    "brock_probability": Kind(),
    "herder_probability": Kind(),
    "model_probability": Kind(),
    "airway": Kind(("subsegmental", "proximal")),
    "cyst_wall": Kind(("thin", "thick")),
    "cyst_multilocular": _FLAG,
    "cyst_change": Kind((NONE, "larger", "multilocular", "wall", "content")),
}
# The nodule's past: facts that nobody can change, so no alternative is made of them.
PAST: Mapping[str, Kind] = {
    "earlier_type": Kind((NONE, *TYPE_WORDS.values())),
    "earlier_mean_diameter_mm": _MM,
    "earlier_solid_mean_diameter_mm": _MM,
    "crossed_threshold": _FLAG,
}
# Facts whose words are a guideline's own categories.
CATEGORY_FACTS = ("category", "earlier_category", "resolved_category")
EXAM_FACTS: Mapping[str, Kind] = {
    "no_nodules": _FLAG,
    "new_nodules": Kind(),
    **dict.fromkeys(QC_CODES, _FLAG),
    "prior_awaited": _FLAG,
    "suspected_infection": _FLAG,
}


@dataclass(frozen=True)
class Earlier:
    """The same nodule in the most recent earlier exam.

    Attributes
    ----------
    category
        By the guideline that judges now; empty when it gave none.
    days_in_category
        Days since the exam in which it was first given that category without a break.
    """

    type: NoduleType.ValueType
    mean_diameter_mm: float | None
    solid_mean_diameter_mm: float | None
    category: str
    days_in_category: float


@dataclass(frozen=True)
class NoduleState:
    """A nodule as the guidelines see it. None: not known.

    Attributes
    ----------
    mean_diameter_mm, solid_mean_diameter_mm, long_axis_mm, volume_mm3, solid_volume_mm3
        Of the whole nodule and of its solid part (0 when it has none).
    growth
        Against the earlier exams, as Lung-RADS v2022 defines it.
    vdt_days
        Volume doubling time against the earlier exam; negative means shrinking. None also when the
        volume did not change.
    volume_change_percent
        Against the earlier exam.
    doubled_in_a_year
        Its volume at least doubled within 12 months; False when there is no earlier self.
    signs
        Names of the signs that are present.
    earlier
        None when the nodule has no earlier self.
    days_since_first
        Days since the first exam that shows the nodule; 0 at that exam.
    nodules, subsolid_nodules
        Nodules of the exam without a benign pattern, this one among them; how many of them are
        part-solid or non-solid.
    round
        baseline: the first exam of screening; annual: a later one.
    risk
        low or high risk of lung cancer, as Fleischner 2017 tells them apart.
    proven_benign, suspected_infection
        A doctor's word.
    model_probability
        By the multidimensional model of C-Lung-RADS.
    brock_probability, herder_probability
        0 … 1.
    airway
        subsegmental, or proximal: segmental and nearer to the trachea.
    cyst_wall, cyst_multilocular
        thin (< 2 mm) or thick; several chambers.
    cyst_change
        Since the earlier exam: none, larger (the cystic component), multilocular (it became so),
        wall (thicker, or more nodular), content (more chambers, or new or more opacity).
    """

    type: NoduleType.ValueType
    mean_diameter_mm: float | None = None
    solid_mean_diameter_mm: float | None = None
    growth: GrowthClass.ValueType = nodule_pb2.GROWTH_CLASS_BASELINE
    volume_mm3: float | None = None
    solid_volume_mm3: float | None = None
    long_axis_mm: float | None = None
    vdt_days: float | None = None
    volume_change_percent: float | None = None
    doubled_in_a_year: bool | None = False
    signs: frozenset[str] = field(default_factory=frozenset)
    earlier: Earlier | None = None
    days_since_first: float | None = 0.0
    nodules: int | None = None
    subsolid_nodules: int | None = None
    round: Literal["baseline", "annual"] | None = None
    age_years: float | None = None
    risk: Literal["low", "high"] | None = None
    known_cancer: bool | None = None
    immunosuppressed: bool | None = None
    suspected_infection: bool | None = None
    proven_benign: bool = False
    brock_probability: float | None = None
    herder_probability: float | None = None
    model_probability: float | None = None
    airway: Literal["subsegmental", "proximal"] | None = None
    cyst_wall: Literal["thin", "thick"] | None = None
    cyst_multilocular: bool | None = None
    cyst_change: Literal["none", "larger", "multilocular", "wall", "content"] | None = None


@dataclass(frozen=True)
class ExamState:
    """An exam as the guidelines see it, beside its nodules.

    Attributes
    ----------
    nodules, new_nodules
        How many there are, and how many of them are new since an earlier exam.
    qc_codes
        Codes of the exam's quality findings.
    resolved_categories
        The categories, by the guideline that judges, that resolved nodules had.
    prior_awaited
        An earlier CT is known of and still to come.
    suspected_infection
        A doctor takes the findings for infection or inflammation.
    """

    nodules: int = 0
    new_nodules: int = 0
    qc_codes: frozenset[str] = field(default_factory=frozenset)
    resolved_categories: frozenset[str] = field(default_factory=frozenset)
    prior_awaited: bool = False
    suspected_infection: bool = False


_PLAIN = (
    "mean_diameter_mm", "solid_mean_diameter_mm", "long_axis_mm", "volume_mm3", "solid_volume_mm3",
    "vdt_days", "volume_change_percent", "doubled_in_a_year", "days_since_first", "round",
    "age_years", "risk", "known_cancer", "immunosuppressed", "suspected_infection",
    "proven_benign", "brock_probability", "herder_probability", "model_probability", "airway",
    "cyst_wall", "cyst_multilocular", "cyst_change",
)  # fmt: skip


def facts_of(state: NoduleState) -> dict[str, Value | None]:
    """Return a nodule's facts by name."""
    earlier, subsolid = state.earlier, state.subsolid_nodules
    solid = None if state.nodules is None or subsolid is None else state.nodules - subsolid
    facts: dict[str, Value | None] = {name: getattr(state, name) for name in _PLAIN}
    facts |= {sign: sign in state.signs for sign in SIGNS}
    facts |= {
        "type": TYPE_WORDS[state.type],
        "growth": GROWTH_WORDS[state.growth],
        "several_solid": None if solid is None else solid > 1,
        "several_subsolid": None if subsolid is None else subsolid > 1,
        "earlier_type": TYPE_WORDS[earlier.type] if earlier else NONE,
        "earlier_mean_diameter_mm": earlier.mean_diameter_mm if earlier else None,
        "earlier_solid_mean_diameter_mm": earlier.solid_mean_diameter_mm if earlier else None,
        "earlier_category": (earlier.category if earlier else "") or NONE,
        "days_in_category": earlier.days_in_category if earlier else 0.0,
    }
    return facts


def exam_facts_of(exam: ExamState) -> dict[str, Value | None]:
    """Return an exam's facts by name."""
    facts: dict[str, Value | None] = {code: code in exam.qc_codes for code in QC_CODES}
    facts |= {
        "no_nodules": exam.nodules == 0,
        "new_nodules": float(exam.new_nodules),
        "prior_awaited": exam.prior_awaited,
        "suspected_infection": exam.suspected_infection,
        "resolved_category": exam.resolved_categories,
    }
    return facts
