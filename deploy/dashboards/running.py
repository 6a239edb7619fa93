"""Boards for those who keep the mesh running."""

from __future__ import annotations

from deploy.dashboards.panels import Board, Panel, Query
from deploy.dashboards.queries import (
    OF_STAGE,
    RATE,
    STAGE_CHOICE,
    increase,
    most,
    quantiles,
    rate,
    total,
)

MESH = Board(
    "lungmesh-mesh",
    "LungMesh: the mesh at a glance",
    "Whether studies come through, how fast, and what stands in their way.",
    (
        (
            "Promises",
            (
                Panel(
                    "Reported in time (routine 10 min, stat 2 min)",
                    "percentunit",
                    (Query("1 - lungmesh:turnaround_slow:ratio1h", "{{lane}}"),),
                    "Goal 95 % of studies, over an hour.",
                    "number",
                ),
                Panel(
                    "Lost studies",
                    "percentunit",
                    (Query("lungmesh:studies_lost:ratio1h"),),
                    "Complete studies that ended without a report by our fault; goal below 0.1 %.",
                    "number",
                ),
                Panel(
                    "Studies being read",
                    "short",
                    (total("lungmesh_unfinished_studies", "lane"),),
                    kind="number",
                ),
                Panel(
                    "Processes that do not answer",
                    "short",
                    (Query('count(up{job=~".*lungmesh.*"} == bool 0) or vector(0)'),),
                    kind="number",
                ),
            ),
        ),
        (
            "Studies",
            (
                Panel(
                    "Studies ended",
                    "ops",
                    (rate("lungmesh_ended_studies_total", "outcome"),),
                    kind="stacked",
                ),
                Panel(
                    "Last object to report",
                    "s",
                    quantiles("lungmesh_study_turnaround_seconds", "lane"),
                ),
                Panel(
                    "Oldest study being read",
                    "s",
                    (most("lungmesh_oldest_unfinished_study_seconds", "lane"),),
                ),
            ),
        ),
        (
            "Trouble",
            (
                Panel(
                    "Dead letters in 15 min",
                    "short",
                    (increase("lungmesh_dead_letters_total", "stage, kind", "15m"),),
                ),
                Panel(
                    "Stages that stopped themselves; broker away",
                    "short",
                    (
                        most("lungmesh_breaker_open", "stage"),
                        Query("count(lungmesh_broker_up == bool 0)", "processes without broker"),
                    ),
                ),
                Panel("Behind", "short", (most("lungmesh_lag_events", "stage, lane"),)),
            ),
        ),
    ),
)

STAGE = Board(
    "lungmesh-stage",
    "LungMesh: a stage",
    "What one stage does with its events and where their time goes.",
    (
        (
            "Flow",
            (
                Panel(
                    "Events finished",
                    "ops",
                    (rate("lungmesh_events_total", "stage, result", OF_STAGE),),
                    kind="stacked",
                ),
                Panel(
                    "By lane",
                    "ops",
                    (rate("lungmesh_events_total", "stage, lane", OF_STAGE),),
                    kind="stacked",
                ),
                Panel(
                    "Bytes of events",
                    "Bps",
                    (rate("lungmesh_event_bytes_total", "stage, direction", OF_STAGE),),
                ),
            ),
        ),
        (
            "Time",
            (
                Panel(
                    "In the handler",
                    "s",
                    quantiles("lungmesh_handler_seconds", "stage", OF_STAGE),
                ),
                Panel(
                    "Waiting for it",
                    "s",
                    quantiles("lungmesh_queue_seconds", "lane", OF_STAGE),
                ),
                Panel(
                    "Busy",
                    "percentunit",
                    (
                        Query(
                            'sum by (stage) (rate(lungmesh_handler_seconds_sum{stage=~"$stage"}'
                            f"{RATE})) / "
                            'sum by (stage) (lungmesh_stage_places{stage=~"$stage"})',
                            "{{stage}}",
                        ),
                    ),
                    "Share of the places at work; near 1 the stage needs another process.",
                ),
            ),
        ),
        (
            "Queue and trouble",
            (
                Panel(
                    "On the broker, in the process, in a handler",
                    "short",
                    (
                        Query(
                            "sum by (stage) (max by (stage, lane) "
                            '(lungmesh_lag_events{stage=~"$stage"}))',
                            "{{stage}} behind",
                        ),
                        total("lungmesh_queued_events", "stage", OF_STAGE, "queued"),
                        total("lungmesh_in_flight_events", "stage", OF_STAGE, "in a handler"),
                    ),
                ),
                Panel(
                    "Tried again",
                    "ops",
                    (rate("lungmesh_retries_total", "stage, kind", OF_STAGE),),
                ),
                Panel(
                    "Past the deadline; given partitions anew",
                    "short",
                    (
                        total("lungmesh_overdue_handlers", "stage", OF_STAGE),
                        increase(
                            "lungmesh_assignments_total",
                            "stage",
                            "15m",
                            OF_STAGE,
                            "rebalances in 15 min",
                        ),
                    ),
                ),
            ),
        ),
        (
            "gRPC of all services",
            (
                Panel("Calls", "ops", (rate("lungmesh_grpc_calls_total", "method, status"),)),
                Panel("Time of a call", "s", quantiles("lungmesh_grpc_call_seconds", "method")),
            ),
        ),
    ),
    (STAGE_CHOICE,),
)

