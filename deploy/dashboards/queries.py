"""Expressions that the boards share."""

from __future__ import annotations

from deploy.dashboards.panels import Query, Variable

RATE = "[$__rate_interval]"
TENANT = Variable("tenant", "Hospital", "lungmesh_ended_studies_total")
STAGE_CHOICE = Variable("stage", "Stage", "lungmesh_stage_places")
# Of what is chosen at the top of the board.
OF_TENANT = '{tenant=~"$tenant"}'
OF_STAGE = '{stage=~"$stage"}'


def quantile(share: float, metric: str, by: str, where: str = "") -> str:
    """Return a quantile of a histogram by labels."""
    inner = f"sum by (le, {by}) (rate({metric}_bucket{where}{RATE}))"
    return f"histogram_quantile({share}, {inner})"


def quantiles(metric: str, by: str, where: str = "") -> tuple[Query, ...]:
    """Return median and 95th percentile, with dots that lead to traces."""
    return tuple(
        Query(quantile(share, metric, by, where), f"{{{{{by}}}}} {name}", exemplars=True)
        for share, name in ((0.5, "p50"), (0.95, "p95"))
    )


def rate(metric: str, by: str, where: str = "") -> Query:
    """Return what happens a second."""
    return Query(f"sum by ({by}) (rate({metric}{where}{RATE}))", legend(by))


def increase(metric: str, by: str, over: str, where: str = "", what: str = "") -> Query:
    """Return how often something happened in the time `over`."""
    return Query(f"sum by ({by}) (increase({metric}{where}[{over}]))", legend(by, what))


def total(metric: str, by: str, where: str = "", what: str = "") -> Query:
    """Return the sum of a gauge by labels."""
    return Query(f"sum by ({by}) ({metric}{where})", legend(by, what))


def most(metric: str, by: str, where: str = "", what: str = "") -> Query:
    """Return the greatest of a gauge by labels; for what every replica tells."""
    return Query(f"max by ({by}) ({metric}{where})", legend(by, what))


def legend(by: str, what: str = "") -> str:
    """Return the name of a series: its labels, and what it counts where a panel has several."""
    labels = [f"{{{{{label.strip()}}}}}" for label in by.split(",")]
    return " ".join([*labels, what]).rstrip()
