"""Candidates: peaks of the network's response over scales, windows and working grids."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.detection.working import WorkingGrid

Triple = tuple[float, float, float]
Floats = npt.NDArray[np.float32]

# Ground glass ends here.
GROUND_GLASS_MOST_HU = -450.0
# Diameter of the ball that answers most at a scale: 2·sqrt(3)·sigma.
DIAMETER_OF_SIGMA = 2 * 3**0.5


class Window(IntEnum):
    """The network's two windows, in the order of its output."""

    SOLID = 0
    GROUND_GLASS = 1


# Noise answers less.
_LEAST_RESPONSE_HU = {Window.SOLID: 100.0, Window.GROUND_GLASS: 50.0}
# Looked at of a window and grid.
_MOST_PEAKS = 1500
# Vessels and airways that run off a place pass through this shell, in radii; a nodule ends before.
_SHELL = (1.4, 2.6)
# A shell filled to a third is a crossing of vessels.
_RUNNING_OFF_COST = 3.0


@dataclass(frozen=True)
class Response:
    """The network's answer on one working grid.

    Attributes
    ----------
    grid
        The working grid.
    values
        float32 [window, z, y, x], HU; one voxel is `stride` voxels of the grid.
    sigma_mm
        float32 of the same shape: the scale that answered.
    stride
        Voxels of the grid in one voxel of the response, along each axis.
    """

    grid: WorkingGrid
    values: Floats
    sigma_mm: Floats
    stride: int


@dataclass(frozen=True)
class Candidate:
    """A place where the lung is brighter in the shape of a ball.

    Attributes
    ----------
    place
        Continuous index on the full grid, [z, y, x].
    diameter_mm
        Of the ball that answers most.
    response
        Contrast times shape, HU.
    weight
        The response, lessened by what runs off the ball: candidates are ordered by it.
    window
        The window that it was found in.
    """

    place: Triple
    diameter_mm: float
    response: float
    weight: float
    window: Window


def find_candidates(
    response: Response,
    window: Window,
    spacing: Triple,
    background: float,
    most: int,
) -> list[Candidate]:
    """Return the peaks of one window on one working grid, in falling order of weight.

    Parameters
    ----------
    spacing
        mm along [z, y, x] of the full grid.
    background
        HU of the aerated lung.
    most
        How many to return.

    A peak inside the ball of one of more weight is dropped, and so is, from the ground-glass
    window, a peak whose middle is solid.
    """
    peaks = [
        peak
        for index in _peaks(response.values[window], _LEAST_RESPONSE_HU[window])
        if (peak := _weigh(response, window, index, background)) is not None
    ]
    peaks.sort(key=lambda peak: (-peak.weight, peak.place))
    kept: list[Candidate] = []
    places = np.empty((most, 3))
    diameters = np.empty(most)
    for peak in peaks:
        if len(kept) == most:
            break
        at = np.multiply(peak.place, spacing)
        apart = np.linalg.norm(places[: len(kept)] - at, axis=1)
        if (apart > 0.5 * np.maximum(diameters[: len(kept)], peak.diameter_mm)).all():
            places[len(kept)], diameters[len(kept)] = at, peak.diameter_mm
            kept.append(peak)
    return kept


def _peaks(values: Floats, least: float) -> npt.NDArray[np.int64]:
    """Return the places (n, 3) of the highest local maxima."""
    highest = ndimage.maximum_filter(values, size=3, mode="constant")
    places = np.argwhere((values == highest) & (values >= least))
    order = np.argsort(-values[tuple(places.T)], kind="stable")
    chosen: npt.NDArray[np.int64] = places[order[:_MOST_PEAKS]]
    return chosen


def _weigh(
    response: Response, window: Window, index: npt.NDArray[np.int64], background: float
) -> Candidate | None:
    grid = response.grid
    # Centre of the block of stride³ voxels.
    place = index * response.stride + (response.stride - 1) / 2
    sigma = float(response.sigma_mm[window][tuple(index)])
    radius = sigma * DIAMETER_OF_SIGMA / 2 / grid.voxel_mm
    reach = int(np.ceil(_SHELL[1] * radius))
    middle = np.rint(place).astype(int)
    low = np.maximum(middle - reach, 0)
    high = np.minimum(middle + reach + 1, grid.hu.shape)
    if (low >= high).any():
        return None
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    z, y, x = ((np.arange(a, b) - at) ** 2 for a, b, at in zip(low, high, place, strict=True))
    away = np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :])
    hu, lungs = grid.hu[box], grid.lungs[box]
    core = hu[away <= max(0.5 * radius, 0.9)]
    if not core.size:
        return None
    level = float(np.median(core))
    if window is Window.GROUND_GLASS and level > GROUND_GLASS_MOST_HU:
        return None
    shell = hu[lungs & (away > _SHELL[0] * radius) & (away <= _SHELL[1] * radius)]
    if not shell.size:
        return None
    half = background + (min(level, GROUND_GLASS_MOST_HU) - background) / 2
    running_off = float(np.mean(shell > half))
    value = float(response.values[window][tuple(index)])
    full = grid.to_full(place)
    return Candidate(
        place=(float(full[0]), float(full[1]), float(full[2])),
        diameter_mm=sigma * DIAMETER_OF_SIGMA,
        response=value,
        weight=value * max(0.0, 1 - _RUNNING_OFF_COST * running_off),
        window=window,
    )
