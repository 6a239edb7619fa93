"""The stage keeps its recommendation, and the servicer finds it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from lungmesh.mdt.service import MdtStage, read_recommendation
from lungmesh.mdt.settings import MdtSettings
from lungmesh.mesh import Context
from lungmesh.mesh.blobs import BlobMissing, BlobStore
from lungmesh.mesh.stage import run_stage
from lungmesh.v1.mdt_pb2 import MdtRecommended
from tests.support.mdt import STUDY_ID, followed_up, nodule


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(f"file://{tmp_path}")


async def recommend(blobs: BlobStore, revision: int, long_axis_mm: float) -> MdtRecommended:
    event = followed_up(nodule(long_axis_mm=long_axis_mm), revision=revision)
    (output,) = await run_stage(MdtStage(MdtSettings()), event, Context("e", blobs))
    assert isinstance(output, MdtRecommended)
    return output


async def test_revision_0_is_the_newest_of_several(blobs: BlobStore) -> None:
    kept = {number: await recommend(blobs, number, 10.0 + number) for number in (1, 2, 10)}
    assert read_recommendation(blobs, "hospital", STUDY_ID, 0) == kept[10]
    assert read_recommendation(blobs, "hospital", STUDY_ID, 2) == kept[2]


async def test_a_repeat_keeps_the_same_bytes(blobs: BlobStore) -> None:
    assert await recommend(blobs, 1, 12.0) == await recommend(blobs, 1, 12.0)
    assert len(list(blobs.keys("hospital/"))) == 1


@pytest.mark.parametrize("revision", [0, 3])
async def test_a_study_without_one_is_missing(blobs: BlobStore, revision: int) -> None:
    await recommend(blobs, 1, 12.0)
    other = STUDY_ID if revision else STUDY_ID.replace("a", "b")
    with pytest.raises(BlobMissing):
        read_recommendation(blobs, "hospital", other, revision)


async def test_another_tenant_cannot_read_it(blobs: BlobStore) -> None:
    await recommend(blobs, 1, 12.0)
    with pytest.raises(BlobMissing):
        read_recommendation(blobs, "clinic", STUDY_ID, 0)
