"""From compressed slices to one HU volume, decoded in parallel into its final place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from lungmesh.mesh.errors import BadInput, MeshError
from lungmesh.preprocess.findings import Finding, Severity
from lungmesh.preprocess.stack import Stack

Hu = npt.NDArray[np.int16]
# What a padded pixel (outside the scanned circle) reads as: air.
PADDING_HU = -1024
_INT16 = np.iinfo(np.int16)


def read_volume(
    stack: Stack,
    load: Callable[[int], Dataset],
    workers: int = 2,
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[Hu, list[Finding]]:
    """Decode every slice into an int16 [z, y, x] volume in HU on the stack's grid.

    Parameters
    ----------
    load
        Returns the whole data set, with pixels, of a header of the stack by its index. Called from
        several threads; each data set is dropped as soon as its slice is in the volume.
    workers
        Slices decoded at once.
    progress
        Called with the fraction of slices done.

    Missing slices are interpolated between their neighbours; padded pixels read -1024 HU.

    Raises BadInput (undecodable_slice, missing_rescale, duplicate_conflict).
    """
    volume = np.empty(stack.grid.shape, np.int16)
    mirrors: list[float | None] = [None] * len(stack.at)
    present = [z for z, here in enumerate(stack.at) if here]

    def decode(z: int) -> None:
        first, *again = stack.at[z]
        dataset = load(first)
        volume[z] = slice_hu(dataset, z)
        if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
            mirrors[z] = _mirror_hu(dataset)
        for index in again:
            if not np.array_equal(slice_hu(load(index), z), volume[z]):
                raise BadInput(
                    f"Two different images lie at the place of slice {z + 1}: "
                    "send each phase or reconstruction as its own series.",
                    code="duplicate_conflict",
                )

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for done, _ in enumerate(pool.map(decode, present), start=1):
                progress(done / len(present))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _interpolate(volume, stack)
    return volume, _settle_monochrome1(volume, mirrors)


def slice_hu(dataset: Dataset, z: int) -> Hu:
    """Return one slice's HU, int16 [y, x]: decoded, sign-extended, rescaled, padding set to air.

    Raises BadInput (undecodable_slice, missing_rescale) that names the slice by its place `z`.
    """
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None or float(slope) == 0:
        raise BadInput(
            f"Slice {z + 1} has no usable RescaleSlope and RescaleIntercept, so its pixels are not "
            "Hounsfield units: send the original CT images.",
            code="missing_rescale",
        )
    stored = _stored_values(dataset, z)
    padding = _padding(dataset, stored)
    hu = _rescale(stored, float(slope), float(intercept))
    if padding is not None:
        hu[padding] = PADDING_HU
    return hu


def _stored_values(dataset: Dataset, z: int) -> npt.NDArray[np.integer]:
    try:
        stored = dataset.pixel_array
        if stored.shape != (dataset.Rows, dataset.Columns) or stored.dtype.kind not in "iu":
            raise ValueError("not one plane of integers")
    except (MeshError, MemoryError):
        raise
    except Exception as error:  # decoders raise what they like
        raise BadInput(
            f"The pixels of slice {z + 1} cannot be decoded ({type(error).__name__}): "
            "send the series again.",
            code="undecodable_slice",
        ) from error
    unused = stored.dtype.itemsize * 8 - int(dataset.BitsStored)
    if unused > 0:
        # Old scanners keep overlays above the stored bits; the shifts drop them and extend the
        # sign (PS3.5 section 8.1.1).
        stored = (stored << unused) >> unused
    return stored


def _padding(dataset: Dataset, stored: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_] | None:
    """Return which pixels are padding (PS3.3 C.7.5.1.1.2), None when the slice has none."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = sorted(_as_stored(end, dataset) for end in (value, value if limit is None else limit))
    mask = (stored >= ends[0]) & (stored <= ends[1])
    return mask if mask.any() else None


def _as_stored(value: int, dataset: Dataset) -> int:
    """Read a padding value with the pixels' sign, whatever VR it was written with."""
    bits = int(dataset.BitsAllocated)
    value = int(value) % (1 << bits)
    negative = dataset.PixelRepresentation == 1 and value >= 1 << (bits - 1)
    return value - (1 << bits) if negative else value


def _rescale(stored: npt.NDArray[np.integer], slope: float, intercept: float) -> Hu:
    if slope == 1 and intercept.is_integer():
        wide = stored.astype(np.int32)
        wide += int(intercept)
    else:
        wide = np.rint(stored * np.float32(slope) + np.float32(intercept)).astype(np.int32)
    return np.clip(wide, _INT16.min, _INT16.max).astype(np.int16)


def _interpolate(volume: Hu, stack: Stack) -> None:
    """Fill missing slices linearly between the nearest present ones."""
    present = np.array([z for z, here in enumerate(stack.at) if here])
    for z in stack.missing:
        below, above = present[present < z][-1], present[present > z][0]
        weight = np.float32((z - below) / (above - below))
        low, high = volume[below].astype(np.float32), volume[above].astype(np.float32)
        volume[z] = np.rint(low + (high - low) * weight).astype(np.int16)


def _mirror_hu(dataset: Dataset) -> float:
    """Return the sum of a pixel's HU and its HU after inversion within the stored bits."""
    ends = -1 if dataset.PixelRepresentation == 1 else (1 << int(dataset.BitsStored)) - 1
    return ends * float(dataset.RescaleSlope) + 2 * float(dataset.RescaleIntercept)


def _settle_monochrome1(volume: Hu, mirrors: Sequence[float | None]) -> list[Finding]:
    """Tell display-only MONOCHROME1 from inverted pixels, and turn the latter back.

    By PS3.3 C.7.6.3.1.2 MONOCHROME1 changes the display only, so HU stay as rescaled. Some exports
    also invert the pixels: then the air around the patient reads as bright.
    """
    marked = [(z, mirror) for z, mirror in enumerate(mirrors) if mirror is not None]
    if not marked:
        return []
    edges = [volume[z][[0, -1], :] for z, _ in marked]
    inverted = bool(np.median(np.concatenate(edges)) > 0)
    if inverted:
        for z, mirror in marked:
            turned = np.rint(mirror - volume[z].astype(np.float32))
            volume[z] = np.clip(turned, _INT16.min, _INT16.max).astype(np.int16)
    return [
        Finding(
            "monochrome1",
            Severity.WARN if inverted else Severity.NOTE,
            "The images are MONOCHROME1 "
            + (
                "with inverted pixels, which were turned back."
                if inverted
                else "(white is low); this changes their display only, not their HU."
            ),
            "图像为 MONOCHROME1"
            + ("且像素反相，已还原。" if inverted else "（低值为白），仅影响显示，不影响 HU。"),
        )
    ]
