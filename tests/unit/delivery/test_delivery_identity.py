"""The identity is restored in a copy in memory."""

from __future__ import annotations

import io

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian

from lungmesh.delivery.identity import PatientIdentity, with_identity
from lungmesh.mesh.ids import dicom_uid


def encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_identity_is_restored_in_the_copy_and_nowhere_else() -> None:
    ours = Dataset()
    ours.SOPClassUID, ours.SOPInstanceUID = ComprehensiveSRStorage, dicom_uid("identity")
    ours.SpecificCharacterSet = "ISO_IR 192"
    ours.PatientID, ours.PatientName = "pseudonym", ""
    ours.PatientIdentityRemoved, ours.DeidentificationMethod = "YES", "pseudonym"
    ours.file_meta = FileMetaDataset()
    ours.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    identity = PatientIdentity("MRN-7", "王^小明", "19500203", "M", "CITY")
    stored = encoded(ours)
    read = dcmread(io.BytesIO(encoded(with_identity(stored, identity))))
    assert (read.PatientID, str(read.PatientName)) == ("MRN-7", "王^小明")
    assert (read.PatientBirthDate, read.PatientSex) == ("19500203", "M")
    assert read.IssuerOfPatientID == "CITY"
    assert "PatientIdentityRemoved" not in read
    assert "DeidentificationMethod" not in read
    assert read.SOPInstanceUID == ours.SOPInstanceUID
    assert dcmread(io.BytesIO(stored)).PatientID == "pseudonym"
    assert "小明" not in repr(identity)
