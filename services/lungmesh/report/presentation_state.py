"""DICOM GSPS: the nodules' outlines, axes and numbers over the original slices (PS3.3 A.33.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from highdicom.color import CIELabColor
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextObject,
)
from highdicom.spatial import ReferenceToImageTransformer
from pydicom.dataset import Dataset

from lungmesh.report.content import Content, Nodule
from lungmesh.report.keyimages import WINDOW_CENTER, WINDOW_WIDTH, Box
from lungmesh.report.objects import (
    BODY_PART,
    GSPS_SERIES_NUMBER,
    finish,
    identity,
    made_by_us,
    series_description,
    study_datetime,
)
from lungmesh.report.outlines import Floats, outlines, own_slices

# Between an outline and its number, pixels.
_GAP = 3.0
_NODULES = GraphicLayer("NODULES", 1, "Outlines and numbers", CIELabColor(86.0, 2.0, 84.0))
_AXES = GraphicLayer("AXES", 2, "Long and short axis", CIELabColor(76.0, -17.0, -37.0))


def presentation_states(
    content: Content, masks: Mapping[int, Box], headers: Sequence[Dataset]
) -> list[Dataset]:
    """Return the presentation states of an exam with at least one nodule, in the lung window.

    One state holds the whole series, so that a viewer goes on scrolling under it. A state has one
    Modality LUT for all its images (PS3.3 C.11.1): slices that are rescaled otherwise get their
    own.

    Parameters
    ----------
    masks
        Each nodule's mask by its number: uint8 [z, y, x], the nodule where it is not 0.
    headers
        The source slices' headers in z order.
    """
    own = own_slices(headers)
    alike: dict[tuple[str, str], dict[int, Dataset]] = {}
    for z, header in own.items():
        rescaled = str(header.get("RescaleSlope")), str(header.get("RescaleIntercept"))
        alike.setdefault(rescaled, {})[z] = header
    return [
        _state(content, masks, slices, number) for number, slices in enumerate(alike.values(), 1)
    ]


def _state(
    content: Content, masks: Mapping[int, Box], slices: Mapping[int, Dataset], number: int
) -> Dataset:
    source = list(slices.values())
    when = study_datetime(source[0])
    annotations = [
        annotation
        for nodule in content.nodules
        for annotation in _annotations(nodule, masks[nodule.number], slices)
    ]
    dataset = GrayscaleSoftcopyPresentationState(
        referenced_images=source,
        **made_by_us(identity(content, "gsps", number), number),
        series_number=GSPS_SERIES_NUMBER,
        series_description=series_description(content, "LungMesh outlines"),
        content_label="NODULES",
        content_description="Outlines of pulmonary nodules",
        content_creator_name="LungMesh^Report",
        graphic_layers=[_NODULES, _AXES],
        graphic_annotations=annotations,
        voi_lut_transformations=[
            SoftcopyVOILUTTransformation(
                window_center=WINDOW_CENTER, window_width=WINDOW_WIDTH, window_explanation="LUNG"
            )
        ],
    )
    dataset.BodyPartExamined = BODY_PART
    finish(dataset, content, when)
    dataset.PresentationCreationDate = when.strftime("%Y%m%d")
    dataset.PresentationCreationTime = when.strftime("%H%M%S")
    return dataset


def _annotations(
    nodule: Nodule, mask: Box, slices: Mapping[int, Dataset]
) -> Iterator[GraphicAnnotation]:
    """An outline with the nodule's number on each slice; its axes on the slice of the sizes."""
    for z, lines in outlines(mask):
        if z not in slices:
            continue
        points = np.concatenate(lines)
        yield GraphicAnnotation(
            referenced_images=[slices[z]],
            graphic_layer=_NODULES,
            graphic_objects=[_polyline(line, nodule) for line in lines],
            text_objects=[
                TextObject(
                    text_value=str(nodule.number),
                    units=AnnotationUnitsValues.PIXEL,
                    anchor_point=(points[:, 0].max() + _GAP, points[:, 1].min() - _GAP),
                    anchor_point_visible=False,
                    tracking_id=_tracking_id(nodule),
                    tracking_uid=nodule.ids["tracking_uid"],
                )
            ],
        )
    for header in slices.values():
        if header.SOPInstanceUID == nodule.ids["slice_sop_instance_uid"]:
            axes = [_on(ends, header) for ends in _ends(nodule)]
            if axes:
                yield GraphicAnnotation(
                    referenced_images=[header],
                    graphic_layer=_AXES,
                    graphic_objects=[_polyline(axis, nodule) for axis in axes],
                )


def _polyline(points: Floats, nodule: Nodule) -> GraphicObject:
    return GraphicObject(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=points,
        units=AnnotationUnitsValues.PIXEL,
        tracking_id=_tracking_id(nodule),
        tracking_uid=nodule.ids["tracking_uid"],
    )


def _tracking_id(nodule: Nodule) -> str:
    return f"Nodule {nodule.number}"


def _ends(nodule: Nodule) -> list[tuple[float, ...]]:
    return [ends for ends in (nodule.long_axis_lps_mm, nodule.short_axis_lps_mm) if ends]


def _on(ends: tuple[float, ...], header: Dataset) -> Floats:
    """Return the ends of an axis, LPS, as (column, row) of a slice."""
    transform = ReferenceToImageTransformer(
        image_position=header.ImagePositionPatient,
        image_orientation=header.ImageOrientationPatient,
        pixel_spacing=header.PixelSpacing,
        spacing_between_slices=1.0,
    )
    points: Floats = np.asarray(transform(np.reshape(np.asarray(ends, float), (2, 3))))[:, :2]
    return points
