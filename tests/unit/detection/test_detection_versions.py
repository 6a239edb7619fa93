"""Who reads a study, and how two readings are compared."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from lungmesh.detection.compare import Agreement, Comparisons, agreement, reading
from lungmesh.detection.lineup import in_service, label, read_by_canary, with_versions
from lungmesh.detection.settings import DetectionSettings
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1.volume_pb2 import ModelVersion
from tests.support.nodules import a_nodule

STUDIES = [deterministic_id("study", str(number)) for number in range(4000)]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_the_canary_reads_its_share_of_the_studies(share: float) -> None:
    chosen = sum(read_by_canary(study, share) for study in STUDIES)
    # Four standard deviations.
    assert abs(chosen / len(STUDIES) - share) <= 4 * (share * (1 - share) / len(STUDIES)) ** 0.5


@given(st.sampled_from(STUDIES), st.floats(0, 1), st.floats(0, 1))
def test_a_study_that_a_small_canary_reads_a_larger_one_reads_too(
    study: str, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    assert read_by_canary(study, small) <= read_by_canary(study, large)


@pytest.mark.parametrize(("versions", "expected"), [("3", "3-1-5"), ("3/2/4", "3-2-4")])
def test_versions_name_the_detector_or_all_three(versions: str, expected: str) -> None:
    lineup = in_service(DetectionSettings(segmenter_version="5"))
    other = with_versions(lineup, versions)
    assert label(other) == expected
    assert [one.name for one in other.networks] == [one.name for one in lineup.networks]


@pytest.mark.parametrize("versions", ["", "2/", "2/1", "newest", "1/2/3/4"])
def test_versions_that_name_nothing_are_refused_at_start(versions: str) -> None:
    with pytest.raises(ValidationError):
        DetectionSettings(canary_version=versions)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([((0, 0, 0), 8.0), ((50, 0, 0), 6.0)], Agreement(2, 0, 0, 0.0)),
        ([((0, 0, 3.9), 9.0), ((50, 0, 0), 6.0)], Agreement(2, 0, 0, 0.5)),
        # Farther than half of the larger diameter.
        ([((0, 0, 4.6), 9.0)], Agreement(0, 2, 1, 0.0)),
        # Each is matched once, to the nearest.
        ([((0, 0, 2), 8.0), ((0, 0, 1), 7.0)], Agreement(1, 1, 1, -1.0)),
        ([], Agreement(0, 2, 0, 0.0)),
    ],
)
def test_two_readings_agree_on_what_lies_at_the_same_place(
    second: Sequence[tuple[Sequence[float], float]], expected: Agreement
) -> None:
    first = [a_nodule("a", (0, 0, 0), 8.0), a_nodule("b", (50, 0, 0), 6.0)]
    others = [a_nodule(f"c{n}", center, mm) for n, (center, mm) in enumerate(second)]
    assert agreement(first, others) == expected


def test_a_second_reading_is_kept_with_who_read_and_what_was_found() -> None:
    nodule = a_nodule("a", (1, 2, 3), 8.0)
    text = reading(
        "shadow", [ModelVersion(name="net", version="2")], [nodule], Agreement(1, 0, 0, 0)
    )
    told = json.loads(text)
    assert told["role"] == "shadow"
    assert told["models"] == [{"name": "net", "version": "2"}]
    assert told["agreement"]["both"] == 1
    assert told["nodules"][0]["center_lps_mm"] == [1, 2, 3]
    assert told["nodules"][0]["measurement"]["mean_diameter_mm"] == 8


def test_agreement_is_counted_by_role_and_versions() -> None:
    registry = CollectorRegistry()
    comparisons = Comparisons(registry)
    comparisons.count("shadow", "2-1-1", Agreement(3, 1, 2, 0.0))
    comparisons.count("shadow", "2-1-1", Agreement(1, 0, 0, 0.0))
    comparisons.fail("shadow", "9-1-1")
    told = {
        result: registry.get_sample_value(
            "lungmesh_detection_compared_nodules_total",
            {"role": "shadow", "versions": "2-1-1", "result": result},
        )
        for result in ("both", "only_passed_on", "only_second")
    }
    assert told == {"both": 4, "only_passed_on": 1, "only_second": 2}
    assert registry.get_sample_value(
        "lungmesh_detection_failed_second_readings_total", {"role": "shadow", "versions": "9-1-1"}
    )
