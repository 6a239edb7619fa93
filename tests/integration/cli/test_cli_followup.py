"""The commands of follow-up against the real follow-up service, on a real broker."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from lungmesh.cli import app
from lungmesh.cli.exits import CommandError, Exit
from lungmesh.embedded.layout import Layout
from lungmesh.embedded.state import MeshState, started_at
from lungmesh.v1.followup_pb2 import TrackRequest
from lungmesh.v1.followup_pb2_grpc import FollowupServiceStub
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess
from tests.support.followup import assessed
from tests.support.preprocess import TENANT

PATIENT = str(uuid.uuid5(uuid.NAMESPACE_OID, "cli follow-up"))
# Of two pairs, on a machine that does other work too.
REGISTRATION_SECONDS = 180


def told(data: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run a command for machines and return what it said."""
    words = [*arguments, "--tenant", TENANT, "--data", str(data), "--json"]
    ended = CliRunner().invoke(app, words)
    if ended.exception is not None:
        raise ended.exception
    return [json.loads(line) for line in ended.stdout.splitlines()]


def shown(data: Path, *arguments: str) -> str:
    """Run a command for people and return what it printed."""
    ended = CliRunner().invoke(app, [*arguments, "--tenant", TENANT, "--data", str(data)])
    assert ended.exception is None, ended.exception
    return ended.stdout


def of(events: list[dict[str, Any]], kind: str) -> Any:
    (event,) = (event for event in events if event["event"] == kind)
    return event["rows"]


def numbers(data: Path, study_date: str) -> list[int]:
    """Return the numbers of the nodules that an exam shows."""
    rows = of(told(data, "timeline", PATIENT), "timeline")
    return sorted(r["number"] for r in rows if r["study_date"] == study_date and not r["fate"])


