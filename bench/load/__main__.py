"""Load: real small studies of eight hospitals, three priorities and bursts through the real mesh.

    python -m bench.load [--studies 200] [--rate 6] [--faults] [--out out/bench/load.json]

Every study must end with exactly one report. Prints turnarounds by lane, a stat study sent into the
backlog beside its unloaded time, each process's memory slope, and keeps a record that
`python -m bench.plan --load` compares the model with. Each study is LIDC-IDRI-0001 at a quarter of
its pixels in slices of 5 mm under fresh UIDs, so each stage does its real work on it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import numpy as np
import pydicom
from pydicom.dataset import Dataset

from bench.load import faults as fault_plan
from bench.load.faults import Fault, watched
from bench.load.hospitals import HOSPITALS, Running, running
from bench.plan.agree import PRIORITIES, SHARES, STAT_LIMIT
from bench.plan.draws import lanes
from bench.plan.model import StageShape
from lungmesh.demo.case import write_small_case
from lungmesh.mesh.dicom_scu import send_files
from lungmesh.mesh.errors import MeshError
from lungmesh.mesh.ids import dicom_uid
from lungmesh.v1.console_pb2 import STUDY_OUTCOME_DONE, StudyView
from lungmesh.v1.events_pb2 import HandledResult

# Stages on the way to the report.
PATH = ("preprocess", "detection", "malignancy", "followup", "report")
# Studies of one burst: a scanner that sends what it kept.
BURST = 4
END_SECONDS = 3600.0


@dataclass
class Sent:
    """A study that was sent and declared complete.

    Attributes
    ----------
    arrival
        Seconds since the first study.
    """

    number: int
    hospital: str
    lane: str
    study_id: str
    arrival: float


class Sender:
    """Sends one study after the other, again and again where a fault hit the sending."""

    def __init__(self, mesh: Running, case: Sequence[Dataset]) -> None:
        self._mesh = mesh
        self._case = case
        self.began = time.monotonic()

    def send(self, number: int, lane: str) -> Sent:
        """Send a study as a new patient's and close it; try until ingest has taken it whole."""
        hospital = HOSPITALS[number % len(HOSPITALS)]
        files = [renamed(dataset, number) for dataset in self._case]
        uid = files[0].StudyInstanceUID
        limit = time.monotonic() + END_SECONDS
        while True:
            try:
                send_files(files, self._mesh.peer(hospital)).require_all_sent()
                study = self._mesh.close(hospital, uid, PRIORITIES[lane])
                return Sent(number, hospital, lane, study.study_id, time.monotonic() - self.began)
            except (MeshError, grpc.RpcError):
                if time.monotonic() > limit:
                    raise
                time.sleep(1)


def renamed(dataset: Dataset, number: int) -> Dataset:
    """Return the same image under the UIDs and patient of study `number`."""
    # A whole copy: pydicom's own constructors share the elements.
    copy = deepcopy(dataset)
    copy.PatientID = f"LOAD-{number}"
    copy.StudyInstanceUID = dicom_uid("load", number, "study")
    copy.SeriesInstanceUID = dicom_uid("load", number, "series")
    copy.SOPInstanceUID = dicom_uid("load", number, dataset.SOPInstanceUID)
    copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
    return copy


def reports(mesh: Running, sent: Sent) -> list[str]:
    """Return the ids of all ReportReady events that the study gave, of all its revisions."""
    folder = mesh.layout.blobs / sent.hospital / sent.study_id
    kept = [
        HandledResult.FromString(path.read_bytes())
        for path in folder.glob("r*/handled/report/*.pb")
    ]
    return [output.event_id for result in kept for output in result.outputs]


def wait_for_all(mesh: Running, sent: Sequence[Sent], limit_seconds: float) -> list[StudyView]:
    """Return the studies as the console has them once all are done.

    Raises SystemExit naming those that are not.
    """
    limit = time.monotonic() + limit_seconds
    while True:
        views = {}
        try:
            for hospital in {one.hospital for one in sent}:
                views.update({view.study.study_id: view for view in mesh.views(hospital)})
        except grpc.RpcError:
            views = {}
        found = [views.get(one.study_id) for one in sent]
        done = [view for view in found if view and view.outcome == STUDY_OUTCOME_DONE]
        if len(done) == len(sent):
            return done
        if time.monotonic() > limit:
            open_ = [
                f"{one.study_id}: {view.reason if view else 'unknown to the console'}"
                for one, view in zip(sent, found, strict=True)
                if view is None or view.outcome != STUDY_OUTCOME_DONE
            ]
            sys.exit("not done in time:\n" + "\n".join(open_))
        time.sleep(0.5)


def turnaround(view: StudyView) -> float:
    """Return the seconds from the study's completeness to the report's end."""
    at = {stage.stage: stage.at.ToNanoseconds() / 1e9 for stage in view.stages}
    return at["report"] - at["ingest"]


def hop(alone: StudyView) -> float:
    """Return the mean wait of an event between two stages of a study that nothing held up."""
    return float(np.mean([stage.queue_seconds for stage in alone.stages if stage.stage in PATH]))


