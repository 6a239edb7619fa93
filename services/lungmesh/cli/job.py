"""The main job: one study in over DICOM, its report out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lungmesh.cli.client import MeshClient
from lungmesh.cli.exits import CommandError, Exit, writing
from lungmesh.cli.folder import StudyFolder, read_folder
from lungmesh.cli.sending import send_folder
from lungmesh.cli.show import Show
from lungmesh.cli.summary import complete_summary
from lungmesh.embedded.layout import DataDirectoryInUse
from lungmesh.embedded.memory import MemorySampler
from lungmesh.embedded.mesh import START_LIMIT_SECONDS, embedded_mesh, running_mesh
from lungmesh.embedded.state import MeshState
from lungmesh.v1.console_pb2 import STUDY_OUTCOME_FAILED, StudyView
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.study_pb2 import PRIORITY_ROUTINE, ClinicalContext, Priority


@dataclass(frozen=True)
class Job:
    """What `lungmesh run` is asked to do.

    Attributes
    ----------
    limit_seconds
        Longest time for each study, from sending to report.
    """

    study: Path
    out: Path
    data: Path
    priors: Sequence[Path] = ()
    clinical: ClinicalContext = field(default_factory=ClinicalContext)
    priority: Priority.ValueType = PRIORITY_ROUTINE
    limit_seconds: float = 900.0


@dataclass(frozen=True)
class Result:
    """What came out.

    Attributes
    ----------
    view
        The study as the console sees it at the end.
    timeline
        The patient's exams as follow-up sees them, in order of study date.
    files
        Names of the files in the output folder.
    wall_seconds
        From the first byte sent to the last file fetched, priors included.
    start_seconds
        Time to bring the mesh up; 0 when one was running.
    peak_pss_bytes, peak_rss_bytes
        Memory summed over all processes of the mesh and this one (see `MemorySampler`).
    """

    view: StudyView
    timeline: Sequence[FollowupUpdated]
    files: list[str]
    wall_seconds: float
    send_seconds: float
    start_seconds: float
    peak_pss_bytes: int
    peak_rss_bytes: int


@contextmanager
def run_job(job: Job, show: Show, owner: str = "run") -> Iterator[Result]:
    """Read the study, write its artefacts to `job.out`, and hand over the result.

    Uses the mesh that runs over the data directory, or brings one up and stops it when the block
    ends, so that nobody waits for the stop to see the result.

    Raises CommandError; MeshError when the mesh does not start.
    """
    current = read_folder(job.study)
    # In order of their date, so that each is compared with those before it.
    priors = sorted((read_folder(path) for path in job.priors), key=lambda item: item.study_date)
    _warn(current, priors, show)
    _make_out(job.out)
    with ExitStack() as stack:
        mesh, start_seconds = _mesh(job, show, owner, stack)
        sampler = MemorySampler(lambda: (mesh.pid, os.getpid()))
        sampler.start()
        stack.callback(sampler.stop)
        client = MeshClient(mesh)
        started = time.monotonic()
        for prior in priors:
            show.note(f"prior of {prior.study_date or 'unknown date'}")
            _read(prior, job, ClinicalContext(), mesh, client, show)
        view, send_seconds = _read(current, job, job.clinical, mesh, client, show)
        files = client.fetch_report(view.study, job.out)
        recommendation = client.recommendation(view.study)
        timeline = client.timeline(view.study.tenant, view.study.patient)
        wall_seconds = time.monotonic() - started
        sampler.sample()
        result = Result(
            view=view,
            timeline=timeline,
            files=files,
            wall_seconds=wall_seconds,
            send_seconds=send_seconds,
            start_seconds=start_seconds,
            peak_pss_bytes=sampler.peak_pss_bytes,
            peak_rss_bytes=sampler.peak_rss_bytes,
        )
        complete_summary(job.out, view, recommendation, _figures(result))
        show.settle()
        yield result


def _mesh(job: Job, show: Show, owner: str, stack: ExitStack) -> tuple[MeshState, float]:
    mesh = running_mesh(job.data)
    if mesh is None:
        show.note("starting the mesh")
        started = time.monotonic()
        try:
            mesh = stack.enter_context(embedded_mesh(job.data, owner, show.note))
            seconds = time.monotonic() - started
            show.note(f"mesh ready after {seconds:.1f} s", start_s=round(seconds, 2))
            return mesh, seconds
        except DataDirectoryInUse:
            # `lungmesh up` is just starting there.
            mesh = running_mesh(job.data, START_LIMIT_SECONDS)
            if mesh is None:
                raise
    if mesh.owner != "up":
        raise CommandError(
            f"another `lungmesh {mesh.owner}` uses {job.data} and stops its mesh when it ends: "
            "wait for it, or choose another directory with --data",
            Exit.NO_MESH,
        )
    return mesh, 0.0


def _read(
    folder: StudyFolder,
    job: Job,
    clinical: ClinicalContext,
    mesh: MeshState,
    client: MeshClient,
    show: Show,
) -> tuple[StudyView, float]:
    started = time.monotonic()
    send_folder(folder, mesh.address("ingest", "dicom"), show)
    seconds = time.monotonic() - started
    study = client.close_study(folder.study_instance_uid, job.priority, clinical)
    view = StudyView()
    for view in client.follow(study, job.limit_seconds):
        show.study(view)
    show.settle()
    if view.outcome == STUDY_OUTCOME_FAILED:
        raise CommandError(view.reason, Exit.STAGE_FAILED)
    return view, seconds


def _warn(current: StudyFolder, priors: Sequence[StudyFolder], show: Show) -> None:
    for folder in (current, *priors):
        if folder.skipped:
            kinds = ", ".join(f"{count} {reason}" for reason, count in folder.skipped.items())
            show.note(f"skipped in {folder.path}: {kinds}")
    for prior in priors:
        if prior.patient_id != current.patient_id:
            show.note(
                f"{prior.path} has another PatientID than the current study: "
                "it will not be compared with it"
            )
        if prior.study_date > current.study_date:
            show.note(f"{prior.path} is later than the current study: it is no prior of it")


def _make_out(out: Path) -> None:
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        # A study with fewer nodules than the one before must not keep its pictures.
        for old in out.glob("key_*.png"):
            old.unlink()


def _figures(result: Result) -> dict[str, float]:
    return {
        "wall": round(result.wall_seconds, 3),
        "send": round(result.send_seconds, 3),
        "mesh_start": round(result.start_seconds, 3),
    }
