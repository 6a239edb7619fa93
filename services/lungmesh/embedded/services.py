"""The nine services of a one-machine mesh: ports and settings of each."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lungmesh.embedded.layout import Layout
from lungmesh.embedded.ports import free_ports
from lungmesh.embedded.program import Program
from lungmesh.embedded.state import TENANT

SERVICES = (
    "ingest",
    "preprocess",
    "detection",
    "malignancy",
    "followup",
    "report",
    "delivery",
    "mdt",
    "console",
)
_DOOR, _STAGES = 0, 1


@dataclass(frozen=True)
class Ports:
    """Ports of 127.0.0.1, chosen before anything starts, so that a restart keeps its address.

    Attributes
    ----------
    grpc, metrics
        By service.
    """

    broker: int
    triton_http: int
    triton_grpc: int
    triton_metrics: int
    dicom: int
    stow: int
    page: int
    grpc: Mapping[str, int]
    metrics: Mapping[str, int]


def choose_ports(services: Sequence[str], dicom: int | None) -> Ports:
    """Choose free ports; `dicom` is the one that was asked for."""
    free = iter(free_ports(7 + 2 * len(services)))
    return Ports(
        broker=next(free),
        triton_http=next(free),
        triton_grpc=next(free),
        triton_metrics=next(free),
        dicom=dicom or next(free),
        stow=next(free),
        page=next(free),
        grpc={service: next(free) for service in services},
        metrics={service: next(free) for service in services},
    )


def program(name: str, layout: Layout, ports: Ports) -> Program:
    """Return a service as a process."""
    ready_file = layout.ready / f"{name}.json"
    return Program(
        name=name,
        command=(sys.executable, "-m", "lungmesh.mesh.serve", name),
        environment={
            "LUNGMESH_BLOBS_URL": f"file://{layout.blobs}",
            "LUNGMESH_DATABASE_URL": layout.database_url(name),
            "LUNGMESH_KAFKA__BOOTSTRAP": f"127.0.0.1:{ports.broker}",
            # One process a service: more partitions would only cost fetches.
            "LUNGMESH_KAFKA__PARTITIONS": "1",
            # An idle mesh of eight took 0.38 of a core so, 0.54 at 50 ms; queues are as short.
            "LUNGMESH_KAFKA__FETCH_WAIT_MS": "150",
            "LUNGMESH_GRPC_PORT": str(ports.grpc[name]),
            "LUNGMESH_METRICS_PORT": str(ports.metrics[name]),
            "LUNGMESH_READY_FILE": str(ready_file),
            # The processes share the cores: threads of their own for small matrices only cost.
            "OPENBLAS_NUM_THREADS": "1",
            **_own_settings(name, layout, ports),
        },
        log=layout.log_file(name),
        ready=ready_file.exists,
        ready_file=ready_file,
        stop_order=_DOOR if name == "ingest" else _STAGES,
    )


def _own_settings(name: str, layout: Layout, ports: Ports) -> dict[str, str]:
    if name == "ingest":
        return {
            "LUNGMESH_INGEST__IDENTITY_KEY": layout.secret("identity.key"),
            "LUNGMESH_INGEST__RESTORE_TOKEN": layout.secret("restore.token"),
            "LUNGMESH_INGEST__SPOOL": str(layout.spool),
            "LUNGMESH_INGEST__DICOM_PORT": str(ports.dicom),
            "LUNGMESH_INGEST__STOW_PORT": str(ports.stow),
            "LUNGMESH_INGEST__TENANTS": json.dumps({"LUNGMESH": TENANT}),
        }
    if name == "detection":
        return {"LUNGMESH_DETECTION__TRITON": f"127.0.0.1:{ports.triton_grpc}"}
    if name == "delivery":
        return {
            "LUNGMESH_DELIVERY__INGEST": f"127.0.0.1:{ports.grpc.get('ingest', 0)}",
            # It alone may turn a pseudonym back.
            "LUNGMESH_DELIVERY__RESTORE_TOKEN": layout.secret("restore.token"),
        }
    if name == "console":
        return {
            "LUNGMESH_CONSOLE__HTTP_PORT": str(ports.page),
            "LUNGMESH_CONSOLE__FIRST_PASSWORD_FILE": str(layout.console_password),
            "LUNGMESH_CONSOLE__FIRST_TENANTS": json.dumps([TENANT]),
            # A console alone still shows what it has; corrections then say who is away.
            "LUNGMESH_CONSOLE__FOLLOWUP": f"127.0.0.1:{ports.grpc.get('followup', 0)}",
            "LUNGMESH_CONSOLE__DELIVERY": f"127.0.0.1:{ports.grpc['delivery']}"
            if "delivery" in ports.grpc
            else "",
        }
    return {}
