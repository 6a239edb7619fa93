"""What an operator sees: probes, metrics, health, dead letters and their replay."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lungmesh.mesh import deadletter
from lungmesh.mesh.settings import KafkaSettings
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, study_received, tap, until

OUT = "report.delivered.routine"
Toy = Callable[..., ServiceProcess]


async def _readiness(service: ServiceProcess) -> int:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{service.ports['metrics']}/readyz")
        return answer.status_code


async def test_probes_metrics_and_health_tell_the_truth_when_the_broker_goes_and_comes(
    broker: Broker, toy: Toy
) -> None:
    service = toy("toy")
    await service.start()
    async with tap(broker.bootstrap, OUT) as line:
        await line.publish(study_received())
        await until(lambda: line.records, 10, "the event is handled")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.ports['metrics']}") as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        metrics = (await client.get("/metrics")).text
    handled = 'lane="routine",result="handled",stage="toy",tenant="hospital-a"'
    assert f"lungmesh_events_total{{{handled}}} 1.0" in metrics
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        broker.kill()
        await until(
            lambda: "not ready: the broker is away" in service.log, 10, "the broker is missed"
        )
        assert await _readiness(service) == 503
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        broker.start()
        await until(lambda: service.log.count('"message": "ready"') == 2, 20, "it is ready again")
        assert await _readiness(service) == 200


async def test_a_dead_letter_is_listed_with_its_reason_and_replayed_once(
    broker: Broker, toy: Toy
) -> None:
    service = toy("toy")
    await service.start()
    kafka = KafkaSettings(bootstrap=broker.bootstrap)
    async with tap(broker.bootstrap, OUT, "study.failed.routine") as line:
        (event_id,) = await line.publish(study_received("broken"))
        await until(lambda: line.records, 15, "the failure is told")
        letter = deadletter.show_dead_letter(kafka, event_id)
        assert (letter.stage, letter.kind, letter.error_class) == ("toy", "defect", "ValueError")
        assert letter.stack.endswith("ValueError"), "frames and class, not the text"
        assert letter.original.startswith("study.received.routine/")
        assert 'media_type: "broken"' in letter.text()
        service.mend()
        assert deadletter.replay(kafka, "toy", [event_id]) == 1
        await until(lambda: any(r.topic == OUT for r in line.records), 15, "it goes through")
        assert deadletter.replay(kafka, "toy", None) == 0
    assert [item.replayed for item in deadletter.list_dead_letters(kafka, "toy")] == [True]


async def test_a_failing_patient_is_parked_until_a_replay_while_others_go_on(
    broker: Broker, toy: Toy, database_settings: dict[str, str]
) -> None:
    service = toy("ledger", **database_settings)
    await service.start()
    kafka = KafkaSettings(bootstrap=broker.bootstrap)
    patient = "11111111-2222-3333-4444-555555555555"
    async with tap(broker.bootstrap, OUT) as line:
        first, second = study_received("broken", patient), study_received("", patient)
        first_id, second_id = await line.publish(first, second)
        await line.publish(study_received())
        await until(lambda: len(line.records) == 1, 15, "another patient's event goes through")
        await until(
            lambda: len(deadletter.list_dead_letters(kafka, "ledger")) == 2, 15, "both are put by"
        )
        assert deadletter.show_dead_letter(kafka, second_id).behind == first_id
        service.mend()
        assert deadletter.replay(kafka, "ledger", None) == 2
        await until(lambda: len(line.records) == 3, 15, "both go through")
    order = [line.split()[2] for line in service.lines("end")]
    assert order.index(first.study.study_id) < order.index(second.study.study_id)


def test_a_wrong_setting_stops_the_service_with_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.mesh.toy", "toy"],
        env={"LUNGMESH_KAFKA__PARTITIONS": "none", "LUNGMESH_BLOBS_URL": "file:///tmp/x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "LUNGMESH_KAFKA__PARTITIONS: Input should be a valid integer, "
        "unable to parse string as an integer"
    ]
