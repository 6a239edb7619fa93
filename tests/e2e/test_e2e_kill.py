"""SIGKILL, one process after the other, in the middle of a study: exactly one report each time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pydicom
import pytest
from kafka import KafkaConsumer, TopicPartition

from lungmesh.cli.client import MeshClient
from lungmesh.demo.case import write_small_case
from lungmesh.embedded.mesh import embedded_mesh
from lungmesh.embedded.services import SERVICES
from lungmesh.embedded.state import MeshState
from lungmesh.mesh.contract import LANES
from lungmesh.mesh.dicom_scu import Peer, send_files
from lungmesh.mesh.errors import MeshError
from lungmesh.v1.console_pb2 import STUDY_OUTCOME_DONE, StudyView
from lungmesh.v1.events_pb2 import STAGE_STATE_DONE, HandledResult
from lungmesh.v1.study_pb2 import PRIORITY_ROUTINE, ClinicalContext, StudyRef
from tests.support.mesh import require_embedded_wheels, wait_for

STUDY_SECONDS = 240
# Each victim, and the stage at whose start the kill falls into its work; short stages are killed
# when the stage before them is done.
MOMENTS: dict[str, tuple[str, bool]] = {
    "preprocess": ("preprocess", False),
    "detection": ("detection", False),
    "triton": ("detection", False),
    "malignancy": ("detection", True),
    "followup": ("malignancy", True),
    "report": ("followup", True),
    "delivery": ("followup", True),
    "mdt": ("followup", True),
    "console": ("detection", False),
    "broker": ("detection", False),
}


@dataclass
class Undisturbed:
    """A mesh, and the content hash of a study that nothing disturbed in it."""

    mesh: MeshState
    folder: Path
    content_sha256: str

    def files(self, seed: str) -> list[Path]:
        """Write the same pixels as another study of another patient."""
        folder = self.folder / seed
        write_small_case(folder, f"PATIENT-{seed}", seed)
        return sorted(folder.iterdir())

    def send(self, files: list[Path]) -> None:
        """Send by C-STORE; every object must be confirmed.

        Raises MeshError when the peer goes away.
        """
        host, port = self.mesh.address("ingest", "dicom").split(":")
        send_files(files, Peer(host, int(port), ae_title="LUNGMESH")).require_all_sent()

    def close(self, files: list[Path]) -> StudyRef:
        """Declare the study complete."""
        uid = pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
        return MeshClient(self.mesh).close_study(uid, PRIORITY_ROUTINE, ClinicalContext())

    def end_of(self, study: StudyRef) -> StudyView:
        """Follow a study to its end."""
        *_, last = MeshClient(self.mesh).follow(study, STUDY_SECONDS)
        return last


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    require_embedded_wheels()
    folder = tmp_path_factory.mktemp("kill")
    with embedded_mesh(folder / "data", "test", print) as mesh:
        run = Undisturbed(mesh, folder, "")
        files = run.files("undisturbed")
        run.send(files)
        view = run.end_of(run.close(files))
        assert view.outcome == STUDY_OUTCOME_DONE, view.reason
        run.content_sha256 = view.content_sha256
        yield run


def pid_of(victim: str) -> int:
    """Return the process id of a program of the mesh, which this process supervises."""
    names = {"broker": "tansu", "triton": "tritonserver"}
    for child in psutil.Process().children():
        command = child.cmdline()
        if victim in names and names[victim] in (command or [""])[0]:
            return child.pid
        if command[-2:] == ["lungmesh.mesh.serve", victim]:
            return child.pid
    raise AssertionError(f"{victim} does not run")


def kill(victim: str) -> int:
    """SIGKILL the program and return the id it had."""
    pid = pid_of(victim)
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_for_moment(mesh: MeshState, study: StudyRef, stage: str, done: bool) -> None:
    """Return when the stage has begun with the study, or is done with it."""
    for view in MeshClient(mesh).follow(study, STUDY_SECONDS):
        for item in view.stages:
            if item.stage == stage and (not done or item.state == STAGE_STATE_DONE):
                return
    raise AssertionError(f"the study ended before {stage} could be disturbed")


def report_events_on_the_broker(mesh: MeshState, study: StudyRef) -> set[str]:
    """Return the ids of all report.ready events of a study that the broker holds.

    The study is done, so there is one: it is waited for, and then a second for any other. All
    partitions are read: a broker that was killed makes topics anew with a count of its own.
    """
    consumer = KafkaConsumer(
        bootstrap_servers=mesh.kafka, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    topics = [f"report.ready.{lane}" for lane in LANES]
    consumer.assign(
        [TopicPartition(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic)]
    )
    ids: set[str] = set()
    limit = time.monotonic() + 30
    quiet_since = time.monotonic()
    while time.monotonic() < (quiet_since + 1.0 if ids else limit):
        for batch in consumer.poll(timeout_ms=200).values():
            for record in batch:
                if study.study_id.encode() in record.value:
                    ids.add(dict(record.headers)["ce_id"].decode())
            quiet_since = time.monotonic()
    consumer.close(autocommit=False)
    return ids


def report_events_that_the_stage_gave(folder: Path) -> list[str]:
    """Return the ids of all ReportReady events of a study, from what the stage keeps for repeats.

    The broker forgets when it is killed; this does not.
    """
    kept = sorted(folder.glob("r*/handled/report/*.pb"))
    results = [HandledResult.FromString(path.read_bytes()) for path in kept]
    return [output.event_id for result in results for output in result.outputs]


def assert_one_report(run: Undisturbed, study: StudyRef, view: StudyView) -> None:
    """The study is done, once, with what an undisturbed run gives."""
    assert view.outcome == STUDY_OUTCOME_DONE, view.reason
    assert view.content_sha256 == run.content_sha256
    assert view.study.revision == 1
    kept = run.folder / "data" / "blobs" / study.tenant / study.study_id
    (event_id,) = report_events_that_the_stage_gave(kept)
    assert report_events_on_the_broker(run.mesh, study) == {event_id}
    assert [path.parent.name for path in sorted(kept.glob("r*/report"))] == ["r1"]


@contextmanager
def restarted(victim: str, died: int) -> Iterator[None]:
    """The supervisor has started the victim again when the block ends."""
    yield
    wait_for(lambda: _other(victim, died), 60, f"the restart of {victim}")


def _other(victim: str, died: int) -> bool:
    try:
        return pid_of(victim) != died
    except (AssertionError, psutil.Error):
        return False


def test_every_program_of_the_mesh_is_killed_once() -> None:
    assert {*MOMENTS, "ingest"} == {*SERVICES, "broker", "triton"}


@pytest.mark.parametrize("victim", MOMENTS)
def test_a_killed_process_costs_no_study_and_makes_none_twice(
    undisturbed: Undisturbed, victim: str
) -> None:
    files = undisturbed.files(f"kill-{victim}")
    undisturbed.send(files)
    study = undisturbed.close(files)
    wait_for_moment(undisturbed.mesh, study, *MOMENTS[victim])
    with restarted(victim, kill(victim)):
        view = undisturbed.end_of(study)
    assert_one_report(undisturbed, study, view)


def test_ingest_killed_amid_an_association_keeps_what_it_acknowledged(
    undisturbed: Undisturbed,
) -> None:
    files = undisturbed.files("kill-ingest")
    kill_after = len(files) // 2
    died: list[int] = []

    def on_progress(answered: int, count: int) -> None:
        if answered == kill_after:
            died.append(kill("ingest"))

    host, port = undisturbed.mesh.address("ingest", "dicom").split(":")
    peer = Peer(host, int(port), ae_title="LUNGMESH")
    with pytest.raises(MeshError):
        send_files(files, peer, on_progress)
    with restarted("ingest", died[0]):
        wait_for(lambda: _sends(undisturbed, files[kill_after:]), 60, "ingest's return")
    # Only the rest was sent again: the first half was acknowledged, so it must be there.
    view = undisturbed.end_of(undisturbed.close(files))
    study = view.study
    assert_one_report(undisturbed, study, view)


def test_ingest_killed_behind_the_study_does_not_send_it_twice(undisturbed: Undisturbed) -> None:
    files = undisturbed.files("kill-ingest-later")
    undisturbed.send(files)
    study = undisturbed.close(files)
    with restarted("ingest", kill("ingest")):
        view = undisturbed.end_of(study)
    assert_one_report(undisturbed, study, view)


def _sends(run: Undisturbed, files: list[Path]) -> bool:
    try:
        run.send(files)
    except MeshError:
        return False
    return True
