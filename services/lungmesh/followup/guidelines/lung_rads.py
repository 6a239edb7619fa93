"""Lung-RADS v2022 (American College of Radiology; Christensen et al., Chest 2024;165:738).

Where the table asks for a size it is the mean diameter, rounded to 0.1 mm. A nodule that is stable
keeps its earlier category, unless it crossed a size threshold or a step-down applies; a smaller one
may also go by its size.
"""

from __future__ import annotations

from dataclasses import replace

from lungmesh.followup.guidelines.facts import NoduleFacts
from lungmesh.followup.guidelines.rows import (
    AIRWAY,
    BASELINE,
    CALCIFIED,
    CYST,
    FAT,
    GROWING,
    NEW,
    NON_SOLID,
    NOT_EVALUABLE,
    PART_SOLID,
    SHRINKING,
    SLOW,
    SOLID,
    STABLE,
    Bounds,
    Guideline,
    Management,
    Row,
    Verdict,
    growths,
    kinds,
)

_WORK_UP = Management(
    "Referral for further clinical evaluation: diagnostic chest CT, PET/CT, tissue sampling.",
    "转诊进一步临床评估：诊断性胸部CT、PET/CT、组织活检。",
)
LUNG_RADS = Guideline(
    name="Lung-RADS",
    edition="v2022",
    source="American College of Radiology; Christensen et al., Chest 2024;165:738",
    # Category 0 asks for more images; it outranks what needs none of them.
    order=("1", "2", "0", "3", "4A", "4B", "4X"),
    management={
        "0": Management(
            "Comparison with earlier CT, added images, or low-dose CT in 1 to 3 months.",
            "与既往CT比较、补充扫描，或1至3个月内复查低剂量CT。",
            3,
        ),
        "1": Management("Low-dose CT in 12 months.", "12个月后低剂量CT。", 12),
        "2": Management("Low-dose CT in 12 months.", "12个月后低剂量CT。", 12),
        "3": Management("Low-dose CT in 6 months.", "6个月后低剂量CT。", 6),
        "4A": Management(
            "Low-dose CT in 3 months; PET/CT may be considered when a solid nodule or solid part "
            "is 8 mm or larger.",
            "3个月后低剂量CT；实性结节或实性成分≥8 mm时可考虑PET/CT。",
            3,
        ),
        "4B": _WORK_UP,
        "4X": _WORK_UP,
    },
)

_BY_SIZE = growths(BASELINE, STABLE, SHRINKING, NOT_EVALUABLE)
_FIRST_SEEN = growths(BASELINE, NEW)
_GROWN = growths(GROWING)
ROWS: tuple[Row, ...] = (
    Row("benign calcification or fat", "1", kinds(CALCIFIED, FAT)),
    Row(
        "juxtapleural, solid, smooth, < 10 mm, baseline or new",
        "2",
        kinds(SOLID),
        Bounds(high=10),
        growth=_FIRST_SEEN,
        signs=frozenset({"juxtapleural", "smooth_margin"}),
        without=frozenset({"spiculation", "lobulation"}),
    ),
    Row("solid < 6 mm", "2", kinds(SOLID), Bounds(high=6), growth=_BY_SIZE),
    Row("solid 6 to < 8 mm", "3", kinds(SOLID), Bounds(6, 8), growth=_BY_SIZE),
    Row("solid 8 to < 15 mm", "4A", kinds(SOLID), Bounds(8, 15), growth=_BY_SIZE),
    Row("solid >= 15 mm", "4B", kinds(SOLID), Bounds(15), growth=_BY_SIZE),
    Row("new solid < 4 mm", "2", kinds(SOLID), Bounds(high=4), growth=growths(NEW)),
    Row("new solid 4 to < 6 mm", "3", kinds(SOLID), Bounds(4, 6), growth=growths(NEW)),
    Row("new solid 6 to < 8 mm", "4A", kinds(SOLID), Bounds(6, 8), growth=growths(NEW)),
    Row("new solid >= 8 mm", "4B", kinds(SOLID), Bounds(8), growth=growths(NEW)),
    Row("growing solid < 8 mm", "4A", kinds(SOLID), Bounds(high=8), growth=_GROWN),
    Row("growing solid >= 8 mm", "4B", kinds(SOLID), Bounds(8), growth=_GROWN),
    Row("slowly growing solid or part-solid", "4B", kinds(SOLID, PART_SOLID), growth=growths(SLOW)),
    Row("part-solid < 6 mm in total", "2", kinds(PART_SOLID), Bounds(high=6), growth=_BY_SIZE),
    Row(
        "part-solid >= 6 mm, solid part < 6 mm",
        "3",
        kinds(PART_SOLID),
        Bounds(6),
        Bounds(high=6),
        _BY_SIZE,
    ),
    Row(
        "part-solid >= 6 mm, solid part 6 to < 8 mm",
        "4A",
        kinds(PART_SOLID),
        Bounds(6),
        Bounds(6, 8),
        _BY_SIZE,
    ),
    Row("part-solid, solid part >= 8 mm", "4B", kinds(PART_SOLID), Bounds(6), Bounds(8), _BY_SIZE),
    Row(
        "new part-solid < 6 mm in total",
        "3",
        kinds(PART_SOLID),
        Bounds(high=6),
        growth=growths(NEW),
    ),
    Row(
        "new part-solid, solid part < 4 mm",
        "4A",
        kinds(PART_SOLID),
        Bounds(6),
        Bounds(high=4),
        growths(NEW),
    ),
    Row(
        "new part-solid, solid part >= 4 mm",
        "4B",
        kinds(PART_SOLID),
        Bounds(6),
        Bounds(4),
        growths(NEW),
    ),
    Row(
        "growing part-solid, solid part < 4 mm",
        "4A",
        kinds(PART_SOLID),
        solid=Bounds(high=4),
        growth=_GROWN,
    ),
    Row(
        "growing part-solid, solid part >= 4 mm",
        "4B",
        kinds(PART_SOLID),
        solid=Bounds(4),
        growth=_GROWN,
    ),
    Row("non-solid < 30 mm", "2", kinds(NON_SOLID), Bounds(high=30)),
    Row(
        "non-solid >= 30 mm, stable or slowly growing",
        "2",
        kinds(NON_SOLID),
        Bounds(30),
        growth=growths(STABLE, SHRINKING, SLOW),
    ),
    Row(
        # Growth of more than 1.5 mm in a year is in no other row: it keeps the size's category.
        "non-solid >= 30 mm",
        "3",
        kinds(NON_SOLID),
        Bounds(30),
        growth=growths(BASELINE, NEW, GROWING, NOT_EVALUABLE),
    ),
    Row("airway nodule: its category depends on the airway", "", kinds(AIRWAY), needs=("airway",)),
    Row("atypical cyst: its category depends on its wall", "", kinds(CYST), needs=("cyst_wall",)),
)
# Step-downs: from, to, and the days for which it must have been stable or smaller. A visit some
# weeks early still counts: 6 months as 150 days, 3 months as 75.
STEP_DOWNS = (
    ("3", "2", 150.0, "category 3, stable or smaller at 6 months"),
    ("4A", "3", 75.0, "category 4A, stable or smaller at 3 months"),
)
# Features that raise category 3 or 4 to 4X, as far as they are measured here; a non-solid nodule
# whose volume doubled in a year is the other one.
RAISING_SIGNS = frozenset({"spiculation"})
_UNCHANGED = growths(STABLE, SHRINKING)
# Findings of the quality rules that say the lungs are not fully there.
INCOMPLETE_LUNGS = frozenset({"lungs_cut_off", "one_lung", "missing_slices"})


