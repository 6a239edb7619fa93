"""Boards for those who look after hospitals, the programme and the networks."""

from __future__ import annotations

from deploy.dashboards.panels import Board, Panel, Query
from deploy.dashboards.queries import OF_TENANT, TENANT, increase, most, quantiles, rate


def _median(measure: str, title: str) -> Panel:
    """What the measure of a hospital's scans or nodules is in the middle, over a day."""
    counts = f"sum by (le, tenant) (increase(lungmesh_{measure}_bucket{OF_TENANT}[1d]))"
    return Panel(title, "short", (Query(f"histogram_quantile(0.5, {counts})", "{{tenant}}"),))


HOSPITAL = Board(
    "lungmesh-hospital",
    "LungMesh: a hospital",
    "What one hospital sends, how fast it is read, and what it gets back.",
    (
        (
            "In",
            (
                Panel(
                    "Objects received",
                    "ops",
                    (rate("lungmesh_ingest_objects_total", "door, result", OF_TENANT),),
                    kind="stacked",
                ),
                Panel(
                    "Bytes received",
                    "Bps",
                    (rate("lungmesh_ingest_bytes_total", "tenant", OF_TENANT),),
                ),
                Panel(
                    "Scans the quality rules speak of, in 24 h",
                    "short",
                    (
                        increase(
                            "lungmesh_scan_quality_findings_total",
                            "code, severity",
                            "24h",
                            OF_TENANT,
                        ),
                    ),
                ),
            ),
        ),
        (
            "Out",
            (
                Panel(
                    "Studies ended",
                    "ops",
                    (rate("lungmesh_ended_studies_total", "lane, outcome", OF_TENANT),),
                    kind="stacked",
                ),
                Panel(
                    "Last object to report",
                    "s",
                    quantiles("lungmesh_study_turnaround_seconds", "lane", OF_TENANT),
                ),
                Panel(
                    "Oldest study being read",
                    "s",
                    (most("lungmesh_oldest_unfinished_study_seconds", "tenant, lane", OF_TENANT),),
                ),
            ),
        ),
    ),
    (TENANT,),
)

DOORS = Board(
    "lungmesh-doors",
    "LungMesh: ingest and destinations",
    "What comes in by which door, what waits there, and what goes out to whom.",
    (
        (
            "In",
            (
                Panel(
                    "Objects by door",
                    "ops",
                    (rate("lungmesh_ingest_objects_total", "door, result"),),
                    kind="stacked",
                ),
                Panel(
                    "Associations turned away",
                    "ops",
                    (rate("lungmesh_ingest_rejected_associations_total", "reason"),),
                ),
                Panel(
                    "Studies being received, and the oldest",
                    "short",
                    (
                        Query("sum(lungmesh_ingest_open_studies)", "studies"),
                        Query("max(lungmesh_ingest_oldest_open_study_seconds)", "oldest, s"),
                    ),
                ),
            ),
        ),
        (
            "Spool",
            (
                Panel(
                    "Free bytes, and how many are kept free",
                    "bytes",
                    (
                        most("lungmesh_ingest_free_bytes", "instance"),
                        Query("max(lungmesh_ingest_least_free_bytes)", "kept free"),
                    ),
                ),
                Panel(
                    "Objects not yet in the object store",
                    "short",
                    (Query("sum(lungmesh_ingest_unsaved_objects)", "objects"),),
                ),
                Panel(
                    "Studies closed, by what",
                    "ops",
                    (rate("lungmesh_ingest_closed_revisions_total", "closed_by"),),
                    kind="stacked",
                ),
            ),
        ),
        (
            "Out",
            (
                Panel(
                    "Reports sent",
                    "ops",
                    (rate("lungmesh_delivery_sent_total", "tenant, destination"),),
                ),
                Panel(
                    "Waiting, and for how long",
                    "short",
                    (
                        most("lungmesh_delivery_waiting", "tenant, destination", what="reports"),
                        most(
                            "lungmesh_delivery_oldest_seconds",
                            "tenant, destination",
                            what="oldest, s",
                        ),
                    ),
                ),
                Panel(
                    "Refused for good; destinations away",
                    "short",
                    (
                        most("lungmesh_delivery_dead_letters", "tenant, destination"),
                        most(
                            "lungmesh_delivery_destination_down",
                            "tenant, destination",
                            what="away",
                        ),
                    ),
                ),
            ),
        ),
    ),
)

