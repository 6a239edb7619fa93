"""What a header is accepted or refused for, without any door."""

from __future__ import annotations

import io
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.filewriter import dcmwrite

from lungmesh.ingest.header import check_file
from lungmesh.ingest.refusals import REFUSALS, Rejection
from lungmesh.ingest.syntaxes import COMPANIONS, CT, REFUSED, TRANSFER_SYNTAXES
from tests.support.bad_dicom import BAD_DICOM, BadObject, encoded
from tests.support.ingest import ct_slice, study_uid

# These need to know what came before, or the limits of the node.
_JUDGED_LATER = {"mixed_patients", "conflicting_instance", "wrong_study", "oversized"}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "bad", [bad for bad in BAD_DICOM if bad.code not in _JUDGED_LATER], ids=lambda bad: bad.name
)
def test_bad_objects_are_refused_for_their_reason(bad: BadObject) -> None:
    with pytest.raises(Rejection) as caught:
        check_file(bad.file("unit"))
    assert caught.value.code == bad.code
    assert caught.value.refusal.status == bad.status
    assert "SECRET" not in str(caught.value)


def test_a_refused_object_says_whose_it_was_as_far_as_that_could_be_read() -> None:
    file = encoded(ct_slice("unit", ImagePositionPatient=None))
    with pytest.raises(Rejection) as caught:
        check_file(file)
    assert caught.value.study_instance_uid == study_uid("unit")
    assert caught.value.sop_instance_uid == ct_slice("unit").SOPInstanceUID
    assert caught.value.sop_class_uid == CT


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES[:3], ids=lambda syntax: syntax.name)
def test_a_ct_image_is_accepted_in_every_plain_syntax(syntax: uid.UID) -> None:
    ds = ct_slice("unit")
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dcmwrite(
        buffer,
        ds,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=True,
        enforce_file_format=True,
    )
    header = check_file(buffer.getvalue())
    assert header.usable
    assert (header.modality, header.transfer_syntax_uid) == ("CT", syntax)
    assert header.study_instance_uid == study_uid("unit")
    assert header.patient_id == "SECRET-unit"


@pytest.mark.parametrize("sop_class", sorted(COMPANIONS), ids=lambda one: uid.UID(one).name)
def test_companions_of_a_ct_are_kept_but_make_no_study(sop_class: str) -> None:
    ds = ct_slice("unit", SOPClassUID=sop_class, Modality="SR", PixelData=None)
    assert not check_file(encoded(ds)).usable


@pytest.mark.parametrize("sop_class", sorted(REFUSED), ids=lambda one: uid.UID(one).name)
def test_other_images_are_refused_as_wrong_sop_class(sop_class: str) -> None:
    with pytest.raises(Rejection) as caught:
        check_file(encoded(ct_slice("unit", SOPClassUID=sop_class)))
    assert caught.value.refusal.status == 0x0122


def test_a_header_shows_no_patient_when_it_is_printed() -> None:
    assert "SECRET" not in repr(check_file(encoded(ct_slice("unit"))))


def test_odd_pixel_data_may_carry_one_byte_to_be_even() -> None:
    ds = ct_slice("unit", Rows=3, Columns=3, BitsAllocated=8, BitsStored=8, HighBit=7)
    ds.PixelData = b"\0" * 10
    ds["PixelData"].VR = "OB"
    assert check_file(encoded(ds)).usable


@settings(deadline=None, max_examples=300)
@given(st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_is_done_to_the_bytes_the_answer_is_acceptance_or_a_reason(
    data: st.DataObject,
) -> None:
    file = bytearray(encoded(ct_slice("unit")))
    header_end = len(file) - 2048
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, header_end - 1))
        file[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(file)))
    # Anything but a Rejection fails the test.
    with suppress(Rejection):
        check_file(bytes(file[:end]))


def test_every_refusal_has_its_own_number_and_a_comment_that_fits() -> None:
    statuses = [refusal.status for refusal in REFUSALS.values()]
    assert len(set(statuses)) == len(statuses)
    for code, refusal in REFUSALS.items():
        assert len(refusal.comment) <= 64, code
        assert refusal.status == 0x0122 or refusal.status >> 12 in (0xA, 0xC), code


def test_every_refusal_is_shown_by_a_kind_of_bad_dicom() -> None:
    shown = {bad.code for bad in BAD_DICOM}
    assert set(REFUSALS) - shown == {"storage_full"}
