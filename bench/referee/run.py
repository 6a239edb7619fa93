"""Cases through the real detection stage on a real Triton, and what comes out against the truth."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from bench.referee.cases import Case, Finding, Triple, sides
from bench.referee.measures import Errors, Sizes, compare
from bench.referee.results import ScanResult
from bench.referee.scoring import score_scan
from lungmesh.detection.settings import DetectionSettings
from lungmesh.detection.stage import DetectionStage
from lungmesh.embedded.memory import MemorySampler
from lungmesh.mesh import Context
from lungmesh.mesh.arrays import read_array, write_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.headers import write_headers
from lungmesh.mesh.ids import deterministic_id, dicom_uid
from lungmesh.mesh.settings import load
from lungmesh.mesh.stage import run_stage
from lungmesh.preprocess.findings import Severity
from lungmesh.preprocess.noise import tissue_noise_hu
from lungmesh.preprocess.quality import LungFacts, judge_headers, judge_lungs, judge_noise
from lungmesh.v1 import nodule_pb2, study_pb2, volume_pb2
from models.training.simulation.plant import TYPES
from tests.support.triton import running_triton

ROOT = Path(__file__).resolve().parents[2]
# Enough marks for 8 false positives a scan beside every nodule.
MOST_MARKS = 64
_LIMIT_SECONDS = 3600.0
# Modules whose change makes kept results stale.
_JUDGES = ("cases", "measures", "run", "scoring")


class Referee:
    """Reads cases while the block lasts; starts Triton at the first one it has not read before.

    Every mark is kept: the least score is 0 and at most MOST_MARKS come a scan. The networks are
    those of the environment (`LUNGMESH_DETECTION__NETWORK_VERSION` and the like).
    """

    def __init__(self, cache: Path | None) -> None:
        """`cache` keeps results by voxels, networks and code; None reads everything anew."""
        self._cache = cache
        self._stack = ExitStack()
        self._address: str | None = None
        self._memory = MemorySampler(_tritons)
        self.shipped = load(DetectionSettings)
        self._code = _fingerprint()

    def __enter__(self) -> Self:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._folder = folder
        self.blobs = BlobStore(f"file://{folder}/blobs")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def triton_peak_mib(self) -> float | None:
        """Triton's largest memory so far with its helpers (PSS), MiB; None while it never ran."""
        return round(self._memory.peak_pss_bytes / 2**20) if self._address else None

    def read(self, case: Case, ready: volume_pb2.VolumeReady | None = None) -> ScanResult:
        """Run the detection stage over a case and judge it.

        Parameters
        ----------
        ready
            What preprocess made of the scan; without it the event is made of the case's voxels, and
            its lungs stand for the lobes.
        """
        ready = ready or self._event(case)
        voxels = ready.volume.hu.sha256, ready.volume.lobes.sha256
        told = [*voxels, self._code, str(self.shipped), case.name, str(case.truths())]
        key = hashlib.sha256("\n".join(told).encode()).hexdigest()
        kept = self._cache / f"{key[:32]}.json" if self._cache is not None else None
        if kept is not None and kept.is_file():
            return ScanResult.from_json(json.loads(kept.read_text()))
        result = self._detect(case, ready)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(result.to_json()))
        return result

    def detected(
        self, ready: volume_pb2.VolumeReady, **changed: object
    ) -> tuple[nodule_pb2.NodulesDetected, float]:
        """Run the detection stage and return its event and seconds.

        Parameters
        ----------
        changed
            Settings that differ from the shipped ones.
        """
        if self._address is None:
            self._address = self._stack.enter_context(running_triton(self._folder / "triton"))
            self._memory.start()
            self._stack.callback(self._memory.stop)
        settings = self.shipped.model_copy(
            update={
                "triton": self._address,
                "deadline_seconds": _LIMIT_SECONDS,
                "request_seconds": _LIMIT_SECONDS,
                **changed,
            }
        )
        stage = DetectionStage(settings)
        start = time.perf_counter()
        (event,) = asyncio.run(run_stage(stage, ready, Context("event", self.blobs)))
        seconds = time.perf_counter() - start
        assert isinstance(event, nodule_pb2.NodulesDetected)
        return event, seconds

    def _detect(self, case: Case, ready: volume_pb2.VolumeReady) -> ScanResult:
        event, seconds = self.detected(
            ready,
            least_score=0.0,
            most_nodules=MOST_MARKS,
            # One version is judged, whatever else the environment runs beside it.
            canary_version=None,
            shadow_version=None,
        )
        grid = Grid.from_proto(ready.volume.geometry)
        nodules = list(event.nodules)
        marks = [case.mark(_index(one, grid), one.detection_score) for one in nodules]
        score = score_scan(case.truths(), marks)
        least = self.shipped.least_score
        hit = [one.score is not None and one.score >= least for one in score.outcomes]
        errors = [
            self._compare(case, finding, nodules[outcome.mark])
            for finding, outcome in zip(case.findings, score.outcomes, strict=True)
            if outcome.mark is not None
        ]
        return ScanResult(
            name=case.name,
            score=score,
            errors=tuple(one for one in errors if one is not None),
            seconds=seconds,
            at_threshold=(sum(hit), sum(one >= least for one in score.false)),
            models=tuple(f"{model.name} {model.version}" for model in event.models),
            warnings=_warnings(case, ready),
        )

    def _compare(self, case: Case, finding: Finding, nodule: nodule_pb2.Nodule) -> Errors | None:
        voxels = read_array(self.blobs, nodule.mask.voxels) > 0
        offset = tuple(nodule.mask.offset[::-1])
        low = [min(s.start, at) for s, at in zip(finding.box, offset, strict=True)]
        high = [
            max(s.stop, at + n) for s, at, n in zip(finding.box, offset, voxels.shape, strict=True)
        ]
        shape = [b - a for a, b in zip(low, high, strict=True)]
        mask = np.zeros(shape, bool)
        mask[_within(offset, voxels.shape, low)] = voxels
        shares = []
        for share in (finding.total, finding.solid):
            whole = np.zeros(shape, np.float32)
            whole[_within([s.start for s in finding.box], share.shape, low)] = share
            shares.append(whole)
        size = nodule.measurement
        return compare(
            finding.kind,
            finding.diameter_mm,
            shares[0],
            shares[1],
            mask,
            Sizes(
                size.volume_mm3,
                size.mean_diameter_mm,
                size.solid_volume_mm3,
                size.solid_mean_diameter_mm,
            ),
            nodule.type == TYPES[finding.kind],
            case.spacing,
        )

    def _event(self, case: Case) -> volume_pb2.VolumeReady:
        """Return the event that preprocess would have given."""
        study = study_pb2.StudyRef(
            tenant="bench",
            patient=deterministic_id("patient", case.name),
            study_id=deterministic_id("study", case.name),
            revision=1,
            priority=study_pb2.PRIORITY_ROUTINE,
        )
        uid = dicom_uid("bench", case.name, "series")
        grid = grid_of(case)
        return volume_pb2.VolumeReady(
            study=study,
            study_instance_uid=dicom_uid("bench", case.name, "study"),
            series_choice=volume_pb2.SeriesChoice(
                chosen=volume_pb2.SeriesVerdict(series_instance_uid=uid, reason="the only one")
            ),
            volume=volume_pb2.Volume(
                series_instance_uid=uid,
                geometry=grid.to_proto(),
                # One key for every case: the one before is no longer needed.
                hu=write_array(self.blobs, "bench/hu", case.hu),
                lobes=write_array(self.blobs, "bench/lobes", sides(case.lungs)),
                headers=write_headers(self.blobs, "bench/headers.zip", _headers(case)),
                acquisition=volume_pb2.Acquisition(slice_thickness_mm=case.slice_mm),
            ),
            lung_volume_ml=float(case.lungs.sum()) * grid.voxel_volume_mm3 / 1000,
            models=[volume_pb2.ModelVersion(name="simulator", version="1")],
        )


