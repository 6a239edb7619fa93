"""The whole stage on a real Triton with analytic networks: phantoms in, measured nodules out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from lungmesh.detection import shared_memory
from lungmesh.detection.settings import DetectionSettings
from lungmesh.detection.stage import DetectionStage
from lungmesh.embedded.models import user_folder
from lungmesh.mesh import Context, Unavailable
from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.stage import run_stage
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import Nodule, NodulesDetected
from tests.support.broker import free_port
from tests.support.mesh import require_embedded_wheels
from tests.support.networks import DETECTOR, REDUCER, SEGMENTER, write_networks
from tests.support.phantom import Ball, Phantom, phantom, received
from tests.support.report import Case
from tests.support.triton import running_triton

SOLID = Ball((0.3, -10.2, -28.1), 10.0)
SMALL = Ball((4.0, 12.3, -36.0), 6.0)
GLASS, CORE = Ball((0.4, -9.0, 27.2), 16.0, -600.0), Ball((0.4, -9.0, 27.2), 8.0, 40.0)
DENSE = Ball((-6.1, 15.0, 22.0), 8.0, 500.0)
MADE = (SOLID, SMALL, GLASS, CORE, DENSE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    require_embedded_wheels()
    root = tmp_path_factory.mktemp("triton")
    write_networks(user_folder(root), ("1", "2"))
    with running_triton(root) as address:
        yield address


@pytest.fixture(scope="module")
def made() -> Phantom:
    return phantom(MADE, noise_hu=10.0)


@pytest.fixture(scope="module")
def case(made: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return received(tmp_path_factory.mktemp("case"), made)


def settings(address: str, **changed: object) -> DetectionSettings:
    return DetectionSettings.model_validate(
        {
            "triton": address,
            "network": DETECTOR,
            "network_version": "1",
            "segmenter_version": "1",
            "reducer": REDUCER,
            "segmenter": SEGMENTER,
            "least_score": 0.5,
            **changed,
        }
    )


def detect(
    case: Case, address: str, registry: CollectorRegistry | None = None, **changed: object
) -> NodulesDetected:
    stage = DetectionStage(settings(address, **changed), registry)
    (event,) = asyncio.run(run_stage(stage, case.ready, Context("event", case.blobs)))
    assert isinstance(event, NodulesDetected)
    return event


def text(event: NodulesDetected) -> bytes:
    return event.SerializeToString(deterministic=True)


@pytest.fixture(scope="module")
def found(case: Case, server: str) -> NodulesDetected:
    return detect(case, server)


def at(event: NodulesDetected, made: Phantom, ball: Ball) -> Nodule:
    """Return the one nodule at a ball."""
    grid = Grid.from_proto(event.exam.volume.geometry)
    center = grid.to_lps(made.index(ball.at)[::-1])
    (nodule,) = (
        nodule
        for nodule in event.nodules
        if np.linalg.norm(np.subtract(nodule.center_lps_mm, center)) < ball.diameter_mm / 2
    )
    assert np.linalg.norm(np.subtract(nodule.center_lps_mm, center)) < 0.3
    return nodule


@pytest.mark.parametrize(
    ("ball", "type_", "lobe"),
    [
        (SOLID, nodule_pb2.NODULE_TYPE_SOLID, nodule_pb2.LOBE_RIGHT_UPPER),
        (SMALL, nodule_pb2.NODULE_TYPE_SOLID, nodule_pb2.LOBE_RIGHT_UPPER),
        (GLASS, nodule_pb2.NODULE_TYPE_PART_SOLID, nodule_pb2.LOBE_LEFT_LOWER),
        (DENSE, nodule_pb2.NODULE_TYPE_CALCIFIED, nodule_pb2.LOBE_LEFT_LOWER),
    ],
)
def test_each_ball_is_found_where_it_lies_as_large_as_it_is_and_typed(
    found: NodulesDetected,
    made: Phantom,
    ball: Ball,
    type_: nodule_pb2.NoduleType.ValueType,
    lobe: nodule_pb2.Lobe.ValueType,
) -> None:
    nodule = at(found, made, ball)
    assert nodule.type == type_
    assert nodule.lobe == lobe
    assert nodule.measurement.mean_diameter_mm == pytest.approx(ball.diameter_mm, rel=0.06)
    # Above 40 HU the analytic segmenter takes what is blurred for whole: calcium reads too large.
    assert nodule.measurement.volume_mm3 == pytest.approx(
        np.pi / 6 * ball.diameter_mm**3, rel=0.25 if ball is DENSE else 0.1
    )
    if ball is GLASS:
        solid = nodule.measurement.solid_mean_diameter_mm
        assert solid == pytest.approx(CORE.diameter_mm, rel=0.08)


def test_the_event_says_who_found_them_and_in_which_order(found: NodulesDetected) -> None:
    assert [model.name for model in found.models[:3]] == [DETECTOR, REDUCER, SEGMENTER]
    assert {model.name for model in found.models[3:]} == {
        "nodule-region",
        "nodule-measurements",
        "nodule-type",
    }
    scores = [nodule.detection_score for nodule in found.nodules]
    assert scores == sorted(scores, reverse=True)
    assert [nodule.number for nodule in found.nodules] == list(range(1, len(scores) + 1))
    assert {nodule.detector.name for nodule in found.nodules} == {DETECTOR}


def test_masks_on_the_cts_grid_have_place_and_size_of_the_measurements(
    found: NodulesDetected, case: Case
) -> None:
    grid = Grid.from_proto(case.ready.volume.geometry)
    for nodule in found.nodules:
        mask = read_array(case.blobs, nodule.mask.voxels)
        assert mask.shape == tuple(nodule.mask.size)[::-1]
        voxels = np.argwhere(mask > 0)[:, ::-1] + np.asarray(nodule.mask.offset)
        middle = grid.to_lps(voxels).mean(axis=0)
        assert np.linalg.norm(middle - nodule.center_lps_mm) < 0.5
        assert (mask > 0).sum() * grid.voxel_volume_mm3 == pytest.approx(
            nodule.measurement.volume_mm3, rel=0.15
        )
        ends = np.reshape(nodule.measurement.long_axis_lps_mm, (2, 3))
        assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(
            nodule.measurement.long_axis_mm, abs=0.01
        )
        assert grid.to_index(ends)[:, 2] == pytest.approx(nodule.slice_index, abs=1e-3)


def test_with_and_without_shared_memory_the_same_bytes_and_nothing_left_behind(
    found: NodulesDetected, case: Case, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert text(detect(case, server)) == text(found)
    assert "gRPC" not in caplog.text
    assert text(detect(case, server, shared_memory="off")) == text(found)
    left = [name for name in os.listdir("/dev/shm") if name.startswith(f"lungmesh-{os.getpid()}-")]
    assert left == []


def test_a_study_given_up_midway_leaves_triton_whole(
    found: NodulesDetected, case: Case, server: str
) -> None:
    # However far it gets: what Triton still works on must not be taken from it.
    for seconds in (0.1, 0.5, 1.0):
        with contextlib.suppress(Unavailable):
            detect(case, server, deadline_seconds=seconds, in_flight=6)
    assert text(detect(case, server)) == text(found)


def test_where_triton_cannot_map_the_memory_a_log_line_says_so_and_grpc_serves(
    found: NodulesDetected,
    case: Case,
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # As in another container: what is made here, Triton does not see.
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path)
    with caplog.at_level(logging.INFO):
        assert text(detect(case, server)) == text(found)
    assert "cannot share memory" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_canary_reads_its_studies_and_the_other_reading_is_kept(
    found: NodulesDetected, case: Case, server: str
) -> None:
    event = detect(case, server, canary_version="2", canary_share=1.0)
    assert {nodule.detector.version for nodule in event.nodules} == {"2"}
    assert [model.version for model in event.models[:3]] == ["2", "1", "1"]
    # Version 2 is half as sure.
    assert event.nodules[0].detection_score == pytest.approx(
        found.nodules[0].detection_score / np.sqrt(2), rel=0.01
    )
    kept = reading_of(case, "in-service-1-1-1")
    assert kept["models"][0] == {"name": DETECTOR, "version": "1"}
    assert [one["detection_score"] for one in kept["nodules"]] == [
        nodule.detection_score for nodule in found.nodules
    ]
    assert text(detect(case, server, canary_version="2", canary_share=0.0)) == text(found)


def reading_of(case: Case, name: str) -> dict[str, Any]:
    study = case.ready.study
    key = f"{study.tenant}/{study.study_id}/r{study.revision}/detection/{name}.json"
    content: dict[str, Any] = json.loads(case.blobs.get_key(key))
    return content


def test_a_shadow_reads_along_and_changes_nothing(
    found: NodulesDetected, case: Case, server: str
) -> None:
    registry = CollectorRegistry()
    assert text(detect(case, server, registry, shadow_version="2")) == text(found)
    kept = reading_of(case, "shadow-2-1-1")
    assert kept["models"][0] == {"name": DETECTOR, "version": "2"}
    both = registry.get_sample_value(
        "lungmesh_detection_compared_nodules_total",
        {"role": "shadow", "versions": "2-1-1", "result": "both"},
    )
    assert both == len(kept["nodules"]) == kept["agreement"]["both"] > 0


def test_a_shadow_that_is_not_there_holds_up_no_study(
    found: NodulesDetected, case: Case, server: str
) -> None:
    registry = CollectorRegistry()
    assert text(detect(case, server, registry, shadow_version="9")) == text(found)
    failed = registry.get_sample_value(
        "lungmesh_detection_failed_second_readings_total",
        {"role": "shadow", "versions": "9-1-1"},
    )
    assert failed == 1


def test_limits_hold(found: NodulesDetected, case: Case, server: str) -> None:
    event = detect(case, server, least_diameter_mm=7.0, most_nodules=2)
    assert len(event.nodules) == 2
    large = [n for n in found.nodules if n.measurement.mean_diameter_mm >= 7]
    assert [n.nodule_id for n in event.nodules] == [n.nodule_id for n in large[:2]]


def test_without_triton_or_a_network_the_event_is_tried_again_later(
    case: Case, server: str
) -> None:
    with pytest.raises(Unavailable, match="see that it runs"):
        detect(case, f"127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="model test_reducer version 7"):
        detect(case, server, reducer_version="7")


@pytest.mark.parametrize("lungs", [True, False])
def test_an_empty_chest_has_no_nodules(server: str, tmp_path: Path, lungs: bool) -> None:
    made = phantom([])
    if not lungs:
        made.lobes[:] = 0
    assert not detect(received(tmp_path, made), server, least_score=0.9).nodules
