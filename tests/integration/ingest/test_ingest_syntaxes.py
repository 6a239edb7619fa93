"""Every transfer syntax once: taken, kept as it came, and still the same image."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom import uid

from lungmesh.ingest.syntaxes import TRANSFER_SYNTAXES
from tests.integration.ingest.conftest import StartIngest
from tests.support.bad_dicom import Sender, data_set, encoded
from tests.support.ingest import IngestProcess, ct_slice

pytestmark = pytest.mark.usefixtures("dcmtk")

# dcmtk's converters; what it cannot write, pydicom can.
_BY_DCMTK = {
    uid.ExplicitVRLittleEndian: ("dcmconv", "+te"),
    uid.ImplicitVRLittleEndian: ("dcmconv", "+ti"),
    uid.DeflatedExplicitVRLittleEndian: ("dcmconv", "+td"),
    uid.JPEGLossless: ("dcmcjpeg", "+el"),
    uid.JPEGLosslessSV1: ("dcmcjpeg", "+e1"),
    uid.JPEGLSLossless: ("dcmcjpls", "+el"),
    uid.JPEGLSNearLossless: ("dcmcjpls", "+en"),
    uid.RLELossless: ("dcmcrle",),
}
_BY_GDCM = {uid.JPEG2000Lossless: "JPEG2000Lossless", uid.JPEG2000: "JPEG2000"}
_LARGEST_ERROR = {uid.JPEGLSNearLossless: 2, uid.JPEG2000: 16}


@pytest.fixture(scope="module")
def ingest(start_ingest: StartIngest) -> IngestProcess:
    """An ingest that closes studies soon."""
    return start_ingest(RELEASE_GRACE_SECONDS="0.2")


@pytest.fixture
def convert(tmp_path: Path) -> Callable[[bytes, uid.UID], bytes]:
    """Return a converter to a transfer syntax."""

    def run(file: bytes, syntax: uid.UID) -> bytes:
        source, target = tmp_path / "source.dcm", tmp_path / "target.dcm"
        source.write_bytes(file)
        if syntax in _BY_DCMTK:
            subprocess.run([*_BY_DCMTK[syntax], str(source), str(target)], check=True)
            return target.read_bytes()
        # gdcm writes JPEG 2000, lossless and (at a ratio that loses next to nothing) lossy.
        changer, reader = gdcm.ImageChangeTransferSyntax(), gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        kind = getattr(gdcm.TransferSyntax, _BY_GDCM[syntax])
        changer.SetTransferSyntax(gdcm.TransferSyntax(kind))
        changer.SetInput(reader.GetImage())
        assert changer.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(changer.GetOutput())
        assert writer.Write()
        return target.read_bytes()

    return run


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_an_image_is_taken_in(
    ingest: IngestProcess, convert: Callable[[bytes, uid.UID], bytes], syntax: uid.UID
) -> None:
    word = f"syntax-{syntax.keyword}"
    plain = ct_slice(word, PixelRepresentation=0)
    file = convert(encoded(plain), syntax)
    sender = Sender(ingest.ports["dicom"], [file])
    assert sender.send(file).Status == 0
    sender.release()
    [event] = ingest.tap.wait(word)
    [series] = ingest.manifest(event).series
    [instance] = series.instances
    assert instance.transfer_syntax_uid == syntax
    kept = ingest.blobs.get(instance.file)
    assert data_set(kept) == data_set(file)
    before = plain.pixel_array.astype(int)
    after = pydicom.dcmread(io.BytesIO(kept)).pixel_array.astype(int)
    assert np.abs(after - before).max() <= _LARGEST_ERROR.get(syntax, 0)
