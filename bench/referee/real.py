"""The real scans with what LIDC's readers marked in them."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bench.referee.cases import Case, Finding, Mask
from lungmesh.demo.case import write_case
from lungmesh.mesh import Context
from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.stage import run_stage
from lungmesh.preprocess.settings import PreprocessSettings
from lungmesh.preprocess.stage import PreprocessStage
from lungmesh.v1.volume_pb2 import VolumeReady
from models.training.simulation.hosts import Host, real_hosts
from models.training.simulation.lidc import SHARED, Annotation, clusters, read_annotations
from tests.support.preprocess import receive

# Findings of fewer readers are left out of the count, as neither hit nor miss.
LEAST_READERS = 2
# What readers marked elsewhere is ignored with this rim; the nodules that count have none of it.
_RIM_MM = 5.0
# Mean texture rating (1 ground glass, 3 part-solid, 5 solid) up to which a nodule is so called.
_GROUND_GLASS, _PART_SOLID = 2.0, 4.0


def real_cases(blobs: BlobStore, folder: Path) -> Iterator[tuple[Case, VolumeReady]]:
    """Give each shared scan with its truth, read by the real preprocess stage.

    Parameters
    ----------
    folder
        For the DICOM files, as they would come from the scanner.
    """
    for host in real_hosts():
        files = _dicom(host.name, folder / host.name)
        received = receive(blobs, files)
        (ready,) = asyncio.run(
            run_stage(PreprocessStage(PreprocessSettings()), received, Context("event", blobs))
        )
        assert isinstance(ready, VolumeReady)
        hu = read_array(blobs, ready.volume.hu)
        if not np.array_equal(hu, host.hu):
            raise ValueError(f"{host.name}: preprocess and the simulator read different voxels")
        lungs = read_array(blobs, ready.volume.lobes) > 0
        findings = tuple(_findings(host, ready.volume.geometry.origin_lps_mm[2]))
        yield (
            Case(
                name=host.name,
                simulated=False,
                hu=hu,
                lungs=lungs,
                spacing=host.spacing,
                slice_mm=host.slice_mm,
                findings=findings,
                ignore=_others(host, findings),
            ),
            ready,
        )


def consensus(group: list[Annotation], origin_z: float, shape: tuple[int, ...]) -> Mask:
    """Return where at least half of the readers who marked a nodule drew it, bool [z, y, x].

    Parameters
    ----------
    origin_z
        z of the volume's first slice, mm.
    shape
        Of the volume.
    """
    votes = np.zeros(shape, np.uint8)
    for one in group:
        votes[one.box(origin_z)] += one.mask
    half: Mask = 2 * votes.astype(int) >= len(group)
    return half


def _findings(host: Host, origin_z: float) -> Iterator[Finding]:
    for scan in read_annotations(host.name):
        for group in clusters(scan):
            if len(group) < LEAST_READERS:
                continue
            mask = consensus(group, origin_z, host.hu.shape)
            box = ndimage.find_objects(mask.view(np.uint8))[0]
            share: npt.NDArray[np.float32] = mask[box].astype(np.float32)
            z, y, x = np.argwhere(mask).mean(axis=0)
            volume = float(mask.sum()) * float(np.prod(host.spacing))
            texture = float(np.mean([one.ratings["texture"] for one in group]))
            kind = (
                "ground_glass"
                if texture <= _GROUND_GLASS
                else "part_solid"
                if texture < _PART_SOLID
                else "solid"
            )
            yield Finding(
                center_zyx=(z, y, x),
                diameter_mm=(6 / np.pi * volume) ** (1 / 3),
                kind=kind,
                box=(box[0], box[1], box[2]),
                total=share,
                # Readers drew no solid part.
                solid=share if kind == "solid" else np.zeros_like(share),
            )


def _others(host: Host, findings: tuple[Finding, ...]) -> Mask:
    """Return what readers marked beside the findings that count."""
    away = np.ones(host.hu.shape, bool)
    for finding in findings:
        away[finding.box] &= finding.total < 0.5
    near: Mask = ndimage.distance_transform_edt(away, sampling=host.spacing) <= 2 * _RIM_MM
    return host.ignore & ~near


def _dicom(patient: str, folder: Path) -> list[Path]:
    if patient == "LIDC-IDRI-0001":
        write_case(folder)
    else:
        with tarfile.open(SHARED / f"{patient}.tar.xz") as files:
            files.extractall(folder, filter="data")
    return sorted(folder.rglob("*.dcm"))
