"""A real CT and an earlier one of the same patient, both read by preprocess, then followed up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from lungmesh.followup.registration import register
from lungmesh.mesh.blobs import BlobStore
from lungmesh.v1 import followup_pb2, nodule_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated, GetTimelineRequest, TrackRequest
from lungmesh.v1.followup_pb2_grpc import FollowupServiceStub
from lungmesh.v1.volume_pb2 import VolumeReady
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess
from tests.support.mesh import require_embedded_wheels
from tests.support.nodules import a_nodule, an_assessed_exam
from tests.support.second_exam import Motion, current_exam, earlier_exam, exam_of

# Centre of the readers' nodule, and of a place in the other lung.
NODULE, OTHER = (56.2, 86.2, -115.9), (-70.0, 40.0, -150.0)
LAIN_ELSEWHERE = Motion((6.0, -9.0, 15.0), scale=1.03, turn=4.0)
# 15 mm of diaphragm are a usual difference of two breath-holds.
BREATHED_LESS = Motion((6.0, -9.0, 15.0), turn=3.0, breath_mm=15.0)


@dataclass(frozen=True)
class Exams:
    """The current exam, and an earlier one for each motion, in one blob store."""

    root: Path
    current: VolumeReady
    earlier: dict[Motion, VolumeReady]


@pytest.fixture(scope="module")
def exams(tmp_path_factory: pytest.TempPathFactory) -> Exams:
    require_embedded_wheels()
    root = tmp_path_factory.mktemp("second-exam")
    current = current_exam(root, "20210101")
    earlier = {
        motion: earlier_exam(root, name, "20200102", motion)
        for name, motion in (("elsewhere", LAIN_ELSEWHERE), ("less-air", BREATHED_LESS))
    }
    return Exams(root, current, earlier)


@pytest.mark.parametrize(("motion", "median_mm"), [(LAIN_ELSEWHERE, 1.5), (BREATHED_LESS, 2.0)])
def test_a_place_in_the_lungs_is_found_again(
    exams: Exams, motion: Motion, median_mm: float
) -> None:
    blobs = BlobStore(f"file://{exams.root}/blobs")
    then, now = (exam_of(blobs, ready) for ready in (exams.earlier[motion], exams.current))
    found = register(then, now)
    z, y, x = (axis[::997] for axis in np.nonzero(then.lobes))
    places = then.grid.to_lps(np.stack([x, y, z], axis=-1))
    truth = motion.to_current(places)
    forth = np.linalg.norm(found.to_current(places) - truth, axis=1)
    back = np.linalg.norm(found.to_earlier(truth) - places, axis=1)
    nodule = np.linalg.norm(found.to_current(motion.to_earlier(NODULE)) - np.asarray(NODULE))
    assert np.median(forth) < median_mm
    assert np.median(back) < median_mm
    assert nodule < 3.0
    assert found.method == followup_pb2.REGISTRATION_METHOD_DEFORMABLE
    assert found.dice > 0.95
    assert found.likeness is not None
    assert found.likeness > 0.7
    assert found.inverse_error_mm < 1.5


@pytest.fixture
def service(exams: Exams) -> Iterator[ServiceProcess]:
    broker = Broker()
    broker.start()
    process = ServiceProcess("lungmesh.mesh.serve", "followup", exams.root, broker.bootstrap)
    yield process
    process.kill()
    broker.kill()


async def test_by_grpc_the_nodule_is_tracked_and_a_repeat_changes_nothing(
    exams: Exams, service: ServiceProcess
) -> None:
    then, now = exams.earlier[BREATHED_LESS], exams.current
    before = an_assessed_exam(
        then.study,
        [
            a_nodule("then-1", BREATHED_LESS.to_earlier(NODULE).tolist(), 20.0),
            a_nodule("then-2", BREATHED_LESS.to_earlier(OTHER).tolist(), 6.0, number=2),
        ],
        then,
    )
    after = an_assessed_exam(now.study, [a_nodule("now-1", NODULE, 29.6)], now)
    await service.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
        stub = FollowupServiceStub(channel)

        async def track(event: nodule_pb2.NodulesAssessed) -> FollowupUpdated:
            answer = await stub.Track(TrackRequest(event=event), timeout=120)
            assert isinstance(answer.event, FollowupUpdated)
            return answer.event

        first, second = await track(before), await track(after)
        again = await track(after)
        timeline = await stub.GetTimeline(
            GetTimelineRequest(tenant=now.study.tenant, patient=now.study.patient), timeout=10
        )
        elsewhere = await stub.GetTimeline(
            GetTimelineRequest(tenant="another-hospital", patient=now.study.patient), timeout=10
        )
    (nodule,) = second.nodules
    (match,) = nodule.tracking.priors
    (prior,) = second.priors
    assert prior.registered
    assert prior.method == followup_pb2.REGISTRATION_METHOD_DEFORMABLE
    assert prior.interval_days == 365
    assert list(prior.resolved_nodule_ids) == [first.nodules[1].nodule_id]
    assert nodule.tracking.tracking_uid == first.nodules[0].tracking.tracking_uid
    assert nodule.tracking.growth == nodule_pb2.GROWTH_CLASS_GROWING
    assert nodule.tracking.outcome == nodule_pb2.MATCH_OUTCOME_SAME
    assert match.distance_mm < 3.0
    assert match.diameter_change_mm == pytest.approx(9.6)
    assert nodule.categories[0].category == "4B"
    # The same exam again finds itself in the database, and is not its own prior.
    assert again.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )
    assert [exam.study.study_id for exam in timeline.exams] == [
        first.study.study_id,
        second.study.study_id,
    ]
    assert not elsewhere.exams