def load(
    mesh: Running, sender: Sender, count: int, a_minute: float, faults: Sequence[Fault], first: int
) -> list[Sent]:
    """Send `count` studies, some in bursts, with the faults between them."""
    rng = np.random.default_rng(7)
    gaps = rng.exponential(60 / a_minute * BURST / 2, count)
    chosen = lanes(rng, count, SHARES)
    waiting = list(faults)
    sender.began = time.monotonic()
    due = 0.0
    with ThreadPoolExecutor(4) as pool:
        coming = []
        for place in range(count):
            # Half of all studies come alone, half in bursts of one moment.
            due += gaps[place] if place % (2 * BURST) <= BURST else 0.0
            time.sleep(max(0.0, due - (time.monotonic() - sender.began)))
            coming.append(pool.submit(sender.send, first + place, chosen[place]))
            while waiting and (place + 1) / count >= waiting[0].after:
                fault = waiting.pop(0)
                print(f"{time.monotonic() - sender.began:6.0f} s  {fault.name}", flush=True)
                fault.begin(mesh)
        return [one.result() for one in coming]


def slopes(notes: Sequence[tuple[float, dict[str, int]]]) -> dict[str, float]:
    """Return by process how its memory grows, MiB an hour, over the second half of the notes."""
    half = notes[len(notes) // 2 :]
    found = {}
    for name in half[-1][1]:
        rows = [(at, sizes[name]) for at, sizes in half if name in sizes]
        if len(rows) > 2:
            at, size = np.array(rows).T
            found[name] = float(np.polyfit(at, size, 1)[0] * 3600 / 1024**2)
    return found


def main() -> int:
    """Print what was found; return 1 when a study has not exactly one report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--rate", type=float, default=6.0, help="studies a minute")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("out/bench/load.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lungmesh-load-") as name:
        folder = Path(name)
        write_small_case(folder / "case", "LOAD", "load", keep_every=2)
        case = [pydicom.dcmread(path) for path in sorted((folder / "case").iterdir())]
        with running(folder / "data", lambda word: print(f"         {word}", flush=True)) as mesh:
            return run(mesh, case, options)


def run(mesh: Running, case: Sequence[Dataset], options: argparse.Namespace) -> int:
    """Warm the mesh, time a stat study alone, then load it."""
    sender = Sender(mesh, case)
    wait_for_all(mesh, [sender.send(0, "routine")], END_SECONDS)
    (alone,) = wait_for_all(mesh, [sender.send(1, "stat")], END_SECONDS)
    unloaded = turnaround(alone)
    faults = fault_plan.plan() if options.faults else []
    with watched(mesh) as memory:
        sent = load(mesh, sender, options.studies, options.rate, faults, first=2)
        views = wait_for_all(mesh, sent, END_SECONDS)
    doubled = [one for one in sent if len(reports(mesh, one)) != 1]
    show(sent, views, unloaded, faults)
    print("memory, MiB an hour:", ", ".join(f"{n} {s:+.0f}" for n, s in slopes(memory).items()))
    print(f"{len(sent) - len(doubled)} of {len(sent)} studies have exactly one report")
    keep(options.out, sent, views, options.rate, hop(alone))
    return int(bool(doubled))


def show(
    sent: Sequence[Sent], views: Sequence[StudyView], unloaded: float, faults: Sequence[Fault]
) -> None:
    """Print turnarounds by lane, and stat studies over the unloaded one."""
    if faults:
        print("faults: " + fault_plan.names(faults))
    print(f"a stat study alone: {unloaded:.1f} s")
    by_lane = {
        lane: [turnaround(view) for one, view in zip(sent, views, strict=True) if one.lane == lane]
        for lane in PRIORITIES
    }
    for lane, times in by_lane.items():
        if times:
            print(
                f"{lane:<9}{len(times):>4} studies  median {np.median(times):6.1f} s  "
                f"95 % {np.percentile(times, 95):6.1f} s"
            )
    longest = max(stage.handler_seconds for view in views for stage in view.stages)
    if stat := by_lane["stat"]:
        limit = STAT_LIMIT * unloaded + longest
        print(f"slowest stat: {max(stat):.1f} s; {STAT_LIMIT} x alone + longest task {limit:.1f} s")


def keep(
    path: Path, sent: Sequence[Sent], views: Sequence[StudyView], rate: float, hop_seconds: float
) -> None:
    """Write the record that the model is compared with."""
    steps = zip((None, *PATH), PATH, strict=False)
    seconds = [
        {stage.stage: stage.handler_seconds for stage in view.stages if stage.stage in PATH}
        for view in views
    ]
    record = {
        "load": rate,
        "hop_seconds": hop_seconds,
        "last_stage": PATH[-1],
        "shapes": [asdict(StageShape(name, before, 1, 1, 1)) for before, name in steps],
        "studies": [
            {
                "study": one.study_id,
                "arrival": one.arrival,
                "lane": one.lane,
                "handler_seconds": took,
                "turnaround": turnaround(view),
            }
            for one, view, took in zip(sent, views, seconds, strict=True)
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    sys.exit(main())
