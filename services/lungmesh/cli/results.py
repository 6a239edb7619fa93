"""The result as a person reads it: nodules, categories, time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from lungmesh.cli.job import Result
from lungmesh.cli.show import Show, words
from lungmesh.cli.summary import read_summary, stage_seconds
from lungmesh.cli.timeline import LUNG_RADS, dated, judged, show_timeline

GIB = 1024**3


def show_results(result: Result, out: Path, show: Show) -> None:
    """Print what is in the output folder, and what it took."""
    summary = read_summary(out)
    _show_nodules(summary["nodules"], _programme(summary), show)
    if len(result.timeline) > 1:
        show_timeline(result.timeline, show)
    _show_categories(summary["categories"], show)
    _show_next(summary["next"], show)
    _show_mdt(summary["mdt"], show)
    _show_times(result, show)
    show.note(
        f"peak memory {result.peak_pss_bytes / GIB:.2f} GiB, shared pages counted once "
        f"({result.peak_rss_bytes / GIB:.2f} GiB counted in each process)",
        peak_pss_bytes=result.peak_pss_bytes,
        peak_rss_bytes=result.peak_rss_bytes,
    )
    show.note(
        f"{len(result.files)} files in {out}: {_listed(result.files)}",
        out=str(out),
        files=sorted(result.files),
        wall_s=round(result.wall_seconds, 3),
        study_id=result.view.study.study_id,
        content_sha256=result.view.content_sha256,
    )


def _programme(summary: dict[str, Any]) -> str:
    """Return the guideline that the programme follows."""
    return str((summary["next"] or {}).get("guideline") or LUNG_RADS)


def _show_nodules(nodules: list[dict[str, Any]], guideline: str, show: Show) -> None:
    if not nodules:
        show.note("no nodule found")
        return
    table = Table(title="nodules", title_justify="left")
    for name in ("no.", "lobe", "type", "mean mm", "mm³", "score", guideline, "growth"):
        right = name in ("no.", "mean mm", "mm³", "score")
        table.add_column(name, justify="right" if right else "left")
    rows = []
    for nodule in nodules:
        category = _category(nodule["categories"], guideline)
        rows.append({**nodule, "lung_rads": _category(nodule["categories"], LUNG_RADS)})
        table.add_row(
            str(nodule["number"]),
            words(nodule["lobe"]),
            words(nodule["type"]),
            f"{nodule['mean_diameter_mm']:.1f}",
            f"{nodule['volume_mm3']:.0f}",
            f"{nodule['detection_score']:.2f}",
            category,
            words(nodule["growth"]),
        )
    show.table(table, "nodules", rows)


def _show_categories(categories: list[dict[str, Any]], show: Show) -> None:
    for c in categories:
        name = f"{c['guideline']} {c['edition']}"
        text = judged(name, c["category"], c["row"], c["needs"], c["management_en"])
        show.note(text, **c)


def _show_next(coming: dict[str, Any] | None, show: Show) -> None:
    if coming is None:
        return
    name = f"{coming['guideline']} {coming['edition']}"
    if coming["work_up"]:
        show.note(f"next by {name}: work-up now", next=coming)
    elif coming["due_date"]:
        show.note(f"next CT by {name}: {dated(coming['due_date'])}", next=coming)


def _show_mdt(mdt: dict[str, Any], show: Show) -> None:
    needed = mdt.get("discussion_needed", False)
    stages = ", ".join(
        f"{stage['t_category']} ({stage['stage_if_n0_m0']} if N0 M0)"
        for stage in mdt.get("staging", [])
    )
    text = "team discussion: " + ("needed" if needed else "not needed by category")
    show.note(f"{text}{'; by size ' + stages if stages else ''}", discussion_needed=needed)


def _show_times(result: Result, show: Show) -> None:
    table = Table(title="time per stage", title_justify="left")
    for name in ("stage", "handler s", "queue s"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    rows: list[dict[str, Any]] = []
    for stage, seconds in stage_seconds(result.view).items():
        rows.append({"stage": stage, **seconds})
        table.add_row(stage, f"{seconds['handler']:.2f}", f"{seconds['queue']:.2f}")
    show.table(table, "timings", rows)
    start = result.start_seconds
    started = f", after {start:.1f} s to start the mesh" if start else ""
    show.note(
        f"wall time {result.wall_seconds:.1f} s from first byte to last file "
        f"(sending {result.send_seconds:.1f} s){started}",
        wall_s=round(result.wall_seconds, 3),
        send_s=round(result.send_seconds, 3),
        mesh_start_s=round(start, 3),
    )


def _category(categories: list[dict[str, Any]], guideline: str) -> str:
    for category in categories:
        if category["guideline"] == guideline:
            return str(category["category"])
    return ""


def _listed(files: list[str]) -> str:
    """Name the files, the key images as one."""
    pictures = [name for name in files if name.endswith(".png")]
    others = sorted(name for name in files if name not in pictures)
    return ", ".join([*others, f"{len(pictures)} key images"] if pictures else others)
