"""`summary.json`: completed with times and the MDT recommendation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from lungmesh.cli.exits import CommandError, Exit, writing
from lungmesh.v1.console_pb2 import StudyView
from lungmesh.v1.mdt_pb2 import MdtRecommended

SUMMARY = "summary.json"


def complete_summary(
    out: Path, view: StudyView, recommendation: MdtRecommended, totals: dict[str, float]
) -> None:
    """Add `timings_s` and `mdt` to the report's summary.

    `timings_s` has `stages`, each with the seconds in its handler and before it in the queue, and
    the run's totals.

    Raises CommandError when the report has no summary.
    """
    path = out / SUMMARY
    summary = read_summary(out)
    summary["timings_s"] = {**totals, "stages": stage_seconds(view)}
    mdt = MessageToDict(recommendation, preserving_proto_field_name=True)
    mdt.pop("study", None)
    summary["mdt"] = mdt
    text = json.dumps(summary, ensure_ascii=False, indent=2) + "\n"
    with writing(path):
        path.write_text(text, encoding="utf-8")


def read_summary(out: Path) -> dict[str, Any]:
    """Return the summary in a result folder.

    Raises CommandError when there is none.
    """
    try:
        content = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CommandError(f"the report has no {SUMMARY}", Exit.STAGE_FAILED) from error
    summary: dict[str, Any] = content
    return summary


def stage_seconds(view: StudyView) -> dict[str, dict[str, float]]:
    """Return the handler and queue seconds of each stage that told them."""
    return {
        stage.stage: {
            "handler": round(stage.handler_seconds, 3),
            "queue": round(stage.queue_seconds, 3),
        }
        for stage in view.stages
        if stage.HasField("at")
    }