def grid_of(case: Case) -> Grid:
    """Return the case's grid with its first voxel at the origin."""
    z, y, x = case.hu.shape
    return Grid(
        size=(x, y, z),
        spacing=case.spacing[::-1],
        origin=(0.0, 0.0, 0.0),
        direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    )


def _index(nodule: nodule_pb2.Nodule, grid: Grid) -> Triple:
    x, y, z = grid.to_index(list(nodule.center_lps_mm)).tolist()
    return z, y, x


def _within(start: Iterable[int], shape: Iterable[int], low: Iterable[int]) -> tuple[slice, ...]:
    return tuple(slice(a - b, a - b + n) for a, n, b in zip(start, shape, low, strict=True))


def _headers(case: Case) -> list[Dataset]:
    headers = []
    for z in range(case.hu.shape[0]):
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.SOPClassUID = CTImageStorage
        header.SOPInstanceUID = dicom_uid("bench", case.name, "slice", z)
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.SliceThickness = f"{case.slice_mm:.3f}"
        header.KVP = "120"
        headers.append(header)
    return headers


def _warnings(case: Case, ready: volume_pb2.VolumeReady) -> tuple[str, ...]:
    """Return the codes of the quality rules that warn of the scan."""
    if ready.qc_findings:
        found = [(one.code, int(one.severity)) for one in ready.qc_findings]
    else:
        voxel_ml = float(np.prod(case.spacing)) / 1000
        labels = sides(case.lungs)
        z_mm, y_mm, x_mm = case.spacing
        lungs = case.lungs
        facts = LungFacts(
            right_ml=float((labels == 1).sum()) * voxel_ml,
            left_ml=float((labels == 4).sum()) * voxel_ml,
            end_area_mm2=float(max(lungs[0].sum(), lungs[-1].sum())) * y_mm * x_mm,
            side_area_mm2=max(
                float(max(lungs[:, 0].sum(), lungs[:, -1].sum())) * z_mm * x_mm,
                float(max(lungs[:, :, 0].sum(), lungs[:, :, -1].sum())) * z_mm * y_mm,
            ),
        )
        judged = [
            *judge_headers(_headers(case), grid_of(case)),
            *judge_noise(tissue_noise_hu(case.hu, y_mm)),
            *judge_lungs(facts),
        ]
        found = [(one.code, int(one.severity)) for one in judged]
    return tuple(sorted({code for code, severity in found if severity >= Severity.WARN}))


def _tritons() -> list[int]:
    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "triton" in child.name()]


def _fingerprint() -> str:
    """Return a digest of what the result depends on beside the voxels: networks and code."""
    parts = [
        *sorted((ROOT / "models").rglob("*.onnx")),
        *sorted((ROOT / "models").rglob("card.json")),
        *sorted((ROOT / "services" / "lungmesh" / "detection").glob("*.py")),
        *(
            Path(__file__).with_name(f"{name}.py")
            for name in ("cases", "measures", "run", "scoring")
        ),
    ]
    digest = hashlib.sha256()
    for path in parts:
        digest.update(f"{path.relative_to(ROOT)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
