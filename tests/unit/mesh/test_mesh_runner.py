"""The runner's promises, stage by stage, with the broker in memory."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf.message import Message

from lungmesh.mesh import BadInput, Context, Refused, RetryPolicy, Unavailable, envelope, failures
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.bus.memory import MemoryBus
from lungmesh.mesh.bus.port import Outgoing, Record
from lungmesh.mesh.starts import MOST_DEATHS, Starts
from lungmesh.v1.events_pb2 import StudyFailed
from lungmesh.v1.report_pb2 import ReportDelivered
from lungmesh.v1.study_pb2 import StudyReceived
from tests.support.chassis import study_received, until
from tests.unit.mesh.line import OneStage, OrderedStage, delivered, line


def good(event: StudyReceived, ctx: Context) -> Sequence[Message]:
    return [delivered(event)]


async def test_an_event_is_handled_and_its_output_has_a_deterministic_id(tmp_path: Path) -> None:
    ids = []
    for run in ("first", "second"):
        async with line(OneStage(good), tmp_path / run) as one:
            event = study_received(patient="1" * 36)
            record = envelope.outgoing(event, "11111111-0000-0000-0000-000000000000", "test")
            await one.bus.publish([record])
            await until(lambda: one.out(ReportDelivered), 5, "handled")
            ids.append(envelope.text(one.bus.records("report.delivered.routine")[0], "ce_id"))
    assert ids[0] == ids[1]


async def test_an_event_delivered_twice_at_once_is_worked_on_once(tmp_path: Path) -> None:
    worked = []

    def slow(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        worked.append(event.study.study_id)
        time.sleep(0.1)
        return [delivered(event)]

    async with line(OneStage(slow), tmp_path) as one:
        record = envelope.outgoing(study_received(), "11111111-0000-0000-0000-000000000000", "test")
        await one.bus.publish([record, record])
        await until(lambda: len(one.out(ReportDelivered)) == 2, 5, "both are answered")
        assert one.metric("lungmesh_events_total", result="repeated", **ROUTINE) == 1
    assert len(worked) == 1


ROUTINE = {"lane": "routine", "tenant": "hospital-a"}


async def test_what_is_away_for_a_moment_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    tries: dict[str, int] = {}

    def away(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        count = tries[event.study.study_id] = tries.get(event.study.study_id, 0) + 1
        if event.manifest.media_type == "for long" or count < 3:
            raise Unavailable("the peer is away")
        return [delivered(event)]

    async with line(OneStage(away), tmp_path) as one:
        moment, long = study_received(), study_received("for long")
        await one.publish(moment, long)
        await until(lambda: one.out(ReportDelivered) and one.letters(), 5, "both have ended")
        assert tries == {moment.study.study_id: 3, long.study.study_id: 3}
        (letter,) = one.letters()
        assert envelope.text(letter, failures.DLQ_KIND) == "unavailable"
        assert envelope.text(letter, failures.DLQ_REASON) == "the peer is away"
        (failed,) = one.out(StudyFailed)
        assert (failed.study, failed.reason) == (long.study, "the peer is away")


@pytest.mark.parametrize(
    ("error", "kind", "tries"),
    [
        (BadInput("no slices"), "bad_input", 1),
        (Refused("our AE title is not known there"), "refused", 1),
        (ValueError("patient Li Wei"), "defect", 2),
    ],
)
async def test_a_failure_is_dealt_with_by_its_class(
    error: Exception, kind: str, tries: int, tmp_path: Path
) -> None:
    tried = []

    def fail(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        tried.append(1)
        raise error

    async with line(OneStage(fail), tmp_path) as one:
        await one.publish(study_received())
        await until(one.letters, 5, "the dead letter is there")
        (letter,) = one.letters()
        assert envelope.text(letter, failures.DLQ_KIND) == kind
        everything = b"".join(letter.headers.values())
        assert b"Li Wei" not in everything, "the text of a foreign error may name a patient"
        assert type(error).__name__.encode() in letter.headers[failures.DLQ_STACK]
    assert len(tried) == tries


async def test_an_output_that_breaks_the_contract_is_our_defect(tmp_path: Path) -> None:
    def wrong(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        return [ReportDelivered(destination="test")]

    async with line(OneStage(wrong), tmp_path) as one:
        await one.publish(study_received())
        await until(one.letters, 5, "the dead letter is there")
        assert envelope.text(one.letters()[0], failures.DLQ_KIND) == "defect"
        assert not one.out(ReportDelivered)


async def test_a_record_that_is_no_event_is_put_aside_and_the_next_is_handled(
    tmp_path: Path,
) -> None:
    async with line(OneStage(good), tmp_path) as one:
        whole = envelope.outgoing(study_received(), "11111111-0000-0000-0000-000000000000", "test")
        broken = Outgoing(whole.topic, whole.key, b"\xff\xff", whole.headers)
        nameless = Outgoing(whole.topic, whole.key, whole.value, {})
        await one.bus.publish([broken, nameless, whole])
        await until(lambda: one.out(ReportDelivered), 5, "the whole one is handled")
        await until(lambda: len(one.letters()) == 2, 5, "the others are dead letters")
        reasons = {envelope.text(letter, failures.DLQ_REASON) for letter in one.letters()}
    assert reasons == {
        "the event is no lungmesh.v1.StudyReceived",
        "the record has no ce_id header: it is no event",
    }


async def test_an_invalid_event_is_refused_naming_the_field(tmp_path: Path) -> None:
    async with line(OneStage(good), tmp_path) as one:
        event = study_received()
        event.instance_count = 0
        await one.publish(event)
        await until(one.letters, 5, "the dead letter is there")
        reason = envelope.text(one.letters()[0], failures.DLQ_REASON)
    assert reason == "StudyReceived: instance_count must be >= 1, is 0"


async def test_a_handler_past_its_deadline_is_given_up_and_told_to_stop(tmp_path: Path) -> None:
    noticed = threading.Event()

    def long(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        try:
            while True:
                ctx.progress(0.5)
                time.sleep(0.01)
        except Unavailable:
            noticed.set()
            raise

    stage = OneStage(long)
    stage.deadline_seconds = 0.1
    async with line(stage, tmp_path) as one:
        await one.publish(study_received())
        await until(one.letters, 5, "it is given up")
        assert envelope.text(one.letters()[0], failures.DLQ_KIND) == "unavailable"
        assert noticed.wait(1)


async def test_a_handler_that_cannot_be_stopped_holds_its_place_until_it_ends(
    tmp_path: Path,
) -> None:
    go_on = threading.Event()

    def stuck(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        if event.manifest.media_type == "stuck":
            go_on.wait(20)
        return [delivered(event)]

    stage = OneStage(stuck)
    stage.deadline_seconds = 0.1
    stage.concurrency = 1
    async with line(stage, tmp_path) as one:
        await one.publish(study_received("stuck"))
        await until(lambda: one.runner.overdue, 5, "the only place is held")
        assert "run on past their deadline" in str(one.runner.not_ready())
        await one.publish(study_received())
        await asyncio.sleep(0.3)
        assert not one.out(ReportDelivered), "no second volume in memory"
        go_on.set()
        await until(lambda: one.out(ReportDelivered), 5, "the place is free again")


async def test_a_stuck_handler_does_not_hold_up_the_end_of_the_process(tmp_path: Path) -> None:
    go_on = threading.Event()

    def stuck(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        go_on.wait(20)
        return []

    async with line(OneStage(stuck), tmp_path) as one:
        await one.publish(study_received())
        await until(lambda: one.metric("lungmesh_in_flight_events") == 1, 5, "it is stuck")
        started = time.monotonic()
        await one.runner.drain(0.2)
        assert time.monotonic() - started < 2
        threads = [thread for thread in threading.enumerate() if thread.name == "handler-one"]
        assert threads
        assert all(thread.daemon for thread in threads)
    go_on.set()


async def test_an_event_that_ended_the_process_three_times_is_put_aside(tmp_path: Path) -> None:
    """A study that needs more memory than there is would else come again for ever."""
    event_id = "11111111-0000-0000-0000-000000000000"
    record = envelope.outgoing(study_received(), event_id, "test")
    delivered_record = Record(record.topic, 0, 0, record.key, record.value, record.headers)
    event = envelope.decode(delivered_record, (StudyReceived,))
    starts = Starts(BlobStore(f"file://{tmp_path}/blobs"), "one")
    for _ in range(MOST_DEATHS):
        await starts.begin(event)  # and no end: the process was killed
    async with line(OneStage(good), tmp_path) as one:
        await one.bus.publish([record])
        await until(one.letters, 5, "the dead letter is there")
        (letter,) = one.letters()
        assert envelope.text(letter, "ce_id") == event_id
        assert "ended 3 times" in envelope.text(letter, failures.DLQ_REASON)
        await one.bus.publish([record])
        await until(lambda: one.out(ReportDelivered), 5, "a replay starts to count anew")


async def test_a_handler_that_returns_or_raises_is_no_death(tmp_path: Path) -> None:
    tries = []

    def away(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        tries.append(1)
        if len(tries) <= MOST_DEATHS + 1:
            raise Unavailable("the peer is away")
        return [delivered(event)]

    stage = OneStage(away)
    stage.retry = RetryPolicy(unavailable_delays=(0.01,) * (MOST_DEATHS + 2))
    async with line(stage, tmp_path) as one:
        await one.publish(study_received())
        await until(lambda: one.out(ReportDelivered), 5, "it is handled in the end")


async def test_a_stage_that_only_fails_stops_itself_and_keeps_its_events(tmp_path: Path) -> None:
    def broken(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        raise ValueError

    async with line(OneStage(broken), tmp_path) as one:
        await one.publish(*(study_received() for _ in range(40)))
        await until(lambda: one.runner.not_ready(), 5, "it stopped itself")
        await asyncio.sleep(0.2)
        letters = len(one.letters())
        assert 10 <= letters <= 12, "those in hand may end, no more"
        assert "stopped itself" in str(one.runner.not_ready())
        assert one.metric("lungmesh_breaker_open") == 1


async def test_bad_data_of_a_sender_never_stops_a_stage(tmp_path: Path) -> None:
    def picky(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        raise BadInput("no CT series")

    async with line(OneStage(picky), tmp_path) as one:
        await one.publish(*(study_received() for _ in range(30)))
        await until(lambda: len(one.letters()) == 30, 5, "each is answered")
        assert one.runner.not_ready() is None


async def test_a_drained_stage_ends_its_work_and_starts_no_more(tmp_path: Path) -> None:
    def slow(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        time.sleep(0.2)
        return [delivered(event)]

    bus = MemoryBus()
    async with line(OneStage(slow), tmp_path, bus) as one:
        await one.publish(*(study_received() for _ in range(6)))
        await until(lambda: one.metric("lungmesh_in_flight_events") == 2, 5, "two are in work")
        await one.runner.drain(5)
        assert len(one.out(ReportDelivered)) == 2
    async with line(OneStage(slow), tmp_path, bus) as one:
        await until(lambda: len(one.out(ReportDelivered)) == 6, 5, "the rest after the restart")


async def test_outputs_wait_for_a_broker_that_is_away(tmp_path: Path) -> None:
    async with line(OneStage(good), tmp_path) as one:
        await one.publish(study_received())
        one.bus.healthy = False
        await asyncio.sleep(0.3)
        assert not one.bus.committed, "nothing is committed before its output is acknowledged"
        one.bus.healthy = True
        await until(lambda: one.out(ReportDelivered), 5, "it is published after all")
        await until(lambda: one.bus.committed, 5, "and then committed")


@pytest.mark.parametrize("database", [False, True])
async def test_a_failing_patient_is_parked_and_others_go_on(database: bool, tmp_path: Path) -> None:
    mended = threading.Event()
    order: list[str] = []

    def work(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        if event.manifest.media_type == "broken" and not mended.is_set():
            raise ValueError
        order.append(event.study.study_id)
        return [delivered(event)]

    patient = "11111111-2222-3333-4444-555555555555"
    first, second = study_received("broken", patient), study_received("", patient)
    async with line(OrderedStage(work), tmp_path, database=database) as one:
        ids = await one.publish(first, second)
        await one.publish(study_received())
        await until(lambda: len(one.letters()) == 2, 5, "both of the patient's are put by")
        await until(lambda: len(order) == 1, 5, "the other patient's went through")
        kinds = [envelope.text(letter, failures.DLQ_KIND) for letter in one.letters()]
        assert kinds == ["defect", "parked"]
        assert envelope.text(one.letters()[1], failures.DLQ_BEHIND) == ids[0]
        mended.set()
        await one.bus.publish(
            [
                envelope.outgoing(first, ids[0], "replay"),
                envelope.outgoing(second, ids[1], "replay"),
            ]
        )
        await until(lambda: len(order) == 3, 5, "both go through")
    assert order[1:] == [first.study.study_id, second.study.study_id]


async def test_a_database_that_is_away_is_waited_for_not_taken_for_a_defect(
    tmp_path: Path,
) -> None:
    from sqlalchemy.exc import OperationalError

    away = [True, True]

    def work(event: StudyReceived, ctx: Context) -> Sequence[Message]:
        if away:
            away.pop()
            raise OperationalError("INSERT … VALUES (:name)", {"name": "Li Wei"}, Exception("gone"))
        return [delivered(event)]

    async with line(OneStage(work), tmp_path) as one:
        await one.publish(study_received())
        await until(lambda: one.out(ReportDelivered), 5, "two retries, where a defect has one")
        assert one.metric("lungmesh_retries_total", kind="unavailable") == 2
