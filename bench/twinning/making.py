"""Simulated patients made, their lungs found by preprocess, their exams laid over each other."""

from __future__ import annotations

import hashlib
import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.referee.run import ROOT
from bench.twinning.reading import Reader
from bench.twinning.records import ExamRecord, Nodule, PairRecord, PatientRecord, Place
from lungmesh.followup.laying import Limits, lay
from lungmesh.followup.registration import Exam
from lungmesh.mesh.geometry import Grid
from lungmesh.preprocess.coarse import coarsen
from lungmesh.preprocess.lobes import find_lobes
from lungmesh.preprocess.lungs import find_lungs
from models.training.simulation.hosts import real_hosts
from models.training.simulation.plant import TYPES
from models.training.simulation.shapes import Shape
from models.training.simulation.twins import TwinExam, moved, twin

# A nodule that the lung mask leaves out has the lobe that is nearest by, within this.
_NEAR_MM = 15.0

Labels = npt.NDArray[np.uint8]


def patient(
    seed: int, exams: int, shapes: Sequence[Shape], reader: Reader | None, cache: Path
) -> PatientRecord:
    """Return a simulated patient with all that can be judged; kept by seed and code.

    Parameters
    ----------
    reader
        Runs the detector; None leaves it out.
    """
    kind = "truth" if reader is None else f"found-{reader.fingerprint[:8]}"
    path = cache / f"twin-{seed}-{exams}-{kind}-{_fingerprint()[:12]}.json"
    if path.is_file():
        return PatientRecord.read(path)
    hosts = real_hosts()
    scans = twin(hosts[seed % len(hosts)], shapes, seed, exams)
    lobes = [_lobes(scan) for scan in scans]
    records = [
        _record(scan, labels, number, reader)
        for number, (scan, labels) in enumerate(zip(scans, lobes, strict=True))
    ]
    pairs = [_pair(scans, lobes, records, number, number + 1) for number in range(len(scans) - 1)]
    record = PatientRecord(f"twin {seed}", tuple(records), tuple(pairs))
    record.write(path)
    return record


def times(seed: int, shapes: Sequence[Shape]) -> list[tuple[float, float, float]]:
    """Lay one pair over each other on coarser and finer voxels.

    Returns million voxels of both exams, seconds, peak MiB; the finer voxels are repeated ones.
    """
    hosts = real_hosts()
    scans = twin(hosts[seed % len(hosts)], shapes, seed)
    whole = [Exam(scan.hu, _lobes(scan), scan.grid) for scan in scans]
    out = []
    for every, repeat in ((4, 1), (2, 1), (1, 1), (1, 2)):
        exams = [_other_voxels(exam, every, repeat) for exam in whole]
        _, seconds, _, peak = laid(exams[0], exams[1], {}, {}, {})
        out.append((sum(exam.lobes.size for exam in exams) / 1e6, seconds, peak))
    return out


def _other_voxels(exam: Exam, every: int, repeat: int) -> Exam:
    """Return every n-th voxel in the plane, or each one repeated along y."""
    assert exam.hu is not None
    hu = np.repeat(exam.hu[:, ::every, ::every], repeat, axis=1)
    lobes = np.repeat(exam.lobes[:, ::every, ::every], repeat, axis=1)
    x, y, z = exam.grid.spacing
    height, width = hu.shape[1:]
    grid = Grid(
        (width, height, hu.shape[0]),
        (x * every, y * every / repeat, z),
        exam.grid.origin,
        exam.grid.direction,
    )
    return Exam(hu, lobes, grid)


def laid(
    earlier: Exam,
    current: Exam,
    earlier_centers: Mapping[str, Place],
    current_centers: Mapping[str, Place],
    diameters: Mapping[str, float],
) -> tuple[str, float, float, float]:
    """Lay two exams over each other in a process of its own.

    Returns the laying as JSON, seconds, seconds of processors, and the peak memory in MiB.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, exam in (("then", earlier), ("now", current)):
            assert exam.hu is not None
            np.save(f"{folder}/{name}-hu.npy", exam.hu)
            np.save(f"{folder}/{name}-lobes.npy", exam.lobes)
        work = (folder, earlier.grid, current.grid, earlier_centers, current_centers, diameters)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_lay, work)


def _lay(
    folder: str,
    then: Grid,
    now: Grid,
    earlier_centers: Mapping[str, Place],
    current_centers: Mapping[str, Place],
    diameters: Mapping[str, float],
) -> tuple[str, float, float, float]:
    exams = [
        Exam(np.load(f"{folder}/{name}-hu.npy"), np.load(f"{folder}/{name}-lobes.npy"), grid)
        for name, grid in (("then", then), ("now", now))
    ]
    start, used = time.perf_counter(), time.process_time()
    laying = lay(
        exams[0], exams[1], earlier_centers, current_centers, Limits(), diameters=diameters
    )
    seconds, processors = time.perf_counter() - start, time.process_time() - used
    return laying.to_json(), seconds, processors, _peak_mib()


def _peak_mib() -> float:
    """Return this process's own high-water mark: ru_maxrss also counts what it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _lobes(scan: TwinExam) -> Labels:
    coarse = coarsen(scan.hu, scan.grid)
    labels, _ = find_lobes(coarse, find_lungs(coarse))
    return coarse.to_full(labels)