PROGRAMME = Board(
    "lungmesh-programme",
    "LungMesh: the screening programme",
    "Positivity, categories, and whose next exam is late.",
    (
        (
            "Exams",
            (
                Panel(
                    "Positive, over 28 days",
                    "percentunit",
                    (
                        Query(
                            "sum by (tenant) (increase("
                            'lungmesh_followup_exams_total{tenant=~"$tenant",positive="yes"}[28d]'
                            ")) / sum by (tenant) (increase("
                            'lungmesh_followup_exams_total{tenant=~"$tenant"}[28d]))',
                            "{{tenant}}",
                        ),
                    ),
                    "Share of exams that the programme's guideline calls positive.",
                ),
                Panel(
                    "Exams by category, over 28 days",
                    "short",
                    (increase("lungmesh_followup_exams_total", "category", "28d", OF_TENANT),),
                    kind="stacked",
                ),
            ),
        ),
        (
            "Follow-up",
            (
                Panel(
                    "Due, overdue, lost",
                    "short",
                    (most("lungmesh_followup_late_exams", "tenant, escalation", OF_TENANT),),
                    kind="stacked",
                ),
                Panel(
                    "Patients to be followed, by category",
                    "short",
                    (
                        Query(
                            "sum by (category) (max by (tenant, category) "
                            '(lungmesh_followup_patients{tenant=~"$tenant"}))',
                            "{{category}}",
                        ),
                    ),
                    kind="stacked",
                ),
            ),
        ),
    ),
    (TENANT,),
)

DRIFT = Board(
    "lungmesh-drift",
    "LungMesh: model drift",
    "Whether a hospital's scans and what is found in them are still like before, and like others'.",
    (
        (
            "Distance of the last week from the reference (Kolmogorov-Smirnov, 0 to 1)",
            (
                Panel(
                    "From the hospital's own four weeks before",
                    "percentunit",
                    (
                        Query(
                            'lungmesh:drift:distance{tenant=~"$tenant",reference="past"}',
                            "{{tenant}} {{measure}}",
                        ),
                    ),
                ),
                Panel(
                    "From the other hospitals",
                    "percentunit",
                    (
                        Query(
                            'lungmesh:drift:distance{tenant=~"$tenant",reference="others"}',
                            "{{tenant}} {{measure}}",
                        ),
                    ),
                ),
            ),
        ),
        (
            "Medians over a day",
            (
                _median("exam_nodules", "Nodules an exam"),
                _median("nodule_score", "Detection score"),
                _median("nodule_diameter_mm", "Diameter of nodules"),
                _median("nodule_reader_score", "Readers' score"),
            ),
        ),
        (
            "Medians over a day: the scans",
            (
                _median("scan_lung_hu", "HU of the lungs"),
                _median("scan_noise_hu", "Noise"),
                _median("scan_slice_spacing_mm", "Distance of slices"),
            ),
        ),
        (
            "Quality and other versions",
            (
                Panel(
                    "Scans refused, share of a day",
                    "percentunit",
                    (Query("lungmesh:scans_refused:ratio1d", "{{tenant}}"),),
                ),
                Panel(
                    "Nodules of a second reading, over 7 days",
                    "short",
                    (
                        increase(
                            "lungmesh_detection_compared_nodules_total",
                            "role, versions, result",
                            "7d",
                        ),
                    ),
                    "Canary and shadow versions of the networks.",
                ),
            ),
        ),
    ),
    (TENANT,),
)