def judge(nodule: NoduleFacts) -> Verdict:
    """Return a nodule's category and the row that gave it."""
    nodule = replace(
        nodule,
        mean_diameter_mm=round(nodule.mean_diameter_mm, 1),
        solid_mean_diameter_mm=round(nodule.solid_mean_diameter_mm, 1),
    )
    verdict = _kept(nodule, _by_rows(nodule))
    raised = sorted(RAISING_SIGNS & nodule.signs)
    if nodule.type == NON_SOLID and nodule.doubled_in_a_year:
        raised.append("doubled within a year")
    if verdict.category in ("3", "4A", "4B") and raised:
        return Verdict("4X", f"{verdict.row}, with {', '.join(raised)}")
    return verdict


def judge_exam(verdicts: list[Verdict], qc_codes: frozenset[str]) -> Verdict:
    """Return the exam's category: that of its most suspicious nodule.

    Parameters
    ----------
    qc_codes
        Codes of the exam's quality findings; lungs that are not fully in view give category 0
        unless a nodule is more suspicious.
    """
    incomplete = sorted(INCOMPLETE_LUNGS & qc_codes)
    all_verdicts = list(verdicts) or [Verdict("1", "no nodule")]
    if incomplete:
        all_verdicts.append(Verdict("0", f"lungs not fully evaluable ({', '.join(incomplete)})"))
    return LUNG_RADS.worst(all_verdicts)


def _by_rows(nodule: NoduleFacts) -> Verdict:
    for row in ROWS:
        if row.holds(nodule):
            return Verdict(row.category, row.name, row.needs)
    raise AssertionError(f"no row of Lung-RADS fits {nodule}")


def _kept(nodule: NoduleFacts, by_size: Verdict) -> Verdict:
    """Apply what the earlier exam says of a nodule that is stable or smaller."""
    earlier = nodule.earlier
    if earlier is None or nodule.growth not in _UNCHANGED or not earlier.category:
        return by_size
    if not by_size.category or nodule.type in (CALCIFIED, FAT):
        return by_size
    before = _by_rows(
        NoduleFacts(
            earlier.type,
            # Rounded as today's sizes are: else 7.97 and 8.0 mm would be a threshold crossed.
            round(earlier.mean_diameter_mm, 1),
            round(earlier.solid_mean_diameter_mm, 1),
            STABLE,
        )
    )
    if LUNG_RADS.rank(by_size.category) > LUNG_RADS.rank(before.category):
        # It crossed a size threshold, so it is categorised by size although it did not grow.
        return by_size
    for category, lower, days, name in STEP_DOWNS:
        if earlier.category == category and earlier.days_in_category >= days:
            return _lower(by_size, Verdict(lower, name))
    unchanged = Verdict(earlier.category, f"category {earlier.category}, unchanged")
    if nodule.type == earlier.type == NON_SOLID:
        # The table itself has rows for a non-solid nodule that is stable.
        return _lower(by_size, unchanged)
    if nodule.growth == STABLE:
        # Nothing but time lowers it: one that was new or grew does not fall back to its size, and
        # one that was stepped down does not rise to it.
        return unchanged
    return _lower(by_size, unchanged)


def _lower(one: Verdict, other: Verdict) -> Verdict:
    return min(one, other, key=lambda verdict: LUNG_RADS.rank(verdict.category))
