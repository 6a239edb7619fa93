"""The follow-up service as a process, on a real broker, on SQLite and PostgreSQL."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from lungmesh.v1 import nodule_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated, GetTimelineRequest
from lungmesh.v1.followup_pb2_grpc import FollowupServiceStub
from lungmesh.v1.nodule_pb2 import Nodule, NodulesAssessed
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, Tap, tap, until
from tests.support.followup import assessed
from tests.support.preprocess import TENANT

OUT = "followup.updated.routine"
# Of two pairs, on a machine that does other work too.
REGISTRATION_SECONDS = 120


@pytest.fixture(params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest, broker: Broker, tmp_path: Path
) -> Iterator[ServiceProcess]:
    database = {}
    if request.param == "postgresql":
        database["LUNGMESH_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    process = ServiceProcess(
        "lungmesh.mesh.serve", "followup", tmp_path, broker.bootstrap, **database
    )
    yield process
    process.kill()


@pytest.fixture
def patient() -> str:
    """Another patient for each test: the PostgreSQL server outlives it."""
    return str(uuid.uuid4())


async def followed(line: Tap, event: NodulesAssessed) -> FollowupUpdated:
    """Publish an exam and return what follows."""
    seen = len(line.records)
    await line.publish(event)
    await until(lambda: len(line.records) > seen, REGISTRATION_SECONDS, "the exam is followed up")
    return FollowupUpdated.FromString(line.records[-1].value)


def lung_rads(nodule: Nodule) -> str:
    return next(c.category for c in nodule.categories if c.guideline.name == "Lung-RADS")


async def test_a_nodule_keeps_its_identity_and_its_growth_is_measured(
    service: ServiceProcess, broker: Broker, tmp_path: Path, patient: str
) -> None:
    await service.start(90)
    async with tap(broker.bootstrap, OUT) as line:
        first = await followed(line, assessed(tmp_path, patient, "first", "20200101"))
        baseline = {n.tracking.growth for n in first.nodules}
        assert baseline == {nodule_pb2.GROWTH_CLASS_BASELINE}
        assert list(first.priors) == []

        second = await followed(
            line, assessed(tmp_path, patient, "second", "20201231", grown_mm=3.0)
        )
        assert [prior.study_date for prior in second.priors] == ["20200101"]
        assert second.priors[0].registered
        assert second.priors[0].interval_days == 365
        assert [n.tracking.tracking_uid for n in second.nodules] == [
            n.tracking.tracking_uid for n in first.nodules
        ]
        same, grown = second.nodules
        assert same.tracking.growth == nodule_pb2.GROWTH_CLASS_STABLE
        assert grown.tracking.growth == nodule_pb2.GROWTH_CLASS_GROWING
        match = grown.tracking.priors[0]
        assert match.diameter_change_mm == pytest.approx(3.0)
        assert match.distance_mm < 1.0
        # ln 2 / ln of the ratio of the volumes, a year apart.
        assert match.volume_doubling_time_days == pytest.approx(
            365 / (3 * 1.4427 * math.log((7.5 + 3.0) / 7.5)), rel=0.01
        )

        gone = await followed(line, assessed(tmp_path, patient, "third", "20210601", nodules=1))
        assert list(gone.priors[0].resolved_nodule_ids) == [second.nodules[1].nodule_id]
        assert [prior.study_date for prior in gone.priors] == ["20201231", "20200101"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
        timeline = await FollowupServiceStub(channel).GetTimeline(
            GetTimelineRequest(tenant=TENANT, patient=patient), timeout=10
        )
        assert [exam.study.study_id for exam in timeline.exams] == [
            exam.study.study_id for exam in (first, second, gone)
        ]


async def test_another_patient_tenant_or_revision_is_no_prior(
    service: ServiceProcess, broker: Broker, tmp_path: Path, patient: str
) -> None:
    await service.start(90)
    async with tap(broker.bootstrap, OUT) as line:
        await followed(line, assessed(tmp_path, str(uuid.uuid4()), "a", "20200101"))
        await followed(
            line, assessed(tmp_path, patient, "b", "20200101", tenant="another-hospital")
        )
        await followed(line, assessed(tmp_path, patient, "c", "20210101"))
        again = await followed(line, assessed(tmp_path, patient, "c", "20210101", revision=2))
        assert list(again.priors) == []
        assert again.nodules[0].tracking.growth == nodule_pb2.GROWTH_CLASS_BASELINE
        # The same day is no prior, and neither is a later exam.
        same_day = await followed(line, assessed(tmp_path, patient, "d", "20210101"))
        assert list(same_day.priors) == []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
        timeline = await FollowupServiceStub(channel).GetTimeline(
            GetTimelineRequest(tenant="another-hospital", patient=patient), timeout=10
        )
    assert [exam.study.tenant for exam in timeline.exams] == ["another-hospital"]


async def test_exams_without_a_date_make_growth_not_evaluable(
    service: ServiceProcess, broker: Broker, tmp_path: Path, patient: str
) -> None:
    await service.start(90)
    async with tap(broker.bootstrap, OUT) as line:
        await followed(line, assessed(tmp_path, patient, "dated", "20200101"))
        undated = await followed(line, assessed(tmp_path, patient, "undated", ""))
    assert {n.tracking.growth for n in undated.nodules} == {nodule_pb2.GROWTH_CLASS_NOT_EVALUABLE}
    # It still goes by size.
    assert lung_rads(undated.nodules[0]) == "4X"


async def test_an_exam_that_comes_late_corrects_the_later_one(
    service: ServiceProcess, broker: Broker, tmp_path: Path, patient: str
) -> None:
    await service.start(90)
    early = assessed(tmp_path, patient, "early", "20200101")
    late = assessed(tmp_path, patient, "late", "20201231", grown_mm=3.0)
    async with tap(broker.bootstrap, OUT) as line:
        first = await followed(line, late)
        assert first.nodules[1].tracking.growth == nodule_pb2.GROWTH_CLASS_BASELINE
        await line.publish(early)
        await until(lambda: len(line.records) > 2, REGISTRATION_SECONDS, "both exams are told")
    told = [FollowupUpdated.FromString(record.value) for record in line.records[1:]]
    assert [(one.study.study_id, one.edition) for one in told] == [
        (early.study.study_id, 1),
        (late.study.study_id, 2),
    ]
    corrected = told[1]
    assert corrected.nodules[1].tracking.growth == nodule_pb2.GROWTH_CLASS_GROWING
    assert corrected.state_id != first.state_id
    assert corrected.nodules[0].tracking.tracking_uid == told[0].nodules[0].tracking.tracking_uid
