"""How noisy a CT is, measured in the image: headers say little of dose, kernel and body size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Hu = npt.NDArray[np.int16]
Floats = npt.NDArray[np.floating]

# Width of the window that a local deviation is taken in.
_PATCH_MM = 8.0
_SLICES = 24
_TISSUE_HU, _TISSUE_REACH_HU = 40.0, 50.0
_FEWEST = 1000


def tissue_noise_hu(hu: Hu, pixel_mm: float) -> float:
    """Return the standard deviation of the noise in soft tissue, HU; 0 where there is too little.

    The most frequent deviation of small windows in soft tissue (Christianson O et al., AJR
    2015;205:W93-W99): windows with anatomy in them lie above it.

    Parameters
    ----------
    hu
        int16 [z, y, x].
    pixel_mm
        Spacing of rows and columns.
    """
    picked = np.unique(np.linspace(0, len(hu) - 1, _SLICES).astype(int))
    deviations = []
    # A slice at a time: all of them at once would take as many times the memory.
    for plane in hu[picked]:
        mean, square = local_moments(plane.astype(np.float32), pixel_mm)
        deviations.append(np.sqrt(square[np.abs(mean - _TISSUE_HU) < _TISSUE_REACH_HU]))
    return most_frequent(np.concatenate(deviations))


def local_moments(plane: Floats, pixel_mm: float) -> tuple[Floats, Floats]:
    """Return mean and variance around each pixel of planes [..., y, x], in HU and HU²."""
    mean = window_mean(plane, pixel_mm)
    return mean, np.maximum(window_mean((plane - mean) ** 2, pixel_mm), 0)


def window_mean(plane: Floats, pixel_mm: float) -> Floats:
    """Return the mean around each pixel of planes [..., y, x]."""
    width = max(3, round(_PATCH_MM / pixel_mm))
    mean: Floats = ndimage.uniform_filter(plane, (1,) * (plane.ndim - 2) + (width, width))
    return mean


def most_frequent(values: Floats) -> float:
    """Return the mode of positive values, from a smoothed histogram; 0 when there are too few."""
    if values.size < _FEWEST:
        return 0.0
    high = 1.5 * float(np.median(values))
    if high == 0:
        return 0.0
    count, edges = np.histogram(values, 150, (0.0, high))
    top = int(ndimage.gaussian_filter1d(count.astype(float), 3.0).argmax())
    return float((edges[top] + edges[top + 1]) / 2)
