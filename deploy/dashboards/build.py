"""Writes the dashboards that the chart ships: `python -m deploy.dashboards.build`."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.dashboards.boards import BOARDS
from deploy.dashboards.panels import built

OUT = Path(__file__).resolve().parents[1] / "helm" / "lungmesh" / "dashboards"


def files() -> dict[str, str]:
    """Return each dashboard as Grafana reads it, by the name of its file."""
    encoder = JSONEncoder(sort_keys=True, indent=1)
    return {
        f"{board.uid.removeprefix('lungmesh-')}.json": encoder.encode(built(board).build()) + "\n"
        for board in BOARDS
    }


def main() -> None:
    """Write one file a board."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (OUT / name).write_text(text)


if __name__ == "__main__":
    main()
