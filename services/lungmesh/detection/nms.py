"""One candidate a nodule: the best of those that lie at the same place, in millimetres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lungmesh.detection.family import Candidate, Triple

# Two candidates are one when nearer than this, or than this share of the larger diameter.
_NEAR_MM, _NEAR_SHARE = 2.0, 0.5


def one_each(
    candidates: Sequence[Candidate], mm: Triple, most: int, share: float = _NEAR_SHARE
) -> list[Candidate]:
    """Return at most `most` candidates, in falling order of score, none near a better one.

    Parameters
    ----------
    mm
        Voxel edges of the grid that the places are indices of, along [z, y, x].
    share
        Of the larger diameter: two that are nearer, or nearer than 2 mm, are one.
    """
    kept: list[Candidate] = []
    places = np.empty((most, 3))
    diameters = np.empty(most)
    for candidate in in_order(candidates):
        if len(kept) == most:
            break
        at = np.multiply(candidate.place, mm)
        apart = np.linalg.norm(places[: len(kept)] - at, axis=1)
        wide = np.maximum(diameters[: len(kept)], candidate.diameter_mm)
        if (apart >= np.maximum(_NEAR_MM, share * wide)).all():
            places[len(kept)], diameters[len(kept)] = at, candidate.diameter_mm
            kept.append(candidate)
    return kept


def in_order(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates in falling order of score, equal ones by place."""
    return sorted(candidates, key=lambda candidate: (-candidate.score, candidate.place))
