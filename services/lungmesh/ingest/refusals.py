"""Why an object is refused, and what each sender is told: one table for every door.

DIMSE statuses follow PS3.4 B.2.3 (Storage: A7xx out of resources, A9xx data set does not match SOP
class, Cxxx cannot understand) and PS3.7 Annex C (0122 SOP class not supported). The last digits
are our own and listed in docs/dicom-conformance.md. STOW-RS gives the same number as Failure
Reason (0008,1197).
"""

from __future__ import annotations

from dataclasses import dataclass

from lungmesh.mesh.errors import BadInput

SUCCESS = 0x0000


@dataclass(frozen=True)
class Refusal:
    """One reason.

    Attributes
    ----------
    status
        DIMSE status and STOW-RS Failure Reason.
    http
        Status of a STOW-RS request in which every object was refused for this or a like reason.
    comment
        Error Comment (0000,0902), at most 64 characters.
    advice
        What the sender should do, a clause.
    """

    status: int
    http: int
    comment: str
    advice: str


REFUSALS: dict[str, Refusal] = {
    "storage_full": Refusal(
        0xA700, 503, "Storage is full: send again later", "send it again later"
    ),
    "oversized": Refusal(
        0xA701, 413, "Object is larger than this node takes", "send it as single-frame images"
    ),
    "wrong_sop_class": Refusal(
        0x0122, 409, "SOP class not supported: send CT Image Storage", "send CT Image Storage"
    ),
    "sop_class_mismatch": Refusal(
        0xA901, 409, "SOP Class UIDs of message and data set differ", "mend the sender"
    ),
    "sop_instance_mismatch": Refusal(
        0xA902, 409, "SOP Instance UIDs of message and data set differ", "mend the sender"
    ),
    "missing_uid": Refusal(0xA903, 409, "A required UID is missing", "mend the header"),
    "invalid_uid": Refusal(0xA904, 409, "A UID is not a valid UID", "mend the header"),
    "wrong_modality": Refusal(
        0xA905, 409, "Modality of a CT image is not CT", "set Modality (0008,0060) to CT"
    ),
    "missing_pixel_data": Refusal(0xA906, 409, "Pixel Data is missing", "send the whole image"),
    "missing_image_size": Refusal(
        0xA907, 409, "Rows or Columns is missing or zero", "mend the header"
    ),
    "unsupported_pixel_format": Refusal(
        0xA908, 409, "Pixel format is none of a CT image", "send 8- or 16-bit monochrome images"
    ),
    "missing_geometry": Refusal(
        0xA909, 409, "Position, orientation or spacing is missing", "send the original images"
    ),
    "invalid_geometry": Refusal(
        0xA90A, 409, "Position, orientation or spacing is wrong", "mend the header"
    ),
    "missing_rescale": Refusal(
        0xA90B, 409, "Rescale Slope or Intercept is missing", "send the original images"
    ),
    "pixel_data_mismatch": Refusal(
        0xA90C, 409, "Pixel Data does not fit Rows and Columns", "mend the image"
    ),
    "unsupported_transfer_syntax": Refusal(
        0xC122, 409, "Transfer syntax not supported", "send it uncompressed or losslessly coded"
    ),
    "empty": Refusal(0xC002, 400, "Object is empty", "send the object"),
    "not_dicom": Refusal(0xC001, 400, "Not a DICOM object", "send DICOM Part 10 files"),
    "unreadable": Refusal(0xC003, 400, "Data set cannot be read", "mend the object's encoding"),
    "truncated": Refusal(0xC004, 400, "Object ends too early", "send the whole object again"),
    "corrupt_deflate": Refusal(
        0xC005, 400, "Deflated data set cannot be inflated", "send it uncompressed"
    ),
    "missing_transfer_syntax": Refusal(
        0xC006, 400, "File Meta has no Transfer Syntax UID", "mend the file meta information"
    ),
    "mixed_patients": Refusal(
        0xC010, 409, "Study holds images of another patient", "mend PatientID at the source"
    ),
    "conflicting_instance": Refusal(
        0xC011, 409, "SOP Instance UID is taken by another object", "give the object its own UID"
    ),
    "wrong_study": Refusal(
        0xC012, 409, "Object belongs to another study than asked", "send it to its own study"
    ),
}


class Rejection(BadInput):
    """An object that is refused, and kept in quarantine.

    Parameters
    ----------
    code
        A key of `REFUSALS`.
    what
        What is wrong with this object, a clause without patient data.
    """

    def __init__(self, code: str, what: str) -> None:
        self.refusal = REFUSALS[code]
        super().__init__(f"{what}: {self.refusal.advice}.", code)
        # What could be read before it was refused.
        self.study_instance_uid = ""
        self.sop_class_uid = ""
        self.sop_instance_uid = ""
