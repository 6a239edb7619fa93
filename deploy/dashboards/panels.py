"""Dashboards of Grafana as code: a few words for a panel, the SDK for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    VariableRefresh,
    VariableSort,
)

_WIDTH, _HEIGHT = 24, 7
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Query:
    """A PromQL expression and how its series are called.

    Attributes
    ----------
    exemplars
        Whether dots lead from the line to traces; for histograms whose buckets carry them.
    """

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """One picture; `unit` is Grafana's name of it (s, short, percentunit, bytes)."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    description: str = ""
    kind: Literal["lines", "stacked", "number"] = "lines"


@dataclass(frozen=True)
class Variable:
    """A choice at the top of the board: the values of a label of a metric."""

    name: str
    label: str
    metric: str


@dataclass(frozen=True)
class Board:
    """A dashboard: rows of panels, each row as wide as the page."""

    uid: str
    title: str
    description: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    variables: tuple[Variable, ...] = ()

    def panels(self) -> list[Panel]:
        """Return every panel."""
        return [panel for _, panels in self.rows for panel in panels]


def built(board: Board) -> dashboard.Dashboard:
    """Return the board as the SDK has it."""
    out = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["lungmesh"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .readonly()
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
    )
    for variable in board.variables:
        out = out.with_variable(
            dashboard.QueryVariable(variable.name)
            .label(variable.label)
            .datasource(_SOURCE)
            .query(f"label_values({variable.metric}, {variable.name})")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    for title, panels in board.rows:
        out = out.with_row(dashboard.Row(title))
        width = _WIDTH // len(panels)
        for panel in panels:
            out = out.with_panel(_drawn(panel).span(width).height(_HEIGHT))
    return out


def _drawn(panel: Panel) -> stat.Panel | timeseries.Panel:
    out = stat.Panel() if panel.kind == "number" else _lines(stacked=panel.kind == "stacked")
    return (
        out.title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(_SOURCE)
        .targets(_targets(panel.queries))
    )


def _lines(stacked: bool) -> timeseries.Panel:
    out = timeseries.Panel().min(0).fill_opacity(60 if stacked else 8)
    return out.stacking(common.StackingConfig().mode(StackingMode.NORMAL)) if stacked else out


def _targets(queries: Sequence[Query]) -> list[Builder[Dataquery]]:
    return [
        prometheus.Dataquery()
        .ref_id(chr(ord("A") + number))
        .datasource(_SOURCE)
        .expr(query.expr)
        .legend_format(query.legend)
        .exemplar(query.exemplars)
        for number, query in enumerate(queries)
    ]
