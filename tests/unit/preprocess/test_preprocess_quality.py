"""Every quality rule fires on its breach, with its weight, and not on a good scan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lungmesh.mesh import BadInput
from lungmesh.mesh.geometry import Grid
from lungmesh.preprocess.findings import Severity, refuse_if_any
from lungmesh.preprocess.quality import LungFacts, judge_headers, judge_lungs
from tests.unit.preprocess.ct import IDENTITY, slices, volume

GOOD = Grid((512, 512, 24), (0.7, 0.7, 1.25), (0.0, 0.0, 0.0), IDENTITY)
LUNGS = LungFacts(right_ml=2600, left_ml=2200, end_area_mm2=0, side_area_mm2=0)


def test_a_good_scan_has_no_finding() -> None:
    assert not judge_headers(slices(volume()), GOOD)
    assert not judge_lungs(LUNGS)


@pytest.mark.parametrize(
    ("headers", "grid", "code", "severity"),
    [
        ({"SliceThickness": "2.5"}, {}, "slice_thickness", Severity.NOTE),
        ({"SliceThickness": "3"}, {}, "slice_thickness", Severity.WARN),
        ({"SliceThickness": "5"}, {}, "slice_thickness", Severity.WARN),
        ({"SliceThickness": "7.5"}, {}, "slice_thickness", Severity.REFUSE),
        ({"SliceThickness": None}, {}, "slice_thickness", Severity.NOTE),
        ({}, {"spacing": (0.7, 0.7, 2.0)}, "slice_gap", Severity.WARN),
        ({}, {"spacing": (0.7, 0.7, 10.0)}, "slice_gap", Severity.REFUSE),
        ({"KVP": "80"}, {}, "tube_voltage", Severity.WARN),
        ({"KVP": "150"}, {}, "tube_voltage", Severity.WARN),
        ({"KVP": None}, {}, "tube_voltage", Severity.NOTE),
        ({"CTDIvol": 8.5}, {}, "dose", Severity.NOTE),
        ({}, {"size": (256, 256, 24)}, "matrix", Severity.WARN),
        ({"ConvolutionKernel": None}, {}, "kernel", Severity.NOTE),
        ({"PatientPosition": None}, {}, "patient_position", Severity.NOTE),
        ({"GantryDetectorTilt": "12"}, {}, "gantry_tilt", Severity.NOTE),
        ({"ImageType": ["DERIVED", "PRIMARY"]}, {}, "derived_images", Severity.WARN),
        ({"LossyImageCompression": "01"}, {}, "lossy_compression", Severity.WARN),
        ({"RescaleType": "US"}, {}, "rescale_type", Severity.WARN),
    ],
)
def test_each_breach_of_the_headers_is_named(
    headers: dict[str, Any], grid: dict[str, Any], code: str, severity: Severity
) -> None:
    findings = judge_headers(slices(volume(), **headers), replace(GOOD, **grid))

    assert [(finding.code, finding.severity) for finding in findings] == [(code, severity)]
    assert findings[0].message_en.endswith(".")
    assert findings[0].message_zh.endswith("。")


def test_several_acquisitions_are_warned_of() -> None:
    headers = slices(volume())
    headers[0].AcquisitionNumber = 2

    assert [finding.code for finding in judge_headers(headers, GOOD)] == ["several_acquisitions"]


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        ({"right_ml": 100.0, "left_ml": 100.0}, "no_lungs", Severity.REFUSE),
        ({"right_ml": 500.0, "left_ml": 400.0}, "lung_volume", Severity.WARN),
        ({"right_ml": 6000.0, "left_ml": 6000.0}, "lung_volume", Severity.WARN),
        ({"left_ml": 100.0}, "one_lung", Severity.WARN),
        ({"end_area_mm2": 9000.0}, "lungs_cut_off", Severity.WARN),
        ({"side_area_mm2": 9000.0}, "lungs_cut_off", Severity.WARN),
    ],
)
def test_each_implausible_lung_is_named(
    change: dict[str, float], code: str, severity: Severity
) -> None:
    findings = judge_lungs(replace(LUNGS, **change))

    assert [(finding.code, finding.severity) for finding in findings] == [(code, severity)]


def test_a_refusal_stops_with_its_sentence_and_code() -> None:
    findings = judge_headers(slices(volume(), SliceThickness="7.5"), GOOD)

    with pytest.raises(BadInput, match="thinner reconstruction") as caught:
        refuse_if_any(findings)

    assert caught.value.code == "slice_thickness"
