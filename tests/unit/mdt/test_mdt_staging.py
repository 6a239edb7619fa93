"""T by size and stage groups of TNM's 9th edition, cell by cell (CLINICAL section 9)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungmesh.mdt.staging import N_CATEGORIES, stage_by_size, stage_group
from lungmesh.v1.nodule_pb2 import (
    NODULE_TYPE_AIRWAY,
    NODULE_TYPE_ATYPICAL_CYST,
    NODULE_TYPE_CALCIFIED,
    NODULE_TYPE_FAT_CONTAINING,
    NODULE_TYPE_NON_SOLID,
    NODULE_TYPE_PART_SOLID,
    NODULE_TYPE_SOLID,
    NoduleType,
)

# Copied from CLINICAL section 9, row by row.
TABLE = """
T1a  IA1  IIA  IIB  IIIA IIIB
T1b  IA2  IIA  IIB  IIIA IIIB
T1c  IA3  IIA  IIB  IIIA IIIB
T2a  IB   IIB  IIIA IIIB IIIB
T2b  IIA  IIB  IIIA IIIB IIIB
T3   IIB  IIIA IIIA IIIB IIIC
T4   IIIA IIIA IIIB IIIB IIIC
"""
CELLS = [
    (row.split()[0], n, group)
    for row in TABLE.strip().splitlines()
    for n, group in zip(("N0", "N1", "N2a", "N2b", "N3"), row.split()[1:], strict=True)
]


@pytest.mark.parametrize(("t", "n", "group"), CELLS)
def test_every_cell_of_the_table_of_stage_groups(t: str, n: str, group: str) -> None:
    assert stage_group(t, n, "M0") == group


@pytest.mark.parametrize(
    ("m", "group"), [("M1a", "IVA"), ("M1b", "IVA"), ("M1c1", "IVB"), ("M1c2", "IVB")]
)
@pytest.mark.parametrize("n", N_CATEGORIES)
@pytest.mark.parametrize("t", ["Tis", "T1mi", "T1a", "T4"])
def test_a_metastasis_decides_whatever_t_and_n_are(t: str, n: str, m: str, group: str) -> None:
    assert stage_group(t, n, m) == group


def test_in_situ_is_stage_0_and_minimally_invasive_ia1_without_nodes() -> None:
    assert stage_group("Tis", "N0", "M0") == "0"
    assert stage_group("T1mi", "N0", "M0") == "IA1"


@pytest.mark.parametrize(
    ("t", "n", "m"),
    [("Tis", "N1", "M0"), ("T1mi", "N2a", "M0"), ("T1", "N0", "M0"), ("T1a", "N2", "M0"),
     ("T1a", "N0", "M1c"), ("T5", "N0", "M0")],
)  # fmt: skip
def test_categories_that_the_edition_does_not_know_are_refused(t: str, n: str, m: str) -> None:
    with pytest.raises(ValueError, match="TNM 9th edition"):
        stage_group(t, n, m)


@pytest.mark.parametrize(
    ("mm", "t"),
    [(6, "T1a"), (10, "T1a"), (10.01, "T1b"), (20, "T1b"), (20.01, "T1c"), (30, "T1c"),
     (30.01, "T2a"), (40, "T2a"), (40.01, "T2b"), (50, "T2b"), (50.01, "T3"), (70, "T3"),
     (70.01, "T4")],
)  # fmt: skip
def test_a_solid_nodule_goes_by_its_greatest_dimension(mm: float, t: str) -> None:
    stage = stage_by_size(NODULE_TYPE_SOLID, mm, solid_long_axis_mm=0.0)
    assert stage is not None
    assert (stage.t_category, stage.size_mm, stage.size_of) == (t, mm, "total")


@pytest.mark.parametrize(
    ("total", "solid", "t"),
    [(20, 5, "T1mi"), (30, 5, "T1mi"), (30.01, 5, "T1a"), (20, 5.01, "T1a"), (30, 10, "T1a"),
     (30, 10.01, "T1b"), (45, 20, "T1b"), (45, 20.01, "T1c"), (45, 30.01, "T2a"),
     (80, 70.01, "T4")],
)  # fmt: skip
def test_a_part_solid_nodule_goes_by_its_solid_part(total: float, solid: float, t: str) -> None:
    stage = stage_by_size(NODULE_TYPE_PART_SOLID, total, solid)
    assert stage is not None
    assert (stage.t_category, stage.size_mm, stage.size_of) == (t, solid, "solid part")


@pytest.mark.parametrize(("total", "t", "group"), [(30, "Tis", "0"), (30.01, "T1a", "IA1")])
@pytest.mark.parametrize("kind", [NODULE_TYPE_NON_SOLID, NODULE_TYPE_PART_SOLID])
def test_pure_ground_glass_is_in_situ_up_to_3_cm(
    kind: NoduleType.ValueType, total: float, t: str, group: str
) -> None:
    stage = stage_by_size(kind, total, solid_long_axis_mm=0.0)
    assert stage is not None
    assert (stage.t_category, stage.size_of, stage.stage_if_n0_m0) == (t, "total", group)


@pytest.mark.parametrize(
    "kind", [NODULE_TYPE_CALCIFIED, NODULE_TYPE_FAT_CONTAINING, NODULE_TYPE_ATYPICAL_CYST]
)
def test_a_benign_pattern_and_a_cyst_get_no_stage(kind: NoduleType.ValueType) -> None:
    assert stage_by_size(kind, 25.0, 0.0) is None


ORDER = ("0", "IA1", "IA2", "IA3", "IB", "IIA", "IIB", "IIIA", "IIIB", "IIIC")


@given(
    st.sampled_from([NODULE_TYPE_SOLID, NODULE_TYPE_PART_SOLID, NODULE_TYPE_AIRWAY]),
    st.floats(1, 120),
    st.floats(0, 1),
    st.floats(1, 2),
)
def test_a_larger_nodule_is_never_of_a_lower_stage(
    kind: NoduleType.ValueType, total: float, share: float, scale: float
) -> None:
    small = stage_by_size(kind, total, total * share)
    large = stage_by_size(kind, total * scale, total * scale * share)
    assert small is not None
    assert large is not None
    assert ORDER.index(large.stage_if_n0_m0) >= ORDER.index(small.stage_if_n0_m0)
