"""A nodule's mask for the page: run lengths a slice of its box."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def run_lengths(labels: npt.NDArray[np.uint8]) -> list[list[int]]:
    """Return the runs of each slice of a box, row by row: label, count, label, count, …

    Parameters
    ----------
    labels
        uint8 [z, y, x]: 0 outside, 1 nodule, 2 solid part.
    """
    return [_runs(plane.ravel()) for plane in labels]


def _runs(line: npt.NDArray[np.uint8]) -> list[int]:
    starts = np.flatnonzero(np.diff(line, prepend=line[:1] + 1))
    counts = np.diff(starts, append=len(line))
    return np.column_stack([line[starts], counts]).ravel().tolist()
