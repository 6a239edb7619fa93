"""One made-up exam a run; tests read it and never change it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pydicom.dataset import Dataset

from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.headers import read_headers
from lungmesh.report.content import Content
from lungmesh.report.facts import from_event
from lungmesh.report.keyimages import Box
from lungmesh.v1.followup_pb2 import FollowupUpdated
from tests.support.report import Case, followup, made_up_case


@dataclass(frozen=True)
class Exam:
    """An event, its facts, and the arrays behind it."""

    case: Case
    event: FollowupUpdated
    headers: list[Dataset]
    content: Content
    masks: dict[int, Box]
    grid: Grid


@pytest.fixture(scope="session")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Exam:
    """Two nodules, the first grown since a prior exam."""
    case = made_up_case(tmp_path_factory.mktemp("report"))
    event = followup(case)
    headers = read_headers(case.blobs, case.ready.volume.headers)
    masks = {}
    for nodule in event.nodules:
        x, y, z = nodule.mask.offset
        masks[nodule.number] = Box(read_array(case.blobs, nodule.mask.voxels), (x, y, z))
    return Exam(
        case,
        event,
        headers,
        from_event(event, headers),
        masks,
        Grid.from_proto(case.ready.volume.geometry),
    )
