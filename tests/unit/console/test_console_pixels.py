"""Headers as DICOM JSON: what slices have in common is translated once, and nothing is mixed up."""

from __future__ import annotations

import io

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from lungmesh.console.pixels import dicom_json


def header(number: int, maker: str, charset: str) -> Dataset:
    """Return a header as it is read from a file: its values are not translated yet."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = charset
    dataset.Manufacturer = maker
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = [1.5, -2.25, 0.5 * number]
    dataset.RescaleSlope = "1"
    dataset.ReferencedImageSequence = [Dataset()]
    dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID = f"1.2.{number}"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()), force=True)


def test_a_series_is_what_each_of_its_headers_is() -> None:
    # The same two bytes are one character in GB18030 and two in Latin 1.
    cases = [(1, "医", "GB18030"), (2, "医", "GB18030"), (3, "Ò½", "ISO_IR 100")]
    read = [header(*case) for case in cases]
    assert read[0].get_item("Manufacturer").value == read[2].get_item("Manufacturer").value
    found = dicom_json(read)
    assert found == [header(*case).to_json_dict() for case in cases]
    assert [one["00080070"]["Value"] for one in found] == [["医"], ["医"], ["Ò½"]]  # type: ignore[index]


def test_a_value_that_json_cannot_hold_drops_and_takes_nothing_along() -> None:
    dataset = Dataset()
    dataset.Modality = "CT"
    dataset.ImagePositionPatient = ["1", "2", "3"]
    dataset.ImagePositionPatient[1] = None
    dataset.add_new(0x00180050, "DS", "1.25")
    (found,) = dicom_json([dataset])
    assert found == {
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00180050": {"vr": "DS", "Value": [1.25]},
    }
