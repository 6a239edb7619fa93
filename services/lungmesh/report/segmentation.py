"""DICOM SEG: binary segments on the slices of the source series (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from lungmesh.mesh.ids import dicom_uid
from lungmesh.report import coding
from lungmesh.report.content import Content, Nodule
from lungmesh.report.keyimages import Box
from lungmesh.report.objects import (
    SEG_SERIES_NUMBER,
    finish,
    identity,
    made_by_us,
    series_description,
    study_datetime,
)
from lungmesh.report.wording import nodule_name

Voxels = npt.NDArray[np.uint8]


def segmentation(content: Content, masks: Mapping[int, Box], headers: Sequence[Dataset]) -> Dataset:
    """Return the SEG of an exam with at least one nodule: a segment a nodule, solid part and all.

    Segment numbers run from 1 in the order of the nodules. Only slices that a nodule touches have
    frames.

    Parameters
    ----------
    masks
        Each nodule's mask by its number: uint8 [z, y, x], the nodule where it is not 0.
    headers
        The source slices' headers in z order.

    Raises ValueError when there is no nodule.
    """
    described = [
        (_description(number, nodule), masks[nodule.number])
        for number, nodule in enumerate(content.nodules, 1)
    ]
    return _object(content, described, headers, "Pulmonary nodules")


def solid_parts(
    content: Content, masks: Mapping[int, Box], headers: Sequence[Dataset]
) -> Dataset | None:
    """Return the SEG of the solid parts of subsolid nodules; None where there is none.

    An object of its own in the series of the nodules: in one object each part would overlap its
    nodule, and viewers that show a SEG as one label map show only one of the two.

    Parameters
    ----------
    masks
        uint8 [z, y, x] by the nodule's number; 2 is the solid part.
    """
    solid = {
        number: Box((box.voxels == 2).astype(np.uint8), box.offset)
        for number, box in masks.items()
        if (box.voxels == 2).any()
    }
    owners = [nodule for nodule in content.nodules if nodule.number in solid]
    if not owners:
        return None
    described = [
        (_part(_description(number, nodule), nodule), solid[nodule.number])
        for number, nodule in enumerate(owners, 1)
    ]
    return _object(content, described, headers, "Solid parts of subsolid nodules", number=2)


def _object(
    content: Content,
    described: Sequence[tuple[SegmentDescription, Box]],
    headers: Sequence[Dataset],
    what: str,
    number: int = 1,
) -> Dataset:
    boxes = [box for _, box in described]
    touched = np.unique(np.concatenate([_slices(box) for box in boxes]))
    source = [headers[z] for z in touched]
    names = identity(content, "seg", number)
    when = study_datetime(headers[0])
    dataset = hd.seg.Segmentation(
        source_images=source,
        pixel_array=_frames(boxes, touched, source[0].Rows, source[0].Columns),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[description for description, _ in described],
        **made_by_us(names, number),
        series_number=SEG_SERIES_NUMBER,
        content_label="NODULES" if number == 1 else "SOLID_PARTS",
        content_description=what,
        content_creator_name="LungMesh^Report",
        series_description=series_description(content, "LungMesh nodules"),
        content_date=when.date(),
        content_time=when.time(),
    )
    # Made of the instance, not of chance.
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimension = hd.UID(
        names.sop_instance_uid + ".1"
    )
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = dimension
    finish(dataset, content, when)
    return dataset


def _slices(box: Box) -> npt.NDArray[np.int64]:
    return np.flatnonzero(box.voxels.any(axis=(1, 2))) + box.offset[2]


def _frames(
    boxes: Sequence[Box], touched: npt.NDArray[np.int64], rows: int, columns: int
) -> Voxels:
    """Return the masks on the touched slices: a label map, or one array a segment if two overlap.

    A label map takes a fraction of the memory, and nodules seldom overlap.
    """
    stacked = np.zeros((len(touched), rows, columns), np.uint8)
    placed = [_place(box, touched, stacked.shape) for box in boxes]
    for where, inside in placed:
        stacked[where] += inside
    if stacked.max() <= 1:
        labels = np.zeros(stacked.shape, np.uint8 if len(boxes) < 256 else np.uint16)
        for number, (where, inside) in enumerate(placed, 1):
            labels[where][inside > 0] = number
        return labels
    frames = np.zeros((*stacked.shape, len(boxes)), np.uint8)
    for segment, (where, inside) in enumerate(placed):
        frames[(*where, segment)] = inside
    return frames


def _place(
    box: Box, touched: npt.NDArray[np.int64], shape: tuple[int, ...]
) -> tuple[tuple[slice, slice, slice], Voxels]:
    """Return where a box's slices stand among the touched ones, and its mask there as 0 and 1."""
    x, y, z = box.offset
    inside = (box.voxels > 0).astype(np.uint8)
    kept = np.isin(np.arange(z, z + inside.shape[0]), touched)
    first = int(np.searchsorted(touched, z + np.flatnonzero(kept)[0]))
    inside = inside[kept]
    depth, height, width = inside.shape
    return (slice(first, first + depth), slice(y, y + height), slice(x, x + width)), inside


def _description(number: int, nodule: Nodule) -> SegmentDescription:
    lobe, side = coding.LOBES[nodule.lobe]
    description = SegmentDescription(
        segment_number=number,
        segment_label=f"Nodule {nodule.number}",
        segmented_property_category=coding.MORPHOLOGY,
        segmented_property_type=coding.NODULE,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=nodule.detector.name,
            family=codes.DCM.ArtificialIntelligence,
            version=nodule.detector.version,
        ),
        tracking_uid=nodule.ids["tracking_uid"],
        tracking_id=f"Nodule {nodule.number}",
        anatomic_regions=[lobe],
    )
    description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [coding.concept(side)]
    description.SegmentDescription = nodule_name(nodule).en
    return description


def _part(description: SegmentDescription, nodule: Nodule) -> SegmentDescription:
    """Make the description of a nodule that of its solid part, tracked by itself."""
    description.SegmentLabel = description.TrackingID = f"Nodule {nodule.number}, solid part"
    description.TrackingUID = dicom_uid("tracking", nodule.ids["tracking_uid"], "solid part")
    description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
        coding.concept(coding.SOLID_PART)
    ]
    return description
