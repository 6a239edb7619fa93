"""The C-STORE sender against real peers.

Named complaints: Mirth 3858 and 4335 ("sent" shown though the PACS answered failure), MONAI Deploy
gateway 200 (a permanent refusal such as "calling AE not recognised" taken for a passing one).
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, JPEGLosslessSV1
from pynetdicom import build_context
from pynetdicom.dimse_primitives import C_STORE

from lungmesh.mesh import Refused, Unavailable
from lungmesh.mesh.dicom_scu import Peer, Sender, send_files
from lungmesh.mesh.ids import dicom_uid
from tests.support.broker import free_port
from tests.support.pacs import Orthanc, Scp, listening, program, running


def ct_file(path: Path, number: int, syntax: str = ExplicitVRLittleEndian, size: int = 64) -> Path:
    """Write a CT file; in a compressed syntax its frame is opaque bytes, which none may decode."""
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dicom_uid("scu test", number)
    dataset.StudyInstanceUID = dicom_uid("scu test", "study")
    dataset.SeriesInstanceUID = dicom_uid("scu test", "series")
    dataset.PatientID, dataset.PatientName, dataset.Modality = "P", "A^B", "CT"
    dataset.Rows = dataset.Columns = size
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 1, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    pixels = bytes(range(256)) * (size * size * 2 // 256)
    if syntax == ExplicitVRLittleEndian:
        dataset.PixelData = pixels
    else:
        dataset.PixelData = pydicom.encaps.encapsulate([pixels])
        dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [ct_file(tmp_path / f"{n}.dcm", n) for n in range(3)]


def payload(path: Path) -> bytes:
    """Return the bytes of a file behind its File Meta Information."""
    data = path.read_bytes()
    length = int.from_bytes(data[140:144], "little")
    return data[144 + length :]


def test_files_arrive_byte_for_byte_whatever_their_syntax(tmp_path: Path, scp: Scp) -> None:
    files = [
        ct_file(tmp_path / "a.dcm", 1),
        ct_file(tmp_path / "b.dcm", 2, JPEGLosslessSV1),
    ]
    told: list[tuple[int, int]] = []
    report = send_files(files, scp.peer(), lambda done, total: told.append((done, total)))
    assert report.sent == 2
    assert scp.received == [payload(path) for path in files]
    assert told == [(1, 2), (2, 2)]


def test_a_dataset_in_memory_is_sent_too(files: list[Path], scp: Scp) -> None:
    send_files([pydicom.dcmread(files[0])], scp.peer()).require_all_sent()
    assert scp.received == [payload(files[0])]


def test_an_answer_is_never_taken_by_the_library_s_own_thread(scp: Scp) -> None:
    """On a busy machine pynetdicom's thread took answers, and the sender waited in vain."""
    with Sender(scp.peer(), {(CTImageStorage, ExplicitVRLittleEndian)}) as sender:
        answers = sender._association.dimse.msg_queue
        answers.put((1, C_STORE()))
        time.sleep(0.2)
        assert answers.qsize() == 1


def test_dcmtk_stores_what_we_send(files: list[Path], tmp_path: Path) -> None:
    out, port = tmp_path / "stored", free_port()
    out.mkdir()
    with running([program("storescp"), "-od", str(out), str(port)], port):
        send_files(files, Peer("127.0.0.1", port)).require_all_sent()
    assert sorted(payload(path) for path in out.iterdir()) == sorted(map(payload, files))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0xA700, Unavailable),  # out of resources
        (0xA7FF, Unavailable),
        (0x0110, Unavailable),  # processing failure
        (0xA900, Refused),  # data set does not match SOP class
        (0xC000, Refused),  # cannot understand
        (0x0122, Refused),  # SOP class not supported
        (0x0124, Refused),  # not authorised
        (0xB000, Refused),  # warning: coerced
        (0xB007, Refused),  # warning: does not match
        (0x1234, Refused),  # nothing the standard knows
    ],
)
def test_any_status_but_success_is_not_sent(
    files: list[Path], scp: Scp, status: int, error: type[Exception]
) -> None:
    """Mirth 3858, 4335."""
    scp.statuses = [0, status, 0]
    report = send_files(files, scp.peer())
    assert [outcome.sent for outcome in report.outcomes] == [True, False, True]
    assert report.sent == len(scp.received) == 2
    assert f"0x{status:04X}" in report.outcomes[1].comment
    with pytest.raises(error, match="1 of 3 objects were not sent"):
        report.require_all_sent()


def test_one_lasting_refusal_outweighs_passing_ones(files: list[Path], scp: Scp) -> None:
    scp.statuses = [0xA700, 0xA900, 0]
    with pytest.raises(Refused, match="0xA900"):
        send_files(files, scp.peer()).require_all_sent()


def test_a_calling_title_that_is_not_recognised_is_refused_for_good(files: list[Path]) -> None:
    """MONAI Deploy gateway 200."""
    with listening(Scp(allowed_calling=("SOMEONE",))) as scp:
        with pytest.raises(Refused, match="does not recognise our calling AE title LUNGMESH"):
            send_files(files, scp.peer())
        assert scp.associations == 1


def test_a_called_title_that_is_not_recognised_is_refused_for_good(files: list[Path]) -> None:
    with (
        listening(Scp(required_called="PACS")) as scp,
        pytest.raises(Refused, match="does not recognise the called AE title OTHER"),
    ):
        send_files(files, scp.peer(ae_title="OTHER"))


def test_orthanc_refuses_a_wrong_called_title_for_good(files: list[Path], orthanc: Orthanc) -> None:
    with pytest.raises(Refused):
        send_files(files, Peer("127.0.0.1", orthanc.dicom_port, ae_title="WRONG"))
    assert orthanc.instances() == []


