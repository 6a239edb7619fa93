"""A study through the whole mesh, watched: one trace, logs, exemplars, and data for every query."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from deploy.dashboards.boards import BOARDS
from lungmesh.demo.case import write_small_case
from tests.integration.watch.test_watch_rules import RULES, alerts
from tests.support.mesh import lungmesh, require_embedded_wheels, running_up, wait_for
from tests.support.pacs import Scp, listening
from tests.support.watching import Prometheus, Receiver, prometheus, receiver

PATIENT = "WATCHED-PATIENT-4711"
STUDY_SECONDS = 400
ABSENT: dict[str, str] = yaml.safe_load(
    Path(__file__).with_name("not_on_one_machine.yaml").read_text()
)
STAGES = ("preprocess", "detection", "malignancy", "followup", "report", "mdt", "delivery")


@dataclass
class Watched:
    """A study that went through, and what watched it."""

    prometheus: Prometheus
    receiver: Receiver
    logs: Path

    def named(self, name: str) -> list[Span]:
        """Return the spans of a name."""
        return [span for _, span in self.receiver.spans if span.name == name]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    require_embedded_wheels()
    root = tmp_path_factory.mktemp("watch")
    write_small_case(root / "study", PATIENT, "watched")
    with (
        pytest.MonkeyPatch.context() as environment,
        listening(Scp()) as pacs,
        receiver() as (traces, address),
    ):
        pacs_there = {
            "kind": "dicom",
            "name": "pacs",
            "tenant": "default",
            "host": "127.0.0.1",
            "port": pacs.port,
            "ae_title": "PACS",
            "objects": ["sr"],
        }
        environment.setenv("LUNGMESH_OTLP_ENDPOINT", address)
        environment.setenv("LUNGMESH_DELIVERY__DESTINATIONS", json.dumps([pacs_there]))
        environment.setenv("LUNGMESH_DELIVERY__COUNT_SECONDS", "1")
        environment.setenv("LUNGMESH_FOLLOWUP__COUNT_SECONDS", "1")
        data = root / "data"
        with running_up(data):
            state = json.loads((data / "mesh.json").read_text())
            with prometheus(_targets(state), RULES, root / "prometheus") as watch:
                wait_for(lambda: len(watch.query("up == 1")) == 10, 60, "the first scrape of all")
                door = f"127.0.0.1:{state['ports']['ingest']['dicom']}"
                sent = lungmesh("send", root / "study", door, limit_seconds=STUDY_SECONDS)
                assert sent.returncode == 0, sent.stderr
                wait_for(lambda: len(pacs.received) == 1, STUDY_SECONDS, "the report's delivery")
                wait_for(
                    lambda: (
                        watch.query("lungmesh_delivery_sent_total > 0")
                        and watch.query(
                            'sum(lungmesh_ended_studies_total{outcome="reported"}) == 1'
                        )
                        and watch.query('lungmesh_events_total{stage="mdt",result="handled"} > 0')
                    ),
                    60,
                    "the counts of the study",
                )
                # Two scrapes more for rates, and the exporters' last batches.
                time.sleep(8)
                yield Watched(watch, traces, data / "logs")


def _targets(state: dict[str, Any]) -> dict[str, str]:
    """Return where each process tells its metrics; Triton's port is in its command line."""
    told = {
        service: f"127.0.0.1:{ports['metrics']}"
        for service, ports in state["ports"].items()
        if "metrics" in ports
    }
    command = " ".join(psutil.Process(state["pids"]["triton"]).cmdline())
    port = re.search(r"--metrics-port=(\d+)", command)
    assert port is not None
    return {**told, "triton": f"127.0.0.1:{port[1]}"}


def _filled(expression: str) -> str:
    """Return a panel's query with every choice made: all, and a minute of rate."""
    return re.sub(r"\$(stage|tenant)", ".*", expression.replace("$__rate_interval", "1m"))


