"""Which guidelines speak for a tenant, and which settings stop the service at its start."""

from __future__ import annotations

import pytest

from lungmesh.followup.settings import FollowupSettings
from lungmesh.mesh.errors import SettingsError
from lungmesh.mesh.settings import load


def guidelines(tenant: str) -> list[str]:
    rules = load(FollowupSettings).rules(tenant)
    return [f"{guideline.name} {guideline.edition}" for guideline in rules.guidelines]


def test_the_programmes_guideline_comes_first_and_the_others_stand_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert guidelines("any") == ["Lung-RADS v2022", "C-Lung-RADS 2024"]
    monkeypatch.setenv("LUNGMESH_FOLLOWUP__TENANT_GUIDELINES", '{"wuhan": "C-Lung-RADS"}')
    monkeypatch.setenv("LUNGMESH_FOLLOWUP__GUIDELINES", '["C-Lung-RADS", "NCCN@2014", "NCCN@2018"]')
    assert guidelines("wuhan") == ["C-Lung-RADS 2024", "NCCN 2014", "NCCN 2018"]
    assert guidelines("any") == ["Lung-RADS v2022", "C-Lung-RADS 2024", "NCCN 2014", "NCCN 2018"]


def test_what_changes_a_result_is_part_of_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {load(FollowupSettings).version}
    for name, value in (
        ("PRIORS", "3"),
        ("LEAST_LIKENESS", "0.6"),
        ("GUIDELINE", "BTS"),
        ("TENANT_GUIDELINES", '{"wuhan": "C-Lung-RADS"}'),
        ("TENANT_GUIDELINES", '{"hefei": "C-Lung-RADS"}'),
    ):
        monkeypatch.setenv(f"LUNGMESH_FOLLOWUP__{name}", value)
        versions.add(load(FollowupSettings).version)
    assert len(versions) == 6
    monkeypatch.setenv("LUNGMESH_FOLLOWUP__GRACE_DAYS", "40")
    assert load(FollowupSettings).version in versions


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GUIDELINE", "Lung-RADZ", "no guideline Lung-RADZ"),
        ("GUIDELINES", '["NCCN@1999"]', "NCCN 2014"),
        ("TENANT_GUIDELINES", '{"a": "none"}', "no guideline none"),
        ("TENANT_GUIDELINES", "{", "must be JSON"),
        ("LOST_DAYS", "30", "more than grace_days"),
    ],
)
def test_a_wrong_setting_stops_the_service_with_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"LUNGMESH_FOLLOWUP__{name}", value)
    with pytest.raises(SettingsError, match=said):
        load(FollowupSettings)
