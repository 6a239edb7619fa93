"""The core behind the doors: bytes first, then the answer."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from lungmesh.ingest.identity import Vault
from lungmesh.ingest.index import Index, KnownStudy
from lungmesh.ingest.intake import (
    Accepted,
    Inbox,
    Intake,
    Refused,
    Repeated,
    StorageFull,
    instance_key,
)
from lungmesh.ingest.metrics import IngestMetrics
from lungmesh.ingest.spool import Spool
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.errors import Unavailable
from tests.support.bad_dicom import encoded
from tests.support.ingest import IDENTITY_KEY, ct_slice, study_uid

Make = Callable[..., Intake]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make intakes over one spool and one object store."""

    def intake(
        known: KnownStudy | None = None, min_free_bytes: int = 0, away: bool = False
    ) -> Intake:
        def load(tenant: str, study: str) -> KnownStudy | None:
            if away:
                raise Unavailable("the database is away")
            return known

        return Intake(
            spool=Spool(tmp_path / "spool"),
            blobs=BlobStore(f"file://{tmp_path}/blobs"),
            index=Index(load),
            inbox=Inbox(),
            lookup=Vault(IDENTITY_KEY).lookup,
            metrics=IngestMetrics(CollectorRegistry()),
            max_object_bytes=1 << 20,
            min_free_bytes=min_free_bytes,
        )

    return intake


def test_an_accepted_object_is_in_the_spool_as_it_came_before_it_is_answered(make: Make) -> None:
    intake, data = make(), encoded(ct_slice("a"))
    answer = intake.keep("default", data, "c", "dicom")
    assert answer.status == 0
    [item] = intake.inbox.take(10)
    assert isinstance(item, Accepted)
    assert item.file.read() == data
    assert item.connection == "c"


def test_a_refused_object_is_in_the_spool_as_it_came_too(make: Make) -> None:
    intake, data = make(), b"\0" * 128 + b"DICM" + b"noise"
    answer = intake.keep("default", data, None, "stow")
    assert answer.status != 0
    [item] = intake.inbox.take(10)
    assert isinstance(item, Refused)
    assert item.file.read() == data


def test_a_repeat_is_harmless_also_with_another_senders_file_meta(make: Make) -> None:
    intake = make()
    intake.keep("default", encoded(ct_slice("a")), None, "dicom")
    again = encoded(ct_slice("a"), SourceApplicationEntityTitle="SOMEWHERE")
    assert intake.keep("default", again, None, "dicom").status == 0
    first, second = intake.inbox.take(10)
    assert isinstance(first, Accepted)
    assert isinstance(second, Repeated)
    assert [file.path for file in intake.spool.left()] == [first.file.path]


def test_a_repeat_of_an_object_that_left_the_spool_is_compared_in_the_object_store(
    make: Make,
) -> None:
    data = encoded(ct_slice("a"))
    uid = ct_slice("a").SOPInstanceUID
    lookup = Vault(IDENTITY_KEY).lookup("default", "SECRET-a", "")
    intake = make(KnownStudy(lookup, {uid: None}))
    intake.blobs.put(instance_key("default", study_uid("a"), uid), data)
    assert intake.keep("default", data, None, "dicom").status == 0
    other = encoded(ct_slice("a", InstanceNumber=7))
    assert intake.keep("default", other, None, "dicom").code == "conflicting_instance"


def test_two_patients_in_one_study_are_told_apart(make: Make) -> None:
    intake = make()
    intake.keep("default", encoded(ct_slice("a")), None, "dicom")
    answer = intake.keep("default", encoded(ct_slice("a", 2, PatientID="B")), None, "dicom")
    assert answer.code == "mixed_patients"
    assert answer.study_instance_uid == study_uid("a")


def test_the_same_study_of_two_tenants_is_two_studies(make: Make) -> None:
    intake = make()
    assert intake.keep("one", encoded(ct_slice("a")), None, "dicom").status == 0
    assert intake.keep("two", encoded(ct_slice("a", PatientID="B")), None, "dicom").status == 0
    kinds = [type(item) for item in intake.inbox.take(10)]
    assert kinds == [Accepted, Accepted]


def test_below_the_watermark_nothing_is_taken_and_the_answer_is_to_come_again(make: Make) -> None:
    intake = make(min_free_bytes=1 << 60)
    with pytest.raises(StorageFull, match="free some"):
        intake.check_room()
    answer = intake.keep("default", encoded(ct_slice("a")), None, "dicom")
    assert (answer.status, answer.code) == (0xA700, "storage_full")
    assert not list(intake.spool.left())


def test_room_that_is_made_is_used_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    intake = make(min_free_bytes=1000)
    free = 999
    monkeypatch.setattr(intake.spool, "free_bytes", lambda: free)
    assert intake.keep("default", encoded(ct_slice("a")), None, "dicom").status == 0xA700
    free = 1000
    assert intake.keep("default", encoded(ct_slice("a")), None, "dicom").status == 0


def test_a_disk_that_is_full_is_answered_like_the_watermark(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lungmesh.ingest.spool.os.write", full)
    intake = make()
    answer = intake.keep("default", encoded(ct_slice("a")), None, "dicom")
    assert answer.status == 0xA700
    assert not list((intake.spool.root / "default").iterdir())


def test_while_the_database_is_away_an_object_is_put_off_not_lost_and_not_promised(
    make: Make,
) -> None:
    intake = make(away=True)
    answer = intake.keep("default", encoded(ct_slice("a")), None, "dicom")
    assert (answer.status, answer.code) == (0xA700, "put_off")
    assert not list(intake.spool.left())
    assert len(intake.inbox) == 0


def test_a_restart_finds_whole_objects_and_drops_unfinished_ones(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    whole = spool.keep("default", b"whole")
    part = spool.begin("default")
    part.write(b"half")
    assert [file.path for file in Spool(tmp_path / "spool").left()] == [whole.path]
    assert len(list((tmp_path / "spool" / "default").iterdir())) == 1


def test_no_tenant_leads_out_of_the_spool(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tenant"):
        Spool(tmp_path / "spool").begin("../elsewhere")
