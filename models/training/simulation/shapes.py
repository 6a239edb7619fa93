"""Nodule shapes: what LIDC's readers drew, averaged into one soft surface a nodule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.training.simulation.lidc import (
    CACHE,
    RATINGS,
    Annotation,
    clusters,
    read_annotations,
    split_of,
)

STEP_MM = 0.5
_MARGIN_MM = 3.0
# Stairs between slices are smoothed away by this much.
_SMOOTHING_MM = 0.6
# Surfaces that two readers agree on are sharper than one's.
_LEAST_READERS = 2
_FIELDS = ("distance", "diameter_mm", "ratings")
Half = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Shape:
    """A nodule's surface.

    Attributes
    ----------
    nodule
        Its name in reports: the patient, and a number.
    patient, split
        Where it comes from, and which of train, validation and test it belongs to.
    distance
        float16 [z, y, x]: signed distance to the surface in mm, negative inside, on cubic voxels of
        0.5 mm; the mean over the readers.
    diameter_mm
        Of the ball of the same volume.
    ratings
        Means over the readers.
    """

    nodule: str
    patient: str
    split: str
    distance: Half
    diameter_mm: float
    ratings: dict[str, float]


def load_shapes(split: str) -> list[Shape]:
    """Return the shapes of train, validation or test; made once, then read from the cache."""
    path = CACHE / "shapes.npz"
    if not path.is_file():
        _make(path)
    with np.load(path) as data:
        names = data["names"]
        keep = [i for i, name in enumerate(names) if split_of(name.split("/")[0]) == split]
        offsets, sizes, flat = data["offsets"], data["sizes"], data["distance"]
        shapes = []
        for i in keep:
            z, y, x = sizes[i]
            part = flat[offsets[i] : offsets[i] + z * y * x].reshape(z, y, x)
            name = str(names[i])
            shapes.append(
                Shape(
                    name,
                    name.split("/")[0],
                    split,
                    part,
                    float(data["diameters"][i]),
                    dict(zip(RATINGS, data["ratings"][i].tolist(), strict=True)),
                )
            )
    return shapes


def consensus(group: list[Annotation]) -> tuple[Half, float]:
    """Return the mean signed distance of the readers' masks, and the diameter it encloses."""
    low = np.min([_corner(one) for one in group], axis=0) - _MARGIN_MM
    high = np.max([_corner(one) + _extent(one) for one in group], axis=0) + _MARGIN_MM
    size = np.ceil((high - low) / STEP_MM).astype(int) + 1
    total = np.zeros(size, np.float32)
    for one in group:
        total += _distance(one, low, size)
    mean = ndimage.gaussian_filter(total / len(group), _SMOOTHING_MM / STEP_MM)
    inside = float(np.clip(0.5 - mean / STEP_MM, 0, 1).sum()) * STEP_MM**3
    return mean.astype(np.float16), float((6 / np.pi * inside) ** (1 / 3))


def _corner(one: Annotation) -> npt.NDArray[np.float64]:
    z, y, x = one.origin
    return np.array([z, y * one.spacing[1], x * one.spacing[2]])


def _extent(one: Annotation) -> npt.NDArray[np.float64]:
    return (np.array(one.mask.shape) - 1) * one.spacing


def _distance(
    one: Annotation, low: npt.NDArray[np.float64], size: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Resample one reader's signed distance to the common grid."""
    pad = 2 + np.ceil((_corner(one) - low) / one.spacing).astype(int)
    after = 2 + np.ceil(
        (low + (size - 1) * STEP_MM - _corner(one) - _extent(one)) / one.spacing
    ).astype(int)
    padded = np.pad(one.mask, list(zip(pad, np.maximum(after, 2), strict=True)))
    # Half a voxel each way: the surface runs between voxel centres.
    half = 0.5 * min(one.spacing)
    outside = ndimage.distance_transform_edt(~padded, sampling=one.spacing)
    inside = ndimage.distance_transform_edt(padded, sampling=one.spacing)
    signed = np.where(padded, half - inside, outside - half).astype(np.float32)
    start = (low - _corner(one)) / one.spacing + pad
    resampled: npt.NDArray[np.float32] = ndimage.affine_transform(
        signed,
        STEP_MM / np.array(one.spacing),
        offset=start,
        output_shape=tuple(size),
        order=1,
        mode="nearest",
    )
    return resampled


def _make(path: object) -> None:
    names, parts, sizes, diameters, ratings = [], [], [], [], []
    for scan in read_annotations():
        for number, group in enumerate(clusters(scan), start=1):
            if len(group) < _LEAST_READERS:
                continue
            distance, diameter = consensus(group)
            if diameter < 2.5:
                continue
            names.append(f"{group[0].patient}/{group[0].scan}-{number}")
            parts.append(distance.ravel())
            sizes.append(distance.shape)
            diameters.append(diameter)
            ratings.append([np.mean([one.ratings[rating] for one in group]) for rating in RATINGS])
    CACHE.mkdir(parents=True, exist_ok=True)
    offsets = np.concatenate([[0], np.cumsum([part.size for part in parts])[:-1]])
    np.savez(
        str(path),
        names=np.array(names),
        distance=np.concatenate(parts),
        offsets=offsets,
        sizes=np.array(sizes),
        diameters=np.array(diameters),
        ratings=np.array(ratings),
    )
