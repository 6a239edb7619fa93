"""The programme by gRPC, on SQLite and PostgreSQL: corrections, lists, figures, registry, response.

The exams' voxels are not there, so no two exams are compared: what is tested is the state.
"""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from lungmesh.v1 import followup_pb2 as f
from lungmesh.v1.followup_pb2_grpc import FollowupServiceStub
from lungmesh.v1.nodule_pb2 import NodulesAssessed
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, metric, tap, until
from tests.support.followup import a_correction, an_outcome, unread_exam
from tests.support.nodules import a_nodule, a_study

HERE = (50.0, 80.0, -110.0)
OUT = "followup.updated.routine"
TODAY = "20210601"


@pytest.fixture(params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest, broker: Broker, tmp_path: Path
) -> Iterator[ServiceProcess]:
    database = {"LUNGMESH_FOLLOWUP__COUNT_SECONDS": "0.2"}
    if request.param == "postgresql":
        database["LUNGMESH_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    process = ServiceProcess(
        "lungmesh.mesh.serve", "followup", tmp_path, broker.bootstrap, **database
    )
    yield process
    process.kill()


@pytest.fixture
def tenant() -> str:
    """Another one for each test: the PostgreSQL server outlives it."""
    return f"clinic-{uuid.uuid4().hex[:8]}"


@asynccontextmanager
async def calls(service: ServiceProcess) -> AsyncIterator[FollowupServiceStub]:
    await service.start(90)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
        yield FollowupServiceStub(channel)


def exam(tenant: str, patient: str, name: str, date: str, mm: float) -> NodulesAssessed:
    study = a_study(f"{tenant}-{name}", patient, tenant)
    return unread_exam(study, date, [a_nodule(f"{tenant}-{name}", HERE, mm)])


async def screened(
    stub: FollowupServiceStub, tenant: str, *exams: tuple[str, float]
) -> tuple[str, list[NodulesAssessed]]:
    """Track the exams (date, diameter) of a new patient."""
    patient = str(uuid.uuid4())
    made = [
        exam(tenant, patient, f"{patient}-{number}", date, mm)
        for number, (date, mm) in enumerate(exams)
    ]
    for event in made:
        await stub.Track(f.TrackRequest(event=event), timeout=60)
    return patient, made


async def due(stub: FollowupServiceStub, tenant: str, **asked: object) -> list[f.DueExam]:
    """Read the whole list, a page of two after the other."""
    found: list[f.DueExam] = []
    page = ""
    while True:
        request = f.ListDueRequest(tenant=tenant, today=TODAY, limit=2, page=page, **asked)  # type: ignore[arg-type]
        answer = await stub.ListDue(request, timeout=60)
        found.extend(answer.exams)
        page = answer.next_page
        if not page:
            return found


async def test_writers_of_one_patient_lose_nothing(service: ServiceProcess, tenant: str) -> None:
    async with calls(service) as stub:
        patient, (event,) = await screened(stub, tenant, ("20200101", 7))
        words = [
            a_correction(f"{tenant}-{n}", "CONFIRM", n, event.study.study_id, event.nodules[0])
            for n in range(8)
        ]
        answers = await asyncio.gather(
            *(
                stub.Correct(
                    f.CorrectRequest(tenant=tenant, patient=patient, correction=word), timeout=120
                )
                # Each word comes twice.
                for word in (*words, *words)
            )
        )
        request = f.GetTimelineRequest(tenant=tenant, patient=patient)
        (result,) = (await stub.GetTimeline(request, timeout=60)).exams
    assert list(result.corrections) == words
    assert result.edition == 1 + len(words)
    # Every edition was told once.
    told = [one.edition for answer in answers for one in answer.exams]
    assert sorted(told) == list(range(2, 2 + len(words)))