async def start(service: ServiceProcess, folder: Path) -> None:
    """Start the service and give it the patient's exams."""
    await service.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
        for event in (
            assessed(folder, PATIENT, "first", "20200101"),
            assessed(folder, PATIENT, "second", "20201231", grown_mm=3.0),
            assessed(folder, PATIENT, "third", "20210601", nodules=1),
        ):
            await FollowupServiceStub(channel).Track(
                TrackRequest(event=event), timeout=REGISTRATION_SECONDS
            )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory whose mesh has a follow-up service with three exams of one patient.

    The second nodule grows from the first exam to the second, and is gone in the third.
    """
    folder, broker = tmp_path_factory.mktemp("cli"), Broker()
    broker.start()
    service = ServiceProcess("lungmesh.mesh.serve", "followup", folder, broker.bootstrap)
    try:
        asyncio.run(start(service, folder))
        own, ports = os.getpid(), {"followup": service.ports}
        state = MeshState("up", own, started_at(own), broker.bootstrap, ports, {})
        state.write(Layout(folder).state_file)
        yield folder
    finally:
        service.kill()
        broker.kill()


def test_the_timeline_has_each_nodule_in_every_exam(data: Path) -> None:
    events = told(data, "timeline", PATIENT)
    exams = of(events, "exams")
    assert [exam["study_date"] for exam in exams] == ["20200101", "20201231", "20210601"]
    rows = of(events, "timeline")
    courses: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        courses.setdefault(row["tracking_uid"], []).append(row)
    stays, gone = courses.values()
    assert [row["study_date"] for row in stays] == ["20200101", "20201231", "20210601"]
    assert [row["fate"] for row in gone] == ["", "", "resolved"]
    assert (gone[1]["growth"], gone[1]["volume_change_percent"]) == ("growing", 174.4)
    assert gone[1]["growth_probability"] > 0.99
    assert gone[1]["volume_doubling_time_low_days"] < gone[1]["volume_doubling_time_days"]
    printed = shown(data, "timeline", PATIENT)
    assert "resolved" in printed
    assert "+174 %" in printed
    assert "> 99 %" in printed


def test_a_correction_is_kept_shown_and_taken_back(data: Path) -> None:
    kept = told(data, "correct", "reject", PATIENT, "2020-12-31/2", "--author", "dr-7")[0]
    assert kept["changed"] >= 1
    assert numbers(data, "20201231") == [1]
    printed = " ".join(shown(data, "timeline", PATIENT).split())
    assert f"correction {kept['correction_id']}: reject by dr-7" in printed
    told(data, "correct", "withdraw", PATIENT, kept["correction_id"], "--author", "dr-7")
    assert numbers(data, "20201231") == [1, 2]


def test_sizes_and_types_that_a_person_gives_stand_in_the_timeline(data: Path) -> None:
    words = ("--author", "dr-7")
    told(data, "correct", "remeasure", PATIENT, "20210601/1", "--volume", "9000", *words)
    told(data, "correct", "retype", PATIENT, "20210601/1", "part-solid", *words)
    rows = of(told(data, "timeline", PATIENT), "timeline")
    (last,) = (row for row in rows if row["study_date"] == "20210601" and not row["fate"])
    assert (last["volume_mm3"], last["type"]) == (9000, "part_solid")


def test_two_nodules_can_be_parted_and_tied_again(data: Path) -> None:
    one, other = "2020-12-31/1", "2020-01-01/1"
    told(data, "correct", "unlink", PATIENT, one, other, "--author", "dr-7")
    parted = of(told(data, "timeline", PATIENT), "timeline")
    told(data, "correct", "link", PATIENT, one, other, "--author", "dr-7")
    tied = of(told(data, "timeline", PATIENT), "timeline")

    def uid(rows: list[dict[str, Any]], date: str) -> str:
        return next(
            str(row["tracking_uid"])
            for row in rows
            if row["study_date"] == date and row["number"] == 1
        )

    assert uid(parted, "20201231") != uid(parted, "20200101")
    assert uid(tied, "20201231") == uid(tied, "20200101")


def test_what_is_due_is_listed_by_its_lateness(data: Path) -> None:
    events = told(data, "due", "--today", "2031-01-01")
    (row,) = of(events, "due")
    assert (row["patient"], row["study_date"]) == (PATIENT, "20210601")
    assert row["state"] == "lost"
    assert told(data, "due", "--today", "2031-01-01", "--state", "not-due")[0]["text"] == (
        "nothing is due"
    )
    assert PATIENT in shown(data, "due", "--today", "20310101")


def test_the_registry_is_written_whole(data: Path, tmp_path: Path) -> None:
    told(data, "registry", "--out", str(tmp_path / "deep" / "registry.csv"))
    with (tmp_path / "deep" / "registry.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    told(data, "registry", "--format", "fhir", "--out", str(tmp_path / "registry.ndjson"))
    lines = (tmp_path / "registry.ndjson").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["resourceType"] for line in lines)
    assert len(lines) >= 3
    left = [path.name for path in tmp_path.rglob("*") if path.name.endswith(".part")]
    assert left == []


def test_the_response_is_shown_from_the_baseline_on(data: Path) -> None:
    rows = of(told(data, "response", PATIENT), "response")
    assert [row["study_date"] for row in rows] == ["20200101", "20201231", "20210601"]
    assert rows[0]["recist"] == "BASELINE"
    assert "RECIST" in shown(data, "response", PATIENT)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("timeline", str(uuid.uuid4())), "no exam of patient"),
        (("correct", "confirm", PATIENT, "2020-12-31/9", "--author", "a"), "names no nodule"),
        (("correct", "confirm", PATIENT, "2019-12-31/1", "--author", "a"), "names no exam"),
        (("correct", "confirm", PATIENT, "2020-12-31/1", "--author", "a b"), "author"),
        (("correct", "withdraw", PATIENT, str(uuid.uuid4()), "--author", "a"), "no correction"),
        (("due", "--today", "someday"), "is no date"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    data: Path, words: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(CommandError, match=reason) as error:
        told(data, *words)
    assert error.value.exit_status == Exit.USAGE
