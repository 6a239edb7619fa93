"""Slices go where their positions say; what cannot be placed is refused by name."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from lungmesh.mesh import BadInput
from lungmesh.preprocess.findings import Finding, Severity
from lungmesh.preprocess.stack import Stack, stack_slices
from lungmesh.preprocess.volume import read_volume
from tests.unit.preprocess.ct import IDENTITY, slices, volume

HU = volume()


def _read(headers: list[Dataset]) -> tuple[np.ndarray, Stack, list[Finding]]:
    stack, findings = stack_slices(headers)
    hu, found = read_volume(stack, lambda index: headers[index])
    return hu, stack, findings + found


def _only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), numbering=st.permutations(range(len(HU))))
def test_neither_file_order_nor_instance_number_matters(seed: int, numbering: list[int]) -> None:
    datasets = slices(HU)
    for dataset, number in zip(datasets, numbering, strict=True):
        dataset.InstanceNumber = number
        dataset.SliceLocation = str(number)
    random.Random(seed).shuffle(datasets)

    hu, stack, findings = _read(datasets)

    assert np.array_equal(hu, HU)
    assert not findings
    assert stack.grid.origin == pytest.approx((-100, -120, -200))
    assert stack.grid.spacing == pytest.approx((0.8, 0.7, 1.25))
    assert stack.grid.size == (9, 7, 24)


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from((-1, 1))] * 3),
    degrees=st.floats(-20, 20),
)
def test_every_voxel_keeps_its_place_in_the_patient(
    order: list[int], signs: tuple[int, int, int], degrees: float
) -> None:
    angle = np.radians(degrees)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    direction = turn @ (np.eye(3)[:, order] * np.array(signs))
    datasets = slices(HU, direction=direction.tolist())

    hu, stack, _ = _read(datasets)

    index = np.stack(np.meshgrid(*map(np.arange, HU.shape), indexing="ij"), axis=-1)[..., ::-1]
    spacing = np.array([0.8, 0.7, 1.25])
    lps = (index * spacing) @ direction.T + np.array([-100, -120, -200])
    back = np.rint(stack.grid.to_index(lps)).astype(int)
    assert np.abs(stack.grid.to_index(lps) - back).max() < 1e-2
    assert np.array_equal(hu[back[..., 2], back[..., 1], back[..., 0]], HU)
    matrix = np.asarray(stack.grid.direction)
    assert np.cross(matrix[:, 0], matrix[:, 1]) == pytest.approx(matrix[:, 2], abs=1e-6)


def test_one_missing_slice_is_interpolated_with_a_warning() -> None:
    datasets = slices(HU)
    del datasets[10]

    hu, stack, findings = _read(datasets)

    finding = _only(findings)
    assert (finding.code, finding.severity) == ("missing_slices", Severity.WARN)
    assert stack.missing == (10,)
    between = (HU[9].astype(float) + HU[11]) / 2
    assert np.abs(hu[10] - between).max() <= 0.5
    assert np.array_equal(hu[11:], HU[11:])


@pytest.mark.parametrize("gone", [slice(8, 13), slice(5, 20, 2)])
def test_a_wide_gap_or_many_missing_slices_are_refused(gone: slice) -> None:
    datasets = slices(HU)
    del datasets[gone]

    with pytest.raises(BadInput, match="missing") as caught:
        stack_slices(datasets)

    assert caught.value.code == "missing_slices"


def test_a_slice_sent_twice_is_used_once_with_a_note() -> None:
    again = slices(HU)[4]
    again.SOPInstanceUID = "1.2.3.99"

    hu, _, findings = _read([again, *slices(HU)])

    finding = _only(findings)
    assert (finding.code, finding.severity) == ("duplicate_slices", Severity.NOTE)
    assert np.array_equal(hu, HU)


def test_two_different_images_at_one_place_are_refused() -> None:
    other = slices(HU + 1)[4]
    other.SOPInstanceUID = "1.2.3.99"

    with pytest.raises(BadInput, match="slice 5") as caught:
        _read([*slices(HU), other])

    assert caught.value.code == "duplicate_conflict"


@pytest.mark.parametrize(
    ("shift_mm", "severity"), [(0.005, None), (0.1, Severity.WARN), (0.5, Severity.REFUSE)]
)
def test_uneven_spacing_weighs_by_how_far_a_slice_is_off(
    shift_mm: float, severity: Severity | None
) -> None:
    datasets = slices(HU)
    x, y, z = (float(value) for value in datasets[12].ImagePositionPatient)
    datasets[12].ImagePositionPatient = [x, y, z + shift_mm]

    if severity is Severity.REFUSE:
        with pytest.raises(BadInput) as caught:
            stack_slices(datasets)
        assert caught.value.code == "uneven_spacing"
        return
    _, findings = stack_slices(datasets)
    assert [finding.severity for finding in findings] == ([severity] if severity else [])


def test_a_tilted_gantry_is_refused() -> None:
    datasets = slices(HU)
    for z, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [-100, -120 + 1.25 * z * np.tan(np.radians(10)), 1.25 * z]

    with pytest.raises(BadInput, match=r"10\.0 degrees") as caught:
        stack_slices(datasets)

    assert caught.value.code == "gantry_tilt"


def test_oblique_slices_along_their_own_normal_are_not_tilted() -> None:
    angle = np.radians(10)
    c, s = float(np.cos(angle)), float(np.sin(angle))

    _, findings = stack_slices(slices(HU, direction=((1, 0, 0), (0, c, -s), (0, s, c))))

    assert not findings


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Rows", 8),
        ("PixelSpacing", [0.9, 0.9]),
        ("ImageOrientationPatient", [0, 1, 0, -1, 0, 0]),
        ("FrameOfReferenceUID", "1.2.3.10"),
        ("ImagePositionPatient", [-60, -120, -190]),
    ],
)
def test_a_slice_of_another_scan_in_the_series_is_refused(keyword: str, value: object) -> None:
    datasets = slices(HU)
    setattr(datasets[8], keyword, value)

    with pytest.raises(BadInput) as caught:
        stack_slices(datasets)

    assert caught.value.code == "mixed_geometry"


def test_rows_and_columns_askew_are_refused() -> None:
    askew = slices(HU, ImageOrientationPatient=[1, 0, 0, 0.2, 0.98, 0])

    with pytest.raises(BadInput) as caught:
        stack_slices(askew)

    assert caught.value.code == "orientation"


def test_identity_is_what_the_helper_writes() -> None:
    stack, _ = stack_slices(slices(HU))

    assert np.asarray(stack.grid.direction) == pytest.approx(np.asarray(IDENTITY))
