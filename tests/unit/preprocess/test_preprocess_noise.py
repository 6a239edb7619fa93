"""Noise measured in the image, and what the quality rules say of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from lungmesh.preprocess.findings import Severity
from lungmesh.preprocess.noise import tissue_noise_hu
from lungmesh.preprocess.quality import MAX_NOISE_HU, judge_noise


def _chest(noise_hu: float) -> npt.NDArray[np.int16]:
    """Return a body of soft tissue with lungs, vessels and bone in it, and correlated noise."""
    random = np.random.default_rng(5)
    y, x = np.mgrid[-128:128, -128:128]
    plane = np.where(np.hypot(y / 0.7, x) < 120, 40.0, -1000.0)
    for side in (-55, 55):
        plane[np.hypot(y, (x - side) * 1.3) < 50] = -860
    plane[np.hypot(y - 60, x) < 14] = 300
    for _ in range(60):
        at = random.integers(-40, 40, 2)
        plane[np.hypot(y - at[0], x - 55 - at[1] / 2) < 2] = 30
    hu = np.repeat(plane[None], 6, 0)
    noise = ndimage.gaussian_filter(random.standard_normal(hu.shape), (0, 0.6, 0.6))
    noisy: npt.NDArray[np.int16] = np.rint(hu + noise * (noise_hu / noise.std())).astype(np.int16)
    return noisy


@pytest.mark.parametrize("noise_hu", [8.0, 20.0, 45.0])
def test_the_noise_is_measured_whatever_else_the_chest_holds(noise_hu: float) -> None:
    assert tissue_noise_hu(_chest(noise_hu), 0.7) == pytest.approx(noise_hu, rel=0.12)


def test_without_soft_tissue_nothing_is_said() -> None:
    air = np.full((4, 64, 64), -1000, np.int16)
    assert tissue_noise_hu(air, 0.7) == 0
    assert judge_noise(0.0) == []


def test_a_noisy_scan_is_warned_of_in_both_languages() -> None:
    assert judge_noise(MAX_NOISE_HU) == []
    (finding,) = judge_noise(MAX_NOISE_HU + 12)
    assert (finding.code, finding.severity) == ("noise", Severity.WARN)
    assert "40 HU" in finding.message_en
    assert "40 HU" in finding.message_zh
