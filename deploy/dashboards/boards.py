"""Every dashboard. Metrics: docs/observability.md; rules: the chart's alerts."""

from __future__ import annotations

from deploy.dashboards.hospitals import DOORS, DRIFT, HOSPITAL, PROGRAMME
from deploy.dashboards.running import KAFKA, MESH, STAGE, TRITON

BOARDS = (MESH, STAGE, HOSPITAL, TRITON, KAFKA, DOORS, PROGRAMME, DRIFT)
