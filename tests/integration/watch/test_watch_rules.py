"""Alert rules: valid, each tested both ways, each with a page that says what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dashboards.build import OUT, files

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "deploy/helm/lungmesh/alerts/lungmesh.yaml"
TESTS = (Path(__file__).with_name("rules_test.yaml"), Path(__file__).with_name("drift_test.yaml"))


def promtool(*arguments: str | Path) -> None:
    """Run it; it must succeed."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> list[dict[str, Any]]:
    """Return every alert of the chart."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", RULES)


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_each_alert_fires_when_it_should_and_not_else(file: Path) -> None:
    promtool("test", "rules", file)


def test_no_alert_is_without_a_test() -> None:
    tested = set(re.findall("LungMesh[A-Za-z]+", "".join(file.read_text() for file in TESTS)))
    tested |= {f"LungMeshLossBurns{speed}" for speed in ("Fast", "Slowly")}
    assert {rule["alert"] for rule in alerts()} <= tested


def test_each_alert_says_whom_it_wakes_and_leads_to_a_runbook() -> None:
    named = set()
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        page = ROOT / rule["annotations"]["runbook_url"]
        assert rule["alert"] in page.read_text(), f"{page} does not speak of {rule['alert']}"
        named.add(page)
    assert named == set((ROOT / "docs/runbooks").glob("*.md")), "a page that no alert leads to"


def test_the_chart_ships_the_dashboards_as_the_code_makes_them() -> None:
    assert files() == {path.name: path.read_text() for path in OUT.glob("*.json")}