def _compared(expression: str) -> str:
    """Return an alert's expression so that each comparison gives 0 or 1, and is never empty.

    `unless` becomes `and`: both sides must have data.
    """
    parts = re.split(r"(\{[^}]*\})", expression.replace("unless on", "and on"))
    return "".join(
        part if part.startswith("{") else re.sub(r"(==|>=|<=|>|<)", r"\1 bool", part)
        for part in parts
    )


QUERIES = {
    f"{board.title.removeprefix('LungMesh: ').removeprefix('the ')}/{panel.title}": tuple(
        _filled(query.expr) for query in panel.queries
    )
    for board in BOARDS
    for panel in board.panels()
} | {rule["alert"]: (_compared(rule["expr"]),) for rule in alerts()}


def test_every_query_of_a_panel_or_alert_has_data(watched: Watched) -> None:
    empty = {
        name
        for name, queries in QUERIES.items()
        if not all(watched.prometheus.query(query) for query in queries)
    }
    assert empty - ABSENT.keys() == set(), "no data"
    assert ABSENT.keys() - empty == set(), "has data after all, or is no query: strike it out"


def test_nobody_is_called_for_a_healthy_mesh(watched: Watched) -> None:
    assert watched.prometheus.query('ALERTS{alertstate="firing"}') == []


def test_one_trace_follows_the_study_from_the_association_to_the_delivered_report(
    watched: Watched,
) -> None:
    (root,) = watched.named("receive dicom")
    mine = [(who, span) for who, span in watched.receiver.spans if span.trace_id == root.trace_id]
    by_id = {span.span_id: span for _, span in mine}
    assert len(by_id) == len(mine)
    loose = {s.name for s in by_id.values() if s.parent_span_id not in by_id and s is not root}
    assert loose == set(), "a span whose parent is not in the trace"
    names = {span.name for span in by_id.values()}
    expected = {f"process {stage}" for stage in STAGES}
    assert names >= expected | {"close study", "process ingest", "deliver"}
    assert any(name.startswith("infer ") for name in names), "Triton's requests"
    assert any("RestoreIdentity" in name for name in names), "the gRPC call behind the delivery"
    # Each stage hangs below the one whose event it took from Kafka.
    parents = {
        span.name: by_id[span.parent_span_id].name
        for span in by_id.values()
        if span.name.startswith("process ") or span.name == "deliver"
    }
    assert parents["process preprocess"] == "close study"
    assert parents["process detection"] == "process preprocess"
    assert parents["process malignancy"] == "process detection"
    assert parents["process followup"] == "process malignancy"
    assert parents["process report"] == parents["process mdt"] == "process followup"
    assert parents["process delivery"] == "process report"
    assert parents["deliver"] == "process delivery"


def test_exemplars_lead_from_metrics_to_the_trace(watched: Watched) -> None:
    (root,) = watched.named("receive dicom")
    for metric in (
        'lungmesh_handler_seconds_bucket{stage="detection"}',
        "lungmesh_study_turnaround_seconds_bucket",
    ):
        found = watched.prometheus.ask(
            "query_exemplars",
            query=metric,
            start=str(time.time() - 1200),
            end=str(time.time()),
        )
        traces = {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}
        assert root.trace_id.hex() in traces, metric


def test_logs_are_json_with_the_trace_and_nothing_of_the_patient(watched: Watched) -> None:
    (root,) = watched.named("receive dicom")
    lines = []
    for path in watched.logs.glob("*.log"):
        text = path.read_text()
        assert PATIENT not in text, path
        if path.stem not in ("broker", "triton", "watchdog", "supervisor"):
            lines += [json.loads(line) for line in text.splitlines()]
    closed = [line for line in lines if "closed by association release" in line["message"]]
    assert closed, "ingest tells of the study"
    told = [line for line in lines if line.get("trace_id") == root.trace_id.hex()]
    assert told, "a line of the study names its trace"
    spans = str([span for _, span in watched.receiver.spans])
    assert PATIENT not in spans
