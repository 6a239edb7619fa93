"""C-Lung-RADS (Wang et al., Nat Med 2024, PMC11564084), by type and size.

Its multidimensional model, which raises categories 2 and 3 to 4 at a probability of 0.5, is not
published as a formula: that step is not taken here, and the row says so.
"""

from __future__ import annotations

from dataclasses import replace

from lungmesh.followup.guidelines.facts import NoduleFacts
from lungmesh.followup.guidelines.rows import (
    AIRWAY,
    CALCIFIED,
    CYST,
    FAT,
    NON_SOLID,
    PART_SOLID,
    SOLID,
    Bounds,
    Guideline,
    Management,
    Row,
    Verdict,
    kinds,
)

C_LUNG_RADS = Guideline(
    name="C-Lung-RADS",
    edition="2024",
    source="Wang et al., Nat Med 2024, PMC11564084",
    order=("0", "1", "2", "3", "4"),
    management={
        "0": Management("CT in 12 months.", "12个月后复查CT。", 12),
        "1": Management("Low risk: CT in 12 months.", "低危：12个月后复查CT。", 12),
        "2": Management("Intermediate risk: CT in 6 months.", "中危：6个月后复查CT。", 6),
        "3": Management("High risk: CT in 3 months.", "高危：3个月后复查CT。", 3),
        "4": Management(
            "Extremely high risk: immediate clinical assessment.", "极高危：立即临床评估。"
        ),
    },
)
_UNRAISED = "(by size and type; the multidimensional model is not applied)"
ROWS: tuple[Row, ...] = (
    Row("calcified", "0", kinds(CALCIFIED)),
    Row("any type < 6 mm", "1", kinds(SOLID, PART_SOLID, NON_SOLID, FAT), Bounds(high=6)),
    Row(f"solid 6 to < 10 mm {_UNRAISED}", "2", kinds(SOLID), Bounds(6, 10)),
    Row(f"solid 10 to < 18 mm {_UNRAISED}", "3", kinds(SOLID), Bounds(10, 18)),
    Row("solid >= 18 mm", "4", kinds(SOLID), Bounds(18)),
    Row(
        f"part-solid >= 6 mm, solid part < 6 mm {_UNRAISED}",
        "2",
        kinds(PART_SOLID),
        Bounds(6),
        Bounds(high=6),
    ),
    Row(
        f"part-solid, solid part 6 to < 10 mm {_UNRAISED}",
        "3",
        kinds(PART_SOLID),
        Bounds(6),
        Bounds(6, 10),
    ),
    Row("part-solid, solid part >= 10 mm", "4", kinds(PART_SOLID), Bounds(6), Bounds(10)),
    Row(f"non-solid 6 to < 20 mm {_UNRAISED}", "2", kinds(NON_SOLID), Bounds(6, 20)),
    Row(f"non-solid >= 20 mm {_UNRAISED}", "3", kinds(NON_SOLID), Bounds(20)),
    Row("its table has no such nodule", "", kinds(FAT, AIRWAY, CYST), needs=("nodule_type",)),
)


def judge(nodule: NoduleFacts) -> Verdict:
    """Return a nodule's category and the row that gave it."""
    nodule = replace(
        nodule,
        mean_diameter_mm=round(nodule.mean_diameter_mm, 1),
        solid_mean_diameter_mm=round(nodule.solid_mean_diameter_mm, 1),
    )
    for row in ROWS:
        if row.holds(nodule):
            return Verdict(row.category, row.name, row.needs)
    raise AssertionError(f"no row of C-Lung-RADS fits {nodule}")
