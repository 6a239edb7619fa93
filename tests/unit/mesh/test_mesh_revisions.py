"""What is kept of revisions and editions is found newest first."""

from __future__ import annotations

from pathlib import Path

from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.revisions import edition_folder, read_revision, revision_key


def test_the_newest_edition_of_a_revision_is_found_whatever_the_order_of_writing(
    tmp_path: Path,
) -> None:
    blobs = BlobStore(f"file://{tmp_path}")
    for revision, edition in ((2, 1), (1, 10), (1, 9), (1, 1), (10, 1)):
        key = revision_key("hospital", "study", "report", revision, edition)
        blobs.put(key, f"{revision}.{edition}".encode())

    def newest(revision: int) -> bytes:
        return read_revision(blobs, "hospital", "study", "report", revision, "none")

    assert [newest(revision) for revision in (0, 1, 2, 10)] == [b"10.1", b"1.10", b"2.1", b"10.1"]


def test_the_first_edition_keeps_the_keys_of_a_time_without_editions() -> None:
    for edition in (0, 1):
        key = revision_key("hospital", "study", "report", 3, edition)
        assert key == "hospital/study/report/r0000000003"
        folder = edition_folder("hospital", "study", "report", 3, edition)
        assert folder == "hospital/study/r3/report"
    assert edition_folder("hospital", "study", "report", 3, 2) == "hospital/study/r3e2/report"
