"""The field rules of the protos, checked at the edge."""

from __future__ import annotations

import pytest

from lungmesh.mesh import BadInput
from lungmesh.mesh.contract import lane_of, topic_of, validate
from lungmesh.v1 import nodule_pb2, study_pb2, volume_pb2


def a_study() -> study_pb2.StudyRef:
    return study_pb2.StudyRef(
        tenant="north",
        patient="0f0e8a30-6a3f-4f5e-9f0a-0c9d4d1f0001",
        study_id="0f0e8a30-6a3f-4f5e-9f0a-0c9d4d1f0002",
        revision=1,
        priority=study_pb2.PRIORITY_STAT,
    )


def test_a_valid_message_passes() -> None:
    validate(a_study())


def test_every_offending_field_is_named_by_its_path() -> None:
    event = study_pb2.StudyReceived(study=a_study(), study_instance_uid="not a uid")
    event.study.tenant = "North Hospital"
    with pytest.raises(BadInput) as caught:
        validate(event)
    text = str(caught.value)
    for path in (
        "study.tenant must match",
        "study_instance_uid must match",
        "manifest is required",
        "closed_by is required",
        "instance_count must be >= 1",
    ):
        assert path in text


def test_items_of_a_repeated_number_are_checked_one_by_one_with_the_unit() -> None:
    grid = volume_pb2.Geometry(
        size=[1, 1, 1], spacing_mm=[1, -1, 1], origin_lps_mm=[0, 0], direction=[0] * 9
    )
    with pytest.raises(BadInput, match=r"spacing_mm\[1\] must be > 0 mm, is -1") as caught:
        validate(grid)
    assert "origin_lps_mm must have 3 items, has 2" in str(caught.value)


def test_not_a_number_is_refused() -> None:
    with pytest.raises(BadInput, match="volume_mm3 is not a number"):
        validate(
            nodule_pb2.Measurement(
                long_axis_mm=1, short_axis_mm=1, mean_diameter_mm=1, volume_mm3=float("nan")
            )
        )


def test_an_unset_optional_field_is_unknown_not_zero() -> None:
    validate(study_pb2.ClinicalContext())
    with pytest.raises(BadInput, match="age_years must be <= 130 years"):
        validate(study_pb2.ClinicalContext(age_years=200))


def test_topic_and_lane_come_from_the_message() -> None:
    assert topic_of(study_pb2.StudyReceived) == "study.received"
    assert lane_of(a_study()) == "stat"
    with pytest.raises(TypeError, match="not an event"):
        topic_of(study_pb2.StudyRef)