async def test_what_a_correction_changes_goes_to_the_bus_also_when_it_comes_by_it(
    service: ServiceProcess, broker: Broker, tenant: str
) -> None:
    async with calls(service) as stub, tap(broker.bootstrap, OUT) as line:
        patient, exams = await screened(stub, tenant, ("20200101", 5), ("20210101", 5))
        first = exams[0]
        reject = a_correction(f"{tenant}-a", "REJECT", 1, first.study.study_id, first.nodules[0])
        request = f.CorrectRequest(tenant=tenant, patient=patient, correction=reject)
        answer = await stub.Correct(request, timeout=60)
        assert [len(one.rejected) for one in answer.exams] == [1]
        await until(lambda: line.records, 60, "the new edition is on the bus")
        confirm = a_correction(f"{tenant}-b", "CONFIRM", 2, first.study.study_id, first.nodules[0])
        await line.publish(f.NodulesCorrected(study=first.study, correction=confirm))
        await until(lambda: len(line.records) > 1, 60, "the correction is handled")
    told = [f.FollowupUpdated.FromString(record.value) for record in line.records]
    assert [(one.edition, len(one.nodules)) for one in told] == [(2, 0), (3, 1)]
    assert {one.study.study_id for one in told} == {first.study.study_id}


async def test_a_correction_that_changes_nothing_is_refused_by_grpc(
    service: ServiceProcess, tenant: str
) -> None:
    async with calls(service) as stub:
        patient, (event, later) = await screened(stub, tenant, ("20200101", 7), ("20200101", 7))
        study, nodule = event.study.study_id, event.nodules[0]
        place = a_correction("x", "CONFIRM", 1, later.study.study_id, later.nodules[0]).nodule
        wrong = [
            a_correction("1", "CONFIRM", 1, str(uuid.uuid4()), nodule),
            a_correction("2", "CONFIRM", 1, study, a_nodule("other", (0.0, 0.0, 0.0), 5)),
            a_correction("3", "WITHDRAW", 1, study, nodule, withdraws=str(uuid.uuid4())),
            # Both exams are of one day.
            a_correction("4", "LINK", 1, study, nodule, other=place),
            a_correction("5", "RETYPE", 1, study, nodule),
        ]
        for word in wrong:
            request = f.CorrectRequest(tenant=tenant, patient=patient, correction=word)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Correct(request, timeout=60)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        asked = f.GetTimelineRequest(tenant=tenant, patient=patient)
        exams = (await stub.GetTimeline(asked, timeout=60)).exams
    assert [(one.edition, len(one.corrections)) for one in exams] == [(1, 0), (1, 0)]