TRITON = Board(
    "lungmesh-triton",
    "LungMesh: Triton and GPUs",
    "The networks' server: requests, batches, where a request's time goes, and the devices.",
    (
        (
            "Requests",
            (
                Panel("Answered", "ops", (rate("nv_inference_request_success", "model, version"),)),
                Panel("Failed", "ops", (rate("nv_inference_request_failure", "model, reason"),)),
                Panel(
                    "Items a batch",
                    "short",
                    (
                        Query(
                            f"sum by (model) (rate(nv_inference_count{RATE})) / "
                            f"sum by (model) (rate(nv_inference_exec_count{RATE}))",
                            "{{model}}",
                        ),
                    ),
                ),
            ),
        ),
        (
            "Time of a request",
            tuple(
                Panel(
                    title,
                    "s",
                    (
                        Query(
                            f"sum by (model) (rate(nv_inference_{name}_duration_us{RATE})) / "
                            f"sum by (model) (rate(nv_inference_request_success{RATE})) / 1e6",
                            "{{model}}",
                        ),
                    ),
                )
                for title, name in (
                    ("Whole", "request"),
                    ("Waiting", "queue"),
                    ("Computing", "compute_infer"),
                )
            ),
        ),
        (
            "Devices",
            (
                Panel("GPU busy", "percentunit", (most("nv_gpu_utilization", "gpu_uuid"),)),
                Panel("GPU memory", "bytes", (most("nv_gpu_memory_used_bytes", "gpu_uuid"),)),
                Panel("CPU busy", "percentunit", (Query("nv_cpu_utilization", "{{instance}}"),)),
                Panel(
                    "Requests waiting",
                    "short",
                    (total("nv_inference_pending_request_count", "model"),),
                ),
            ),
        ),
    ),
)

KAFKA = Board(
    "lungmesh-kafka",
    "LungMesh: Kafka",
    "How far behind each stage is, and whether broker and outboxes do their work.",
    (
        (
            "Lag",
            (
                Panel("Behind, by lane", "short", (most("lungmesh_lag_events", "stage, lane"),)),
                Panel(
                    "Waiting before the handler",
                    "s",
                    quantiles("lungmesh_queue_seconds", "stage"),
                ),
            ),
        ),
        (
            "Broker",
            (
                Panel(
                    "Processes that reach it",
                    "short",
                    (Query("sum(lungmesh_broker_up)", "reach it"),),
                ),
                Panel(
                    "Times it lost its topics",
                    "short",
                    (Query("max(lungmesh_broker_resets_total)", "resets"),),
                ),
                Panel(
                    "Outboxes",
                    "short",
                    (most("lungmesh_outbox_depth_events", "service"),),
                    "Events committed to a database that the broker has not taken.",
                ),
                Panel(
                    "Groups shared out anew, in 15 min",
                    "short",
                    (increase("lungmesh_assignments_total", "stage", "15m"),),
                ),
            ),
        ),
    ),
)