def test_orthanc_refuses_an_unknown_calling_title_for_good(
    files: list[Path], orthanc: Orthanc
) -> None:
    peer = Peer("127.0.0.1", orthanc.dicom_port, "ORTHANC", calling_ae_title="STRANGER")
    with pytest.raises(Refused):
        send_files(files, peer).require_all_sent()
    assert orthanc.instances() == []


def test_dcmtk_refusing_every_association_is_refused_for_good(files: list[Path]) -> None:
    """It hangs up right behind its rejection, which must not pass for a lost connection."""
    port = free_port()
    with running([program("storescp"), "--refuse", str(port)], port):
        for _ in range(10):
            with pytest.raises(Refused, match="rejected the association"):
                send_files(files, Peer("127.0.0.1", port))


@pytest.mark.parametrize(
    ("result", "source", "reason", "error", "words"),
    [
        (1, 1, 2, Refused, "does not support our application context"),
        (1, 2, 2, Refused, "does not support our protocol version"),
        (2, 3, 1, Unavailable, "is congested"),
        (1, 3, 2, Unavailable, "limit of associations is reached"),
        (2, 1, 1, Unavailable, "gives no reason"),
    ],
)
def test_a_rejection_passes_or_lasts_as_it_says(
    files: list[Path], result: int, source: int, reason: int, error: type[Exception], words: str
) -> None:
    """A-ASSOCIATE-RJ, PS3.8 section 9.3.4."""
    rejection = bytes([3, 0, 0, 0, 0, 4, 0, result, source, reason])
    with raw_peer(rejection, close=True) as port, pytest.raises(error, match=words):
        send_files(files, Peer("127.0.0.1", port))


def test_objects_of_a_class_that_is_not_taken_are_named_and_the_others_sent(
    files: list[Path], tmp_path: Path
) -> None:
    compressed = ct_file(tmp_path / "c.dcm", 9, JPEGLosslessSV1)
    native_only = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    with listening(Scp(), native_only) as scp:
        report = send_files([compressed, *files], scp.peer())
    assert [outcome.sent for outcome in report.outcomes] == [False, True, True, True]
    assert "does not take CT Image Storage in JPEG Lossless" in report.outcomes[0].comment
    with pytest.raises(Refused):
        report.require_all_sent()


def test_a_peer_that_takes_none_of_our_classes_refuses_for_good(files: list[Path]) -> None:
    echo_only = [build_context("1.2.840.10008.1.1")]
    with (
        listening(Scp(), echo_only) as scp,
        pytest.raises(Refused, match="takes none of our objects"),
    ):
        send_files(files, scp.peer())


def test_a_file_that_is_not_dicom_stops_no_other(
    files: list[Path], tmp_path: Path, scp: Scp
) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / "empty").touch()
    report = send_files([tmp_path / "notes.txt", *files, tmp_path / "empty"], scp.peer())
    assert [outcome.sent for outcome in report.outcomes] == [False, True, True, True, False]
    assert "not a DICOM file" in report.outcomes[0].comment


@contextmanager
def raw_peer(*answers: bytes, close: bool = False) -> Iterator[int]:
    """A listener that reads 64 bytes, sends what it is given, and then keeps still or closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                for answer in answers:
                    connection.sendall(answer)
                if not close:
                    ended.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def took(port: int, files: list[Path]) -> float:
    """Return how long it took to find the peer unavailable, its waits being limited to 1 s."""
    started = time.monotonic()
    with pytest.raises(Unavailable):
        send_files(files, Peer("127.0.0.1", port, connect_seconds=1, answer_seconds=1))
    return time.monotonic() - started


def test_nobody_listening_is_unavailable_at_once(files: list[Path]) -> None:
    assert took(free_port(), files) < 2


def test_an_unknown_host_is_unavailable(files: list[Path]) -> None:
    with pytest.raises(Unavailable, match="name of the peer"):
        send_files(files, Peer("nowhere.invalid", 104))


def test_a_peer_that_never_answers_is_given_up(files: list[Path]) -> None:
    with raw_peer() as port:
        assert took(port, files) < 5


def test_a_peer_that_stops_within_its_answer_is_given_up(files: list[Path]) -> None:
    with raw_peer(b"\x02\x00\x00\x00\x00\xff\x00\x01") as port:
        assert took(port, files) < 5


def test_a_peer_that_hangs_up_is_unavailable(files: list[Path]) -> None:
    with raw_peer(close=True) as port:
        assert took(port, files) < 5


def test_a_peer_that_stops_answering_between_objects_is_given_up(
    files: list[Path],
) -> None:
    with listening(Scp(answer_seconds=[0, 3])) as scp:
        assert took(scp.port, files) < 6


def test_a_peer_that_stops_reading_is_given_up(tmp_path: Path) -> None:
    """The answer is an acceptance; then it reads nothing more, and the network fills up."""
    large = ct_file(tmp_path / "large.dcm", 1, size=4096)
    with deaf_peer() as port:
        assert took(port, [large]) < 10


@contextmanager
def deaf_peer() -> Iterator[int]:
    """A real acceptor whose connection is handed a proxy that forwards only the negotiation."""
    with listening(Scp()) as scp, socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ended = threading.Event()

        def serve() -> None:
            client, _ = server.accept()
            behind = socket.create_connection(("127.0.0.1", scp.port))
            with client, behind:
                behind.sendall(client.recv(65536))
                client.sendall(behind.recv(65536))
                ended.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join()