def _record(scan: TwinExam, lobes: Labels, number: int, reader: Reader | None) -> ExamRecord:
    truth = [
        Nodule(
            nodule_id=f"truth-{number}-{name}",
            name=name,
            center=scan.center(name),
            mean_diameter_mm=planted.diameter_mm,
            volume_mm3=planted.volume_mm3,
            type=TYPES[planted.kind],
            lobe=_lobe(lobes, planted.center_zyx, scan.spacing),
        )
        for name, planted in scan.nodules.items()
    ]
    found = None
    if reader is not None:
        found = tuple(
            Nodule(
                nodule_id=f"found-{number}-{place}",
                name=one.hit,
                center=_triple(scan.grid.to_lps(one.center_zyx[::-1])),
                mean_diameter_mm=one.mean_diameter_mm,
                volume_mm3=one.volume_mm3,
                type=one.type,
                lobe=_lobe(lobes, one.center_zyx, scan.spacing),
            )
            for place, one in enumerate(reader.read_exam(scan))
        )
    technique = f"{scan.kernel}{' low dose' if scan.low_dose else ''} {scan.slice_mm:g} mm"
    return ExamRecord(
        name=scan.name,
        days=scan.days,
        breath_mm=scan.breath_mm,
        technique=technique,
        hidden=tuple(sorted(scan.hidden)),
        truth=tuple(truth),
        found=found,
    )


def _pair(
    scans: Sequence[TwinExam],
    lobes: Sequence[Labels],
    records: Sequence[ExamRecord],
    earlier: int,
    current: int,
) -> PairRecord:
    numbers = earlier, current
    exams = [Exam(scans[n].hu, lobes[n], scans[n].grid) for n in numbers]
    known = [(*records[n].truth, *(records[n].found or ())) for n in numbers]
    centers = [{one.nodule_id: one.center for one in nodules} for nodules in known]
    diameters = {one.nodule_id: one.mean_diameter_mm for nodules in known for one in nodules}
    places: dict[str, Place] = {}
    outside: dict[str, float] = {}
    for start, end, here in ((earlier, current, centers[0]), (current, earlier, centers[1])):
        for name, center in here.items():
            places[name] = _triple(moved(center, scans[start], scans[end]))
            outside[name] = _outside(places[name], scans[end].grid)
    laying, seconds, processors, peak = laid(exams[0], exams[1], centers[0], centers[1], diameters)
    return PairRecord(
        earlier=earlier,
        current=current,
        laying=laying,
        seconds=seconds,
        processor_seconds=processors,
        peak_mib=peak,
        million_voxels=sum(scans[n].hu.size for n in numbers) / 1e6,
        places=places,
        outside_mm=outside,
    )


def _outside(place: Place, grid: Grid) -> float:
    index = grid.to_index(place)
    beyond = np.maximum(-0.5 - index, index - (np.asarray(grid.size) - 0.5))
    return float((beyond * grid.spacing).max())


def _lobe(lobes: Labels, center: Sequence[float], spacing: Sequence[float]) -> int:
    box = tuple(
        slice(max(0, round(at - _NEAR_MM / mm)), round(at + _NEAR_MM / mm) + 1)
        for at, mm in zip(center, spacing, strict=True)
    )
    inside = lobes[box]
    places = np.argwhere(inside)
    if not len(places):
        return 0
    low = np.array([part.start for part in box])
    away = ((places + low - np.asarray(center)) * spacing) ** 2
    z, y, x = places[int(away.sum(axis=1).argmin())]
    return int(inside[z, y, x])


def _triple(place: npt.ArrayLike) -> Place:
    x, y, z = np.asarray(place, float).tolist()
    return x, y, z


def _fingerprint() -> str:
    """Return a digest of the code that a patient's record depends on."""
    folders = ("models/training/simulation", "services/lungmesh/preprocess")
    parts = [path for folder in folders for path in sorted((ROOT / folder).glob("*.py"))]
    followup = ROOT / "services" / "lungmesh" / "followup"
    parts += [
        followup / f"{name}.py"
        for name in ("deformation", "exam", "laying", "registration", "shown")
    ]
    digest = hashlib.sha256()
    for path in (*parts, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()
