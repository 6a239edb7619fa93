"""The series choice says why: chosen, passed over, never read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest

from lungmesh.mesh import BadInput
from lungmesh.preprocess.kernels import KernelKind, kernel_kind
from lungmesh.preprocess.series import Series, choose_series
from tests.unit.preprocess.ct import slices, volume

CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


def _series(uid: str, thickness: float = 1.25, count: int = 24, **overrides: Any) -> Series:
    hu = volume((count, 4, 4))
    direction = overrides.pop("direction", ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)))
    modality = overrides.get("Modality", "CT")
    headers = slices(hu, spacing=(0.8, 0.7, thickness), direction=direction, **overrides)
    return Series(uid, modality, headers)


def _chosen(study: Sequence[Series]) -> str:
    """Return the chosen UID, which no order of the series may change."""
    answers = {choose_series(order).chosen.series_instance_uid for order in permutations(study)}
    assert len(answers) == 1
    return answers.pop()


def test_the_thinnest_series_wins() -> None:
    assert _chosen([_series("1.1", 5.0, 80), _series("1.2", 1.0), _series("1.3", 2.5)]) == "1.2"


def test_of_equal_thickness_the_one_with_most_slices_wins() -> None:
    assert _chosen([_series("1.1", count=24), _series("1.2", count=30)]) == "1.2"


def test_among_equals_a_lung_kernel_wins() -> None:
    study = [
        _series("1.1", ConvolutionKernel="STANDARD"),
        _series("1.2", ConvolutionKernel="LUNG"),
        _series("1.3", ConvolutionKernel="H30s"),
    ]
    assert _chosen(study) == "1.2"


def test_a_thick_original_wins_over_a_thin_derived_series() -> None:
    derived = _series("1.1", 0.6, ImageType=["DERIVED", "PRIMARY", "AXIAL"])
    assert _chosen([derived, _series("1.2", 2.5)]) == "1.2"
    assert _chosen([derived]) == "1.1"


def test_another_body_part_is_passed_over() -> None:
    assert _chosen([_series("1.1", 0.6, BodyPartExamined="HEAD"), _series("1.2")]) == "1.2"


def test_a_localizer_among_the_slices_is_left_out() -> None:
    series = _series("1.1", count=25)
    series.headers[3].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    assert len(choose_series([series]).headers) == 24


@pytest.mark.parametrize(
    ("rejected", "words"),
    [
        (Series("1.9", "PT", ()), "modality is PT"),
        (_series("1.9", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"),
        (_series("1.9", ImageType=["DERIVED", "SECONDARY", "AXIAL"]), "other images"),
        (_series("1.9", ImageType=["DERIVED", "SECONDARY", "REFORMATTED"]), "other images"),
        (_series("1.9", ImageType=["DERIVED", "PRIMARY", "MIP"]), "other images"),
        (_series("1.9", ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "CSA MPR"]), "other images"),
        (_series("1.9", direction=CORONAL), "not axial"),
        (_series("1.9", count=5), "5 slices"),
        (_series("1.9", SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), "not single-slice CT"),
        (_series("1.9", ImagePositionPatient=None), "lack ImagePositionPatient"),
        (_series("1.9", ImageOrientationPatient=[0] * 6), "lack ImagePositionPatient"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_rejected_with_its_reason(rejected: Series, words: str) -> None:
    choice = choose_series([rejected, _series("1.2", 5.0)])

    assert choice.chosen.series_instance_uid == "1.2"
    assert words in choice.others[0].reason

    with pytest.raises(BadInput, match=words):
        choose_series([rejected])


def test_a_sole_series_without_positions_is_named_missing_geometry() -> None:
    with pytest.raises(BadInput) as caught:
        choose_series([_series("1.1", ImagePositionPatient=None)])

    assert caught.value.code == "missing_geometry"


def test_every_series_gets_a_reason() -> None:
    study = [_series("1.1", 5.0), _series("1.2"), Series("1.3", "SR", ())]

    choice = choose_series(study)

    assert "axial CT, 1.25 mm, 24 slices" in choice.chosen.reason
    assert [other.series_instance_uid for other in choice.others] == ["1.1", "1.3"]
    assert "thinner (1.25 mm)" in choice.others[0].reason


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("LUNG", KernelKind.LUNG),
        ("STANDARD", KernelKind.SOFT),
        ("B31f", KernelKind.SOFT),
        ("B70f", KernelKind.LUNG),
        ("Br40d 3", KernelKind.SOFT),
        ("Bl57d\\3", KernelKind.LUNG),
        ("I50f", KernelKind.LUNG),
        ("YA", KernelKind.LUNG),
        ("FC08", KernelKind.SOFT),
        ("FC51", KernelKind.LUNG),
        ("FC26", KernelKind.OTHER),
        ("H60s", KernelKind.OTHER),
        ("", KernelKind.UNKNOWN),
        ("MYSTERY", KernelKind.UNKNOWN),
    ],
)
def test_kernel_names_of_the_makers_are_known(name: str, kind: KernelKind) -> None:
    assert kernel_kind(name) is kind
