"""What the mesh promises of an event, on a real broker: handled, once in effect, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lungmesh.mesh import envelope
from lungmesh.v1.report_pb2 import ReportDelivered
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, metric, study_received, tap, until

OUT = "report.delivered.routine"
Toy = Callable[..., ServiceProcess]


async def test_a_handler_longer_than_the_session_timeout_keeps_its_partition(
    broker: Broker, toy: Toy
) -> None:
    """kafka-python 1401, 2422, 2610: members thrown out while a message took long."""
    service = toy("toy")
    await service.start()
    joins = await metric(service, "lungmesh_assignments_total")
    async with tap(broker.bootstrap, OUT) as line:
        await line.publish(study_received("sleep 6"))
        await until(lambda: line.records, 15, "the long event is handled")
        await line.publish(study_received())
        await until(lambda: len(line.records) == 2, 5, "the next event follows at once")
    assert len(service.lines("start")) == 2
    assert await metric(service, "lungmesh_assignments_total") == joins, "no rebalance"


async def test_a_service_killed_in_its_handler_handles_the_event_once_in_effect(
    broker: Broker, toy: Toy
) -> None:
    service = toy("ledger")
    await service.start()
    async with tap(broker.bootstrap, OUT) as line:
        sent = study_received("sleep 1.5")
        await line.publish(sent)
        await until(lambda: service.lines("start"), 10, "the handler has started")
        service.kill()
        await service.start()
        await until(lambda: line.records, 15, "the event is handled after all")
        await asyncio.sleep(1)
    assert len(service.lines("end")) == 1
    assert len({envelope.text(record, "ce_id") for record in line.records}) == 1
    assert ReportDelivered.FromString(line.records[0].value).study == sent.study


async def test_a_repeated_event_sends_the_same_outputs_without_the_work(
    broker: Broker, toy: Toy
) -> None:
    service = toy("ledger")
    await service.start()
    async with tap(broker.bootstrap, OUT) as line:
        record = envelope.outgoing(study_received(), "11111111-0000-0000-0000-000000000000", "test")
        await line.bus.publish([record])
        await until(lambda: len(line.records) == 1, 10, "the event is handled")
        await line.bus.publish([record])
        await until(lambda: len(line.records) == 2, 10, "the repeat is answered")
    assert len(service.lines("start")) == 1
    first, second = line.records
    assert (first.headers["ce_id"], first.value) == (second.headers["ce_id"], second.value)


async def test_a_broker_that_lost_everything_gets_its_topics_back_and_loses_no_event(
    broker: Broker, toy: Toy
) -> None:
    service = toy("ledger")
    await service.start()
    async with tap(broker.bootstrap, OUT) as line:
        await line.publish(study_received())
        await until(lambda: line.records, 10, "a first event goes through")
        await line.publish(study_received("sleep 3"))
        await until(lambda: len(service.lines("start")) == 2, 10, "the handler has started")
        broker.kill()
        await until(lambda: len(service.lines("end")) == 2, 10, "it ends while no broker is there")
        await asyncio.sleep(1.5)
        assert service.alive
        broker.start()
        await until(lambda: service.lines("reset"), 15, "the service is told")
    async with tap(broker.bootstrap, OUT) as line:
        # A publish that fell into the loss is given up after 20 s, and then tried again.
        await until(lambda: line.records, 40, "the outbox brings what was committed")
        await line.publish(study_received())
        await until(lambda: len(service.lines("end")) == 3, 15, "new events are handled")
    assert service.log.count("the broker lost its topics") == 1


async def test_a_stopped_service_finishes_its_event_and_does_not_repeat_it(
    broker: Broker, toy: Toy
) -> None:
    service = toy("toy")
    await service.start()
    async with tap(broker.bootstrap, OUT) as line:
        await line.publish(study_received("sleep 2"))
        await until(lambda: service.lines("start"), 10, "the handler has started")
        assert await service.stop() == 0
        assert len(service.lines("end")) == 1
        await service.start()
        await until(lambda: line.records, 10, "its output is there")
        await asyncio.sleep(1)
    assert len(service.lines("start")) == 1
    assert len(line.records) == 1


async def test_many_events_all_pass_though_partitions_pause_for_back_pressure(
    broker: Broker, toy: Toy
) -> None:
    """kafka-python 3.0.12 stalls for ever when a partition is paused amid its parsed records."""
    service = toy("quiet")
    await service.start()
    async with tap(broker.bootstrap, OUT) as line:
        await line.publish(*(study_received() for _ in range(1500)))
        await until(lambda: len(line.records) >= 1500, 30, "every event has passed")
    assert len({envelope.text(record, "ce_id") for record in line.records}) == 1500
