"""DICOM secondary capture: a nodule's key images as frames of one object (PS3.3 A.8.5)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage

from lungmesh.report import coding
from lungmesh.report.content import Content, Nodule
from lungmesh.report.objects import (
    BODY_PART,
    KEY_SERIES_NUMBER,
    identity,
    reference,
    shell,
)
from lungmesh.report.wording import nodule_name


def key_image(
    content: Content, nodule: Nodule, pictures: Mapping[str, bytes], headers: Sequence[Dataset]
) -> Dataset:
    """Return the key images of a nodule: RGB, one frame a plane, in the order of the pictures.

    Parameters
    ----------
    pictures
        PNG by the name of the plane, all of one size.
    headers
        The source slices' headers.
    """
    frames = np.stack(
        [np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in pictures.values()]
    )
    dataset = shell(
        MultiFrameTrueColorSecondaryCaptureImageStorage,
        identity(content, "key", nodule.number),
        content,
        headers[0],
        modality="OT",
        series_number=KEY_SERIES_NUMBER,
        description="LungMesh key images",
        instance_number=nodule.number,
    )
    dataset.BodyPartExamined = BODY_PART
    # Each frame has its own; the letters at its edges say which.
    dataset.PatientOrientation = ""
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    # The number of the nodule and the planes are in the picture, nothing of the patient is.
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.DerivationDescription = f"{', '.join(pictures)} plane through the nodule, lung window"
    dataset.ImageComments = nodule_name(nodule).en
    source = next(
        header
        for header in headers
        if header.SOPInstanceUID == nodule.ids["slice_sop_instance_uid"]
    )
    item = reference(source)
    item.PurposeOfReferenceCodeSequence = [
        coding.concept(codes.DCM.SourceImageForImageProcessingOperation)
    ]
    dataset.SourceImageSequence = [item]
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns, _ = frames.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    # Pages, not time: nothing that a viewer should play.
    dataset.FrameIncrementPointer = Tag("PageNumberVector")
    dataset.PageNumberVector = list(range(1, len(frames) + 1))
    dataset.PixelData = frames.tobytes()
    return dataset
