"""Key images: a nodule in three planes through its centre, outlined, in the lung window."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from lungmesh.mesh.geometry import Grid
from lungmesh.report.content import Nodule
from lungmesh.report.fonts import REGULAR

Floats = npt.NDArray[np.float64]

# Lung window, HU.
WINDOW_CENTER, WINDOW_WIDTH = -600.0, 1500.0
# Side of the square shown, mm: the nodule with its surroundings.
MIN_FIELD_MM, FIELD_PER_DIAMETER = 80.0, 2.6
PIXELS = 480
_OUTSIDE_HU = -1024
_OUTLINE = (255, 214, 10)
_AXES = (64, 200, 255)
_TEXT = (255, 255, 255)


@dataclass(frozen=True)
class Plane:
    """A plane in LPS: the directions of the image's columns and rows, and the letters at its edges.

    `letters` are left, right, top, bottom, by radiological convention: the patient's right on the
    image's left.
    """

    name: str
    right: tuple[float, float, float]
    down: tuple[float, float, float]
    letters: tuple[str, str, str, str]


PLANES = (
    Plane("axial", (1, 0, 0), (0, 1, 0), ("R", "L", "A", "P")),
    Plane("coronal", (1, 0, 0), (0, 0, -1), ("R", "L", "S", "I")),
    Plane("sagittal", (0, 1, 0), (0, 0, -1), ("A", "P", "S", "I")),
)


@dataclass(frozen=True)
class Box:
    """A part of a volume: voxels [z, y, x] and the index (x, y, z) of the first one."""

    voxels: npt.NDArray[np.integer]
    offset: tuple[int, int, int]


def field_mm(nodule: Nodule) -> float:
    """Return the side of the square that the key images of a nodule show, mm."""
    return max(MIN_FIELD_MM, FIELD_PER_DIAMETER * nodule.long_axis_mm)


def picture_name(nodule: Nodule, plane: str) -> str:
    """Return the file name of a nodule's key image."""
    return f"key_{nodule.number}_{plane}.png"


def pictures_of(nodule: Nodule, pictures: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return those of the key images that are a nodule's, by the name of the plane."""
    names = {plane.name: picture_name(nodule, plane.name) for plane in PLANES}
    return {plane: pictures[name] for plane, name in names.items() if name in pictures}


def box_around(nodule: Nodule, grid: Grid) -> tuple[slice, slice, slice]:
    """Return the part [z, y, x] of a volume that the key images of a nodule need."""
    reach = field_mm(nodule) / 2
    corners = np.array(
        [
            np.add(nodule.center_lps_mm, (x * reach, y * reach, z * reach))
            for x in (-1, 1)
            for y in (-1, 1)
            for z in (-1, 1)
        ]
    )
    index = grid.to_index(corners)
    low = np.clip(np.floor(index.min(axis=0)).astype(int) - 1, 0, np.asarray(grid.size) - 1)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 2, low + 1, grid.size)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x


def key_images(nodule: Nodule, hu: Box, mask: Box, grid: Grid) -> Iterator[tuple[str, bytes]]:
    """Yield (name of the plane, PNG) of a nodule.

    Parameters
    ----------
    hu
        int16 [z, y, x], HU, at least `box_around`.
    mask
        uint8 [z, y, x], the nodule where it is not 0.
    grid
        The grid of the whole volume.
    """
    side = field_mm(nodule)
    for plane in PLANES:
        center = _center(plane, nodule)
        places = _places(plane, center, side)
        index = grid.to_index(places)[..., ::-1]
        shown = _sample(hu, index, _OUTSIDE_HU)
        low = WINDOW_CENTER - WINDOW_WIDTH / 2
        grey = np.clip((shown - low) / WINDOW_WIDTH * 255, 0, 255).astype(np.uint8)
        picture = np.repeat(grey[..., None], 3, axis=2)
        inside = _sample(Box((mask.voxels > 0).astype(np.int16), mask.offset), index, 0) > 0.5
        picture[ndimage.binary_dilation(inside) & ~inside] = _OUTLINE
        yield plane.name, _png(_annotated(Image.fromarray(picture), plane, nodule, side))


def _center(plane: Plane, nodule: Nodule) -> tuple[float, ...]:
    """Return the centre of the image: the axial one is the slice that the sizes were taken on."""
    x, y, z = nodule.center_lps_mm
    if plane.name == "axial" and nodule.long_axis_lps_mm:
        z = (nodule.long_axis_lps_mm[2] + nodule.long_axis_lps_mm[5]) / 2
    return x, y, z


def _places(plane: Plane, center: tuple[float, ...], side: float) -> Floats:
    """Return the LPS position of each pixel's centre, [row, column, 3]."""
    steps = (np.arange(PIXELS) + 0.5) / PIXELS * side - side / 2
    across = steps[None, :, None] * np.asarray(plane.right)
    down = steps[:, None, None] * np.asarray(plane.down)
    places: Floats = np.asarray(center) + across + down
    return places


def _sample(box: Box, index: Floats, outside: int) -> Floats:
    """Interpolate a box linearly at (z, y, x) positions of the whole volume."""
    local = index - np.asarray(box.offset[::-1])
    sampled: Floats = ndimage.map_coordinates(
        box.voxels.astype(np.float32),
        np.moveaxis(local, -1, 0),
        order=1,
        mode="constant",
        cval=outside,
    )
    return sampled


def _annotated(image: Image.Image, plane: Plane, nodule: Nodule, side: float) -> Image.Image:
    draw = ImageDraw.Draw(image)
    per_mm = PIXELS / side
    if plane.name == "axial":
        for ends in (nodule.long_axis_lps_mm, nodule.short_axis_lps_mm):
            if len(ends) == 6:
                draw.line([_at(plane, nodule, ends[k : k + 3], per_mm) for k in (0, 3)], _AXES, 1)
    left, right, top, bottom = plane.letters
    middle, edge = PIXELS / 2, PIXELS - 8
    for place, anchor, letter in (
        ((8, middle), "lm", left),
        ((edge, middle), "rm", right),
        ((middle, 6), "mt", top),
        ((middle, edge), "mb", bottom),
    ):
        draw.text(place, letter, _TEXT, _font(18), anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    draw.text(
        (8, 6),
        f"{nodule.number}  {plane.name}",
        _OUTLINE,
        _font(20),
        "lt",
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )
    _scale_bar(draw, per_mm)
    return image


def _at(
    plane: Plane, nodule: Nodule, place: tuple[float, ...], per_mm: float
) -> tuple[float, float]:
    offset = np.subtract(place, nodule.center_lps_mm)
    return (
        PIXELS / 2 + float(offset @ np.asarray(plane.right)) * per_mm,
        PIXELS / 2 + float(offset @ np.asarray(plane.down)) * per_mm,
    )


def _scale_bar(draw: ImageDraw.ImageDraw, per_mm: float) -> None:
    length, y = 20 * per_mm, PIXELS - 14
    x = PIXELS - 12 - length
    draw.line([(x, y), (x + length, y)], _TEXT, 3)
    for end in (x, x + length):
        draw.line([(end, y - 5), (end, y + 5)], _TEXT, 2)
    draw.text(
        (x + length / 2, y - 6),
        "20 mm",
        _TEXT,
        _font(16),
        "mb",
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(REGULAR), size)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
