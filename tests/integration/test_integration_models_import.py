"""A bundle in MONAI's layout, imported by the command, finds balls through the real Triton."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from lungmesh.detection.settings import DetectionSettings
from lungmesh.detection.stage import DetectionStage
from lungmesh.embedded.models import user_folder
from lungmesh.mesh import Context
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.stage import run_stage
from lungmesh.v1.nodule_pb2 import NodulesDetected
from tests.support.foreign import write_bundle
from tests.support.mesh import lungmesh, require_embedded_wheels
from tests.support.networks import REDUCER, SEGMENTER, write_networks
from tests.support.phantom import Ball, phantom, received
from tests.support.triton import running_triton

BALLS = (Ball((4.0, 6.0, -26.0), 9.0), Ball((-6.0, -9.0, 25.0), 12.0))


def test_an_imported_bundle_finds_the_balls_of_a_phantom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_embedded_wheels()
    monkeypatch.delenv("LUNGMESH_MODELS", raising=False)
    data = tmp_path / "data"
    bundle = write_bundle(tmp_path / "bundle")
    ended = lungmesh("models", "import", bundle, "--data", data, "--json", limit_seconds=120)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    told = json.loads(ended.stdout.splitlines()[-1])
    # The reducer and the segmenter that work behind every detector.
    write_networks(user_folder(data))
    made = phantom(BALLS, noise_hu=10.0)
    case = received(tmp_path, made)
    with running_triton(data, limit_seconds=240) as address:
        settings = DetectionSettings(
            triton=address,
            network=told["name"],
            network_version=told["version"],
            reducer=REDUCER,
            segmenter=SEGMENTER,
            segmenter_version="1",
        )
        (event,) = asyncio.run(
            run_stage(DetectionStage(settings), case.ready, Context("event", case.blobs))
        )
    assert isinstance(event, NodulesDetected)
    grid = Grid.from_proto(case.ready.volume.geometry)
    for ball in BALLS:
        center = grid.to_lps(made.index(ball.at)[::-1])
        nearest = min(
            event.nodules,
            key=lambda nodule: float(np.linalg.norm(np.subtract(nodule.center_lps_mm, center))),
        )
        assert np.linalg.norm(np.subtract(nearest.center_lps_mm, center)) < 1.0
        assert nearest.measurement.mean_diameter_mm == pytest.approx(ball.diameter_mm, rel=0.15)
        assert (nearest.detector.name, nearest.detector.version) == (
            "tiny_nodule_ct_detection",
            "608",
        )
