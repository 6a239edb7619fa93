"""What the load prints and keeps: turnarounds, memory, faults, a record that the model reads."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pydicom.dataset import Dataset, FileMetaDataset

from bench.load import faults
from bench.load.__main__ import PATH, Sent, hop, keep, renamed, slopes, turnaround
from bench.plan.agree import from_load
from lungmesh.embedded.services import SERVICES
from lungmesh.v1.console_pb2 import StageView, StudyView


def view(complete: float, seconds: float, waits: float) -> StudyView:
    """A study whose stages each took `seconds` after `waits`."""
    at, stages = complete, [stage("ingest", complete, 0, 0)]
    for name in PATH:
        at += waits + seconds
        stages.append(stage(name, at, seconds, waits))
    return StudyView(stages=stages)


def stage(name: str, at: float, handler: float, queue: float) -> StageView:
    return StageView(
        stage=name,
        at=Timestamp(seconds=int(at), nanos=round(at % 1 * 1e9)),
        handler_seconds=handler,
        queue_seconds=queue,
    )


def test_the_turnaround_is_from_the_whole_study_to_the_report() -> None:
    assert turnaround(view(100, 2, 0.5)) == pytest.approx(12.5)
    assert hop(view(100, 2, 0.5)) == pytest.approx(0.5)


def test_the_model_reads_a_record_and_agrees_where_nothing_waits(tmp_path: Path) -> None:
    views = [view(100, 2, 0.1), view(200, 3, 0.1)]
    sent = [Sent(0, "a", "stat", "one", 0.0), Sent(1, "b", "routine", "two", 100.0)]
    keep(tmp_path / "record.json", sent, views, rate=6, hop_seconds=0.1)
    found = from_load(tmp_path / "record.json")
    assert found.real == pytest.approx([10.5, 15.5])
    assert found.model == pytest.approx(found.real)
    assert found.ratio() == pytest.approx(1)


def test_memory_grows_by_its_slope_over_the_second_half() -> None:
    mib = 1024**2
    notes = [
        (float(at), {"flat": 100 * mib, "grows": (500 if at < 60 else 100 + at) * mib})
        for at in range(120)
    ]
    found = slopes(notes)
    assert found["flat"] == pytest.approx(0, abs=1e-6)
    assert found["grows"] == pytest.approx(3600)


def test_every_process_is_killed_once_and_faults_come_in_order() -> None:
    plan = faults.plan()
    killed = {fault.name.removeprefix("kill ") for fault in plan if fault.name.startswith("kill")}
    assert killed == {*SERVICES, "triton", "broker"}
    assert {"broker away", "slow disk"} <= {fault.name for fault in plan}
    assert [fault.after for fault in plan] == sorted(fault.after for fault in plan)
    assert 0 < plan[0].after < plan[-1].after < 1


def test_a_study_is_another_patients_and_leaves_the_case_as_it_was() -> None:
    image = Dataset()
    image.SOPInstanceUID, image.StudyInstanceUID = "1.2.3", "1.2"
    image.SeriesInstanceUID, image.PatientID = "1.2.1", "CASE"
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("1.2.3")
    one, two = renamed(image, 1), renamed(image, 2)
    assert len({one.StudyInstanceUID, two.StudyInstanceUID, "1.2"}) == 3
    assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID != two.SOPInstanceUID
    assert (image.PatientID, image.file_meta.MediaStorageSOPInstanceUID) == ("CASE", "1.2.3")
