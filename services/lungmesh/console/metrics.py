"""What the console's doors tell of themselves."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 30)


class ConsoleMetrics:
    """Requests by action, as the audit trail names it, and by status; no path and no user."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "lungmesh_console_requests",
            "HTTP requests answered",
            ("action", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "lungmesh_console_request_seconds",
            "Seconds to the answer of an HTTP request",
            ("action",),
            buckets=_SECONDS,
            registry=registry,
        )

    def answered(self, action: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(action, str(status)).inc()
        self._seconds.labels(action).observe(seconds)
