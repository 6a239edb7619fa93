"""A nodule's mask as closed lines on the slices that it covers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from contourpy import LineType, contour_generator
from highdicom.spatial import ImageToReferenceTransformer
from pydicom.dataset import Dataset
from scipy import ndimage

from lungmesh.report.keyimages import Box

Floats = npt.NDArray[np.float64]


def outlines(mask: Box, filled: bool = False) -> Iterator[tuple[int, list[Floats]]]:
    """Yield (z, outlines) of each slice that a mask covers, in z order.

    An outline is [n, 2], (column, row) in pixels of the whole image, 0\\0 being the top left corner
    of the top left pixel (PS3.3 C.10.5.1.2). It runs half-way between the centres of the pixels
    inside and outside, so the centres that it encloses are those of the mask; its last point is its
    first.

    Parameters
    ----------
    mask
        uint8 [z, y, x], the nodule where it is not 0.
    filled
        Whether holes are taken as part of the nodule; else each has an outline of its own.
    """
    x, y, z = mask.offset
    for above, voxels in enumerate(mask.voxels):
        inside = voxels > 0
        if not inside.any():
            continue
        if filled:
            inside = ndimage.binary_fill_holes(inside)
        lines = contour_generator(
            z=np.pad(inside.astype(np.float64), 1), line_type=LineType.Separate
        ).lines(0.5)
        # One pixel of padding, and half a pixel from its centre to its corner.
        yield z + above, [line + np.array((x - 0.5, y - 0.5)) for line in lines]


def to_lps(outline: Floats, header: Dataset) -> Floats:
    """Return the LPS mm, [n, 3], of points (column, row) of an image."""
    transform = ImageToReferenceTransformer(
        image_position=header.ImagePositionPatient,
        image_orientation=header.ImageOrientationPatient,
        pixel_spacing=header.PixelSpacing,
    )
    places: Floats = np.asarray(transform(outline))
    return places


def own_slices(headers: Sequence[Dataset]) -> dict[int, Dataset]:
    """Return the headers by z without those that stand for a missing slice's neighbour again."""
    seen: dict[str, int] = {}
    for z, header in enumerate(headers):
        seen.setdefault(str(header.SOPInstanceUID), z)
    return {z: headers[z] for z in seen.values()}
