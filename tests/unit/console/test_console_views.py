"""What the page gets: words, lateness, run lengths, a correction from its JSON."""

from __future__ import annotations

import uuid
from datetime import date

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lungmesh.console.access import Refusal
from lungmesh.console.correcting import CorrectionBody, correction_of, said_before
from lungmesh.console.masks import run_lengths
from lungmesh.console.results import Held
from lungmesh.console.store import StudyRow
from lungmesh.console.views import escalation, nodule_view, number_of, plain, word
from lungmesh.v1 import followup_pb2, nodule_pb2
from lungmesh.v1.followup_pb2 import CorrectionKind, FollowupUpdated
from lungmesh.v1.nodule_pb2 import Category, Nodule, NoduleType

STUDY, NODULE = str(uuid.uuid4()), str(uuid.uuid4())


@pytest.mark.parametrize(
    ("due", "newest", "today", "late"),
    [
        ("20260601", "20250601", date(2026, 5, 31), "not_due"),
        ("20260601", "20250601", date(2026, 6, 1), "due"),
        ("20260601", "20250601", date(2026, 7, 1), "due"),
        ("20260601", "20250601", date(2026, 7, 2), "overdue"),
        ("20260601", "20250601", date(2026, 11, 28), "overdue"),
        ("20260601", "20250601", date(2026, 11, 29), "lost"),
        ("20260601", "20260501", date(2026, 11, 29), ""),
        ("", "20250601", date(2026, 11, 29), ""),
    ],
)
def test_how_late_a_next_exam_is(due: str, newest: str, today: date, late: str) -> None:
    assert escalation(due, "20250601", newest, today, grace_days=30, lost_days=180) == late


def test_words_are_the_enumerations_names_without_their_prefix() -> None:
    kind = NoduleType.DESCRIPTOR
    assert word(kind, nodule_pb2.NODULE_TYPE_PART_SOLID) == "part_solid"
    assert word(kind, nodule_pb2.NODULE_TYPE_UNSPECIFIED) == ""
    for value in kind.values:
        if value.number:
            assert number_of(kind, word(kind, value.number)) == value.number
    assert number_of(kind, "unspecified") is None
    assert number_of(kind, "") is None


def test_what_is_unset_is_left_out_and_a_zero_is_told() -> None:
    told = plain(Category(category="2"))
    assert "next_exam_months" not in told
    assert told["needs"] == []
    assert plain(nodule_pb2.PriorMatch())["growth_probability"] == 0.0
    assert "volume_doubling_time_days" not in plain(nodule_pb2.PriorMatch())


def test_a_nodule_before_its_assessment_has_every_field_of_the_page() -> None:
    view = nodule_view(Nodule(number=1, nodule_id=NODULE, type=nodule_pb2.NODULE_TYPE_SOLID))
    for name in ("mean_diameter_mm", "score", "growth", "history", "risks", "signs", "review"):
        assert name in view
    assert (view["type"], view["reader_score"]) == ("solid", None)
    assert "mask" not in view


@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)),
        elements=st.integers(0, 2),
    )
)
def test_run_lengths_give_the_mask_back(labels: npt.NDArray[np.uint8]) -> None:
    runs = run_lengths(labels)
    back = [np.repeat(line[::2], line[1::2]) for line in runs]
    assert np.array_equal(np.array(back).reshape(labels.shape), labels)
    for line in runs:
        pairs = zip(line[::2], line[2::2], strict=False)
        assert all(left != right for left, right in pairs), "neighbours are one run"


def held(*corrections: followup_pb2.Correction) -> Held:
    nodule = Nodule(number=1, nodule_id=NODULE, center_lps_mm=[1, 2, 3])
    row = StudyRow(tenant="t", study_id=STUDY, patient=str(uuid.uuid4()))
    return Held(row, None, FollowupUpdated(nodules=[nodule], corrections=corrections), None)


def body(kind: str, **said: object) -> CorrectionBody:
    return CorrectionBody.model_validate(
        {"correction_id": str(uuid.UUID(int=7)), "kind": kind, "nodule_id": NODULE, **said}
    )


def test_author_time_and_place_of_a_correction_are_the_servers() -> None:
    made = correction_of(
        body("remeasure", measurement={"long_axis_mm": 9.5}), held(), None, "rana", 1.5e9
    )
    assert (made.author, made.at.seconds) == ("rana", 1_500_000_000)
    assert list(made.nodule.center_lps_mm) == [1, 2, 3]
    assert made.measurement.long_axis_mm == 9.5
    assert not made.measurement.HasField("short_axis_mm")


@pytest.mark.parametrize(
    ("kind", "said", "code"),
    [
        ("confirm", {"type": "solid"}, "bad_request"),
        ("retype", {}, "bad_request"),
        ("retype", {"type": "rock"}, "bad_request"),
        ("remeasure", {"measurement": {}}, "bad_request"),
        ("link", {}, "bad_request"),
        ("withdraw", {}, "bad_request"),
        ("confirm", {"nodule_id": str(uuid.UUID(int=9))}, "not_found"),
    ],
)
def test_a_correction_says_what_its_kind_needs_and_no_more(
    kind: str, said: dict[str, object], code: str
) -> None:
    with pytest.raises(Refusal) as raised:
        correction_of(body(kind, **said), held(), None, "rana", 1.0)
    assert raised.value.code == code


def test_the_same_words_again_are_known_and_other_words_are_refused() -> None:
    first = correction_of(body("confirm"), held(), None, "rana", 1.0)
    assert not said_before(held(), first)
    later = correction_of(body("confirm"), held(), None, "rana", 99.0)
    assert said_before(held(first), later)
    other = correction_of(body("reject"), held(), None, "rana", 99.0)
    with pytest.raises(Refusal, match="already_said"):
        said_before(held(first), other)
    stranger = correction_of(body("confirm"), held(), None, "otto", 99.0)
    with pytest.raises(Refusal, match="already_said"):
        said_before(held(first), stranger)


def test_each_kind_of_the_page_is_a_kind_of_the_mesh() -> None:
    for value in CorrectionKind.DESCRIPTOR.values:
        if value.number:
            assert value.name.removeprefix("CORRECTION_KIND_").lower() in (
                CorrectionBody.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]
            )
