"""Clinical T category from size, and the stage groups of TNM's 9th edition (CLINICAL section 9).

Size is all that is judged here: invasion, separate tumour nodules, lymph nodes and metastases are
the team's to add, and can raise the stage.
"""

from __future__ import annotations

from dataclasses import dataclass

from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import NoduleType

EDITION = ("TNM", "9th edition, 2024")
SOURCE = (
    "TNM 9th edition: Rami-Porta R et al. J Thorac Oncol 2024;19:1007 (stage groups); "
    "Travis WD et al. J Thorac Oncol 2016;11:1204 (size of part-solid tumours)"
)

# T category by the greatest dimension of the invasive (solid) part: at most so many mm.
_T_BY_SIZE = (
    (10.0, "T1a"),
    (20.0, "T1b"),
    (30.0, "T1c"),
    (40.0, "T2a"),
    (50.0, "T2b"),
    (70.0, "T3"),
    (float("inf"), "T4"),
)
# A lepidic tumour larger than this in total is neither in situ nor minimally invasive.
_LEPIDIC_TOTAL_MM = 30.0
_MINIMALLY_INVASIVE_MM = 5.0

N_CATEGORIES = ("N0", "N1", "N2a", "N2b", "N3")
# Rows by T, columns in the order of N_CATEGORIES, all M0.
_GROUPS = {
    "T1a": ("IA1", "IIA", "IIB", "IIIA", "IIIB"),
    "T1b": ("IA2", "IIA", "IIB", "IIIA", "IIIB"),
    "T1c": ("IA3", "IIA", "IIB", "IIIA", "IIIB"),
    "T2a": ("IB", "IIB", "IIIA", "IIIB", "IIIB"),
    "T2b": ("IIA", "IIB", "IIIA", "IIIB", "IIIB"),
    "T3": ("IIB", "IIIA", "IIIA", "IIIB", "IIIC"),
    "T4": ("IIIA", "IIIA", "IIIB", "IIIB", "IIIC"),
}
# In situ and minimally invasive tumours have a group only without nodes.
_GROUPS_N0_ONLY = {"Tis": "0", "T1mi": "IA1"}
_GROUPS_M1 = {"M1a": "IVA", "M1b": "IVA", "M1c1": "IVB", "M1c2": "IVB"}

_STAGED = {
    nodule_pb2.NODULE_TYPE_SOLID,
    nodule_pb2.NODULE_TYPE_PART_SOLID,
    nodule_pb2.NODULE_TYPE_NON_SOLID,
    nodule_pb2.NODULE_TYPE_AIRWAY,
}


@dataclass(frozen=True)
class SizeStage:
    """T from size, and the group it means with N0 M0.

    Attributes
    ----------
    t_category
        Such as T1c, without the prefix c.
    size_mm
        The greatest dimension that decided, mm.
    size_of
        "total" or "solid part".
    stage_if_n0_m0
        Such as IA3.
    """

    t_category: str
    size_mm: float
    size_of: str
    stage_if_n0_m0: str


def stage_by_size(
    kind: NoduleType.ValueType, long_axis_mm: float, solid_long_axis_mm: float
) -> SizeStage | None:
    """Return the stage that the nodule's size means if it is a primary lung cancer.

    Parameters
    ----------
    kind
        Its type.
    long_axis_mm, solid_long_axis_mm
        Greatest dimension of the whole and of its solid part, mm; the latter counts only in a
        part-solid nodule.

    Returns None for a benign pattern (calcified, fat) and for a cyst, whose size says nothing of T.
    """
    if kind not in _STAGED:
        return None
    if kind == nodule_pb2.NODULE_TYPE_NON_SOLID or (
        kind == nodule_pb2.NODULE_TYPE_PART_SOLID and solid_long_axis_mm <= 0
    ):
        t, size, of = _t_of_lepidic(long_axis_mm), long_axis_mm, "total"
    elif kind == nodule_pb2.NODULE_TYPE_PART_SOLID:
        t = _t_of_part_solid(long_axis_mm, solid_long_axis_mm)
        size, of = solid_long_axis_mm, "solid part"
    else:
        t, size, of = _t_of_invasive(long_axis_mm), long_axis_mm, "total"
    return SizeStage(t, size, of, stage_group(t, "N0", "M0"))


def stage_group(t: str, n: str, m: str) -> str:
    """Return the stage group of a T, N and M category, such as IIIA.

    Raises ValueError for categories that the edition does not know or gives no group.
    """
    if m in _GROUPS_M1:
        return _GROUPS_M1[m]
    if m != "M0" or n not in N_CATEGORIES:
        raise ValueError(f"{EDITION[0]} {EDITION[1]} has no {n} {m}")
    if t in _GROUPS_N0_ONLY and n == "N0":
        return _GROUPS_N0_ONLY[t]
    if t not in _GROUPS:
        raise ValueError(f"{EDITION[0]} {EDITION[1]} has no group for {t} {n} {m}")
    return _GROUPS[t][N_CATEGORIES.index(n)]


def _t_of_invasive(size_mm: float) -> str:
    return next(t for limit, t in _T_BY_SIZE if size_mm <= limit)


def _t_of_lepidic(total_mm: float) -> str:
    # No invasive part at all: above 3 cm it is T1a, the smallest invasive size.
    return "Tis" if total_mm <= _LEPIDIC_TOTAL_MM else "T1a"


def _t_of_part_solid(total_mm: float, solid_mm: float) -> str:
    if solid_mm <= _MINIMALLY_INVASIVE_MM and total_mm <= _LEPIDIC_TOTAL_MM:
        return "T1mi"
    return _t_of_invasive(solid_mm)
