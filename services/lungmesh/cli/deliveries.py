"""`lungmesh deliveries …`: what waits for which destination, and the way back for dead letters."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table

from lungmesh.cli.client import MeshClient
from lungmesh.cli.show import Show
from lungmesh.cli.up import the_running_mesh
from lungmesh.mesh.contract import name_of
from lungmesh.v1.delivery_pb2 import (
    DELIVERY_STATE_REFUSED,
    Delivery,
    Destination,
    DestinationKind,
    ListDeliveriesRequest,
    ReplayDeliveriesRequest,
)


def list_deliveries(data: Path, tenant: str, limit: int, show: Show) -> None:
    """Print the destinations, then the reports that each refused, newest first."""
    client = MeshClient(the_running_mesh(data))
    destinations = client.destinations(tenant)
    if not destinations:
        show.note("no destinations: LUNGMESH_DELIVERY__DESTINATIONS names none of this tenant")
        return
    table = Table(title="destinations", title_justify="left")
    names = (
        "name",
        "kind",
        "waiting",
        "unsigned",
        "sent",
        "dead",
        "last sent",
        "down since",
        "why",
    )
    for name in names:
        table.add_column(name)
    _show(show, table, "destinations", [_place(one) for one in destinations])
    refused = client.deliveries(
        ListDeliveriesRequest(tenants=[tenant], state=DELIVERY_STATE_REFUSED, limit=limit)
    )
    if not refused:
        return
    table = Table(title="dead letters", title_justify="left")
    for name in ("destination", "study", "revision", "edition", "since", "tries", "why"):
        table.add_column(name, no_wrap=name == "study", min_width=36 if name == "study" else None)
    _show(show, table, "deliveries", [_letter(letter) for letter in refused])


def replay_deliveries(data: Path, tenant: str, destination: str, study: str, show: Show) -> None:
    """Send dead letters of a destination again; a named study in any case."""
    request = ReplayDeliveriesRequest(tenant=tenant, destination=destination, study_id=study)
    count = MeshClient(the_running_mesh(data)).replay_deliveries(request)
    show.note(f"{count} on their way again", count=count)


def _show(show: Show, table: Table, event: str, rows: list[dict[str, object]]) -> None:
    for facts in rows:
        table.add_row(*(_short(value) for value in facts.values()))
    show.table(table, event, rows)


def _place(one: Destination) -> dict[str, object]:
    return {
        "destination": one.name,
        "kind": name_of(DestinationKind.DESCRIPTOR, one.kind),
        "waiting": one.waiting,
        "unsigned": one.unsigned,
        "sent": one.sent,
        "dead": one.refused,
        "last_sent_at": _time(one, "last_sent_at"),
        "down_since": _time(one, "down_since"),
        "last_error": one.last_error,
    }


def _letter(one: Delivery) -> dict[str, object]:
    return {
        "destination": one.destination,
        "study_id": one.study_id,
        "revision": one.revision,
        "edition": one.edition,
        "since": _time(one, "since"),
        "attempts": one.attempts,
        "last_error": one.last_error,
    }


def _time(message: Destination | Delivery, name: str) -> str:
    """Return a time as ISO 8601; empty where there is none."""
    if not message.HasField(name):  # type: ignore[arg-type]
        return ""
    stamp: Timestamp = getattr(message, name)
    return datetime.fromtimestamp(stamp.seconds, UTC).isoformat()


def _short(value: object) -> str:
    return str(value).removesuffix("+00:00")
