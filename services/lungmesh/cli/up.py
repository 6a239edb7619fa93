"""`lungmesh up`: the mesh in the foreground."""

from __future__ import annotations

import threading
from pathlib import Path

from rich.table import Table

from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.show import Show
from lungmesh.embedded.layout import Layout
from lungmesh.embedded.mesh import embedded_mesh, running_mesh
from lungmesh.embedded.state import MeshState


def run_until_told(data: Path, dicom_port: int | None, show: Show) -> None:
    """Start the mesh, print its addresses, and stop it at Ctrl-C or SIGTERM."""
    show.note(f"starting the mesh over {data.resolve()}")
    with embedded_mesh(data, "up", show.note, dicom_port) as mesh:
        _addresses(mesh, show)
        _page(mesh, data, show)
        show.note("ready; Ctrl-C stops it", pid=mesh.pid)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            show.note("stopping: work in hand is finished first; again Ctrl-C ends it at once")
    show.note("stopped")


def the_running_mesh(data: Path) -> MeshState:
    """Return the mesh that runs over a data directory.

    Raises CommandError (NO_MESH) when none does.
    """
    mesh = running_mesh(data)
    if mesh is None:
        raise CommandError(
            f"no mesh runs over {data}: start one with `lungmesh up`, or name its --data",
            Exit.NO_MESH,
        )
    return mesh


def _page(mesh: MeshState, data: Path, show: Show) -> None:
    address = f"http://{mesh.address('console', 'http')}"
    password = Layout(data.resolve()).console_password
    show.note(f"page: {address} (user admin, password in {password})", page=address)


def _addresses(mesh: MeshState, show: Show) -> None:
    table = Table(title="addresses", title_justify="left")
    table.add_column("service")
    table.add_column("port")
    table.add_column("address")
    rows = [
        {"service": service, "port": name, "address": f"127.0.0.1:{port}"}
        for service, ports in mesh.ports.items()
        for name, port in ports.items()
    ]
    rows.insert(0, {"service": "broker", "port": "kafka", "address": mesh.kafka})
    for row in rows:
        table.add_row(row["service"], row["port"], row["address"])
    show.table(table, "addresses", list(rows))