async def test_due_lists_figures_registry_and_metrics(service: ServiceProcess, tenant: str) -> None:
    async with calls(service) as stub:
        # Due 20210101, 20210401, 20210515, 20220301; work-up since 20210201; two who are gone.
        lost, _ = await screened(stub, tenant, ("20190115", 5), ("20200101", 5))
        overdue, _ = await screened(stub, tenant, ("20201001", 7))
        on_time, _ = await screened(stub, tenant, ("20210215", 9))
        later, _ = await screened(stub, tenant, ("20200220", 5), ("20210301", 5))
        work_up, _ = await screened(stub, tenant, ("20210201", 20))
        interval, _ = await screened(stub, tenant, ("20200901", 5))
        after_positive, _ = await screened(stub, tenant, ("20210110", 20))
        for patient in (interval, after_positive):
            outcome = an_outcome("LUNG_CANCER", "20210310", stage="IA2")
            outcome.outcome_id = str(uuid.uuid5(uuid.NAMESPACE_OID, patient))
            request = f.RecordOutcomeRequest(tenant=tenant, patient=patient, outcome=outcome)
            await stub.RecordOutcome(request, timeout=60)
            await stub.RecordOutcome(request, timeout=60)

        everything = await due(stub, tenant)
        assert [(one.patient, one.due_date, one.days_late, one.work_up) for one in everything] == [
            (lost, "20210101", 151, False),
            (work_up, "", 120, True),
            (overdue, "20210401", 61, False),
            (on_time, "20210515", 17, False),
        ]
        assert everything[0].category.management_zh
        states = [one.escalation for one in everything]
        assert states == [f.ESCALATION_OVERDUE] * 3 + [f.ESCALATION_DUE]
        assert [one.patient for one in await due(stub, tenant, category="4B")] == [work_up]
        not_due = await due(stub, tenant, escalation=f.ESCALATION_NOT_DUE)
        assert [one.patient for one in not_due] == [later]
        assert await due(stub, tenant, escalation=f.ESCALATION_LOST) == []
        assert await due(stub, "another-clinic") == []

        statistics = await stub.GetStatistics(
            f.GetStatisticsRequest(tenant=tenant, from_date="20200101", to_date=TODAY), timeout=60
        )
        assert (statistics.patients, statistics.exams, statistics.baseline_exams) == (7, 8, 6)
        categories = {one.category: one.exams for one in statistics.categories}
        assert categories == {"2": 4, "3": 1, "4A": 1, "4B": 2}
        assert statistics.positivity_rate == pytest.approx(4 / 8)
        # Four were due by 30 days before the end; one came sooner, one nine days late. Who fell ill
        # before his day was not due.
        assert statistics.participation_rate == pytest.approx(2 / 4)
        assert (statistics.due, statistics.overdue, statistics.lost) == (1, 3, 0)
        assert statistics.interval_cancers == 1
        assert statistics.cancers_after_positive == 1

        rows = await exported(stub, tenant, f.REGISTRY_FORMAT_CSV)
        table = list(csv.DictReader(io.StringIO(rows.decode(), newline="")))
        assert [row["exam_date"] for row in table] == sorted(row["exam_date"] for row in table)
        assert len(table) == 8
        assert [row["patient_pseudonym"] for row in table if row["interval_cancer"] == "yes"] == [
            interval
        ]
        lines = (await exported(stub, tenant, f.REGISTRY_FORMAT_FHIR)).decode().splitlines()
        assert len(lines) == 8
        assert {json.loads(line)["resourceType"] for line in lines} == {"Bundle"}

        label = f'lungmesh_followup_patients{{category="4B",tenant="{tenant}"}} 1.0'
        await until(lambda: _counted(service, label), 30, "the metrics tell of the patients")


async def _counted(service: ServiceProcess, label: str) -> bool:
    return await metric(service, label.rpartition(" ")[0]) == 1.0


async def exported(
    stub: FollowupServiceStub, tenant: str, form: f.RegistryFormat.ValueType
) -> bytes:
    request = f.ExportRegistryRequest(
        tenant=tenant, from_date="20200101", to_date=TODAY, format=form
    )
    return b"".join([one.piece async for one in stub.ExportRegistry(request, timeout=60)])


async def test_the_response_to_treatment_follows_the_links_of_people(
    service: ServiceProcess, tenant: str
) -> None:
    async with calls(service) as stub:
        patient, exams = await screened(
            stub, tenant, ("20200101", 30), ("20200401", 18), ("20200701", 24)
        )
        for earlier, event in itertools.pairwise(exams):
            other = a_correction(
                "x", "CONFIRM", 1, earlier.study.study_id, earlier.nodules[0]
            ).nodule
            link = a_correction(
                f"{event.study.study_id}",
                "LINK",
                1,
                event.study.study_id,
                event.nodules[0],
                other=other,
            )
            request = f.CorrectRequest(tenant=tenant, patient=patient, correction=link)
            await stub.Correct(request, timeout=60)
        answer = await stub.GetResponse(
            f.GetResponseRequest(tenant=tenant, patient=patient), timeout=60
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetResponse(
                f.GetResponseRequest(
                    tenant=tenant, patient=patient, baseline_study_id=str(uuid.uuid4())
                ),
                timeout=60,
            )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    # 30 mm, 40 % less, then a third and 6 mm more than the smallest.
    assert [one.recist for one in answer.exams] == ["BASELINE", "PR", "PD"]
    assert [one.irecist for one in answer.exams][2] == "iUPD"
    assert [one.sum_mm for one in answer.exams] == [30, 18, 24]
    assert answer.limits
