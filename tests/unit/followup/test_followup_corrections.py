"""What people's words on nodules change, whichever way they arrive."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from lungmesh.followup import corrections
from lungmesh.mesh.errors import BadInput
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.followup_pb2 import Correction, HandMeasurement
from lungmesh.v1.nodule_pb2 import Nodule
from tests.support.followup import a_correction
from tests.support.nodules import a_nodule, a_study

HERE, NEAR, FAR = (50.0, 80.0, -110.0), (52.0, 80.0, -110.0), (80.0, 20.0, -60.0)
STUDY = a_study("a").study_id
ONE = a_nodule("one", HERE, 8)


def said(name: str, kind: str, at: int, **fields: object) -> Correction:
    return a_correction(name, kind, at, STUDY, ONE, **fields)


def names(left: Sequence[Correction]) -> list[str]:
    known = {deterministic_id("correction", name): name for name in "abcdefgh"}
    return [known[correction.correction_id] for correction in left]


def test_what_was_withdrawn_does_not_count_and_a_withdrawal_can_be_withdrawn() -> None:
    a = said("a", "CONFIRM", 1)
    b = said("b", "WITHDRAW", 2, withdraws=a.correction_id)
    c = said("c", "WITHDRAW", 3, withdraws=b.correction_id)
    d = said("d", "WITHDRAW", 4, withdraws=c.correction_id)
    for count, expected in ((1, ["a"]), (2, []), (3, ["a"]), (4, [])):
        for order in itertools.permutations([a, b, c, d][:count]):
            assert names(corrections.in_force(order)) == expected


def test_a_withdrawal_counts_whatever_its_authors_clock_says() -> None:
    a = said("a", "REJECT", 10)
    b = said("b", "WITHDRAW", 5, withdraws=a.correction_id)
    assert corrections.in_force([a, b]) == []


def test_the_later_word_wins_also_when_both_were_said_in_one_second() -> None:
    yes, no = said("a", "CONFIRM", 5), said("b", "REJECT", 5)
    later = max((yes, no), key=lambda correction: correction.correction_id)
    for order in ((yes, no), (no, yes)):
        review = corrections.reviewed(ONE, corrections.in_force(order)).review
        expected = {
            yes.correction_id: nodule_pb2.REVIEW_STATUS_CONFIRMED,
            no.correction_id: nodule_pb2.REVIEW_STATUS_REJECTED,
        }
        assert review.status == expected[later.correction_id]
        assert len(review.correction_ids) == 2


def measured(nodule: Nodule, **sizes: float) -> Nodule:
    size = said("a", "REMEASURE", 1, measurement=HandMeasurement(**sizes))
    return corrections.reviewed(nodule, [size])


def test_what_follows_from_a_hand_measurement_follows() -> None:
    nodule = measured(ONE, long_axis_mm=11.0, volume_mm3=500.0)
    size = nodule.measurement
    assert (size.long_axis_mm, size.short_axis_mm, size.mean_diameter_mm) == (11.0, 8.0, 9.5)
    # CLINICAL section 1: 500 mm³ of 20 HU.
    assert size.mass_mg == pytest.approx(500 * 1020 / 1000)
    assert list(nodule.review.measured_by_hand) == ["long_axis_mm", "volume_mm3"]
    # The lines of the model's own axes would show another size.
    assert not size.long_axis_lps_mm
    assert not size.short_axis_lps_mm
    assert ONE.measurement.long_axis_mm == 8.0


def test_the_axis_that_nobody_measured_gives_way() -> None:
    assert measured(ONE, short_axis_mm=10.0).measurement.long_axis_mm == 10.0
    assert measured(ONE, long_axis_mm=6.0).measurement.short_axis_mm == 6.0


def test_a_solid_part_is_no_larger_than_its_nodule() -> None:
    part = a_nodule("part", HERE, 12, nodule_pb2.NODULE_TYPE_PART_SOLID, solid_mm=7)
    size = measured(part, long_axis_mm=6.0).measurement
    assert (size.mean_diameter_mm, size.solid_mean_diameter_mm) == (6.0, 6.0)


def test_two_measurements_add_up_and_the_later_one_wins_where_both_speak() -> None:
    first = said("a", "REMEASURE", 1, measurement=HandMeasurement(long_axis_mm=9, volume_mm3=300))
    then = said("b", "REMEASURE", 2, measurement=HandMeasurement(long_axis_mm=10))
    size = corrections.reviewed(ONE, [first, then]).measurement
    assert (size.long_axis_mm, size.volume_mm3) == (10.0, 300.0)


def test_a_nodule_is_found_again_by_its_place_in_a_new_revision() -> None:
    word = said("a", "CONFIRM", 1).nodule
    near, far = a_nodule("near", NEAR, 4), a_nodule("far", FAR, 4)
    assert corrections.find(word, [far, near, ONE]) == ONE
    assert corrections.find(word, [far, near]) == near
    assert corrections.find(word, [far]) is None
    # Inside a large nodule its own centre may lie farther off.
    mass = a_nodule("mass", (62.0, 80.0, -110.0), 30)
    assert corrections.find(word, [mass, far]) == mass


@pytest.mark.parametrize(
    ("correction", "code"),
    [
        (said("a", "REMEASURE", 1), "empty_measurement"),
        (
            said("a", "REMEASURE", 1, measurement=HandMeasurement(long_axis_mm=4, short_axis_mm=5)),
            "axes_exchanged",
        ),
        (said("a", "RETYPE", 1), "no_type"),
        (said("a", "LINK", 1), "no_other"),
        (
            said("a", "UNLINK", 1, other=said("a", "CONFIRM", 1).nodule),
            "one_exam",
        ),
        (said("a", "WITHDRAW", 1), "no_withdraws"),
    ],
)
def test_a_correction_that_says_nothing_is_refused(correction: Correction, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        corrections.check(correction)
    assert refused.value.code == code


def test_the_latest_link_comes_first() -> None:
    other = a_correction("x", "CONFIRM", 1, a_study("b").study_id, ONE).nodule
    link, unlink = said("a", "LINK", 1, other=other), said("b", "UNLINK", 2, other=other)
    assert [bond.same for bond in corrections.bonds([link, unlink])] == [False, True]
