"""What the mesh tells of itself: one list of metrics, traces, and logs as JSON lines.

None of them carries patient data: labels are stages, lanes and tenants; traces and logs add the
study's id, which is a hash.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from opentelemetry import trace
from opentelemetry.context import Context as TraceContext
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from lungmesh.mesh.errors import told

study_of_log: ContextVar[str] = ContextVar("study_of_log", default="")

_SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_propagator = TraceContextTextMapPropagator()


class Metrics:
    """Every metric of the chassis; the unit is in the name."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        stage = ("stage",)
        # Events that a stage has finished, by how: handled, repeated (known result sent again),
        # retried, dead_lettered.
        self.events = Counter(
            "lungmesh_events",
            "Events a stage has finished with",
            ("stage", "result", "lane", "tenant"),
            registry=self.registry,
        )
        # Time in the handler alone: what the stage computes.
        self.handler_seconds = Histogram(
            "lungmesh_handler_seconds",
            "Seconds in a stage's handler",
            stage,
            buckets=_SECONDS,
            registry=self.registry,
        )
        # Age of an event when its handler starts: what autoscaling looks at.
        self.queue_seconds = Histogram(
            "lungmesh_queue_seconds",
            "Seconds from an event's making to its handler's start",
            ("stage", "lane"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        # Payload of events in and out (pixels go by reference, so this stays small).
        self.event_bytes = Counter(
            "lungmesh_event_bytes",
            "Bytes of event payloads",
            ("stage", "direction"),
            registry=self.registry,
        )
        # Events handed to a handler and not finished.
        self.in_flight = Gauge(
            "lungmesh_in_flight_events", "Events in a handler now", stage, registry=self.registry
        )
        # Events that a process works on at once at most: in flight over places is how busy it is.
        self.places = Gauge(
            "lungmesh_stage_places", "Events in a handler at most", stage, registry=self.registry
        )
        # Committed offset to the end of the log, the whole group together: every replica tells it.
        self.lag = Gauge(
            "lungmesh_lag_events",
            "Events on the broker that the stage's group has not finished",
            ("stage", "lane"),
            registry=self.registry,
        )
        # Events delivered and waiting for a worker.
        self.queued = Gauge(
            "lungmesh_queued_events", "Events waiting for a worker", stage, registry=self.registry
        )
        # Retries by the error's kind: unavailable or defect.
        self.retries = Counter(
            "lungmesh_retries", "Events tried again", ("stage", "kind"), registry=self.registry
        )
        # Dead letters by kind: bad_input, refused, unavailable, defect, parked.
        self.dead_letters = Counter(
            "lungmesh_dead_letters",
            "Events put into the dead-letter topic",
            ("stage", "kind"),
            registry=self.registry,
        )
        # Times the consumer group gave partitions: at the start, and at rebalances.
        self.assignments = Counter(
            "lungmesh_assignments",
            "Times the consumer group gave this process partitions",
            stage,
            registry=self.registry,
        )
        # 1 when a stage stopped itself rather than empty its topic into the dead letters.
        self.breaker_open = Gauge(
            "lungmesh_breaker_open", "1 while a stage stopped itself", stage, registry=self.registry
        )
        # 1 while the broker answers.
        self.broker_up = Gauge(
            "lungmesh_broker_up", "1 while the broker answers", registry=self.registry
        )
        # Times the broker came back without its memory.
        self.broker_resets = Counter(
            "lungmesh_broker_resets", "Times the broker lost its topics", registry=self.registry
        )
        # Events committed to the database and not yet acknowledged by the broker.
        self.outbox_depth = Gauge(
            "lungmesh_outbox_depth_events", "Events in the outbox", registry=self.registry
        )
        # Plain handlers that run on past their deadline: Python cannot stop them.
        self.overdue = Gauge(
            "lungmesh_overdue_handlers",
            "Handlers given up at their deadline that still run",
            stage,
            registry=self.registry,
        )
        # End of each certificate that this process shows, as it read it at its start.
        self.certificate = Gauge(
            "lungmesh_certificate_not_after_seconds",
            "When a certificate of this process ends, seconds since 1970",
            ("certificate",),
            registry=self.registry,
        )
        # gRPC calls by their status.
        self.calls = Counter(
            "lungmesh_grpc_calls", "gRPC calls", ("method", "status"), registry=self.registry
        )
        # Time in a gRPC call.
        self.call_seconds = Histogram(
            "lungmesh_grpc_call_seconds",
            "Seconds in a gRPC call",
            ("method",),
            buckets=_SECONDS,
            registry=self.registry,
        )

    def expect(self, stage: str) -> None:
        """Begin a stage's counts of trouble at 0: an increase from nothing to 1 would not show."""
        for kind in ("unavailable", "defect"):
            self.retries.labels(stage, kind)
        for kind in ("bad_input", "refused", "unavailable", "defect", "parked"):
            self.dead_letters.labels(stage, kind)
        self.breaker_open.labels(stage).set(0)
        self.overdue.labels(stage).set(0)


def start_tracing(service: str, otlp_endpoint: str | None) -> TracerProvider:
    """Make the process's tracer, for `tracer` too; spans leave it only when a collector is set.

    Without one a trace that another service records goes on, and none is begun here: spans that
    nobody reads would take a seventh of the chassis' time.
    """
    provider = TracerProvider(
        sampler=ParentBased(ALWAYS_ON if otlp_endpoint else ALWAYS_OFF),
        resource=Resource.create({"service.name": f"lungmesh-{service}"}),
    )
    if otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=otlp_endpoint, insecure=True)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def tracer() -> trace.Tracer:
    """Return the process's tracer, for work inside a service; its spans carry no patient data."""
    return trace.get_tracer("lungmesh")


@contextmanager
def span(
    name: str,
    kind: trace.SpanKind = trace.SpanKind.INTERNAL,
    context: TraceContext | None = None,
    links: Sequence[trace.Link] = (),
    **attributes: str,
) -> Iterator[trace.Span]:
    """Trace a piece of work inside a service; an error is named by its class alone.

    Parameters
    ----------
    attributes
        Without patient data, `__` for a point in a name; each gets the prefix `lungmesh.`.
    """
    with tracer().start_as_current_span(
        name,
        context=context,
        kind=kind,
        links=links,
        attributes={f"lungmesh.{key.replace('__', '.')}": text for key, text in attributes.items()},
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except Exception as error:
            span_failed(error)
            raise


def span_failed(error: BaseException) -> None:
    """Say on the current span that its work failed."""
    # The text of an error may hold anything: spans name only its class.
    status = trace.Status(trace.StatusCode.ERROR, type(error).__name__)
    trace.get_current_span().set_status(status)


def trace_from(senders: Sequence[SpanContext]) -> tuple[TraceContext | None, list[trace.Link]]:
    """Return the context of a span that continues the first trace, and its links to the others."""
    others = [trace.Link(one) for one in senders[1:]]
    if not senders:
        return None, others
    return trace.set_span_in_context(trace.NonRecordingSpan(senders[0])), others


def exemplar() -> dict[str, str] | None:
    """Return what joins a measurement to the trace that it was made in, None outside of one."""
    span = trace.get_current_span().get_span_context()
    if not (span.is_valid and span.trace_flags.sampled):
        return None
    return {"trace_id": f"{span.trace_id:032x}"}


def trace_of(headers: Mapping[str, bytes]) -> TraceContext:
    """Read the W3C trace context of a record."""
    carrier = {
        name: headers[name].decode(errors="replace")
        for name in ("traceparent", "tracestate")
        if name in headers
    }
    return _propagator.extract(carrier)


def trace_headers() -> dict[str, str]:
    """Return the current trace context as headers."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the trace id and the study's id when there is one."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            line["trace_id"] = f"{span.trace_id:032x}"
        if study_of_log.get():
            line["study_id"] = study_of_log.get()
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = told(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def start_logging(service: str, level: str) -> None:
    """Send every log record to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Chatty libraries that would log record keys or hundreds of reconnects; the bus itself says
    # when the broker is away.
    for name in ("pynetdicom", "uvicorn", "alembic", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("kafka").setLevel(level if level == "DEBUG" else logging.CRITICAL)
