"""Writes the dashboards that the chart ships: `python -m deploy.dashboards.build`."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.dashboards.boards import BOARDS
from deploy.dashboards.panels import Board, built

OUT = Path(__file__).resolve().parents[1] / "helm" / "lungmesh" / "dashboards"


def text_of(board: Board) -> str:
    """Return a dashboard as Grafana reads it."""
    return JSONEncoder(sort_keys=True, indent=1).encode(built(board).build()) + "\n"


def main() -> None:
    """Write one file a board."""
    OUT.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (OUT / f"{board.uid.removeprefix('lungmesh-')}.json").write_text(text_of(board))


if __name__ == "__main__":
    main()
